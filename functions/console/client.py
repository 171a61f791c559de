"""An HTTP client of the functions: one kept-alive connection, bounded retries, readable errors.

It promises that a call either returns the decoded answer or raises `ConsoleFailure` with one line that says
what happened. It repeats a call that met 429, 503 or a broken connection, so what is sent through it must be
safe to repeat: decisions, feedback and recommendations carry ids of the caller's choosing for that reason.
One client belongs to one thread.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from functions.console.failure import ConsoleFailure

CLIENT_NAME = "knudge-console"
_RETRIED_STATUSES = frozenset({429, 503})
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_BROKEN = (http.client.HTTPException, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)

JsonObject = dict[str, Any]


class Client:
    """Calls the functions behind one base URL.

    `url`: scheme, host, port and an optional path; `timeout_s`: for one attempt; `retry_for_s`: how long 429,
    503 and broken connections are retried before the call fails.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        retry_for_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Remember where to call; connects at the first call.

        Raises `ConsoleFailure` for a URL it cannot use.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
            message = f"{url!r} is no URL of the form http://host:port"
            raise ConsoleFailure(message, field="url")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url.rstrip("/")
        self._connection = kind(parts.hostname, port, timeout=timeout_s)
        self._prefix = parts.path.rstrip("/")
        self._retry_for_s = retry_for_s
        self._sleep = sleep

    def __enter__(self) -> Self:
        """Return itself; the connection is closed on leaving."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self._connection.close()

    def get(self, path: str) -> JsonObject:
        """Return what GET `path` answers. Raises `ConsoleFailure`."""
        return self.call("GET", path, None)

    def find(self, path: str) -> JsonObject | None:
        """Return what GET `path` answers, None where that is 404. Raises `ConsoleFailure` otherwise."""
        status, answer = self._attempt_until_final("GET", path, None)
        return None if status == http.client.NOT_FOUND else self._checked("GET", path, status, answer)

    def post(self, path: str, body: object) -> JsonObject:
        """Return what POST `path` with `body` as JSON answers. Raises `ConsoleFailure`."""
        return self.call("POST", path, body)

    def put(self, path: str, body: object) -> JsonObject:
        """Return what PUT `path` with `body` as JSON answers. Raises `ConsoleFailure`."""
        return self.call("PUT", path, body)

    def call(self, method: str, path: str, body: object | None) -> JsonObject:
        """Return what `method` on `path` answers, {} for an empty body. Raises `ConsoleFailure`."""
        encoded = None if body is None else msgspec.json.encode(body)
        status, answer = self._attempt_until_final(method, path, encoded)
        return self._checked(method, path, status, answer)

    def _attempt_until_final(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        give_up_at = time.monotonic() + self._retry_for_s
        pause_s = _FIRST_PAUSE_S
        while True:
            asked_for_s: float | None = None
            try:
                status, retry_after, answer = self._attempt(method, path, body)
            except _BROKEN as error:
                self._connection.close()
                if time.monotonic() + pause_s > give_up_at:
                    message = f"{self.url} keeps breaking the connection ({type(error).__name__})"
                    raise ConsoleFailure(message) from error
            except TimeoutError as error:
                self._connection.close()
                message = f"{method} {self.url}{path} did not answer within {self._connection.timeout:.0f} s"
                raise ConsoleFailure(message) from error
            except OSError as error:
                self._connection.close()
                reason = error.strerror or error
                message = f"nothing answers at {self.url} ({reason}): is `make run` up, or --url right?"
                raise ConsoleFailure(message) from error
            else:
                asked_for_s = _seconds_of(retry_after)
                wait_s = pause_s if asked_for_s is None else asked_for_s
                if status not in _RETRIED_STATUSES or time.monotonic() + wait_s > give_up_at:
                    return status, answer
            # Jitter only where the server named no time: many threads refused at once should not all return.
            self._sleep(pause_s * random.uniform(0.5, 1.0) if asked_for_s is None else asked_for_s)  # noqa: S311
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)

    def _attempt(self, method: str, path: str, body: bytes | None) -> tuple[int, str | None, bytes]:
        headers = {"Accept": "application/json", "X-Client-Id": CLIENT_NAME}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, self._prefix + path, body=body, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.headers.get("Retry-After"), response.read()

    def _checked(self, method: str, path: str, status: int, answer: bytes) -> JsonObject:
        try:
            decoded = msgspec.json.decode(answer) if answer else {}
        except msgspec.DecodeError:
            decoded = None
        if status >= http.client.BAD_REQUEST:
            message = f"{method} {path} was refused: {_describe(status, decoded)}"
            raise ConsoleFailure(message)
        if not isinstance(decoded, dict):
            message = f"{method} {path} at {self.url} answered something that is no JSON object: is this Knudge?"
            raise ConsoleFailure(message)
        return decoded


def _describe(status: int, problem: object) -> str:
    """Turn problem details (RFC 9457) into one line; whatever is missing is left out."""
    fields: JsonObject = problem if isinstance(problem, dict) else {}
    title = str(fields.get("title") or http.client.responses.get(status, "an error"))
    detail = fields.get("detail")
    field = fields.get("field")
    line = f"{title} ({status})"
    if detail:
        line += f": {detail}"
    if field:
        line += f" [field {field}]"
    return line


def _seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header (a number or a date) asks for, if it is usable."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
