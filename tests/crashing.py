"""A function that kills itself at the worst moment: `python -m tests.crashing MOMENT NAME`.

Hosts the real function, or runs the real Job where the name is `train`; only the named step is replaced by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from functions.train import job
from shared.edge import hosting

MOMENTS = {
    "between-drain-and-commit": ("shared.storage.postgres_learning", "LearningTransaction.store"),
    "between-commit-and-trim": ("functions.learn.handler", "trim_journal"),
    "between-commit-and-publish": ("functions.learn.handler", "publish"),
    "between-exposures-and-commit": ("functions.learn.exposures", "record"),
    "between-exposures-and-trim": ("functions.learn.exposures", "trim_exposures"),
    "between-commit-and-wake-up": ("shared.edge.sink", "Sink.learning_due"),
    "between-refit-and-commit": ("shared.storage.postgres_trainings", "Trainings.note"),
    "between-commit-and-finish": ("shared.storage.postgres_trainings", "Trainings.finish"),
    "between-finish-and-publish": ("functions.train.handler", "publish_missing"),
    "between-publish-and-announce": ("shared.storage.postgres_trainings", "Trainings.announce"),
}


def main() -> int:
    """Replace the step, then serve."""
    module_name, path = MOMENTS[sys.argv[1]]
    __import__(module_name)
    owner: Any = sys.modules[module_name]
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)

    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)
    return job.main([]) if sys.argv[2] == "train" else hosting.main([sys.argv[2]])


if __name__ == "__main__":
    sys.exit(main())
