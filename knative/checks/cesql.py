"""The syntax of CESQL, the language of a Trigger's `filters[].cesql`: whether an expression can be parsed.

CloudEvents SQL 1.0. Only the form is looked at, so precedence does not matter: operands, each behind any number of NOT
and minus signs and before any number of LIKE and IN, joined by operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKENS = re.compile(
    r"""\s*(?:
      (?P<string>"(?:\\.|""|[^"\\])*"|'(?:\\.|''|[^'\\])*')
    | (?P<integer>[+-]?[0-9]+(?![a-zA-Z0-9]))
    | (?P<word>[a-zA-Z0-9]+(?:(?<=[a-zA-Z])_[a-zA-Z_]*)?)
    | (?P<sign>!=|<>|<=|>=|[-+*/%=<>(),])
    )""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = frozenset({"AND", "OR", "XOR", "*", "/", "%", "+", "-", "=", "!=", "<>", "<", "<=", ">", ">="})
_KEYWORDS = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN"})
_INTEGERS = range(-(2**31), 2**31)
_END = ("end", "")


def syntax_fault(expression: str) -> str | None:
    """Return what is wrong with an expression, None where nothing is.

    >>> syntax_fault("type = 'a' AND NOT (source LIKE '%b' OR EXISTS subject)")
    >>> syntax_fault("type = = 'a'")
    "'=' is out of place"
    """
    try:
        _Parser(list(_tokens(expression))).whole()
    except SyntaxError as error:
        return str(error)
    return None


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, rest = 0, expression.rstrip()
    while at < len(rest):
        match = _TOKENS.match(rest, at)
        if match is None:
            raise SyntaxError(f"{rest[at:].strip()[:20]!r} is out of place")
        at = match.end()
        kind = match.lastgroup or ""
        word = match[kind]
        if kind == "word" and word.upper() in _KEYWORDS:
            yield "keyword", word.upper()
        else:
            yield kind, word


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> None:
        self._expression()
        self._expect(_END)

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self) -> tuple[str, str]:
        token = self._next()
        self._at += 1
        return token

    def _accept(self, word: str) -> bool:
        taken = self._next()[0] in {"keyword", "sign"} and self._next()[1] == word
        self._at += taken
        return taken

    def _expect(self, token: tuple[str, str]) -> None:
        if self._take() != token:
            self._at -= 1
            self._refuse()

    def _refuse(self) -> None:
        kind, word = self._next()
        raise SyntaxError("it ends too early" if kind == "end" else f"{word!r} is out of place")

    def _expression(self) -> None:
        self._operand()
        while self._next()[0] in {"keyword", "sign"} and self._next()[1] in _OPERATORS:
            self._take()
            self._operand()

    def _operand(self) -> None:
        while self._accept("NOT") or self._accept("-"):
            pass
        self._primary()
        while True:
            negated = self._accept("NOT")
            if self._accept("LIKE"):
                if self._take()[0] != "string":
                    self._at -= 1
                    self._refuse()
            elif self._accept("IN"):
                self._expect(("sign", "("))
                self._list()
            elif negated:
                self._refuse()
            else:
                return

    def _primary(self) -> None:
        if self._accept("("):
            self._expression()
            self._expect(("sign", ")"))
            return
        if self._accept("EXISTS"):
            if self._take()[0] != "word":
                self._at -= 1
                self._refuse()
            return
        kind, word = self._next()
        if kind not in {"word", "string", "integer"}:
            self._refuse()
        self._take()
        if kind == "integer" and int(word) not in _INTEGERS:
            raise SyntaxError(f"{word} does not fit 32 bits")
        if kind == "word":
            if self._accept("("):
                if not self._accept(")"):
                    self._list()
            elif "_" in word:
                raise SyntaxError(f"{word} is no attribute's name")

    def _list(self) -> None:
        self._expression()
        while self._accept(","):
            self._expression()
        self._expect(("sign", ")"))
