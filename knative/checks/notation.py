"""The small notations that manifests are written in: durations of Go and of ISO 8601, quantities, cron, names."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_GO = re.compile(rf"[-+]?(?:{_GO_PART.pattern})+")
_ISO = re.compile(
    r"P0|[-+]?P(?=\d|T\d)(?:\d+(?:[.,]\d+)?Y)?(?:\d+(?:[.,]\d+)?M)?(?:\d+(?:[.,]\d+)?W)?(?:\d+(?:[.,]\d+)?D)?"
    r"(?:T(?=\d)(?:\d+(?:[.,]\d+)?H)?(?:\d+(?:[.,]\d+)?M)?(?:\d+(?:[.,]\d+)?S)?)?"
)
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")
_SUFFIXES = {
    **{suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Decimal(1000) ** power for suffix, power in zip("kMGTPE", range(1, 7), strict=True)},
    **{f"{suffix}i": Decimal(1024) ** power for suffix, power in zip("KMGTPE", range(1, 7), strict=True)},
}
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_LABEL = 63
_DESCRIPTORS = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON_FIELDS: tuple[tuple[int, int, list[str], int], ...] = (
    (0, 59, [], 0), (0, 59, [], 0), (0, 23, [], 0), (1, 31, [], 0), (1, 12, _MONTHS, 1), (0, 6, _DAYS, 0),
)  # fmt: skip
_CRON_LENGTHS = (5, 6)


def go_duration_s(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it, None for what is none.

    >>> go_duration_s("90s"), go_duration_s("1h30m"), go_duration_s("90"), go_duration_s("0")
    (90.0, 5400.0, None, 0.0)
    """
    if text in {"0", "+0", "-0"}:
        return 0.0
    if not _GO.fullmatch(text):
        return None
    seconds = sum(float(amount) * _GO_UNITS[unit] for amount, unit in _GO_PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def is_iso_duration(text: str) -> bool:
    """Say whether a text is a duration of ISO 8601, as Knative Eventing takes it.

    >>> is_iso_duration("PT0.5S"), is_iso_duration("P1DT1M"), is_iso_duration("500ms"), is_iso_duration("PT")
    (True, True, False, False)
    """
    return _ISO.fullmatch(text) is not None


def is_zero_duration(text: str) -> bool:
    """Say whether a duration of ISO 8601 is nothing at all, to the thousandth that Knative keeps."""
    return not re.search(r"[1-9]", re.sub(r"([.,]\d{3})\d+", r"\1", text))


def quantity(value: object) -> Decimal | None:
    """Return a Kubernetes quantity as a number, None for what is none.

    >>> quantity("250m"), quantity("1Gi"), quantity(2), quantity("1 GB")
    (Decimal('0.250'), Decimal('1073741824'), Decimal('2'), None)
    """
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if match is None or isinstance(value, bool):
        return None
    amount, exponent, suffix = match.groups()
    try:
        return Decimal(amount + (exponent or "")) * _SUFFIXES.get(suffix, Decimal(1))
    except InvalidOperation:
        return None


def is_dns_label(text: str) -> bool:
    """Say whether a text is a DNS label as RFC 1035 has it.

    >>> is_dns_label("canary-2"), is_dns_label("2canary"), is_dns_label("Canary"), is_dns_label("")
    (True, False, False, False)
    """
    return len(text) <= _LONGEST_LABEL and _LABEL.fullmatch(text) is not None


def cron_fault(schedule: str) -> str | None:
    """Return what is wrong with a cron schedule, None where nothing is; seconds may stand first.

    >>> cron_fault("*/10 * * * *"), cron_fault("@daily"), cron_fault("0 25 * * *")
    (None, None, 'hour: 25 is not from 0 to 23')
    """
    if schedule.startswith("@"):
        return None if schedule in _DESCRIPTORS else f"{schedule} is no descriptor that a PingSource knows"
    fields = re.sub(r"^(CRON_)?TZ=\S+\s", "", schedule).split()
    if len(fields) not in _CRON_LENGTHS:
        return f"{len(fields)} fields instead of 5, or 6 with seconds"
    names = ("second", "minute", "hour", "day of month", "month", "day of week")[-len(fields) :]
    for name, field, bounds in zip(names, fields, _CRON_FIELDS[-len(fields) :], strict=True):
        for part in field.split(","):
            fault = _cron_part_fault(part, *bounds)
            if fault:
                return f"{name}: {fault}"
    return None


def _cron_part_fault(part: str, low: int, high: int, names: list[str], first: int) -> str | None:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        return f"{step or 'nothing'} is no step"
    if span in {"*", "?"}:
        return None
    ends = []
    for end in span.split("-", 1):
        value = names.index(end.lower()) + first if end.lower() in names else int(end) if end.isdigit() else None
        if value is None or not low <= value <= high:
            return f"{end or 'nothing'} is not from {low} to {high}"
        ends.append(value)
    return f"{span} runs backwards" if ends[0] > ends[-1] else None
