"""What an operator may write into a policy: everything is checked before anything is stored."""

from __future__ import annotations

import re
from typing import NoReturn

import msgspec
from msgspec import UNSET

from functions.control.session_checks import check_sessions
from shared.edge.contracts import PolicyIn
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput
from shared.policies.algorithm import ContextualKind, Kind, SequentialKind
from shared.policies.features import ACTION_PREFIX
from shared.policies.kinds import CONTEXTUAL_KINDS, EXPANSIONS, KINDS, SEQUENTIAL_KINDS
from shared.policies.q_tables import LEARNING
from shared.vocabulary import Action, FeatureSpec, PolicySpec, RewardRule

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_UNIT_RANGE = (0.0, 1.0)
LONGEST_WINDOW_S = 366 * 86_400.0
SHORTEST_HALF_LIFE_S = 10.0
LARGEST_REWARD = 1e12
LARGEST_HASH_DIMENSION = 256
LARGEST_EXPANSION = 256
MOST_INTERACTIONS = 64
LARGEST_DIVERSITY = 100.0
LARGEST_BASELINE = 0.5


def spec_of(name: str, body: PolicyIn, bounds: Bounds) -> PolicySpec:
    """Check everything and return the version to write; raises `InvalidInput` with the field at fault."""
    if not _NAME.fullmatch(name):
        _refuse("name", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit")
    features = _features(body, bounds)
    kind = _kind(body.kind, features)
    parameters = kind.PARAMETERS if body.steering is None else {**kind.PARAMETERS, **LEARNING}
    for key, value in body.parameters.items():
        known = parameters.get(key)
        if known is None:
            _refuse(f"parameters.{key}", f"{body.kind} takes {', '.join(parameters)}")
        if not known.low <= value <= known.high:
            _refuse(f"parameters.{key}", f"must lie between {known.low:g} and {known.high:g}")
    reward_range = _UNIT_RANGE if body.reward_range is UNSET else body.reward_range
    if reward_range is None and kind.NEEDS_RANGE:
        _refuse("reward_range", f"{body.kind} needs one")
    _check_reward(body, reward_range, bounds)
    _check_times(body)
    _check_diversity(body, bounds)
    _check_baseline(name, body)
    check_sessions(body, bounds)
    if not 0 <= body.exploration_floor < 1:
        _refuse("exploration_floor", "must lie in [0, 1)")
    actions = tuple(Action(a) if isinstance(a, str) else Action(a.id, a.features) for a in body.actions)
    bounds.actions((action.id for action in actions), "actions")
    for at, action in enumerate(actions):
        bounds.context(action.features, f"actions[{at}].features")
    return PolicySpec(
        name=name,
        version=0,
        kind=body.kind,
        parameters=body.parameters,
        actions=actions,
        reward={key: rule if isinstance(rule, RewardRule) else RewardRule(rule) for key, rule in body.reward.items()},
        reward_range=reward_range,
        default_reward=body.default_reward,
        reward_window_s=body.reward_window_s,
        expected_delay_s=body.expected_delay_s,
        half_life_s=body.half_life_s,
        exploration_floor=body.exploration_floor,
        features=features,
        diversity=body.diversity,
        steering=body.steering,
        mode=body.mode,
        baseline=body.baseline,
        state=body.state,
        session_timeout_s=body.session_timeout_s,
    )


def _kind(name: str, features: FeatureSpec | None) -> Kind | ContextualKind | SequentialKind:
    without = KINDS.keys() | SEQUENTIAL_KINDS.keys()
    if features is not None and name in without - CONTEXTUAL_KINDS.keys():
        _refuse("features", f"{name} does not look at them; leave them out")
    kind: Kind | ContextualKind | SequentialKind | None = SEQUENTIAL_KINDS.get(name)
    if kind is None:
        kind = CONTEXTUAL_KINDS.get(name) if features is not None else KINDS.get(name)
    if kind is None:
        _refuse("kind", f"must be one of {', '.join(sorted(without | CONTEXTUAL_KINDS.keys()))}")
    return kind


def _check_reward(body: PolicyIn, reward_range: tuple[float, float] | None, bounds: Bounds) -> None:
    if not body.reward:
        _refuse("reward", "must name at least one kind of feedback")
    for kind, rule in body.reward.items():
        bounds.string(kind, "reward")
        weight = rule.weight if isinstance(rule, RewardRule) else rule
        if abs(weight) > LARGEST_REWARD:
            _refuse(f"reward.{kind}", f"a weight may be at most {LARGEST_REWARD:g}")
        if isinstance(rule, RewardRule) and rule.saturation is not None and rule.saturation <= 0:
            _refuse(f"reward.{kind}.saturation", "must be above 0")
    low, high = reward_range or (-LARGEST_REWARD, LARGEST_REWARD)
    if not -LARGEST_REWARD <= low < high <= LARGEST_REWARD:
        _refuse("reward_range", f"must be [low, high] with low < high, both within {LARGEST_REWARD:g}")
    if not low <= body.default_reward <= high:
        _refuse("default_reward", "must lie in the reward range")


def _check_times(body: PolicyIn) -> None:
    if not 1 <= body.reward_window_s <= LONGEST_WINDOW_S:
        _refuse("reward_window_s", f"must lie between 1 and {LONGEST_WINDOW_S:g}")
    if body.expected_delay_s is not None and not 0 < body.expected_delay_s <= LONGEST_WINDOW_S:
        _refuse("expected_delay_s", f"must be above 0 and at most {LONGEST_WINDOW_S:g}")
    if body.half_life_s is not None and body.half_life_s < SHORTEST_HALF_LIFE_S:
        _refuse("half_life_s", f"must be at least {SHORTEST_HALF_LIFE_S:g}")


def _check_diversity(body: PolicyIn, bounds: Bounds) -> None:
    diversity = body.diversity
    if diversity is None:
        return
    if not 0 < diversity.weight <= LARGEST_DIVERSITY:
        _refuse("diversity.weight", f"must be above 0 and at most {LARGEST_DIVERSITY:g}; leave diversity out for none")
    if diversity.features == ():
        _refuse("diversity.features", "must name at least one; leave it out for all of them")
    for at, name in enumerate(diversity.features or ()):
        bounds.string(name, f"diversity.features[{at}]")
        if name.startswith(ACTION_PREFIX):
            _refuse(f"diversity.features[{at}]", f"names features of actions as they are, without {ACTION_PREFIX!r}")


def _check_baseline(name: str, body: PolicyIn) -> None:
    baseline = body.baseline
    if baseline is None:
        return
    if not 0 < baseline.share <= LARGEST_BASELINE:
        _refuse("baseline.share", f"must be above 0 and at most {LARGEST_BASELINE:g}; leave baseline out for none")
    if baseline.serve == "default_action" and body.mode == "apprentice":
        _refuse("baseline.serve", "an apprentice's other users get the default action already; take uniform or policy")
    if (baseline.serve == "policy") != (baseline.policy is not None):
        _refuse(
            "baseline.policy", "names the policy that serves the baseline, where serve is 'policy', and nowhere else"
        )
    if baseline.policy == name:
        _refuse("baseline.policy", "must be another policy")


def _features(body: PolicyIn, bounds: Bounds) -> FeatureSpec | None:
    """Return what the policy looks at: what it says, everything where its kind must look at something, else nothing."""
    features = body.features
    if features is None:
        if body.kind not in CONTEXTUAL_KINDS or body.kind in KINDS:
            return None
        features = FeatureSpec()
    _check_features(features, bounds)
    if features.expansion is None:
        features = msgspec.structs.replace(features, expansion=EXPANSIONS.get(body.kind))
    return features


def _check_features(features: FeatureSpec, bounds: Bounds) -> None:
    for at, name in enumerate(features.per_action or ()):
        bounds.string(name, f"features.per_action[{at}]")
        if name.startswith(ACTION_PREFIX):
            _refuse(f"features.per_action[{at}]", "takes features of the context; those of the action belong to shared")
    for at, name in enumerate(features.shared or ()):
        bounds.string(name, f"features.shared[{at}]")
    for at, pair in enumerate(features.interactions):
        for place, name in enumerate(pair):
            bounds.string(name, f"features.interactions[{at}][{place}]")
    if len(features.interactions) > MOST_INTERACTIONS:
        _refuse("features.interactions", f"at most {MOST_INTERACTIONS}")
    if not 1 <= features.hash_dimension <= LARGEST_HASH_DIMENSION:
        _refuse("features.hash_dimension", f"must lie between 1 and {LARGEST_HASH_DIMENSION}")
    if features.expansion is not None and not 0 <= features.expansion <= LARGEST_EXPANSION:
        _refuse("features.expansion", f"must lie between 0 and {LARGEST_EXPANSION}")


def _refuse(field: str, detail: str) -> NoReturn:
    raise InvalidInput(detail, field=field)
