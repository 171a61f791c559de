"""Real servers for every test that needs them: one Redis and one PostgreSQL a session, on free ports, ended with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from functions.local.binaries import choice_from, find_redis
from functions.local.guard import Guard
from functions.local.ports import ReservedPort
from functions.local.redis_server import RedisServer
from functions.local.servers import LocalServers
from shared.storage.migrate import migrate

settings.register_profile("knudge", deadline=None)  # how long an example takes says nothing on a shared machine
settings.load_profile("knudge")


@pytest.fixture(autouse=True)
def _root_logger_left_as_found() -> Iterator[None]:
    """What a test's program makes of the logs ends with the test: its output is closed by then."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Run a Redis and a PostgreSQL that tests share; each test takes policies of its own."""
    with LocalServers.start(tmp_path_factory.mktemp("servers")) as started:
        migrate(started.database_url)
        yield started


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[LocalServers]:
    """Run servers for one test, which may stop, kill and wipe them."""
    with LocalServers.start(tmp_path / "servers") as started:
        migrate(started.database_url)
        yield started


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis alone for one test, which may stop and wipe it."""
    with Guard() as guard:
        redis = RedisServer(find_redis(choice_from(os.environ)), tmp_path / "redis", "secret", guard)
        redis.start()
        yield redis
        redis.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Reserve a port on which nothing answers."""
    port = ReservedPort()
    yield port.number
    port.release()
