"""Logs of simulated sessions that overlap, as the console reads them, and what candidates are truly worth in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from functions.console.candidate import Candidate
from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItem
from functions.console.evaluate_sessions import evaluate_sessions
from functions.console.evaluation_report import Report
from functions.console.evaluation_task import Task
from functions.console.progressive import Progress
from shared.policies.choosing import Chooser, without_snapshot
from shared.policies.ordered import Step
from shared.storage.decision_rows import StoredDecision
from shared.vocabulary import Decision, Feedback, PolicySpec, RewardRule, Snapshot
from tests.unit.policies.session_worlds import World

APART_S, STEP_S, LATE_S = 7.0, 5.0, 1.0
"""Between the beginnings of sessions, between the decisions of one, and until feedback comes."""


def logging_policy(world: World, **fields: object) -> PolicySpec:
    """Return the policy whose log it is: uniform, with states, short windows."""
    policy = PolicySpec(
        "shop", 1, "epsilon_greedy", {"epsilon": 1.0}, world.actions, {"click": RewardRule()},
        reward_window_s=10.0, session_timeout_s=20.0, state=dict(world.cells),
    )  # fmt: skip
    return type(policy)(**{name: getattr(policy, name) for name in policy.__struct_fields__} | fields)


def uniform(world: World, **fields: object) -> Chooser:
    """Return a chooser that chooses uniformly, unless its snapshot's `fields` say otherwise."""
    known = {name: getattr(without_snapshot("shop"), name) for name in Snapshot.__struct_fields__}
    return Chooser(Snapshot(**known | {"actions": world.actions} | fields))


def logged(world: World, sessions: int, seed: int, chooser: Chooser | None = None) -> list[list[DecidedItem]]:
    """Return the decisions of so many sessions in the order in which they were made, chosen uniformly unless said otherwise."""
    played = world.play(chooser or uniform(world), sessions, np.random.RandomState(seed))
    decided: list[tuple[float, str, Step]] = []
    session, at = 0, 0
    for step in played:
        decided.append((1000.0 + APART_S * session + STEP_S * at, f"session-{session}", step))
        session, at = (session + 1, 0) if step.ends else (session, at + 1)
    log = []
    for number, (moment, name, step) in enumerate(sorted(decided, key=lambda one: one[:2])):
        (action,), (reward,), (propensity,) = step.actions, step.rewards, step.propensities
        feedback = Feedback(str(number), "s", "1", "click", reward, None, moment, moment + LATE_S, "me")
        decision = Decision(
            f"{number:08}", "shop", 1, 1, step.actions, step.propensities, None, step.context, None, name, False, False,
            "served", "r", "me",
        )  # fmt: skip
        answered = reward > 0
        stored = StoredDecision(decision, moment, True, (reward or None,), (feedback,) if answered else ())
        chosen = [one.id for one in step.eligible].index(action)
        log.append([DecidedItem(stored, 0, action, step.eligible, chosen, propensity, reward, answered, True, 0.01)])
    return log


def task(log: Sequence[Sequence[DecidedItem]], **fields: object) -> Task:
    """Return what is asked of a log: everything, in 20 blocks, unless said otherwise."""
    asked: dict[str, object] = {
        "began": 0.0,
        "until": log[-1][0].stored.decided_at + 1e3,
        "learned": 0.0,
        "blocks": 20,
        "train_every_s": 600.0,
    }
    return Task(**asked | fields)  # type: ignore[arg-type]


def reported(
    policy: PolicySpec, log: Sequence[Sequence[DecidedItem]], given: Sequence[str], **fields: object
) -> Report:
    """Return what the evaluation of a log says."""
    return evaluate_sessions(policy, log, candidates(given, policy), len(log), task(log, **fields))


def worth(world: World, policy: PolicySpec, log: Sequence[Sequence[DecidedItem]], given: Sequence[str]) -> list[float]:
    """Return what candidates would truly have earned in a session, by what they knew when each began: exactly, by the world's own numbers."""
    going: list[Candidate] = candidates(given, policy)
    progress = Progress(going, policy, task(log).block(len(log)), train_every_s=600.0)
    known: dict[int, float] = {}
    begun: set[str | None] = set()
    sums = np.zeros(len(going))
    for items in log:
        stored = items[0].stored
        if progress.go_on(stored.decided_at):
            known.clear()
        if stored.decision.session not in begun:
            begun.add(stored.decision.session)
            for at, chooser in enumerate(progress.choosers()):
                if at not in known:
                    known[at] = world.worth(world.laws(chooser))
                sums[at] += known[at]
        progress.remember(items)
    return [float(each) / len(begun) for each in sums]
