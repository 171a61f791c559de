"""A whole Knudge on one machine: servers, functions, broker and schedules, started and stopped in order.

`recommend`, `assignment`, `feedback`, `control` and `analyse` run in this process behind one address, `learn` in a process of its own, `train` in one for
each event. Stopping goes from the outside in: refuse requests, let events through, flush the functions (whose last wake-ups still
reach the learner), then a training, which rolls back, then the learner, then the servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from functions.local.binaries import LocalServerError
from functions.local.broker import Broker
from functions.local.http_client import HttpClient
from functions.local.job_sink import JobSink
from functions.local.ports import ReservedPort
from functions.local.postgres_server import PostgresServer
from functions.local.redis_server import RedisServer
from functions.local.router import Router
from functions.local.schedule import keep
from functions.local.server_process import ServerProcess
from functions.local.servers import LocalServers
from functions.local.triggers import JOB_SINKS, MANIFESTS, read_job_sinks, read_schedules, read_triggers
from shared.edge.function import Function
from shared.edge.hosting import load
from shared.edge.server import Server
from shared.errors import Misconfigured
from shared.observability.exposition import serve_metrics
from shared.observability.metrics import Metrics
from shared.settings import Settings, variable
from shared.storage.migrate import migrate

HERE = ("recommend", "assignment", "feedback", "control", "analyse")
LEARNER = "learn"
ROOT = Path(__file__).resolve().parents[2]
QUIET_S = 5.0
BROKER_DRAIN_S, BROKER_STOP_S = 2.0, 5.0
LEARNER_START_S = 20.0
POLL_S = 0.01
WATCH_S = 1.0
RESTART_DELAY_S = 5.0
LOG = logging.getLogger("knudge.local")


@contextlib.asynccontextmanager
async def running(data: Path, listening: socket.socket, environ: Mapping[str, str]) -> AsyncIterator[LocalRun]:
    """Start everything over the folder `data`, serve on the socket `listening`, and stop everything on leaving."""
    async with contextlib.AsyncExitStack() as opened:
        starting = asyncio.create_task(asyncio.to_thread(LocalServers.start, data, environ=environ))
        opened.push_async_callback(_stop_servers, starting)
        # Importing the functions takes as long as starting the servers; the two overlap.
        functions = {name: load(name)[1] for name in HERE}
        servers = await starting
        await asyncio.to_thread(migrate, servers.database_url)
        local = LocalRun(servers, functions, listening, environ)
        await local.open(opened, data)
        yield local


class LocalRun:
    """What runs; `url` is where it answers; `address` is the same without a name to look up."""

    def __init__(
        self,
        servers: LocalServers,
        functions: Mapping[str, Function[Any]],
        listening: socket.socket,
        environ: Mapping[str, str],
    ) -> None:
        """Take servers that run; `open` starts the rest."""
        port = listening.getsockname()[1]
        self.url = f"http://localhost:{port}"
        self.servers = servers
        self._functions = functions
        self._listening = listening
        self.address = f"http://127.0.0.1:{port}"
        self._learner_port = ReservedPort()
        self._environment = {
            **environ,
            variable("redis_url"): servers.redis_url,
            variable("database_url"): servers.database_url,
            variable("server_key"): servers.server_key,
            variable("k_sink"): f"{self.address}/",
            variable("port"): str(port),
        }
        self._settings = Settings.load(self._environment, {need for each in functions.values() for need in each.needs})
        # Where Prometheus finds this process and the learner; 0 where metrics are turned off.
        self.metrics_port = 0
        self.learner_metrics_port = ReservedPort().number if self._settings.metrics_port else 0

    async def open(self, opened: contextlib.AsyncExitStack, data: Path) -> None:
        """Start learner, functions and broker; what stops them is pushed on `opened`, the last started first."""
        client = HttpClient()
        opened.callback(client.close)
        learner = ServerProcess("learn", data / "learn.log", self.servers.guard, (signal.SIGTERM,))
        opened.push_async_callback(asyncio.to_thread, learner.stop)
        self._spawn_learner(learner)

        triggers, schedules = read_triggers(MANIFESTS), read_schedules(MANIFESTS)
        job_sinks = {
            plan.name: JobSink(plan, ROOT, data, self.servers.guard, self._environment)
            for plan in read_job_sinks(MANIFESTS)
        }
        _check_recipients(
            {each.subscriber for each in triggers} | {each.subscriber for each in schedules}, set(job_sinks)
        )
        for job_sink in job_sinks.values():
            job_sink.start()
            opened.push_async_callback(job_sink.stop)
        broker = Broker(triggers, self._address_of)
        router = Router(self._functions, broker, {LEARNER: self._learner_url}, job_sinks)
        settings = self._settings
        self._share_metrics(settings.metrics_port)
        for function in self._functions.values():
            await function.start(settings)
        serving = Server(router.target, router.body_limit)
        served = asyncio.create_task(serving.serve(listening=self._listening))
        opened.push_async_callback(_finish, serving, served)
        opened.push_async_callback(_flush, router, broker, self._functions)
        await _wait_ready(client, self._learner_url, learner)

        jobs: list[Coroutine[Any, Any, None]] = [keep(each, self._address_of, client) for each in schedules]
        jobs.append(self._watch(learner))
        for job in jobs:
            opened.push_async_callback(_cancel, asyncio.create_task(job))

    @property
    def _learner_url(self) -> str:
        return f"http://127.0.0.1:{self._learner_port.number}/"

    def _address_of(self, name: str) -> str:
        if name.startswith(JOB_SINKS):
            return f"{self.address}/{name}/"
        return self._learner_url if name == LEARNER else f"{self.address}/functions/{name}/"

    def _spawn_learner(self, learner: ServerProcess) -> None:
        environment = self._environment | {
            variable("port"): str(self._learner_port.number),
            variable("metrics_port"): str(self.learner_metrics_port),
            variable("host"): "127.0.0.1",
            variable("host"): "127.0.0.1",
        }
        command = [sys.executable, "-m", "shared.edge.hosting", LEARNER]
        learner.spawn(command, ROOT, environment=environment)

    def _share_metrics(self, port: int) -> None:
        """Give the functions of this process one set of metrics, on the usual port or, where that is taken, another."""
        metrics = Metrics()
        for function in self._functions.values():
            function.metrics = metrics
        if not port:
            return
        try:
            serve_metrics(metrics, port, "127.0.0.1")
        except OSError:
            port = ReservedPort().number
            serve_metrics(metrics, port, "127.0.0.1")
        self.metrics_port = port

    async def _watch(self, learner: ServerProcess) -> None:
        """Start again, after a pause, what has ended by itself."""
        down_since: dict[str, float] = {}
        parts: list[tuple[str, RedisServer | PostgresServer | ServerProcess, Callable[[], None]]] = [
            ("Redis", self.servers.redis, self.servers.redis.start),
            ("PostgreSQL", self.servers.postgres, self.servers.postgres.start),
            ("learn", learner, lambda: self._spawn_learner(learner)),
        ]
        while True:
            await asyncio.sleep(WATCH_S)
            for name, part, start in parts:
                if part.is_running:
                    down_since.pop(name, None)
                elif time.monotonic() - down_since.setdefault(name, time.monotonic()) >= RESTART_DELAY_S:
                    LOG.warning("%s has ended and is started again", name)
                    del down_since[name]
                    try:
                        await asyncio.to_thread(start)
                    except (LocalServerError, OSError):
                        LOG.exception("%s did not start", name)


def _check_recipients(recipients: set[str], job_sinks: set[str]) -> None:
    known = {LEARNER, *HERE, *(JOB_SINKS + name for name in job_sinks)}
    if unknown := sorted(recipients - known):
        raise Misconfigured(f"nothing is deployed that {MANIFESTS.name}/ delivers to: {', '.join(unknown)}")


async def _flush(router: Router, broker: Broker, functions: Mapping[str, Function[Any]]) -> None:
    """Answer what is under way, deliver what is held, flush the functions, and deliver what that woke up."""
    await router.close(QUIET_S)
    await broker.drain(BROKER_DRAIN_S)
    router.detach()
    async with contextlib.AsyncExitStack() as flushing:
        # One that fails to flush keeps neither the others nor the broker from it.
        flushing.push_async_callback(broker.stop, BROKER_STOP_S)
        for function in functions.values():
            flushing.push_async_callback(function.stop)


async def _finish(serving: Server, served: asyncio.Task[None]) -> None:
    serving.stop()
    await served


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _stop_servers(starting: asyncio.Task[LocalServers]) -> None:
    """Stop the servers, whether or not somebody has waited for them to start."""
    with contextlib.suppress(LocalServerError):
        await asyncio.to_thread((await starting).stop)


async def _wait_ready(client: HttpClient, url: str, learner: ServerProcess) -> None:
    deadline = time.monotonic() + LEARNER_START_S
    while time.monotonic() < deadline and learner.is_running:
        with contextlib.suppress(OSError, TimeoutError):
            if (await client.request("GET", f"{url}health/ready", timeout_s=1.0)).status == HTTPStatus.OK:
                return
        await asyncio.sleep(POLL_S)
    raise LocalServerError(f"the learner did not get ready:\n{learner.log_tail()}")
