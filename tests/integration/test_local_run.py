"""`make run` as a person sees it: it starts soon, answers, learns, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.local.schedule import ping
from functions.local.servers import LocalServers
from functions.local.triggers import read_schedules

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S, WAIT_S = 20.0, 30.0, 15.0
TIMEOUT_S = 10.0


@dataclass
class Run:
    """A running `functions.local.run`."""

    process: subprocess.Popen[str]
    data: Path
    url: str
    said: str

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request; return its status and decoded body."""
        given = {"content-type": "application/json"} | (headers or {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.url + path, data, given, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        return status, json.loads(text) if text else None

    def recommend(self) -> str:
        """Ask for a recommendation that is not degraded; return the decision's id."""
        decided: dict[str, Any] = {}

        def is_sound() -> bool:
            status, answer = self.call("POST", "/v1/recommend", {"policy": "demo", "user_id": "ada"})
            decided.update(answer)
            return status == 200 and not answer["degraded"]

        assert wait_until(is_sound), decided
        return str(decided["decision_id"])

    def clicks(self) -> float:
        """Return the sum of rewards that the demonstration policy has learned from."""
        _, policy = self.call("GET", "/v1/policies/demo")
        return float(sum(each["weight"] * (each["mean"] or 0.0) for each in policy["snapshot"]["actions"]))

    def jobs(self, state: str) -> int:
        """Return how many trainings are `done`, or `failed`."""
        return int(self.call("GET", "/")[1]["job_sinks"]["train"].get(state, 0))

    def has_jobs(self, state: str, count: int) -> bool:
        """Say whether that many trainings are in that state."""
        return self.jobs(state) == count

    def stop(self) -> tuple[int, str]:
        """Ask it to stop; return its exit code and its last words."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=STOP_S)
        return self.process.returncode, said


def command(data: Path) -> list[str | Path]:
    """Return the command that starts a run over `data`."""
    return [sys.executable, "-m", "functions.local.run", "--data", data]


def environment(port: int = 0) -> dict[str, str]:
    """Return the environment of a run: a free port, no metrics."""
    return {**os.environ, "KNUDGE_PORT": str(port), "KNUDGE_METRICS_PORT": "0"}


@contextlib.contextmanager
def run(data: Path) -> Iterator[Run]:
    """Start a run over `data` and stop it."""
    process = subprocess.Popen(
        command(data), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = ""
        assert process.stdout is not None
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, f"the run ended:\n{said}"
            said += line
        url = re.search(r"http://localhost:\d+", said)
        assert url is not None
        yield Run(process, data, url.group(), said)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if process.stdout is not None:
            process.stdout.close()


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for `condition`; say whether it came true in time."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def processes_of(data: Path) -> list[int]:
    """Return the processes whose command line or working folder names `data`."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (each / "stat").read_text().rpartition(")")[2].split()[0]
            text = (each / "cmdline").read_bytes().decode(errors="replace") + str((each / "cwd").readlink())
            if state != "Z" and str(data) in text:
                found.append(int(each.name))
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a run that the tests of this file share."""
    with run(tmp_path_factory.mktemp("run") / ".knudge") as running:
        yield running


def test_it_starts_soon_and_says_what_to_try(local: Run) -> None:
    """A first start takes under five seconds and ends with requests that work as they stand."""
    took = re.search(r"started in ([\d.]+) s", local.said)
    assert took is not None
    assert float(took.group(1)) < 5.0
    assert "curl" in local.said


def test_the_printed_requests_work(local: Run) -> None:
    """Pasted into a shell, the printed requests are answered by a decision, an accepted click, a policy and an experiment."""
    lines = local.said.partition("\n\n  #")[2].rpartition("Ctrl-C")[0]
    answer = subprocess.run(["bash", "-e", "-c", "  #" + lines], capture_output=True, text=True, check=True)
    assert '"decision_id"' in answer.stdout
    assert answer.stdout.replace(" ", "").count('"accepted":1') == 2
    assert '"experiment":{"key":"demo-kinds","variation":"thompson"}' in answer.stdout
    assert '"experiment":{"key":"demo-kinds","variation":"greedy"}' in answer.stdout
    assert '"snapshot"' in answer.stdout
    assert "202 Accepted" in answer.stdout
    assert '"problem' not in answer.stdout


def test_feedback_is_learned_from_over_http(local: Run) -> None:
    """A click given over HTTP is in the policy's snapshot soon afterwards."""
    before = local.clicks()
    decision = local.recommend()
    status, answer = local.call("POST", "/v1/feedback", {"decision_id": decision, "kind": "click"})
    assert (status // 100, answer["accepted"]) == (2, 1)
    assert wait_until(lambda: local.clicks() > before + 0.5)


def test_feedback_is_learned_from_as_an_event(local: Run) -> None:
    """A click given to the broker as a CloudEvent goes by its trigger to feedback, and on to the learner."""
    before = local.clicks()
    body = {"decision_id": local.recommend(), "kind": "click"}
    headers = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/test", "ce-type": "dev.knudge.feedback.given.v1"}
    assert local.call("POST", "/", body, headers)[0] == 202
    assert wait_until(lambda: local.clicks() > before + 0.5)


def test_a_structured_event_may_go_straight_to_a_function(local: Run) -> None:
    """Without the broker, a function takes an event itself and answers it."""
    event = {"specversion": "1.0", "id": "e2", "source": "/test", "type": "dev.knudge.learning.due.v1", "data": {}}
    headers = {"content-type": "application/cloudevents+json"}
    assert local.call("POST", "/functions/learn/", event, headers)[0] == 204


def test_the_examples_of_events_by_hand_work(local: Run) -> None:
    """The script that sends an event in each mode is taken by broker and function, and the policy learns from it."""
    if shutil.which("curl") is None:
        pytest.skip("no curl to send events with")
    before = local.clicks()
    sent = subprocess.run(
        ["sh", ROOT / "eventing/examples/curl.sh", local.recommend()],
        env={**os.environ, "BROKER": f"{local.url}/", "FEEDBACK": f"{local.url}/functions/feedback/"},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert sent.stdout.splitlines() == ["binary: 202", "structured: 202", "batched: 204"], sent.stderr
    assert wait_until(lambda: local.clicks() > before)


def test_the_learner_takes_the_sweep(local: Run) -> None:
    """The event of the schedule, which no trigger carries, is one that the learner takes."""
    [_, sweep, _] = read_schedules()
    event = ping(sweep)
    assert local.call("POST", "/functions/learn/", json.loads(event.data), event.headers())[0] == 204


def test_one_address_serves_every_function(local: Run) -> None:
    """The index names the functions, each is ready, and one document describes all routes."""
    _, index = local.call("GET", "/")
    assert set(index["functions"]) == {"recommend", "assignment", "feedback", "control", "analyse", "learn"}
    for name in index["functions"]:
        assert local.call("GET", f"/functions/{name}/health/ready")[0] == 200
    assert local.call("GET", "/health/ready")[0] == 200
    _, document = local.call("GET", "/openapi.json")
    assert {"/v1/recommend", "/v1/feedback", "/v1/policies/{name}"} <= set(document["paths"])


def test_what_nobody_owns_is_a_problem(local: Run) -> None:
    """An unknown path, an unknown function and a malformed event each get problem details."""
    for method, path, wanted in [("GET", "/v1/nothing", 404), ("POST", "/functions/nobody/", 404), ("POST", "/", 400)]:
        status, problem = local.call(method, path, None if method == "GET" else {})
        assert (status, problem["status"]) == (wanted, wanted)


def test_a_training_starts_by_event(local: Run) -> None:
    """A request to train goes by its trigger to the JobSink, and the Job publishes a later snapshot with equal estimates."""
    status, _ = local.call(
        "PUT", "/v1/policies/trained", {"kind": "thompson", "actions": ["a", "b"], "reward": {"click": 1.0}}
    )
    assert status == 201
    for number in range(20):
        _, decision = local.call("POST", "/v1/recommend", {"policy": "trained", "actions": ["a", "b"]})
        if number % 3 == 0:
            local.call("POST", "/v1/feedback", {"decision_id": decision["decision_id"], "kind": "click"})

    def snapshot() -> tuple[int, dict[str, tuple[float, float | None]]]:
        shown = local.call("GET", "/v1/policies/trained")[1]["snapshot"]
        return shown["snapshot_version"], {each["action"]: (each["weight"], each["mean"]) for each in shown["actions"]}

    def clicks() -> float:
        return sum(weight * (mean or 0.0) for weight, mean in snapshot()[1].values())

    assert wait_until(lambda: sum(weight for weight, _ in snapshot()[1].values()) == 20)
    assert wait_until(lambda: clicks() == pytest.approx(7))
    before, learned = snapshot()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "train-1",
        "ce-source": "/test",
        "ce-type": "dev.knudge.training.requested.v1",
    }
    done = local.jobs("done")
    for count in (done + 1, done + 2):
        assert local.call("POST", "/", {"policy": "trained"}, headers)[0] == 202
        assert wait_until(functools.partial(local.has_jobs, "done", count))
        assert snapshot()[0] == before + 1, "the second is the first again"
    fitted = snapshot()[1]
    assert {action: weight for action, (weight, _) in fitted.items()} == {a: w for a, (w, _) in learned.items()}
    for action, (_, mean) in fitted.items():
        assert mean == pytest.approx(learned[action][1], rel=1e-9)
    lines = [json.loads(line) for line in (local.data / "train.log").read_text().splitlines()]
    assert [line["policy"] for line in lines if line["message"] == "refitted"].count("trained") == 1
    assert "trained before" in [line["message"] for line in lines]
    assert [path.name for path in local.data.glob("train-*")] == []


def test_a_training_that_cannot_be_is_not_tried_again(local: Run) -> None:
    """A poison request ends its Job at once, as its exit code says; what is no event is refused at the door."""
    failed = local.jobs("failed")
    headers = {"ce-specversion": "1.0", "ce-id": "poison-1", "ce-source": "/test"}
    headers["ce-type"] = "dev.knudge.training.requested.v1"
    assert local.call("POST", "/", {"policy": "nobody"}, headers)[0] == 202
    assert wait_until(lambda: local.has_jobs("failed", failed + 1))
    assert "there is no policy 'nobody'" in (local.data / "train.log").read_text()
    assert local.call("POST", "/jobsinks/train/", {})[0] == 400
    assert local.call("GET", "/jobsinks/train/")[0] == 405
    assert local.call("POST", "/jobsinks/nobody/", {}, headers)[0] == 404


def test_the_nightly_training_is_taken(local: Run) -> None:
    """The event of the schedule is a training of every policy."""
    [_, _, training] = read_schedules()
    event = ping(training)
    done = local.jobs("done")
    path = f"/{training.subscriber}/"
    assert local.call("POST", path, json.loads(event.data), event.headers())[0] == 202
    assert wait_until(lambda: local.has_jobs("done", done + 1))
    lines = [json.loads(line) for line in (local.data / "train.log").read_text().splitlines()]
    assert "demo" in [line["policy"] for line in lines if line["message"] == "refitted"]


def test_the_hourly_analysis_is_taken(local: Run) -> None:
    """The event of the schedule is an analysis of every running experiment, which keeps a point of its course."""
    body = {
        "variations": [{"key": "off"}, {"key": "on"}],
        "analysis": {"metrics": [{"name": "clicks", "event": "click"}]},
    }
    assert local.call("PUT", "/v1/experiments/hourly", body)[0] == 201
    [analysis, _, _] = read_schedules()
    event = ping(analysis)
    assert local.call("POST", f"/functions/{analysis.subscriber}/", json.loads(event.data), event.headers())[0] == 204
    status, shown = local.call("GET", "/v1/experiments/hourly/results")
    assert (status, shown["verdict"], len(shown["course"])) == (200, "keep_running", 1)


def test_what_ends_by_itself_is_started_again(local: Run) -> None:
    """Without Redis answers are degraded; the runner starts it again, and the learner too, and learning goes on."""
    os.kill(int((local.data / "redis" / "redis.pid").read_text()), signal.SIGKILL)
    [learner] = [pid for pid in children_of(local.process.pid) if b"shared.edge.hosting" in command_line(pid)]
    os.kill(learner, signal.SIGKILL)
    assert wait_until(lambda: local.call("POST", "/v1/recommend", {"policy": "demo"})[1]["degraded"])
    before = local.clicks()
    status, _ = local.call("POST", "/v1/feedback", {"decision_id": local.recommend(), "kind": "click"})
    assert status // 100 == 2
    assert wait_until(lambda: local.clicks() > before + 0.5)


def test_a_second_run_says_where_the_first_answers(local: Run) -> None:
    """A second run over the same data ends at once with code 1 and the first one's address."""
    answer = subprocess.run(
        command(local.data), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert local.url in answer.stdout
    assert str(local.process.pid) in answer.stdout


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """A port that another program has is named, with the way to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = subprocess.run(
            command(tmp_path), cwd=ROOT, env=environment(port), capture_output=True, text=True, check=False
        )
    assert answer.returncode == 1
    assert str(port) in answer.stdout
    assert "KNUDGE_PORT" in answer.stdout
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stopping_flushes_and_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM right after a decision ends with code 0, keeps the decision, and leaves no process; a new start serves on."""
    data = tmp_path / ".knudge"
    with run(data) as first:
        decision = first.recommend()
        code, said = first.stop()
    assert (code, "Traceback" in said) == (0, False), said
    assert processes_of(data) == []
    with LocalServers.start(data) as servers, psycopg.connect(servers.database_url) as connection:
        assert connection.execute("select count(*) from decisions where decision_id = %s", [decision]).fetchone() == (
            1,
        )
    with run(data) as second:
        _, policy = second.call("GET", "/v1/policies/demo")
        assert policy["version"] == 1
        status, answer = second.call("POST", "/v1/feedback", {"decision_id": decision, "kind": "click"})
        assert (status // 100, answer["accepted"]) == (2, 1)
        assert wait_until(lambda: second.clicks() > 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL on the runner ends the learner and both servers."""
    data = tmp_path / ".knudge"
    with run(data) as running:
        children = children_of(running.process.pid)
        assert len(children) >= 4
        running.process.kill()
        running.process.wait()
        assert wait_until(lambda: not any(is_alive(pid) for pid in children))


def command_line(pid: int) -> bytes:
    """Return the command line of a process, its words parted by NUL."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` started."""
    children = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(each.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(each.parent.name))
    return children


def is_alive(pid: int) -> bool:
    """Say whether a process is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
