"""Every kind has a page whose table of parameters is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.policies.algorithm import Parameter
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS

PAGES = Path(__file__).parents[3] / "docs" / "policies"
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| (\S+) to (\S+) \|", re.MULTILINE)


def parameters(kind: str) -> dict[str, Parameter]:
    """Return the parameters of a kind, with and without features."""
    tables = [table[kind].PARAMETERS for table in (KINDS, CONTEXTUAL_KINDS) if kind in table]
    known: dict[str, Parameter] = {}
    for table in tables:
        for name, each in table.items():
            numbers = (each.default, each.low, each.high)
            earlier = known.setdefault(name, each)
            assert (earlier.default, earlier.low, earlier.high) == numbers, f"{name} differs with features"
    return known


@pytest.mark.parametrize("kind", sorted(KINDS.keys() | CONTEXTUAL_KINDS.keys()))
def test_a_page_states_the_parameters_of_its_kind(kind: str) -> None:
    """Names, defaults and ranges are those of PARAMETERS; a default that is derived is described in words."""
    page = (PAGES / f"{kind}.md").read_text()
    assert page.startswith(f"# {kind}\n")
    rows = {name: (default, float(low), float(high)) for name, default, low, high in ROW.findall(page)}
    known = parameters(kind)
    assert rows.keys() == known.keys()
    for name, (default, low, high) in rows.items():
        assert (low, high) == (known[name].low, known[name].high), name
        if known[name].default is None:
            assert re.search("[a-z]{3}", default), name
        else:
            assert float(default) == known[name].default, name
    for part in ("**Take it when**", "**Leave it when**", "**Costs.**"):
        assert part in page, part
    assert re.search(r"\((19|20)\d\d\)", page), "no paper"
