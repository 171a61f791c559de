"""The production entry point: one function, without a framework in between.

    python -m shared.edge.hosting recommend

serves `functions.recommend.func:recommend` on `$PORT` with uvloop and httptools, metrics on a port of their own, JSON
logs on standard output. It answers `/health/ready` once the function is open, and on SIGTERM finishes what is under way,
flushes and exits with 0.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # nothing that start-up makes is garbage; `serve` turns it on again

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from shared.edge.function import Function
from shared.edge.http import HttpRequest, Reply
from shared.edge.server import Server
from shared.errors import Misconfigured
from shared.observability.logs import configure_logs
from shared.observability.metrics import Metrics
from shared.settings import Settings

_METRICS_AFTER_S = 0.2

_log = logging.getLogger(__name__)


def load(name: str) -> tuple[Callable[[HttpRequest], Awaitable[Reply]], Function[Any]]:
    """Return a function's target and its `Function`, by the function's name."""
    module = import_module(f"functions.{name}.func")
    return getattr(module, name), module.door


async def serve(name: str, environment: Mapping[str, str]) -> None:
    """Serve one function until SIGTERM or SIGINT."""
    target, function = load(name)
    settings = Settings.load(environment, function.needs)
    configure_logs(name, settings.log_level)
    server = Server(target, lambda: function.settings.body_limit)
    server.stop_on_signals()
    await function.start(settings)
    gc.freeze()  # what start-up made is never looked at again
    gc.enable()
    metrics = asyncio.create_task(_show_metrics(function, settings))
    try:
        await server.serve(host=settings.host, port=settings.port)
    finally:
        metrics.cancel()
        await function.stop()


async def _show_metrics(function: Function[Any], settings: Settings) -> None:
    if not settings.metrics_port:
        return
    await asyncio.sleep(_METRICS_AFTER_S)
    try:
        await asyncio.to_thread(_serve_metrics, function.metrics, settings)
    except OSError as error:
        _log.error("no metrics", extra={"knudge": {"port": settings.metrics_port, "error": str(error)}})


def _serve_metrics(metrics: Metrics, settings: Settings) -> None:
    from shared.observability.exposition import serve_metrics  # a process is ready before it shows its metrics

    serve_metrics(metrics, settings.metrics_port, settings.host)


def main(arguments: list[str] | None = None) -> int:
    """Run `serve` for the function named by the argument or by `FUNCTION`."""
    given = sys.argv[1:] if arguments is None else arguments
    name = given[0] if given else os.environ.get("FUNCTION", "")
    if not name.isidentifier():
        print("name the function to serve: an argument, or FUNCTION in the environment", file=sys.stderr)  # noqa: T201
        return 2
    import uvloop

    try:
        uvloop.run(serve(name, os.environ))
    except Misconfigured as error:
        print(f"{name}: {error.detail}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
