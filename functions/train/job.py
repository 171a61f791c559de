"""The process of a training Job: one event, one training, one exit code.

    python -m functions.train.job                   # the event that a JobSink left under $K_EVENT_PATH
    python -m functions.train.job --policy NAME     # an event of its own: train this policy
    python -m functions.train.job                   # without $K_EVENT_PATH: train every policy

Hands the event to the door of `train`, as a request would, and turns the answer into an exit code: 0 done (or done
before), 1 try the same event again, 2 it will never work (an event or settings that cannot be used). SIGTERM and SIGINT
roll back what is under way and end it with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from functions.train.func import door, train
from shared.edge.http import Reply, WholeRequest
from shared.edge.learning_contracts import TrainingRequested
from shared.errors import InvalidInput, Misconfigured
from shared.events.cloudevents import STRUCTURED, binary_headers, new_event
from shared.events.types import TRAINING_REQUESTED
from shared.observability.logs import configure_logs
from shared.settings import Settings

DONE, TRY_AGAIN, POISON = 0, 1, 2
EVENT_PATH = "K_EVENT_PATH"
EVENT_FILE = "event"
"""What a JobSink calls the file, in the folder that the variable names."""

_SENDER = "console"
_TAKEN = range(200, 300)
_FAULTS = range(500, 600)
_TRIED_AGAIN = frozenset({404, 408, 409, 429})

_log = logging.getLogger(__name__)


def read_event_file(path: Path) -> bytes:
    """Return the event at `path`, a file, or the folder of one, in structured mode; raises `InvalidInput`."""
    file = path / EVENT_FILE if path.is_dir() else path
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"no event can be read from {file}: {error.strerror}", field=EVENT_PATH) from None


def exit_code(status: int) -> int:
    """Return the exit code for an answer: what a broker would send again is to be tried again.

    >>> [exit_code(status) for status in (204, 503, 409, 400, 422)]
    [0, 1, 1, 2, 2]
    """
    if status in _TAKEN:
        return DONE
    return TRY_AGAIN if status in _FAULTS or status in _TRIED_AGAIN else POISON


async def run(request: WholeRequest, settings: Settings) -> int:
    """Give the request to the door and return the exit code."""
    answering = asyncio.create_task(_answer(request, settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, answering.cancel)
    try:
        reply = await answering
    except asyncio.CancelledError:
        _log.warning("ended by a signal; what was under way is rolled back")
        return TRY_AGAIN
    code = exit_code(reply.status)
    if code != DONE:
        problem = msgspec.json.decode(reply.body) if reply.body else {}
        said = {name: problem.get(name) for name in ("type", "detail", "field")}
        words = "the training failed and may be tried again" if code == TRY_AGAIN else "the event cannot be used"
        _log.error(words, extra={"knudge": {"status": reply.status, **said}})
    return code


async def _answer(request: WholeRequest, settings: Settings) -> Reply:
    await door.start(settings)
    try:
        return await train(request)
    finally:
        await door.stop()


def _request(event_path: str, policy: str | None) -> WholeRequest:
    if event_path and policy is None:
        headers = [(b"content-type", STRUCTURED)]
        body = read_event_file(Path(event_path))
    else:
        event = new_event(TRAINING_REQUESTED, _SENDER, TrainingRequested(policy))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in binary_headers(event).items()]
        body = event.data
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return WholeRequest(scope, body, keep_alive=False)


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Train once; return the exit code."""
    parser = argparse.ArgumentParser(prog="train", description="Fit policies anew from the whole history.")
    parser.add_argument("--policy", metavar="NAME", help="this one, whatever the environment's event asks for")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.load(environment, door.needs)
        configure_logs(door.name, settings.log_level)
        request = _request(environment.get(EVENT_PATH, "").strip(), options.policy)
    except (Misconfigured, InvalidInput) as error:
        print(f"train: {error.detail}", file=sys.stderr)  # noqa: T201
        return POISON
    import uvloop

    return uvloop.run(run(request, settings))


if __name__ == "__main__":
    sys.exit(main())
