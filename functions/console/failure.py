"""The one way in which a console command fails on purpose."""

from __future__ import annotations

from shared.errors import KnudgeError


class ConsoleFailure(KnudgeError):
    """The command could not do what was asked."""

    slug = "console-failure"
