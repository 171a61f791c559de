"""SQL lives in `.sql` files: each query below a line `-- name: what_it_does`, with a comment that says it in words."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@lru_cache
def queries(file: str) -> dict[str, bytes]:
    """Return the named queries of `sql/<file>.sql`."""
    text = (files("shared.storage") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: query.strip().encode() for name, query in zip(parts[1::2], parts[2::2], strict=True)}


def migrations() -> list[tuple[str, bytes]]:
    """Return (name, SQL) of every migration, in order."""
    folder = files("shared.storage") / "sql" / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [(entry.name.removesuffix(".sql"), entry.read_bytes()) for entry in sorted(found, key=lambda e: e.name)]
