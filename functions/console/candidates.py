"""Candidates as they are given on the command line, and what one knows at each moment of a log.

A candidate is a version of the policy that might have been: another kind, other parameters. It is replayed over the log *progressively*:
its snapshot at any moment knows only what was decided, and what feedback had come, before that moment. So it is judged by decisions
that it has not learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NoReturn

import msgspec

from functions.console.failure import ConsoleFailure
from shared.policies.algorithm import ContextualKind, Kind
from shared.policies.choosing import Chooser, Law
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS
from shared.policies.ordered_kinds import LEARNERS
from shared.policies.posterior import Outcome, Posterior, learn, nothing_learned, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec

FLOOR, HALF_LIFE, DELAY, FEATURES = "floor", "half_life_s", "expected_delay_s", "features"
MOST = 50


class Candidate:
    """One candidate and what it has learned so far."""

    def __init__(self, name: str, spec: PolicySpec) -> None:
        """Know nothing."""
        self.name = name
        self.spec = spec
        self._posterior: Posterior = nothing_learned(spec, Posterior())
        self._version = 0
        self._chooser: Chooser | None = None

    def learn(self, outcomes: Iterable[Outcome], as_of: float) -> None:
        """Learn `outcomes`, at `as_of` (POSIX seconds); what decides is renewed when it is next asked."""
        self._posterior = learn(self._posterior, self.spec, outcomes, as_of)
        self._chooser = None

    def laws(self, context: Context, eligible: Sequence[Action], taken: Sequence[str]) -> list[Law]:
        """Return the law of each item of a decision whose items were `taken`, given those above it."""
        if self._chooser is None:
            self._version += 1
            self._chooser = Chooser(snapshot_of(self._posterior, self.spec, self._version))
        return list(self._chooser.laws(context, eligible, taken))


def candidates(given: Sequence[str], policy: PolicySpec) -> list[Candidate]:
    """Return the candidates that texts such as `kind=epsilon_greedy,epsilon=0.05,0.1` name, every combination of values once.

    What a text does not name is the policy's: its kind (and then its parameters), floor, half-life and features. Raises
    `ConsoleFailure`, naming the candidate.
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
    if kind in LEARNERS:
        _refuse(name, f"{kind} learns in a stored order, which is not gone through here; name another kind")
    features = _features(name, kind, named.pop(FEATURES, None), policy)
    table: dict[str, Kind | ContextualKind] = {**(KINDS if features is None else CONTEXTUAL_KINDS)}
    if kind not in table:
        _refuse(name, f"kind must be one of {', '.join(dict.fromkeys([*KINDS, *CONTEXTUAL_KINDS]))}")
    if table[kind].NEEDS_RANGE and policy.reward_range is None:
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
    known = table[kind].PARAMETERS
    for key, value in numbers.items():
        if key not in known:
            _refuse(name, f"{kind} takes {', '.join([*known, FLOOR, HALF_LIFE, DELAY, FEATURES])}, not {key}")
        if not known[key].low <= value <= known[key].high:
            _refuse(name, f"{key} must lie between {known[key].low:g} and {known[key].high:g}")
    inherited = policy.parameters if kind == policy.kind and (features is None) == (policy.features is None) else {}
    return msgspec.structs.replace(
        policy,
        kind=kind,
        parameters=inherited | numbers,
        features=features,
        exploration_floor=floor,
        half_life_s=half_life,
        expected_delay_s=delay,
    )


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
