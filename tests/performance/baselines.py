"""What `recommend` is compared with: an empty function under functions-framework's own two servers.

`functions-framework --target empty` is Flask under gunicorn with one worker and four threads per core;
`--target empty_async --asgi` is Starlette under gunicorn with one `uvicorn_worker.UvicornWorker`, which takes
uvloop and httptools because they are installed. `python -m tests.performance.baselines` measures the two
alone, in a few seconds.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.performance.figures import percentiles_ms, table
from tests.performance.http1 import post
from tests.performance.load import LoadProcess, Plan
from tests.performance.processes import Command, Server, cores, python, start

SOURCE = str(Path(__file__).with_name("empty_function.py"))
BODY = b'{"policy":"bench","user_id":"u1","context":{"hour":12}}'
REQUEST = post("/", BODY)
QUIET = {"GUNICORN_LOG_LEVEL": "error"}

_FRAMEWORK = ("-m", "functions_framework", "--source", SOURCE, "--host", "127.0.0.1", "--port", "{port}")
DEFAULT = Command("empty-default", python(*_FRAMEWORK, "--target", "empty"), QUIET, REQUEST)
ASGI = Command("empty-asgi", python(*_FRAMEWORK, "--target", "empty_async", "--asgi"), QUIET, REQUEST)
SINK = Command("sink", python("-m", "tests.performance.sink"), {}, REQUEST)


def main() -> None:
    """Print answers per second and latency of both, and of the load generator's own ceiling."""
    on, rest = cores()
    rows = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = stack.enter_context(LoadProcess(rest))
        servers: list[Server] = []
        for command in (DEFAULT, ASGI, SINK):
            server = start(command, directory, on)
            stack.callback(server.stop)
            servers.append(server)
        for server in servers:
            outcome = load.run(Plan(server.port, (REQUEST,), duration_s=2.0, warmup_s=0.5))
            rows.append(
                {
                    "server": server.name,
                    "per s": outcome.per_s,
                    **percentiles_ms(outcome.latencies_ns),
                    "start s": server.ready_s,
                    "MB": server.rss_mb(),
                }
            )
    print(table(rows))


if __name__ == "__main__":
    main()
