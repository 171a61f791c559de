"""The regular expressions of conditions."""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.errors import InvalidInput


def compile_pattern(pattern: str, *, insensitive: bool) -> Callable[[str], bool]:
    """Return whether a text holds a match of the pattern.

    Raises `InvalidInput` where it is none.
    """
    try:
        compiled = re.compile(pattern, re.IGNORECASE if insensitive else 0)
    except (re.error, TypeError) as error:
        raise InvalidInput(str(error)) from None
    return lambda text: compiled.search(text) is not None
