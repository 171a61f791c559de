"""Who is calling. Authentication arrives here, without touching a handler.

Until then a caller is who it says it is in `X-Client-Id`, or anonymous. Resolved callers are cached.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import InvalidInput
from shared.vocabulary import Caller

HEADER = b"x-client-id"
ANONYMOUS = Caller()

_LONGEST = 128
_CACHED = 4096


class Callers:
    """Resolves the headers of a request to a caller."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._known: dict[bytes, Caller] = {}

    def resolve(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the caller; raises `InvalidInput` (field `X-Client-Id`) for a name that is none."""
        given = headers.get(HEADER)
        if given is None:
            return ANONYMOUS
        caller = self._known.get(given)
        if caller is None:
            name = given.decode("latin-1")
            if not 0 < len(name) <= _LONGEST or not name.isascii() or not name.isprintable():
                detail = f"must be 1 to {_LONGEST} printable ASCII characters"
                raise InvalidInput(detail, field="X-Client-Id")
            if len(self._known) >= _CACHED:
                self._known.clear()
            caller = self._known[given] = Caller(name)
        return caller
