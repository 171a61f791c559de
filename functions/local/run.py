"""`make run`: everything of Knudge on one machine, until Ctrl-C.

    python -m functions.local.run

serves on http://localhost:8080 (`KNUDGE_PORT`), keeps its data under `.knudge` of the checkout (`--data`), and needs no root, no
containers and no service that runs already. One run per data folder: a second one says where the first answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STARTED_AT = time.monotonic()
DATA = Path(__file__).resolve().parents[2] / ".knudge"
LOCK_FILE = "lock"
PORT_VARIABLE, DEFAULT_PORT, HIGHEST_PORT = "KNUDGE_PORT", 8080, 65_535
BACKLOG = 4096


class CannotRun(Exception):
    """Why a run cannot start, for the person at the terminal."""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run until SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m functions.local.run", description="Knudge on one machine.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data (default: .knudge in the checkout)")
    options = parser.parse_args(arguments)
    data: Path = options.data.absolute()
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = _lock(data / LOCK_FILE)
        listening = _listen(_port(environ))
        _describe(lock, listening)
        _log_to_stderr(environ)
        import uvloop

        uvloop.run(_serve(data, listening, environ))
    except (CannotRun, OSError) as error:
        _say(str(error))
        return 1
    return 0


async def _serve(data: Path, listening: socket.socket, environ: Mapping[str, str]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stopping)
    # Imports the functions' hosting and with it most of the start-up time.
    from functions.local.demonstration import requests_to_try, seed, wait_served
    from functions.local.http_client import HttpClient
    from functions.local.runner import running
    from shared.errors import KnudgeError

    try:
        async with running(data, listening, environ) as local:
            with contextlib.closing(HttpClient()) as client:
                await seed(local.address, client)
                await wait_served(local.address, client)
            _say(f"Knudge runs on {local.url} (started in {time.monotonic() - STARTED_AT:.1f} s)")
            ports = f"{local.metrics_port} and {local.learner_metrics_port} (learn)"
            _say(f"  metrics on ports {ports if local.metrics_port else 'none'}; data and logs in {data}")
            _say(f"\nTry, in another terminal:\n\n{requests_to_try(local.url)}\nCtrl-C stops it.")
            await stopping.wait()
            _say("\nStopping.")
    except KnudgeError as error:
        raise CannotRun(f"Knudge cannot run: {error.detail}") from error
    _say("Stopped; the data is kept.")


def _on_signal(stopping: asyncio.Event) -> None:
    """Stop in order; whoever asks again means at once, and the guard ends the servers."""
    if stopping.is_set():
        os._exit(1)
    stopping.set()


def _lock(path: Path) -> int:
    """Take the lock of the data folder for as long as this process lives."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError as error:
        raise CannotRun(
            f"{path} belongs to another account; run as that user, or choose another folder by --data"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            owner = json.loads(os.pread(descriptor, 1024, 0))
            where = f"on http://localhost:{owner['port']} (process {owner['pid']})"
        except (ValueError, KeyError, TypeError):
            where = "(it is just starting)"
        raise CannotRun(f"Knudge already runs {where}") from None
    os.ftruncate(descriptor, 0)
    return descriptor


def _describe(lock: int, listening: socket.socket) -> None:
    """Write into the lock who holds it."""
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "port": listening.getsockname()[1]}).encode(), 0)


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get(PORT_VARIABLE, "").strip() or str(DEFAULT_PORT)
    if not text.isascii() or not text.isdigit() or int(text) > HIGHEST_PORT:
        raise CannotRun(f"{PORT_VARIABLE} is {text!r}: it must be a port number (0 for any free one)")
    return int(text)


def _listen(port: int) -> socket.socket:
    """Listen at once: a port that somebody has is found out before anything starts, and early requests wait."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(BACKLOG)
    except PermissionError:
        raise CannotRun(f"port {port} needs root; choose another: make run {PORT_VARIABLE}=8081") from None
    except OSError as error:
        raise CannotRun(
            f"port {port} is taken by another program ({error.strerror}); choose another: make run {PORT_VARIABLE}=8081"
        ) from None
    return listening


def _log_to_stderr(environ: Mapping[str, str]) -> None:
    """Send logs to standard error as JSON, from warnings up unless `KNUDGE_LOG_LEVEL` says otherwise."""
    from shared.observability.logs import JsonFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("local"))
    level = environ.get("KNUDGE_LOG_LEVEL", "").strip() or "warning"
    logging.basicConfig(level=level.upper() if level.isalpha() else "WARNING", handlers=[handler], force=True)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
