# Knudge: every verb of the project. `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
EXTRAS := framework,local,console,export,operate,analysis,test,lint
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KUBECTL ?= kubectl
ENVIRONMENTS := dev staging prod
export KNUDGE_CONFORMANCE ?= $(abspath ../shared/conformance)

.PHONY: help run test coverage lint format manifests schemas bench bench-regret bench-logistic bandits sequential rollouts audit bench-candidates bench-health bench-cold-start bench-analysis conformance spread bench-assigning oracles bench-evaluation bench-policies image image-test bench-experiments oracles-experiments e2e oracles-javascript bench-judgement clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(STAMP)

run: $(STAMP) ## start everything on http://localhost:8080 (KNUDGE_PORT), Ctrl-C stops it
	@exec $(BIN)/python -m functions.local.run

test: $(STAMP) ## all tests, against a real Redis and a real PostgreSQL
	$(BIN)/python -m pytest

coverage: $(STAMP) ## the tests again, with the share of statements they run; fails under 90 %
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

manifests: $(STAMP) ## render the overlays into build/manifests/{dev,staging,prod}.yaml and check them
	@command -v $(KUBECTL) > /dev/null || { echo "no $(KUBECTL) here: Debian's kubernetes-client has it, or name another by KUBECTL=" >&2; exit 1; }
	@mkdir -p build/manifests
	@for environment in $(ENVIRONMENTS); do \
	  $(KUBECTL) kustomize knative/overlays/$$environment > build/manifests/$$environment.yaml 2> build/manifests/$$environment.log \
	  || { cat build/manifests/$$environment.log >&2; exit 1; }; done
	$(BIN)/python -m knative.checks $(ENVIRONMENTS:%=build/manifests/%.yaml) functions/*/func.yaml

schemas: $(STAMP) ## write the JSON Schema of every event type's data into eventing/schemas
	$(BIN)/python -m knative.checks.event_schemas

e2e: manifests ## end-to-end tests on the cluster that KUBECONFIG names, skipped without one (E2E=--keep leaves it installed)
	$(BIN)/python -m pytest tests/e2e -m e2e --timeout=900 -o faulthandler_timeout=0 -rA $(E2E)

bench: $(STAMP) ## serving figures beside functions-framework's, in build/bench/serving.json
	$(BIN)/python -m tests.performance.bench

bandits: $(STAMP) ## forgetting, slow rewards and fixed draws at full size: many seeds, some minutes
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=0 -rP tests/unit/policies

bench-regret: $(STAMP) ## regret of the real loop beside the textbook's (about an hour)
	$(BIN)/python -m tests.performance.regret

rollouts: $(STAMP) ## 20 roll-outs at a reward rate of 20 % and a margin of 10 %, on real rows (minutes)
	$(BIN)/python -m pytest -m slow tests/integration/test_rollouts.py

audit: $(STAMP) ## 10,000 stored decisions of every kind of policy recompute to the same action and propensity (minutes)
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=0 tests/integration/test_audit.py

bench-candidates: $(STAMP) ## simulated logs, of decisions and of sessions, on which candidates learn and are judged: how often intervals hold (minutes)
	$(BIN)/python -m pytest -m slow -s -o faulthandler_timeout=0 tests/unit/console/test_progressive_evaluation.py tests/unit/console/test_session_evaluation.py

bench-health: $(STAMP) ## 1,000 simulated policy versions whose propensities are right: none may alarm (minutes)
	$(BIN)/python -m pytest -m slow -s -o faulthandler_timeout=0 tests/unit/evaluation/test_propensity_health.py

sequential: $(STAMP) ## Q-learning over 20 seeds on FrozenLake and in a session where the greedy choice is a trap (about 10 minutes)
	$(BIN)/python -m pytest -m slow -s -p no:randomly -o faulthandler_timeout=0 tests/unit/policies/test_q_learning.py

bench-logistic: $(STAMP) ## what logistic Thompson sampling earns and costs beside linear (about 15 minutes)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.performance.logistic

bench-analysis: $(STAMP) ## what analysing an experiment of a million units costs (minutes)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.performance.analysis

bench-cold-start: $(STAMP) ## process start to ready of each function in the image that `make image` made
	$(BIN)/python -m tests.performance.cold_start

bench-evaluation: $(STAMP) ## off-policy estimators on zr-obp's documented examples, and how often intervals hold (minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[oracle-data]'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.performance.evaluation

conformance: $(STAMP) ## test vectors of GrowthBook's form: `passed N of M` for each group (CASES=file; those of KNUDGE_CONFORMANCE without)
	@$(BIN)/python -m tests.conformance.growthbook $(or $(CASES),$(KNUDGE_CONFORMANCE)/growthbook/cases.json)

spread: $(STAMP) ## assignments of a million users against their weights, and experiments against one another (3 minutes)
	$(BIN)/python -m pytest -m slow -s -o faulthandler_timeout=0 tests/unit/experiments/test_spread.py

bench-assigning: $(STAMP) ## assignments per second on one core, beside a split by hand
	$(BIN)/python -m tests.performance.assigning

oracles: build/oracles/.installed ## compare the kept numbers of obp and MABWiser with what they compute (ORACLES=--write keeps new ones; downloads 2.3 GB)
	OPENBLAS_NUM_THREADS=1 build/oracles/bin/python -m tests.oracles.write $(ORACLES)

oracles-javascript: $(STAMP) ## compare the kept numbers of GrowthBook's JavaScript with what it computes (Node.js and npm)
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/javascript @growthbook/growthbook@1.8.0
	$(BIN)/python -m tests.oracles.javascript build/javascript/node_modules/@growthbook/growthbook

build/oracles/.installed: tests/oracles/requirements.txt
	$(PYTHON) -m venv build/oracles
	build/oracles/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

oracles-experiments: build/oracles-experiments/.installed build/oracles-bounds/.installed ## the same of the experiments' statistics: gbstats, statsmodels, ssrm-test, spotify-confidence, gsdesign (ORACLES=--write keeps new ones)
	OPENBLAS_NUM_THREADS=1 build/oracles-experiments/bin/python -m tests.oracles.experiments $(ORACLES)
	OPENBLAS_NUM_THREADS=1 build/oracles-bounds/bin/python -m tests.oracles.bounds $(ORACLES)

build/oracles-bounds/.installed: tests/oracles/bounds.txt
	$(PYTHON) -m venv build/oracles-bounds
	build/oracles-bounds/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

build/oracles-experiments/.installed: tests/oracles/experiments.txt
	$(PYTHON) -m venv build/oracles-experiments
	build/oracles-experiments/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench-experiments: $(STAMP) ## error rates and power of the experiments' tests, 2,000 simulated experiments a world (minutes)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.performance.experiments

bench-judgement: $(STAMP) ## error rates of sample-ratio and group sequential tests, and coverage where a bandit assigned (about 20 minutes)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.performance.judgement

bench-policies: $(STAMP) build/peers/.installed ## the default contextual policy beside Vowpal Wabbit and MABWiser, with its speed (an hour)
	$(BIN)/python -m tests.performance.policies

build/peers/.installed: tests/performance/peers.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

image: $(STAMP) ## build the images with docker, podman or buildah (BASE, REPOSITORY, SOURCE), sizes in build/image/
	$(BIN)/python -m knative.image.build $(if $(BASE),--base $(BASE)) $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(SOURCE),--source $(SOURCE))

image-test: $(STAMP) ## build both images on a base of Debian's packages, look into them, run them; skipped without a builder
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=0 tests/image

clean: ## remove what was built (not the data under .knudge)
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* *.egg-info
