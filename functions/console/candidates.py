"""Candidates as they are given on the command line: versions of the policy that might have been, each checked as a policy is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NoReturn

import msgspec

from functions.console.candidate import Candidate
from functions.console.failure import ConsoleFailure
from shared.errors import InvalidInput
from shared.policies.algorithm import ContextualKind, Kind, SequentialKind
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS, SEQUENTIAL_KINDS
from shared.policies.ordered_kinds import LEARNERS, learner_named
from shared.policies.q_tables import LEARNING
from shared.policies.state_checks import LARGEST_STEERING, MOST_VISITS, check_state, has_states
from shared.vocabulary import FeatureSpec, PolicySpec, Steering

FLOOR, HALF_LIFE, DELAY, FEATURES = "floor", "half_life_s", "expected_delay_s", "features"
STEERING, STEERING_VISITS = "steering", "steering_visits"
MOST = 50
_WITH_FEATURES = {True: ", and be one that looks at features", False: ", and be one that can do without features"}


def candidates(given: Sequence[str], policy: PolicySpec) -> list[Candidate]:
    """Return the candidates that texts such as `kind=epsilon_greedy,epsilon=0.05,0.1` name, every combination of values once.

    What a text does not name is the policy's: its kind (and then its parameters), floor, half-life, features and steering; its
    state always. Raises `ConsoleFailure`, naming the candidate.
    """
    found: dict[str, Candidate] = {}
    for text in given:
        options = _options(text)
        for values in product(*options.values()):
            named = dict(zip(options, values, strict=True))
            name = ",".join(f"{key}={value}" for key, value in named.items())
            found[name] = Candidate(name, _spec(name, named, policy))
    if len(found) > MOST:
        message = f"{len(found)} candidates are more than {MOST}"
        raise ConsoleFailure(message, field="candidate")
    return list(found.values())


def _options(text: str) -> dict[str, list[str]]:
    """Return the values of each key: what has no `=` is one more value of the key before it."""
    options: dict[str, list[str]] = {}
    key = ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip()
            if key in options:
                _refuse(text, f"{key} stands twice")
            options[key] = [value.strip()]
        elif key:
            options[key].append(part.strip())
        if not key or "" in options[key]:
            _refuse(text, "write it as kind=thompson, or kind=epsilon_greedy,epsilon=0.05,0.1")
    return options


def _spec(name: str, named: dict[str, str], policy: PolicySpec) -> PolicySpec:
    kind = named.pop("kind", policy.kind)
    features = _features(name, kind, named.pop(FEATURES, None), policy)
    algorithm = _algorithm(name, kind, looks_at_features=features is not None)
    if algorithm.NEEDS_RANGE and policy.reward_range is None:
        _refuse(name, f"{kind} needs a reward range, which the policy does not have")
    numbers = {key: _number(name, key, value) for key, value in named.items()}
    floor = numbers.pop(FLOOR, policy.exploration_floor)
    half_life = numbers.pop(HALF_LIFE, policy.half_life_s)
    delay = numbers.pop(DELAY, policy.expected_delay_s)
    if not 0 <= floor <= 1:
        _refuse(name, f"{FLOOR} must lie in [0, 1]")
    for key, value in ((HALF_LIFE, half_life), (DELAY, delay)):
        if value is not None and value <= 0:
            _refuse(name, f"{key} must be above 0")
    steering = _steering(name, kind, numbers, policy)
    known = algorithm.PARAMETERS if steering is None else {**algorithm.PARAMETERS, **LEARNING}
    for key, value in numbers.items():
        if key not in known:
            _refuse(name, f"{kind} takes {', '.join([*known, FLOOR, HALF_LIFE, DELAY, FEATURES, STEERING])}, not {key}")
        if not known[key].low <= value <= known[key].high:
            _refuse(name, f"{key} must lie between {known[key].low:g} and {known[key].high:g}")
    _check_state(name, kind, steering, policy)
    is_alike = kind == policy.kind and (features is None) == (policy.features is None)
    inherited = {key: value for key, value in policy.parameters.items() if is_alike and key in known}
    return msgspec.structs.replace(
        policy,
        kind=kind,
        parameters=inherited | numbers,
        features=features,
        exploration_floor=floor,
        half_life_s=half_life,
        expected_delay_s=delay,
        steering=steering,
    )


def _algorithm(name: str, kind: str, *, looks_at_features: bool) -> Kind | ContextualKind | SequentialKind:
    """Return the class of a kind."""
    if looks_at_features and kind in CONTEXTUAL_KINDS:
        return CONTEXTUAL_KINDS[kind]
    if not looks_at_features and kind in SEQUENTIAL_KINDS:
        return SEQUENTIAL_KINDS[kind]
    if looks_at_features or kind not in KINDS:
        every = dict.fromkeys([*KINDS, *CONTEXTUAL_KINDS, *SEQUENTIAL_KINDS])
        _refuse(name, f"kind must be one of {', '.join(every)}" + _WITH_FEATURES[looks_at_features] * (kind in every))
    return KINDS[kind]


def _steering(name: str, kind: str, numbers: dict[str, float], policy: PolicySpec) -> Steering | None:
    """Take what is said of steering out of `numbers`, and return it: the policy's where nothing is said."""
    given = numbers.keys() & {STEERING, STEERING_VISITS}
    if kind in LEARNERS:
        if given:
            _refuse(name, f"{kind} learns a model of its own in order, beside which nothing steers it")
        return None
    before = policy.steering
    weight = numbers.pop(STEERING, 0.0 if before is None else before.weight)
    visits = numbers.pop(STEERING_VISITS, (before or Steering(1.0)).minimum_visits)
    if not 0 <= weight <= LARGEST_STEERING:
        _refuse(name, f"{STEERING} must lie in [0, {LARGEST_STEERING:g}]")
    if not 1 <= visits <= MOST_VISITS:
        _refuse(name, f"{STEERING_VISITS} must lie between 1 and {MOST_VISITS:g}")
    if not weight and STEERING_VISITS in given:
        _refuse(name, f"{STEERING_VISITS} needs a {STEERING}")
    return Steering(weight, visits) if weight else None


def _check_state(name: str, kind: str, steering: Steering | None, policy: PolicySpec) -> None:
    learner = learner_named(kind, is_steered=steering is not None)
    if learner is None or not has_states(learner):
        return
    if not policy.state:
        what = kind if steering is None else "a steered bandit"
        _refuse(name, f"{what} tells states apart, and the policy has no state: give one by --state")
    try:
        check_state(learner, kind, policy.state)
    except InvalidInput as error:
        _refuse(name, f"{error.field} {error.detail}")


def _features(name: str, kind: str, asked: str | None, policy: PolicySpec) -> FeatureSpec | None:
    """Return what a candidate looks at: the policy's features, all of them where it names none, or nothing."""
    if asked not in {None, "yes", "no"}:
        _refuse(name, f"{FEATURES} must be yes or no")
    if asked is None:
        looks = kind in CONTEXTUAL_KINDS and (kind not in KINDS or policy.features is not None)
    else:
        looks = asked == "yes"
    return (policy.features or FeatureSpec()) if looks else None


def _number(name: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        _refuse(name, f"{key} must be a number, not {value!r}")


def _refuse(candidate: str, detail: str) -> NoReturn:
    message = f"candidate {candidate!r}: {detail}"
    raise ConsoleFailure(message, field="candidate")
