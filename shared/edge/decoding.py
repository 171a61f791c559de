"""Typed decoding of what callers send, with an error that names the field.

JSON goes straight into the structures of `shared.edge.contracts`; what they cannot express is checked here: NUL,
which PostgreSQL cannot store, and sizes, which are settings. NaN, 1e400, lone surrogates and broken UTF-8 fail in the
decoder itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from shared.edge.contracts import Timestamp
from shared.errors import InvalidInput, TooLarge
from shared.experiments.experiment import Json
from shared.identity import SEAL, SEALED_CHARS
from shared.settings import Settings
from shared.vocabulary import Context

T = TypeVar("T")
M = TypeVar("M")

DEPTH = 8
"""How deep the attributes of a unit may be nested, themselves the first level."""
LARGEST_INTEGER = 2**63 - 1

_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_UNKNOWN = re.compile(r"unknown field `(.+?)`")
_MISSING = re.compile(r"missing required field `(.+?)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return what `body` holds.

    Raises `InvalidInput` with the dotted path of the field at fault, `body` where it is not JSON at all.
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f"not valid JSON: {error}"
        raise InvalidInput(detail, field="body") from None
    if b"\\u0000" in body:
        _refuse_nul(msgspec.to_builtins(value), "")
    return value


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_moment = msgspec.json.Decoder(Timestamp)


def decode_one_or_many(
    one: msgspec.json.Decoder[T], many: msgspec.json.Decoder[M], body: bytes, member: str = "events"
) -> T | M:
    """Return what `body` holds: a batch where it has the batch's `member`, else a single thing."""
    try:
        batch = member in _members.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        batch = False
    return decode(many, body) if batch else decode(one, body)


def decode_each(decoder: msgspec.json.Decoder[T], bodies: Sequence[bytes]) -> list[T]:
    """Return what every body holds; where there are several, an error names the index too."""
    values = []
    for at, body in enumerate(bodies):
        try:
            values.append(decode(decoder, body))
        except InvalidInput as error:
            if len(bodies) > 1:
                error.field = f"[{at}].{error.field}"
            raise
    return values


def decode_arguments(kind: type[T], arguments: Mapping[str, str]) -> T:
    """Return the arguments of a query as the structure `kind`; raises `InvalidInput` with the argument at fault."""
    try:
        return msgspec.convert(arguments, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def decode_time(text: str) -> datetime:
    """Return the moment that an event's attribute `time` names."""
    try:
        return _moment.decode(msgspec.json.encode(text))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise InvalidInput(str(error), field="time") from None


def _invalid(message: str) -> InvalidInput:
    place = _PLACE.search(message)
    path = place.group(1) if place else ""
    detail = message[: place.start()] if place else message
    named = _UNKNOWN.search(detail) or _MISSING.search(detail)
    if named:
        path = f"{path}.{named.group(1)}" if path else named.group(1)
    return InvalidInput(detail, field=path or "body")


def _refuse_nul(value: object, path: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            detail = "must not hold the character NUL"
            raise InvalidInput(detail, field=path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_nul(key, f"{path}.{key}".strip("."))
            _refuse_nul(inner, f"{path}.{key}".strip("."))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            _refuse_nul(inner, f"{path}[{at}]")


class Bounds:
    """The sizes that a request may have; every method raises `TooLarge` or `InvalidInput` with the field."""

    __slots__ = ("_actions", "_batch", "_features", "_string")

    def __init__(self, settings: Settings) -> None:
        """Take the bounds from the settings."""
        self._string = settings.string_limit
        self._actions = settings.action_limit
        self._features = settings.feature_limit
        self._batch = settings.batch_limit

    def string(self, value: str | None, field: str) -> None:
        """Check the length of a name or an id; an empty one is refused, None is not.

        A sealed name has its own length where less is allowed: it may stand for any name that was.
        """
        if value is not None and not 0 < len(value) <= self._string:
            if not value:
                detail = "must not be empty"
                raise InvalidInput(detail, field=field)
            if len(value) == SEALED_CHARS and value.startswith(SEAL):
                return
            detail = f"may have at most {self._string} characters"
            raise TooLarge(detail, field=field)

    def actions(self, ids: Iterable[str], field: str) -> None:
        """Check a list of action ids: their number, their lengths, and that none stands twice."""
        known: set[str] = set()
        for at, action in enumerate(ids):
            if not 0 < len(action) <= self._string:
                self.string(action, f"{field}[{at}]")
            if action in known:
                detail = f"the action {action!r} stands twice"
                raise InvalidInput(detail, field=f"{field}[{at}]")
            known.add(action)
        if len(known) > self._actions:
            detail = f"at most {self._actions} actions"
            raise TooLarge(detail, field=field)

    def names(self, names: Sequence[str], field: str) -> None:
        """Check a list of names: their lengths, and that none stands twice."""
        for at, name in enumerate(names):
            self.string(name, f"{field}[{at}]")
        if len(set(names)) < len(names):
            twice = next(at for at, name in enumerate(names) if name in names[:at])
            detail = f"{names[twice]!r} stands twice"
            raise InvalidInput(detail, field=f"{field}[{twice}]")

    def context(self, context: Context, field: str) -> None:
        """Check the features of a context or an action."""
        if len(context) > self._features:
            detail = f"at most {self._features} features"
            raise TooLarge(detail, field=field)
        for name, value in context.items():
            self.string(name, field)
            if isinstance(value, str):
                if len(value) > self._string:
                    self.string(value, f"{field}.{name}")
            elif isinstance(value, list):
                if len(value) > self._features:
                    detail = f"at most {self._features} entries"
                    raise TooLarge(detail, field=f"{field}.{name}")
                for entry in value:
                    if len(entry) > self._string:
                        self.string(entry, f"{field}.{name}")

    def attributes(self, attributes: Mapping[str, Json], field: str) -> None:
        """Check what is known of a unit, any JSON: `feature_limit` members or entries at each level, `DEPTH` levels of them."""
        if len(attributes) > self._features:
            detail = f"at most {self._features} attributes"
            raise TooLarge(detail, field=field)
        for name, value in attributes.items():
            self.string(name, field)
            if isinstance(value, str):
                if len(value) > self._string:
                    self.string(value, f"{field}.{name}")
            elif not isinstance(value, bool | float | None):
                self._json(value, f"{field}.{name}", DEPTH - 1)

    def _json(self, value: Json, field: str, depth: int) -> None:
        if isinstance(value, str):
            if len(value) > self._string:
                self.string(value, field)
        elif isinstance(value, int):
            if not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
                detail = "has more than 64 bits"
                raise InvalidInput(detail, field=field)
        elif isinstance(value, dict | list):
            if depth == 0:
                detail = f"lies deeper than {DEPTH} levels"
                raise TooLarge(detail, field=field)
            if len(value) > self._features:
                detail = f"at most {self._features} entries"
                raise TooLarge(detail, field=field)
            for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(name, int):
                    self._json(inner, f"{field}[{name}]", depth - 1)
                else:
                    self.string(name, field)
                    self._json(inner, f"{field}.{name}", depth - 1)

    def batch(self, size: int, field: str) -> None:
        """Check the number of things in one batch; none at all is refused."""
        if size == 0:
            detail = "must not be empty"
            raise InvalidInput(detail, field=field)
        if size > self._batch:
            detail = f"at most {self._batch} in one batch"
            raise TooLarge(detail, field=field)
