"""Whole roll-outs through the Kubernetes API faked at the level of HTTP: the command, its state, and who disturbs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from functions.console.main import main
from functions.local.servers import LocalServers
from knative.revisions.rollout import SETTLES_S, PodCounters, decode
from tests.fake_kubernetes import Refused, traffic_faults
from tests.hosted import ROOT
from tests.rollout_world import Shoppers, World

BEGAN = 1_795_000_000.0
HEALTH = ["--compare", "health", "--steps", "10,50", "--step-time", "0", "--step-requests", "50"]
OPTIONS = [*HEALTH, "--every", "0.01"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Serve a cluster with traffic to whoever connects as kubectl would."""
    made = World(tmp_path, began=BEGAN)
    with made.fake:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(made.fake.kubeconfig))
        monkeypatch.delenv("KNUDGE_DATABASE_URL", raising=False)
        yield made


def knudge(*arguments: str) -> int:
    """Run `knudge revisions`."""
    return main(["revisions", *arguments])


def state_of(world: World) -> Any:
    """Return the state that the annotation holds."""
    text = world.fake.annotation("web")
    assert text is not None
    return decode(text)


def check_consistent(world: World) -> None:
    """The traffic is what the state says, valid, and the tag is where it was; nothing follows the latest revision."""
    traffic = world.fake.traffic("web")
    assert traffic_faults(traffic) == []
    assert [entry["revisionName"] for entry in traffic if entry.get("tag") == "stable"] == [world.serving]
    state = state_of(world)
    assert world.fake.share("web", world.candidate) == state.share
    assert world.fake.share("web", world.serving) == 100 - state.share


# Whole roll-outs


class Case(NamedTuple):
    """Roll-outs of a revision that earns `ratio` times `rate`, with `requests` between two looks."""

    rate: float
    margin: float
    ratio: float
    requests: int


def test_a_healthy_revision_is_promoted_step_by_step(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """10 %, 50 %, all; the tag stays with the revision it names; each write is one of traffic and state together."""
    assert knudge("rollout", "web", *OPTIONS) == 0
    shares = [
        sum(e["percent"] for e in written["spec"]["traffic"] if e["revisionName"] == world.candidate)
        for written in world.fake.writes
    ]
    assert sorted(set(shares)) == [10, 50, 100]
    assert shares == sorted(shares)
    check_consistent(world)
    assert state_of(world).phase == "promoted"
    assert world.fake.traffic("web") == [
        {"latestRevision": False, "percent": 0, "revisionName": world.serving, "tag": "stable"},
        {"latestRevision": False, "percent": 100, "revisionName": world.candidate},
    ]
    printed = capsys.readouterr().out
    assert f"rolling out {world.candidate} of web; {world.serving} serves" in printed
    assert f"promoted: {world.candidate} 100 %, {world.serving} 0 %" in printed


@pytest.mark.parametrize("what", ["errors", "slow answers"])
def test_a_rise_goes_back(world: World, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """5xx answers or slow ones that the serving revision does not have: back at once, with status 3 and the reason."""
    rates = world.error_rates if what == "errors" else world.slow_rates
    rates[world.candidate] = 0.5
    assert knudge("rollout", "web", *OPTIONS) == 3
    check_consistent(world)
    assert state_of(world).phase == "rolled_back"
    assert world.fake.share("web", world.serving) == 100
    assert f"rolled back: {world.candidate} 0 %, {world.serving} 100 %: {what} rose from 0.00% to" in (
        capsys.readouterr().out
    )


def test_a_revision_that_fails_goes_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Readiness lost in the middle is reason enough."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    [condition] = world.fake.revisions[world.candidate]["status"]["conditions"]
    condition.update(status="False", reason="ExitCode1", message="it crashed")
    assert knudge("rollout", "web", *HEALTH, "--once") == 3
    assert "not ready: ExitCode1: it crashed" in capsys.readouterr().out
    assert state_of(world).phase == "rolled_back"


SLOW = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case(0.4, 0.3, 1.0, 400), "promoted"),
        (Case(0.4, 0.3, 0.7, 400), "rolled_back"),
        pytest.param(Case(0.2, 0.1, 1.0, 4_000), "promoted", marks=SLOW),
        pytest.param(Case(0.2, 0.1, 0.9, 4_000), "rolled_back", marks=SLOW),
    ],
)
def test_rewards_decide(
    tmp_path: Path, servers: LocalServers, monkeypatch: pytest.MonkeyPatch, case: Case, expected: str
) -> None:
    """Of ten roll-outs of an equal revision, and of one that is worse by the margin, at least nine end as they should."""
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)
    options = [
        "--compare",
        "rewards",
        "--margin",
        str(case.margin),
        "--age",
        "30",
        "--steps",
        "20,50",
        "--step-time",
        "60",
    ]
    options += ["--every", "0.0001"]
    phases = []
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = World(folder, began=float(int(time.time())) - 86_400, requests=case.requests, seed=seed)
        rates = {world.serving: case.rate, world.candidate: case.rate * case.ratio}
        shoppers = Shoppers(world, servers.database_url, rates, seed)
        shoppers.write(world.now - 3_600, 3_600, 500, 0)
        with world.fake:
            place = str(world.fake.kubeconfig)
            monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", place)
            status = knudge("rollout", "web", *options, "--policy", shoppers.policy)
            check_consistent(world)
        shoppers.close()
        phase = state_of(world).phase
        assert status == {"promoted": 0, "rolled_back": 3}[phase]
        phases.append(phase)
    assert phases.count(expected) >= 9, phases


# Killed, disturbed, resumed


def start(world: World) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(world.fake.kubeconfig), "HOME": "/nonexistent"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "functions.console.main", "revisions", "rollout", "web", *OPTIONS],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize("phase", ["promoted", "rolled_back"])
def test_killed_at_every_write_it_goes_on(world: World, phase: str) -> None:
    """SIGKILL when a write has been sent and is lost, then when it is done and not answered; the next process goes on."""
    world.requests = 400  # a hold, forward, promoted; or back at the first look
    if phase == "rolled_back":
        world.error_rates[world.candidate] = 0.9
    process: list[subprocess.Popen[str]] = []
    killed_before: set[int] = set()

    def kill() -> None:
        process[-1].kill()
        process[-1].wait()

    def before(number: int) -> None:
        if number not in killed_before:
            killed_before.add(number)
            kill()
            raise Refused(500, "InternalError", "the connection went down with the one who asked")

    def after(number: int) -> None:
        kill()
        check_consistent(world)

    world.fake.before_write, world.fake.after_write = before, after
    for _ in range(40):
        process.append(start(world))
        process[-1].communicate(timeout=60)
        assert process[-1].returncode in {-signal.SIGKILL, 0, 3}
        if process[-1].returncode != -signal.SIGKILL:
            break
    assert (
        process[-1].returncode == 0
    )  # the verdict was written by one that was killed; there is nothing to do any more
    assert state_of(world).phase == phase
    check_consistent(world)
    assert len(process) == 2 * len(world.fake.writes) + 1
    assert len(killed_before) == len(world.fake.writes) >= 2


def test_ctrl_c_leaves_what_another_machine_goes_on_with(world: World) -> None:
    """Interrupted between two looks, it says so and ends with 130; the roll-out is then finished by another process."""
    world.requests = 0  # nothing happens, so it waits
    process = start(world)
    while len(world.fake.writes) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    assert "the same command goes on with it" in printed
    check_consistent(world)
    world.requests = 200
    assert knudge("rollout", "web", *OPTIONS) == 0
    assert state_of(world).phase == "promoted"


def test_what_changes_between_look_and_write_is_looked_at_again(world: World) -> None:
    """A controller that writes in between makes the write fail and nothing else: it is decided anew."""
    disturbed: list[bool] = []

    def touch() -> None:
        world.step()
        if len(disturbed) % 2 == 0:
            world.fake.touch("web")
        disturbed.append(True)

    world.fake.on_read = touch
    assert knudge("rollout", "web", *OPTIONS) == 0
    assert len(disturbed) >= 2 * len(world.fake.writes)
    check_consistent(world)


def test_a_service_that_never_rests_ends_in_an_error(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """After some tries the conflict is said, and nothing was written."""
    world.fake.on_read = lambda: world.fake.touch("web")
    assert knudge("rollout", "web", *HEALTH, "--once") == 1
    assert "was changed by another hand" in capsys.readouterr().err
    assert world.fake.writes == []


def test_another_hand_on_the_traffic_is_not_fought(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Traffic that was moved by somebody else stops the roll-out with both splits in the message; put back, it goes on."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    ours = world.fake.traffic("web")
    world.fake.set_traffic("web", [{"latestRevision": True, "percent": 100}])
    count = len(world.fake.writes)
    assert knudge("rollout", "web", *OPTIONS) == 1
    message = capsys.readouterr().err
    assert f"moved the traffic of web to {world.candidate} 100 %" in message
    assert f"{world.candidate} 10 %" in message
    assert len(world.fake.writes) == count
    world.fake.set_traffic("web", ours)
    assert knudge("rollout", "web", *OPTIONS) == 0


def test_a_deployment_in_between_takes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A third revision waits until the verdict, and is then what the next roll-out takes up."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    third = world.fake.deploy("web")
    assert world.fake.share("web", third) == 0
    assert knudge("rollout", "web", *OPTIONS) == 0
    check_consistent(world)
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert f"rolling out {third} of web; {world.candidate} serves" in capsys.readouterr().out
    assert (world.fake.share("web", third), world.fake.share("web", world.candidate)) == (10, 90)


def test_an_api_server_that_is_away_is_waited_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A 500 in the middle is said and waited for, as long as the command runs."""
    failures: list[int] = []

    def fail(number: int) -> None:
        if number == 1 and not failures:
            failures.append(number)
            raise Refused(500, "InternalError", "etcd is away")

    world.fake.before_write = fail
    assert knudge("rollout", "web", *OPTIONS) == 0
    assert "500: etcd is away" in capsys.readouterr().out
    assert state_of(world).phase == "promoted"


def test_a_pod_that_does_not_answer_is_not_counted_twice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It keeps the counters it was last seen with; a pod that is gone is forgotten."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    pod = next(pod for pod in world.fake.pods.values() if pod.revision == world.serving)
    before, requests = state_of(world).pods, state_of(world).errors.serving_requests
    assert before[pod.name].requests >= 180
    counted, pod.metrics = pod.metrics, None
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert "connection refused" in capsys.readouterr().out
    assert state_of(world).pods[pod.name] == before[pod.name]
    assert state_of(world).errors.serving_requests == requests
    pod.metrics = counted
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    now = state_of(world)
    assert now.errors.serving_requests - requests == _answers(now.pods, before, pod.name)


def _answers(now: dict[str, PodCounters], before: dict[str, PodCounters], name: str) -> int:
    return now[name].requests - before[name].requests if name in now else 0


def test_a_window_begins_when_the_traffic_moved(world: World) -> None:
    """What it took to decide is not part of it: until the write the traffic was another."""
    for pod in world.fake.pods.values():
        pod.delay_s = 0.4
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    began = BEGAN + world.step_s
    assert began + SETTLES_S + 0.4 <= state_of(world).windows[0].began < began + SETTLES_S + 20
    assert knudge("rollout", "web", *HEALTH, "--once") == 0  # holds: the window stays as it is
    first = state_of(world).windows[0].began
    while len(state_of(world).windows) < 2:
        assert state_of(world).windows[0].began == first
        assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert state_of(world).windows[1].began >= state_of(world).windows[0].ended + SETTLES_S + 0.4


def test_a_pod_that_hangs_holds_up_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its metrics are given up after a while, and the line says so; the others are read."""
    next(iter(world.fake.pods.values())).delay_s = 3.5
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert "no answer" in capsys.readouterr().out
    assert [counters.revision for counters in state_of(world).pods.values()] == [world.candidate]


# One look, no look, the end


def test_once_is_one_look_and_one_move_at_most(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A schedule that calls it again and again finishes a roll-out, and does nothing from then on."""
    shares = []
    for _ in range(12):
        count = len(world.fake.writes)
        assert knudge("rollout", "web", *HEALTH, "--once") == 0
        assert len(world.fake.writes) - count <= 1
        shares.append(world.fake.share("web", world.candidate))
        if state_of(world).phase != "running":
            break
    assert shares[0] == 10
    assert shares[-1] == 100
    assert shares == sorted(shares)
    count = len(world.fake.writes)
    capsys.readouterr()
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert f"nothing to roll out: {world.candidate} was promoted" in capsys.readouterr().out
    assert len(world.fake.writes) == count


def test_what_went_back_is_not_taken_up_again_by_itself(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A schedule leaves it; who names it by --to tries it again."""
    world.error_rates[world.candidate] = 0.5
    assert knudge("rollout", "web", *OPTIONS) == 3
    assert knudge("rollout", "web", *OPTIONS) == 0
    assert f"nothing to roll out: {world.candidate} was rolled back (errors rose" in capsys.readouterr().out
    world.error_rates.clear()
    assert knudge("rollout", "web", *OPTIONS, "--to", world.candidate) == 0
    assert world.fake.share("web", world.candidate) == 100


@pytest.mark.parametrize(
    "command",
    [["rollout", *HEALTH], ["rollout", *HEALTH, "--stop"], ["promote"], ["rollback"], ["promote", "web-00001"]],
)
def test_a_dry_run_writes_nothing(world: World, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither at the beginning nor in the middle; it says what would be."""
    verb, *rest = command
    for _ in range(2):
        if verb == "rollout" and "--stop" not in rest:
            assert knudge(verb, "web", *rest, "--dry-run") == 0
            assert "would be: " in capsys.readouterr().out
            assert world.fake.writes == []
        assert knudge("rollout", "web", *HEALTH, "--once") == 0
        before = json.dumps(world.fake.services["web"])
        assert knudge(verb, "web", *rest, "--dry-run") == 0
        assert "would " in capsys.readouterr().out
        assert json.dumps(world.fake.services["web"]) == before
        break


def test_stop_leaves_the_traffic_and_forgets_the_rest(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the annotation cannot be read."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    traffic = world.fake.traffic("web")
    assert knudge("rollout", "web", "--stop") == 0
    assert (world.fake.traffic("web"), world.fake.annotation("web")) == (traffic, None)
    assert f"the traffic stays: {world.serving} 90 %, {world.candidate} 10 %" in capsys.readouterr().out
    assert knudge("rollout", "web", "--stop") == 0
    world.fake.services["web"]["metadata"]["annotations"]["knudge.dev/rollout"] = "{"
    assert knudge("rollout", "web", *HEALTH) == 1
    assert "--stop` removes it" in capsys.readouterr().err
    assert knudge("rollout", "web", "--stop") == 0
    assert world.fake.annotation("web") is None


def test_promote_and_rollback_by_hand(world: World) -> None:
    """All at once, pinned by name; what was decided by hand is remembered, and undone by the other one."""
    assert knudge("promote", "web") == 0
    check_consistent(world)
    assert (world.fake.share("web", world.candidate), state_of(world).phase) == (100, "promoted")
    assert knudge("rollback", "web") == 0
    check_consistent(world)
    assert (world.fake.share("web", world.serving), state_of(world).phase) == (100, "rolled_back")
    count = len(world.fake.writes)
    assert knudge("rollout", "web", *HEALTH, "--once") == 0  # a schedule does not undo what a hand has done
    assert len(world.fake.writes) == count
    assert knudge("promote", "web", world.candidate) == 0
    assert world.fake.share("web", world.candidate) == 100


def test_a_broken_annotation_does_not_stand_in_an_operators_way(world: World) -> None:
    """A way back must be there when it is needed; the annotation is written anew."""
    assert knudge("promote", "web") == 0
    world.fake.services["web"]["metadata"]["annotations"]["knudge.dev/rollout"] = "{"
    assert knudge("rollback", "web") == 0
    assert (world.fake.share("web", world.serving), state_of(world).phase) == (100, "rolled_back")


@pytest.mark.parametrize(("verb", "phase", "share"), [("promote", "promoted", 100), ("rollback", "rolled_back", 0)])
def test_a_hand_ends_a_rollout(world: World, verb: str, phase: str, share: int) -> None:
    """`promote` and `rollback` end what is under way, and a command that waits for a verdict sees it."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert knudge(verb, "web") == 0
    check_consistent(world)
    assert (state_of(world).phase, world.fake.share("web", world.candidate)) == (phase, share)


def test_a_third_revision_keeps_its_share_in_a_rollout_and_gives_it_up_to_a_hand(world: World) -> None:
    """A roll-out moves what its two revisions have; `promote` means all."""
    third = world.fake.deploy("web")
    world.fake.set_traffic("web", [
        {"revisionName": world.serving, "percent": 80, "tag": "stable"},
        {"revisionName": third, "percent": 20, "tag": "partner"},
        {"latestRevision": True, "percent": 0, "tag": "preview"},
    ])  # fmt: skip
    assert knudge("rollout", "web", *OPTIONS, "--to", world.candidate) == 0
    fake = world.fake
    assert [fake.share("web", each) for each in (world.serving, third, world.candidate)] == [0, 20, 80]
    assert knudge("promote", "web", world.candidate) == 0
    assert [fake.share("web", each) for each in (world.serving, third, world.candidate)] == [0, 0, 100]
    tags = {entry["tag"]: entry.get("revisionName") for entry in fake.traffic("web") if "tag" in entry}
    assert tags == {"stable": world.serving, "partner": third, "preview": None}


def test_never_back_to_what_is_not_ready(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by hand nor by the evidence: it is said, and nothing is written."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    [condition] = world.fake.revisions[world.serving]["status"]["conditions"]
    condition.update(status="False", reason="Gone", message="no image")
    world.error_rates[world.candidate] = 0.9
    count = len(world.fake.writes)
    assert knudge("rollback", "web") == 1
    assert f"{world.serving} is not ready: Gone: no image" in capsys.readouterr().err
    world.requests = 2_000
    world.step()
    assert knudge("rollout", "web", *HEALTH, "--once") == 1
    assert f"{world.candidate} must go back (errors rose" in capsys.readouterr().err
    assert len(world.fake.writes) == count


def test_list_shows_it_all(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Revisions, shares, tags, and where the roll-out is."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    capsys.readouterr()
    assert knudge("list", "web", "--namespace", "knudge", "--context", "fake") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[:3]] == ["REVISION", world.candidate, world.serving]
    assert "stable" in printed.splitlines()[2]
    assert f"roll-out of {world.candidate} from {world.serving}: step 1 of 2 (10 %)" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "20,5"], "--steps: shares must rise"),
        (["--margin", "0"], "--margin: must lie above 0"),
        (["--age", "nan"], "--age: must be a time"),
        (["--slow", "0.3"], "0.3 s is none of the histogram's bounds"),
        (["--to", "web-00009"], "there is no revision 'web-00009'"),
        (["--to", "web-00001"], "the same"),
        (["--compare", "rewards"], "KNUDGE_DATABASE_URL is missing"),
    ],
)
def test_what_cannot_be_is_refused(
    world: World, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong options end with 1, one line that names them, and no write."""
    assert knudge("rollout", "web", "--from", "web-00001", *HEALTH, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert world.fake.writes == []


def test_another_rollout_than_the_one_under_way_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One Service has one roll-out; --stop is named."""
    assert knudge("rollout", "web", *HEALTH, "--once") == 0
    assert knudge("rollout", "web", *HEALTH, "--to", world.serving) == 1
    assert "is under way; --stop ends it" in capsys.readouterr().err


def test_the_rights_that_are_needed_are_those_of_the_page(world: World) -> None:
    """A whole roll-out, the list, and moves by hand use these five, which docs/operations/rollouts.md names."""
    assert knudge("rollout", "web", *OPTIONS) == 0
    assert knudge("list", "web") == 0
    assert knudge("rollback", "web") == 0
    assert world.fake.used == {
        ("get", "services"), ("patch", "services"), ("list", "revisions"), ("list", "pods"), ("get", "pods/proxy")
    }  # fmt: skip
    page = (ROOT / "docs/operations/rollouts.md").read_text()
    rules = yaml.safe_load(page.split("```yaml\n", 1)[1].split("```", 1)[0])["rules"]
    granted = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == world.fake.used


def test_a_database_that_is_away_holds(
    world: World, servers: LocalServers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A roll-out does not begin without it; one that is under way waits, and its pods are watched all the same."""
    options = ["--compare", "rewards", "--steps", "50", "--step-time", "0", "--once"]
    away = "postgresql://nobody@127.0.0.1:1/nowhere"
    monkeypatch.setenv("KNUDGE_DATABASE_URL", away)
    assert knudge("rollout", "web", *options) == 1
    assert "PostgreSQL does not answer" in capsys.readouterr().err
    assert world.fake.writes == []
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)
    assert knudge("rollout", "web", *options) == 0
    assert "made no decision in the last" in capsys.readouterr().out
    world.step_s = 600.0  # the first decisions are old enough to be asked for
    monkeypatch.setenv("KNUDGE_DATABASE_URL", away)
    assert knudge("rollout", "web", *options) == 0
    printed = capsys.readouterr().out
    assert "stay: " in printed
    assert "PostgreSQL does not answer" in printed
    world.error_rates[world.candidate] = 0.5
    world.step()
    assert knudge("rollout", "web", *options) == 3
    assert "errors rose" in capsys.readouterr().out


@pytest.mark.parametrize(
    "right", [("get", "pods/proxy"), ("list", "pods"), ("patch", "services"), ("list", "revisions")]
)
def test_a_right_that_is_missing_is_named(
    world: World, right: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A roll-out without the eyes it needs does not go on blindly."""
    world.fake.forbidden = {right}
    assert knudge("rollout", "web", *HEALTH, "--once") == 1
    verb, resource = right
    assert f'cannot {verb} resource "{resource}"' in capsys.readouterr().err
    assert world.fake.writes == []
