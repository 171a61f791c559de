"""Every error that Knudge raises on purpose.

A class names one way in which a request or a run can go wrong; its docstring is its title. Which HTTP status or
redelivery an error becomes is decided at the edge (`shared.edge.problems`), nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class KnudgeError(Exception):
    """Something went wrong."""

    slug = "error"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        """Say what happened in `detail`, and which input `field` is at fault, as a dotted path such as `actions[3].id`."""
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.faults: tuple[tuple[str, str], ...] = ()
        """Every fault that was found, where all were looked for: (field, what is wrong with it)."""

    @classmethod
    def of(cls, faults: Sequence[tuple[str, str]]) -> Self:
        """Return the error of one or more faults, each a field and what is wrong with it; the first field stands for all.

        >>> error = InvalidInput.of([("weights", "must add up to 1"), ("layer.low", "must be at least 0")])
        >>> error.field, error.detail
        ('weights', 'weights: must add up to 1; layer.low: must be at least 0')
        """
        error = cls("; ".join(f"{field}: {detail}" for field, detail in faults), field=faults[0][0])
        error.faults = tuple(faults)
        return error

    @classmethod
    def title(cls) -> str:
        """Return the first line of the class's docstring, without its full stop."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")


class InvalidInput(KnudgeError):
    """The input is not valid."""

    slug = "invalid-input"


class TooLarge(KnudgeError):
    """The input exceeds a bound."""

    slug = "too-large"


class UnknownRoute(KnudgeError):
    """There is nothing at this path."""

    slug = "unknown-route"


class WrongMethod(KnudgeError):
    """This path does not take that method."""

    slug = "wrong-method"


class UnknownPolicy(KnudgeError):
    """No such policy."""

    slug = "unknown-policy"


class UnknownDecision(KnudgeError):
    """No such decision."""

    slug = "unknown-decision"


class UnknownExperiment(KnudgeError):
    """No such experiment."""

    slug = "unknown-experiment"


class UnknownFlag(KnudgeError):
    """No such flag."""

    slug = "unknown-flag"


class UnknownDeadLetter(KnudgeError):
    """No such dead letter."""

    slug = "unknown-dead-letter"


class NotKept(KnudgeError):
    """What this would need was not kept."""

    slug = "not-kept"


class UnknownEventType(KnudgeError):
    """This function does not take events of that type."""

    slug = "unknown-event-type"


class Conflict(KnudgeError):
    """The request contradicts an earlier one."""

    slug = "conflict"


class NotBootstrapped(KnudgeError):
    """No snapshot is at hand and the request names no actions to choose among."""

    slug = "not-bootstrapped"


class NoCatalogue(KnudgeError):
    """No catalogue of experiments is at hand."""

    slug = "no-catalogue"


class Unavailable(KnudgeError):
    """A store does not answer."""

    slug = "unavailable"


class SinkUnavailable(KnudgeError):
    """The sink does not take the event."""

    slug = "sink-unavailable"


class Overloaded(KnudgeError):
    """More requests are waiting than this process takes."""

    slug = "overloaded"


class Misconfigured(KnudgeError):
    """The settings are incomplete or wrong."""

    slug = "misconfigured"
