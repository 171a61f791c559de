"""What of a dead letter may be kept: nothing personal in the clear, and yet enough to send it again.

User and session ids become sealed names (`shared.identity`), wherever they stand in JSON; so do the attributes of a unit that
experiments split by, and the subject. What the
letter says of its failure is cleared of the same names. Data that is no JSON object or array may hold anything, and is not
kept.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from shared.identity import seal, unit_kind

KINDS = {"userid": "user", "sessionid": "session"}
"""The kind of name that a member holds, by the member's name without case, `_` and `-`."""
PERSONAL_ATTRIBUTES = {"userid": "user", "sessionid": "session", "partitionkey": "partition", "authid": "auth"}
"""Extension attributes that name somebody, or usually do."""

_MASK = "…"


class Sealing:
    """Seals the parts of one letter, data first: the names that stand in it are looked for in the others."""

    def __init__(self, key: bytes) -> None:
        """Seal with the server's key."""
        self._key = key
        self._names: dict[str, str] = {}

    def data(self, content: bytes, units: frozenset[str] = frozenset()) -> bytes | None:
        """Return JSON with sealed names, empty data as it is, and None for what may hold anything.

        `units`: members of `attributes` that name somebody, too. Numbers keep their value, not their spelling; ones that no double holds are not kept.
        """
        if not content:
            return content
        try:
            value = json.loads(content.decode(), parse_constant=_refuse)
            if isinstance(value, str):
                return None
            sealed = self._walk(self._units(value, units))
            try:
                return json.dumps(sealed, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            except UnicodeEncodeError:  # a lone surrogate, which only its escape can spell
                return json.dumps(sealed, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            return None

    def name(self, kind: str, name: str) -> str:
        """Return the sealed name; an empty one names nobody."""
        if not name:
            return name
        self._names[name] = kind
        return seal(self._key, kind, name)

    def attributes(self, attributes: dict[str, str]) -> dict[str, str]:
        """Return extension attributes; those that name somebody, or hold a name that was met before, are sealed."""
        kinds = {name: PERSONAL_ATTRIBUTES.get(name) or self._names.get(value) for name, value in attributes.items()}
        return {name: self.name(kind, value) if (kind := kinds[name]) else value for name, value in attributes.items()}

    def text(self, text: str) -> str:
        """Return a text for people without the names that were met before."""
        for name in sorted(self._names, key=len, reverse=True):
            if name in text:
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _MASK, text)
        return text

    def _units(self, value: Any, units: frozenset[str]) -> Any:  # noqa: ANN401
        """Seal the attributes by which a unit is split; a number is the name that it is written as."""
        attributes = value.get("attributes") if isinstance(value, dict) else None
        if not isinstance(attributes, dict):
            return value
        sealed = {
            name: self._member(unit_kind(name), str(inner) if type(inner) is int else inner) if name in units else inner
            for name, inner in attributes.items()
        }
        return {**value, "attributes": sealed}

    def _walk(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {
                member: self._member(kind, inner)
                if (kind := KINDS.get(member.lower().replace("_", "").replace("-", "")))
                else self._walk(inner)
                for member, inner in value.items()
            }
        if isinstance(value, list):
            return [self._walk(inner) for inner in value]
        return value

    def _member(self, kind: str, value: Any) -> Any:  # noqa: ANN401
        """Seal what stands for a name; what is no text remains refused as such, and is withheld."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.name(kind, value)
        return {"withheld": self.name(kind, json.dumps(value))}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
