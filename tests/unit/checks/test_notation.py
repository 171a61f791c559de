"""The small notations, each with what Knative's own webhooks were seen to take and to refuse."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.checks.cesql import syntax_fault
from knative.checks.notation import (
    cron_fault,
    go_duration_s,
    is_dns_label,
    is_iso_duration,
    is_zero_duration,
    quantity,
)


@pytest.mark.parametrize(
    "expression",
    [
        "type = 'a'", "type='a' AND source LIKE 'b%'", "UPPER(type) = 'A'", "my_fn(1)", "1 + 1 = 2", "EXISTS subject",
        "type IN ('a','b')", "NOT NOT TRUE", "type NOT LIKE 'b'", "a != 1 OR b <> 2 XOR c", 'type = "dq"', "- -1 = 1",
        "ABS(-1) = 1", "true", "type", "sub1 = 1", "1abc = 1", "f()", "type = 'it''s' and (a or not b)",
    ],
)  # fmt: skip
def test_cesql_that_is_taken(expression: str) -> None:
    """Expressions that the real parser takes have no fault."""
    assert syntax_fault(expression) is None


@pytest.mark.parametrize(
    "expression",
    [
        "a ? b", "a_b = 1", "1+1 = 2", "EXISTS 'x'", "type IN ()", "(type = 'a'", "type NOT 'b'", "99999999999 = 1",
        "type == 'a'", "'unclosed", "LIKE", "a AND", "a b", "type = ", "source LIKE subject", "f(1,)", "a IN 'b'", ")",
    ],
)  # fmt: skip
def test_cesql_that_is_refused(expression: str) -> None:
    """Expressions that the real parser refuses have a fault in words."""
    assert syntax_fault(expression)


@given(st.text(max_size=30))
def test_any_text_is_cesql_or_not(text: str) -> None:
    """No text makes the parser stumble."""
    assert syntax_fault(text) is None or syntax_fault(text) != ""


@pytest.mark.parametrize(
    "schedule",
    [
        "@daily", "@hourly", "0 0 1 1 *", "0 0 0 1 1 *", "* * * jan mon", "1-5/2 * * * *", "? * * * *", "*/60 * * * *",
        "TZ=UTC 0 3 * * *", "* * * JAN-MAR *", "3/5 * * * *", "*/10 * * * *",
    ],
)  # fmt: skip
def test_schedules_that_are_taken(schedule: str) -> None:
    """Cron as a PingSource takes it: five fields, or six with seconds, names, steps, descriptors, a time zone in front."""
    assert cron_fault(schedule) is None


@pytest.mark.parametrize(
    "schedule",
    [
        "@every 1h", "@reboot", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "*/0 * * * *",
        "5-1 * * * *", "1,2,x * * * *", "1- * * * *", "* * * *", "* * * * * * *",
    ],
)  # fmt: skip
def test_schedules_that_are_refused(schedule: str) -> None:
    """What a PingSource refuses: too few fields, values out of range, steps of nothing, backward spans, @every."""
    assert cron_fault(schedule)


@pytest.mark.parametrize("text", ["PT1S", "PT0.2S", "P1D", "PT1H30M", "P1Y", "P1W", "-PT1S", "P0", "PT0,5S", "PT0S"])
def test_iso_durations(text: str) -> None:
    """Durations of ISO 8601, as a delivery takes them."""
    assert is_iso_duration(text)


@pytest.mark.parametrize("text", ["PT", "P", "PT1", "1S", "PT1S1M", "p1d", "", "500ms", "30s", "P1S"])
def test_what_is_no_iso_duration(text: str) -> None:
    """Go's durations and halves of ISO ones are refused."""
    assert not is_iso_duration(text)


def test_a_timeout_of_nothing() -> None:
    """Nothing is nothing to the thousandth."""
    assert [is_zero_duration(text) for text in ("PT0S", "P0", "PT0.0001S", "PT0.001S")] == [True, True, True, False]


@given(st.integers(0, 10**6))
def test_go_durations_add_up(seconds: int) -> None:
    """Hours, minutes and seconds add up to what they were made of."""
    text = f"{seconds // 3600}h{seconds // 60 % 60}m{seconds % 60}s"
    assert go_duration_s(text) == timedelta(seconds=seconds).total_seconds()


@pytest.mark.parametrize("text", ["60", "", "s", "1 s", "1d", "1m-5s", "PT1S", "."])
def test_what_is_no_go_duration(text: str) -> None:
    """A number without a unit is none."""
    assert go_duration_s(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.5", Decimal("1.5")), ("1e3", 1000), ("1k", 1000), ("1Ki", 1024), (2, 2), ("-1", -1)],
)
def test_quantities(text: object, value: object) -> None:
    """Kubernetes' quantities are numbers."""
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["64 MB", "1 core", "", "Mi", "1KiB", None, True, []])
def test_what_is_no_quantity(text: object) -> None:
    """What Kubernetes does not read as a quantity is none."""
    assert quantity(text) is None


def test_labels_of_dns() -> None:
    """A label begins with a letter, ends with a letter or digit, and has at most 63 characters."""
    assert [is_dns_label(text) for text in ("a", "a-1", "a" * 63)] == [True] * 3
    assert [is_dns_label(text) for text in ("", "1a", "a-", "A", "a_b", "a" * 64, "a.b")] == [False] * 7
