"""From a snapshot and a request to a choice with exact probabilities. Pure: time and randomness are arguments.

The law of one item is the algorithm's, mixed with the exploration floor f over the n eligible actions,

    p(a) = (1 - f) * p_algorithm(a) + f / n,

and the choice inverts its distribution function at one uniform number. A slate draws its items one after another,
each from the law among what is left, so a propensity is conditional on the items above it. Where the policy wants them
diverse, what the algorithm knows of each is moved before each draw (`diversity`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from shared.errors import InvalidInput
from shared.policies.algorithm import Explained, FloatArray, Movable, scale
from shared.policies.diversity import Penalties
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS, SEQUENTIAL_KINDS
from shared.vocabulary import Action, Context, Item, Snapshot

if TYPE_CHECKING:
    from shared.policies.steering import Helm

_REMEMBERED_BYTES = 8 << 20
"""How large the laws of subsets and of slates' later positions may grow before a chooser starts afresh."""
_LAW_BYTES, _ACTION_BYTES = 800, 150
"""What a law takes beside its evidence: once, and for each of its actions."""


def without_snapshot(policy: str) -> Snapshot:
    """Return what decides while no snapshot is at hand: version 0, uniform over the actions that the caller brings."""
    return Snapshot(policy, 0, 0, "epsilon_greedy", {"epsilon": 1.0}, (), (), 0.0, None, 0, 0.0)


def choose(
    snapshot: Snapshot, context: Context, actions: Sequence[Action | str] | None, draws: Sequence[float]
) -> tuple[Item, ...]:
    """Choose one item per uniform number in `draws` (each in [0, 1)) among `actions` (None: the snapshot's own).

    An id alone stands for the snapshot's action of that name, or for one without features.

    Fewer items come back where there are fewer actions. Raises `InvalidInput` where there is none.

    >>> from shared.vocabulary import Action
    >>> bandit = Snapshot("p", 1, 1, "epsilon_greedy", {"epsilon": 0.2}, (Action("a"), Action("b")), (), 0.0, None, 1, 0.0)
    >>> [item.propensity for item in choose(bandit, {}, None, [0.3])]
    [0.5]
    """
    return Chooser(snapshot).choose(context, actions, draws)


class Chooser:
    """A snapshot compiled for many choices; holds nothing that the snapshot does not determine."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile `snapshot`: posterior draws, and the law over its own actions where it is the same in every context."""
        self.snapshot = snapshot
        self.own = {action.id: action for action in snapshot.actions}
        self.actions = tuple(self.own)
        self._laws: dict[tuple[int | None, tuple[str, ...]], Law] = {}
        self._bytes = 0
        self._contextual = None if snapshot.features is None else CONTEXTUAL_KINDS[snapshot.kind](snapshot)
        sequential = SEQUENTIAL_KINDS.get(snapshot.kind)
        self._sequential = None if sequential is None else sequential(snapshot)
        self._algorithm = KINDS[snapshot.kind](snapshot) if not (self._contextual or self._sequential) else None
        self._helm: Helm | None = None
        if snapshot.steering is not None:
            from shared.policies.steering import Helm  # few policies are steered: the others start without

            self._helm = Helm(snapshot, snapshot.steering)
        self._diversity = snapshot.diversity
        self._own_penalties = self._penalties(snapshot.actions)
        if self.actions and self._contextual is None:
            self._law(None, self.actions)

    @property
    def looks_at_context(self) -> bool:
        """Whether propensities depend on the context."""
        return self._algorithm is None or self._helm is not None

    def choose(
        self, context: Context, actions: Sequence[Action | str] | None, draws: Sequence[float]
    ) -> tuple[Item, ...]:
        """Do what `choose` of this module says."""
        law = self.law(context, actions)
        items = []
        for draw in draws[: len(law.actions)]:
            at = law.draw(draw)
            items.append(Item(law.actions[at], law.propensities[at], law.scores[at]))
            if len(items) < len(draws) and len(law.actions) > 1:
                law = law.without(at)
        return tuple(items)

    def laws(self, context: Context, actions: Sequence[Action | str] | None, taken: Sequence[str]) -> Iterator[Law]:
        """Yield the law of each item of a slate whose items are `taken`, given those above it.

        Ends with the first item that was not eligible.
        """
        law = self.law(context, actions)
        for position, action in enumerate(taken, 1):
            yield law
            if action not in law.actions or position == len(taken) or len(law.actions) == 1:
                return
            law = law.without(law.actions.index(action))

    def contributions(self, context: Context, action: Action) -> dict[str, float]:
        """Return what each feature adds to the action's score; empty where the kind looks at none."""
        algorithm: object = self._contextual or self._algorithm
        return algorithm.contributions(context, action) if isinstance(algorithm, Explained) else {}

    def propensities(
        self, actions: Sequence[Action | str] | None = None, context: Context | None = None
    ) -> dict[str, float]:
        """Return the probability of each action to be chosen for a slate of one."""
        law = self.law({} if context is None else context, actions)
        return dict(zip(law.actions, law.propensities, strict=True))

    def law(self, context: Context, actions: Sequence[Action | str] | None) -> Law:
        """Return the distribution of the first item; raises `InvalidInput` where there is no action."""
        ids = self.actions if actions is None else tuple([a if isinstance(a, str) else a.id for a in actions])
        if not ids:
            detail = "no action is eligible"
            raise InvalidInput(detail, field="actions")
        if self._contextual is None:
            stateful = self._helm or self._sequential
            law = self._law(None if stateful is None else stateful.known_state(context), ids)
            if self._diversity is None or actions is None or all(self._is_own(action) for action in actions):
                return law
            return law.of(self._penalties(actions))
        evidence = self._contextual.evidence(context, actions)
        steered = None if self._helm is None else self._helm.shift(self._helm.known_state(context), ids)
        penalties = self._own_penalties if actions is None else self._penalties(actions)
        return Law(self, ids, evidence, evidence[:, 0].tolist(), kept=False, steered=steered, penalties=penalties)

    def _law(self, state: int | None, actions: tuple[str, ...]) -> Law:
        law = self._laws.get((state, actions))
        if law is None:
            if self._sequential is not None:
                evidence = self._sequential.evidence(state, actions)
                scores = evidence[:, 0].tolist()
            else:
                assert self._algorithm is not None  # noqa: S101 - for mypy
                evidence, scores = self._algorithm.evidence(actions), self._algorithm.scores(actions)
            steered = None if self._helm is None else self._helm.shift(state, actions)
            law = Law(self, actions, evidence, scores, kept=True, steered=steered, penalties=self._penalties(actions))
            self.remember(evidence)
            self._laws[state, actions] = law
        return law

    def _penalties(self, actions: Sequence[Action | str]) -> Penalties | None:
        if self._diversity is None:
            return None
        given = [self.own.get(action) or Action(action) if isinstance(action, str) else action for action in actions]
        return Penalties(self._diversity, scale(self.snapshot)[1], given)

    def _is_own(self, action: Action | str) -> bool:
        """Tell whether an action has the features that its id alone would stand for."""
        return isinstance(action, str) or action.features == (self.own.get(action.id) or action).features

    def remember(self, evidence: FloatArray) -> None:
        """Make room for the law of `evidence`: forget every law that was kept ready, where there is none left."""
        size = evidence.nbytes + _LAW_BYTES + _ACTION_BYTES * len(evidence)
        self._bytes += size
        if self._bytes > _REMEMBERED_BYTES:
            self._laws.clear()  # the laws of later positions hang on these
            self._bytes = size

    def law_of(self, evidence: FloatArray, shift: FloatArray | None = None) -> FloatArray:
        """Return the probabilities of the rows of `evidence`, floor included, shape (n_actions,).

        `shift`: how much more each is worth than the evidence says, in units of reward.
        """
        floor = self.snapshot.exploration_floor
        algorithm = self._contextual or self._sequential or self._algorithm
        assert algorithm is not None  # noqa: S101 - for mypy
        evidence = self._moved(evidence, shift)
        return (1.0 - floor) * algorithm.probabilities(evidence) + floor / len(evidence)

    def _moved(self, evidence: FloatArray, shift: FloatArray | None) -> FloatArray:
        """Return the evidence of actions that are worth more by `shift`, in units of reward (None: nothing)."""
        if shift is None:
            return evidence
        algorithm: object = self._contextual or self._sequential or self._algorithm
        return algorithm.moved(evidence, shift) if isinstance(algorithm, Movable) else evidence + shift[:, None]


class Law:
    """The distribution over one set of eligible actions."""

    __slots__ = (
        "_below",
        "_chooser",
        "_evidence",
        "_kept",
        "_last",
        "_penalties",
        "_steered",
        "_without",
        "actions",
        "propensities",
        "scores",
    )

    def __init__(
        self,
        chooser: Chooser,
        actions: tuple[str, ...],
        evidence: FloatArray,
        scores: list[float | None],
        *,
        kept: bool,
        steered: FloatArray | None = None,
        penalties: Penalties | None = None,
    ) -> None:
        """Reckon the propensities from `evidence`; `kept`: what is worked out of it counts as remembered by `chooser`.

        `steered`: how much more each is worth than the evidence says, None for a policy that is not steered. `penalties`: what actions lose for being like those above; None where a slate need not be diverse.
        """
        self._chooser = chooser
        self._kept = kept
        self._evidence = evidence
        self.actions = actions
        self.scores = scores
        self._penalties = penalties
        self._steered = steered
        shift = None if penalties is None else penalties.shift
        if steered is not None:
            shift = steered if shift is None else steered + shift
        self.propensities: list[float] = chooser.law_of(evidence, shift).tolist()
        self._below = list(accumulate(self.propensities))
        self._last = max(at for at, propensity in enumerate(self.propensities) if propensity > 0)
        self._without: dict[int, Law] = {}

    def draw(self, uniform: float) -> int:
        """Return the position of the action whose share of [0, 1) holds `uniform`; never one of probability 0."""
        return min(bisect_right(self._below, uniform), self._last)

    def of(self, penalties: Penalties | None) -> Law:
        """Return this law where actions have other features than their ids stand for."""
        steered, scores = self._steered, self.scores
        return Law(
            self._chooser, self.actions, self._evidence, scores, kept=False, steered=steered, penalties=penalties
        )

    def without(self, at: int) -> Law:
        """Return the law among the actions that are left when the one at position `at` is taken."""
        law = self._without.get(at)
        if law is None:
            rest = [row for row in range(len(self.actions)) if row != at]
            evidence = self._evidence[rest]
            actions = self.actions[:at] + self.actions[at + 1 :]
            scores = self.scores[:at] + self.scores[at + 1 :]
            penalties = None if self._penalties is None else self._penalties.without(at)
            steered = None if self._steered is None else self._steered[rest]
            law = Law(self._chooser, actions, evidence, scores, kept=self._kept, steered=steered, penalties=penalties)
            if self._kept:
                self._chooser.remember(evidence)
            self._without[at] = law
        return law
