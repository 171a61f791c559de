"""As much HTTP/1.1 as measuring needs: requests as bytes, and answers cut out of a stream.

It understands only what the measured servers send: a status line and a `content-length`. Chunked answers are
refused.
"""

from __future__ import annotations

from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


class AnswerError(Exception):
    """The server answered with something other than HTTP/1.1 with a content-length."""


def post(path: str, body: bytes, *, content_type: str = "application/json", headers: Iterable[str] = ()) -> bytes:
    """Return the bytes of one keep-alive POST to loopback."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: localhost",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    """Return the bytes of one keep-alive GET from loopback."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def put(path: str, body: bytes) -> bytes:
    """Return the bytes of one keep-alive PUT to loopback."""
    return post(path, body).replace(b"POST", b"PUT", 1)


class AnswerParser:
    r"""Cuts a byte stream into answers, however the packets split it.

    >>> parser = AnswerParser()
    >>> parser.feed(b"HTTP/1.1 200 OK\r\nContent-Le"), parser.feed(b"ngth: 2\r\n\r\n{}")
    ([], [(200, b'{}')])
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return `(status, body)` of all answers that `data` completes; `AnswerError` on what is none."""
        if self._pending:
            data = self._pending + data
        answers: list[tuple[int, bytes]] = []
        start = 0
        while (head_end := data.find(b"\r\n\r\n", start)) >= 0:
            head = data[start:head_end]
            try:
                status = int(head[9:12])
                end = head_end + 4 + _content_length(head.lower(), status)
            except ValueError:
                raise AnswerError(head[:200].decode("latin-1")) from None
            if end > len(data):
                break
            answers.append((status, data[head_end + 4 : end]))
            start = end
        self._pending = data[start:] if start else data
        return answers


def _content_length(head: bytes, status: int) -> int:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        if status in {204, 304} or status < 200:
            return 0
        raise ValueError
    end = head.find(b"\r\n", at + 2)
    return int(head[at + 17 : end if end >= 0 else len(head)])
