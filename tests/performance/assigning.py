"""How many assignments a second one core makes: `make bench-assigning`.

Catalogues of one plain experiment, and of one with all that a real one has: 20 experiments and flags, the one that is asked for in a layer, with a condition on three
attributes, a prerequisite that is an experiment itself, a holdout and a forced unit. Beside each the split that people write by hand (MD5 of a salt and the id, a
modulo, two variations), in the same rounds, so that a slow machine slows both. The time is the process's own on its core: what else the machine does is left out.
Medians over rounds; ids of 16 to 36 characters, each seen once a round.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any
from uuid import UUID

from shared.experiments.assigning import Catalogue
from shared.experiments.experiment import ExperimentSpec, Layer, Prerequisite, Variation
from shared.experiments.flags import FlagSpec, Rule
from tests.performance.figures import median_ratio

COUNT, ROUNDS = 20_000, 7
FLOOR = 20_000
"""Assignments per second that one core must make."""
OUT = Path("build/bench/assigning.json")
A_B = (Variation("control", {"color": "blue"}), Variation("treatment", {"color": "green"}))
KEY = b"sixteen or more characters"


def plain() -> Catalogue:
    """Return one experiment of two variations."""
    return Catalogue(1, [ExperimentSpec("e", 1, A_B)])


def realistic() -> Catalogue:
    """Return 20 experiments and flags, `e` the one that is asked for."""
    condition = {"country": {"$in": ["DE", "AT", "CH"]}, "app": {"$vgte": "2.4.0"}, "$not": {"plan": "internal"}}
    asked = ExperimentSpec(
        "e",
        1,
        A_B,
        layer=Layer("checkout", 0.0, 0.9),
        holdout="h",
        condition=condition,
        prerequisites=(Prerequisite("f", {"value": True}),),
        forced={"0" * 32: "treatment"},
    )
    others = [ExperimentSpec(f"other-{number}", 1, A_B, condition=condition) for number in range(16)]
    parent = ExperimentSpec("p", 1, (Variation("on", True), Variation("off", True)))
    flag = FlagSpec("f", 1, False, (Rule(value=False, condition={"country": "FR"}), Rule(experiment="p")))
    holdout = ExperimentSpec("h", 1, A_B, kind="holdout", coverage=0.1)
    return Catalogue(1, [asked, parent, holdout, *others], [flag])


def pseudonym(attribute: str, value: str) -> str:
    """Return a keyed pseudonym, as the edge makes it."""
    return hmac.digest(KEY, f"{attribute}\0{value}".encode(), "sha256")[:16].hex()


def by_hand(user: str) -> str:
    """Return the variation of a split as people write it."""
    return (
        "control"
        if int(md5(f"salt:{user}".encode(), usedforsecurity=False).hexdigest(), 16) % 10_000 < 5_000
        else "treatment"
    )


def users(start: int) -> list[str]:
    """Return ids as they come: UUIDs, and numbers with a prefix."""
    return [str(UUID(int=(start + at) << 64 | at)) if at % 2 else f"customer-{start + at:07d}" for at in range(COUNT)]


def per_second(asked: Callable[[str], object], ids: list[str]) -> float:
    """Return how many calls a second one core makes."""
    begin = process_time()
    for user in ids:
        asked(user)
    return len(ids) / (process_time() - begin)


def measure() -> dict[str, Any]:
    """Return the medians, and the ratio to the split by hand."""
    figures: dict[str, Any] = {"assignments_per_round": COUNT, "rounds": ROUNDS}
    for name, catalogue in (("plain", plain()), ("realistic", realistic())):

        def assigned(user: str, catalogue: Catalogue = catalogue) -> object:
            attributes = {"user_id": user, "country": "DE", "app": "2.11.3", "plan": "free", "age": 41, "tags": ["new"]}
            return catalogue.assign("e", attributes, pseudonym)

        ours, theirs = [], []
        for number in range(ROUNDS):
            ids = users(number * COUNT)
            ours.append(per_second(assigned, ids))
            theirs.append(per_second(by_hand, ids))
        figures[name] = {
            "per_s": round(median(ours)),
            "by_hand_per_s": round(median(theirs)),
            "ratio": round(median_ratio(ours, theirs), 3),
        }
    return figures


def main() -> None:
    """Measure, write `build/bench/assigning.json`, and fail below the floor."""
    figures = measure()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    for name in ("plain", "realistic"):
        print(f"{name}: {figures[name]['per_s']:,} assignments/s, {figures[name]['ratio']:.2f} of a split by hand")
    slow = [name for name in ("plain", "realistic") if figures[name]["per_s"] < FLOOR]
    if slow:
        raise SystemExit(f"{' and '.join(slow)}: fewer than {FLOOR:,} a second")


if __name__ == "__main__":
    main()
