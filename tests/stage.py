"""All functions in this process, over real servers, called as a host calls them; learning happens when a test says so.

async def play(stage): ...
run(servers, play)
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import psycopg
from psycopg.rows import dict_row

from functions.analyse.func import analyse
from functions.analyse.func import door as analyse_door
from functions.assignment.func import assignment
from functions.assignment.func import door as assignment_door
from functions.control.func import control
from functions.control.func import door as control_door
from functions.feedback.func import door as feedback_door
from functions.feedback.func import feedback
from functions.learn.func import door as learn_door
from functions.learn.func import learn
from functions.local.servers import LocalServers
from functions.recommend.func import door as recommend_door
from functions.recommend.func import recommend
from functions.train.func import door as train_door
from functions.train.func import train
from shared.edge.function import Function
from shared.edge.http import HttpRequest, Reply, Request
from shared.experiments.assigning import PublishedCatalogue
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.exposure import Exposure
from shared.experiments.flags import FlagSpec
from shared.settings import Settings
from shared.storage.redis_catalogue import encode_catalogue, publish_catalogue
from shared.storage.redis_connection import connect
from shared.storage.redis_drain import read_exposures

TARGETS: dict[str, Callable[[HttpRequest], Awaitable[Reply]]] = {
    "recommend": recommend,
    "assignment": assignment,
    "feedback": feedback,
    "learn": learn,
    "control": control,
    "train": train,
    "analyse": analyse,
}
DOORS: dict[str, Function[Any]] = {
    "recommend": recommend_door,
    "assignment": assignment_door,
    "feedback": feedback_door,
    "learn": learn_door,
    "control": control_door,
    "train": train_door,
    "analyse": analyse_door,
}
PLAY_S = 120.0
"""How long a test may play."""
LOOKS_AGAIN = 2
_numbers = itertools.count(1)


class Answer(NamedTuple):
    """A reply as a caller sees it; `body` decoded where it is JSON."""

    status: int
    body: Any
    headers: dict[str, str]


class Stage:
    """The functions, and a look behind them."""

    def __init__(self, servers: LocalServers, **settings: Any) -> None:
        """Use these servers; `settings` replace the defaults."""
        self.servers = servers
        ours: dict[str, Any] = {
            "redis_url": servers.redis_url,
            "database_url": servers.database_url,
            "server_key": servers.server_key,
            "metrics_port": 0,
            "learning_interval_ms": 0,
            "journal_wait_ms": 500,
        }
        self.settings = Settings(**(ours | settings))
        self._stack = AsyncExitStack()
        self.redis: Any = connect(servers.redis_url)

    async def __aenter__(self) -> Self:
        """Open every function."""
        for door in DOORS.values():
            await door.start(self.settings)
            self._stack.push_async_callback(door.stop)
        self._stack.push_async_callback(self.redis.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        await self._stack.aclose()

    async def call(
        self,
        function: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        query: dict[str, Any] | None = None,
    ) -> Answer:
        """Call a function; `body` is encoded unless it is bytes already.

        A `recommend` that could not look for a snapshot in time is asked again, as its answer says: this machine is busy.
        """
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": urlencode(query or {}).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        reply = await TARGETS[function](Request(scope, receive))
        for _ in range(LOOKS_AGAIN):
            if function != "recommend" or reply.status != 503:
                break
            await asyncio.sleep(0.25)
            reply = await TARGETS[function](Request(scope, receive))
        decoded = json.loads(reply.body) if reply.body else None
        return Answer(reply.status, decoded, {name.decode(): value.decode() for name, value in reply.headers})

    async def policy(self, name: str | None = None, **body: Any) -> str:
        """Write a policy (thompson over a, b, c, click = 1 unless said otherwise) and return its name."""
        name = name or f"policy-{next(_numbers)}"
        spec = {"kind": "thompson", "actions": ["a", "b", "c"], "reward": {"click": 1.0}} | body
        answer = await self.call("control", "PUT", f"/v1/policies/{name}", spec)
        assert answer.status in {200, 201}, answer
        return name

    async def publish(self, *experiments: ExperimentSpec, flags: Sequence[FlagSpec] = ()) -> None:
        """Publish a catalogue of these, and return once `assignment` holds it."""
        [row] = self.sql("update catalogue set version = version + 1 returning version")
        published = PublishedCatalogue(row["version"], experiments, tuple(flags))
        assert await publish_catalogue(self.redis, published.version, encode_catalogue(published))
        assigner = await assignment_door.start()
        async with asyncio.timeout(20):
            while assigner._catalogues.held().version != published.version:  # noqa: ASYNC110 - it polls, too
                await asyncio.sleep(0.01)

    async def assigning(self, experiment: str) -> None:
        """Return once `assignment` holds an experiment that `control` has written."""
        assigner = await assignment_door.start()
        async with asyncio.timeout(20):
            while experiment not in assigner._catalogues.held().experiments:  # noqa: ASYNC110 - it polls, too
                await asyncio.sleep(0.01)

    async def assign(self, user: str, *experiments: str, **body: Any) -> Any:
        """Return assignments that must be made, by experiment; none named: all."""
        named = {"experiments": list(experiments)} if experiments else {}
        answer = await self.call("assignment", "POST", "/v1/assignments", {"user_id": user} | named | body)
        assert (answer.status, answer.body.get("degraded")) == (200, False), answer
        return {each["experiment"]: each for each in answer.body["assignments"]}

    async def exposures(self, experiment: str) -> list[Exposure]:
        """Return what the journal holds of an experiment's exposures."""
        journal = await read_exposures(self.redis, 1_000_000)
        return [each for each in journal.exposures if each.experiment == experiment]

    async def recommend(self, policy: str, **body: Any) -> Any:
        """Return a recommendation that must succeed."""
        answer = await self.call("recommend", "POST", "/v1/recommend", {"policy": policy} | body)
        assert answer.status == 200, answer
        return answer.body

    async def feedback(self, decision: str, kind: str = "click", **body: Any) -> Any:
        """Give feedback that must be taken."""
        answer = await self.call("feedback", "POST", "/v1/feedback", {"decision_id": decision, "kind": kind} | body)
        assert answer.status == 200, answer
        return answer.body

    async def learn(self, policy: str | None = None) -> None:
        """Run `learn` for a policy, or its sweep."""
        data = {"policy": policy} if policy else {}
        answer = await self.event("learn", "dev.knudge.learning.due.v1", data)
        assert answer.status == 204, answer

    async def event(self, function: str, event_type: str, data: Any, **attributes: str) -> Answer:
        """Send a CloudEvent in binary mode."""
        given = {"id": f"event-{next(_numbers)}", "source": "tests", "specversion": "1.0", "type": event_type}
        headers = {f"ce-{name}": value for name, value in (given | attributes).items()}
        return await self.call(function, "POST", "/", data, headers | {"content-type": "application/json"})

    async def snapshot(self, policy: str) -> dict[str, Any]:
        """Return the newest snapshot as `control` shows it, its actions by id."""
        answer = await self.call("control", "GET", f"/v1/policies/{policy}")
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.body["snapshot"]
        return shown | {"actions": {action["action"]: action for action in shown["actions"]}}

    async def published(self, policy: str) -> bytes | None:
        """Return the bytes of the snapshot in Redis."""
        content: bytes | None = await self.redis.get(f"knudge:snapshot:{policy}")
        return content

    def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask PostgreSQL directly."""
        with psycopg.connect(
            self.servers.database_url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=10,
            options="-c statement_timeout=30s",
        ) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []


def run(servers: LocalServers, play: Callable[[Stage], Awaitable[None]], **settings: Any) -> None:
    """Play a test on a stage; what hangs is a failure that shows where."""

    async def main() -> None:
        async with asyncio.timeout(PLAY_S), Stage(servers, **settings) as stage:
            await play(stage)

    asyncio.run(main())
