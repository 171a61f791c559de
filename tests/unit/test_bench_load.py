"""The pure pieces of the bench: requests and answers as bytes, percentiles, ratios, growth, regret."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.performance import figures, regret, sink
from tests.performance.http1 import AnswerError, AnswerParser, get, post, put
from tests.performance.load import Outcome
from tests.performance.stage import rewarded
from tests.performance.steady import growth_share

GUNICORN = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
UVICORN = b"HTTP/1.1 202 Accepted\r\ncontent-length: 11\r\nserver: uvicorn\r\n\r\n\r\n\r\n1234567"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
ANSWERS = [(200, b"{}"), (202, b"\r\n\r\n1234567"), (204, b"")]


def test_answers_in_one_packet_are_told_apart() -> None:
    """Several answers in one packet come out in order, whatever the case of the header's name."""
    assert AnswerParser().feed(GUNICORN + UVICORN + EMPTY) == ANSWERS


@pytest.mark.parametrize("size", range(1, 60))
def test_answers_split_anywhere_are_put_together(size: int) -> None:
    """Packets of any size give the same answers, each as soon as its last byte is there."""
    stream = (GUNICORN + UVICORN + EMPTY) * 2
    parser = AnswerParser()
    seen = [answer for at in range(0, len(stream), size) for answer in parser.feed(stream[at : at + size])]
    assert seen == ANSWERS * 2


def test_an_answer_is_given_once_its_last_byte_came() -> None:
    """One byte less gives nothing; that byte gives the answer."""
    parser = AnswerParser()
    assert parser.feed(GUNICORN[:-1]) == []
    assert parser.feed(GUNICORN[-1:]) == [(200, b"{}")]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_what_it_cannot_read_is_refused(head: bytes) -> None:
    """A chunked answer, a senseless length or another protocol is an error, not an empty answer."""
    with pytest.raises(AnswerError):
        AnswerParser().feed(head)


def test_requests_carry_their_length() -> None:
    """The length counts bytes, and verbs differ in the verb alone."""
    body = '{"a":"é"}'.encode()
    request = post("/v1/recommend", body, headers=["ce-id: 1"])
    assert request.startswith(b"POST /v1/recommend HTTP/1.1\r\n")
    assert b"\r\ncontent-length: 10\r\nce-id: 1\r\n\r\n" in request
    assert request.endswith(body)
    assert put("/p", body) == post("/p", body).replace(b"POST", b"PUT", 1)
    assert get("/health/ready").endswith(b"\r\n\r\n")


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def test_the_sink_answers_each_whole_request() -> None:
    """Requests split or joined by packets get one answer each."""
    stream = post("/", b"123") + get("/") + post("/", b"")
    for size in (1, 7, len(stream)):
        transport, protocol = _Transport(), sink.Sink()
        protocol.connection_made(transport)
        for at in range(0, len(stream), size):
            protocol.data_received(stream[at : at + size])
        assert transport.written == sink.ANSWER * 3


def test_percentiles_are_in_milliseconds() -> None:
    """Nanoseconds in, milliseconds out; nothing measured is no number."""
    assert figures.percentiles_ms([number * 1_000_000 for number in range(101)]) == {
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
    }
    assert figures.percentiles_ms([]) == {"p50": None, "p95": None, "p99": None}
    assert figures.percentile([], 95) is None
    assert figures.percentile([1.0, 3.0], 50) == 2.0


def test_the_median_ratio_cancels_what_hits_a_whole_round() -> None:
    """A round in which everything is half as fast does not move it; one spoiled measurement hardly does."""
    ours, theirs = [6.0, 3.0, 6.0, 1.0, 6.0], [2.0, 1.0, 2.0, 2.0, 2.0]
    assert figures.median_ratio(ours, theirs) == 3.0


def test_the_ratio_of_means_has_the_error_that_repetition_shows() -> None:
    """The stated standard errors match the spread over 2,000 repetitions to 10 %, paired and independent."""
    generator = np.random.default_rng(3)
    ratios: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(2_000):
        luck = generator.normal(0.0, 20.0, 200)
        theirs = 100.0 + luck + generator.normal(0.0, 5.0, 200)
        ours = 110.0 + luck + generator.normal(0.0, 5.0, 200)
        ratios[True].append(figures.ratio_of_means(ours, theirs, paired=True))
        others = 100.0 + generator.normal(0.0, 20.0, 300)
        ratios[False].append(figures.ratio_of_means(ours, others, paired=False))
    for seen in ratios.values():
        values, errors = np.array(seen).T
        assert values.mean() == pytest.approx(1.1, abs=0.005)
        assert errors.mean() == pytest.approx(values.std(), rel=0.1)


def test_the_table_aligns_and_marks_what_is_missing() -> None:
    """Columns line up to the right, and None is a dash."""
    text = figures.table([{"server": "a", "per s": 12345.6}, {"server": "long name", "per s": None}])
    assert text.split("\n") == ["server      per s", "a          12,346", "long name       -"]


def test_the_journal_grows_only_where_trims_lag_behind() -> None:
    """A saw of constant height is no growth, one that keeps a fifth of what is appended is one of a fifth."""
    saw = [(at / 10, (at % 10) * 5) for at in range(100)]
    assert growth_share(saw) < 0.03
    rising = [(at / 10, (at % 10) * 5 + at // 10 * 9) for at in range(100)]
    assert growth_share(rising) == pytest.approx(9 / 45, abs=0.07)
    assert growth_share([(0.0, 0), (1.0, 0)]) == 0.0


def test_an_outcome_knows_its_rate() -> None:
    """Answers after the warm-up over the time they took; nothing measured is no rate."""
    outcome = Outcome(measured_s=2.0)
    outcome.latencies_ns.extend([1, 2, 3, 4])
    assert outcome.per_s == 2.0
    assert Outcome().per_s == 0.0


def test_rewards_are_read_off_a_snapshot() -> None:
    """Weight times mean over the actions, those that were never tried left out."""
    seen = ((4.0, 0.25), (0.0, None), (2.0, 1.0))
    snapshot = {"actions": [{"weight": weight, "mean": mean} for weight, mean in seen]}
    assert rewarded(snapshot) == 3.0


def test_the_textbook_loop_learns() -> None:
    """Its regret over 400 decisions lies below that of uniform choice, and repeats with its seed."""
    once = regret.textbook_block(0, 400)
    assert once == regret.textbook_block(0, 400)
    uniform = 400 * 0.1 * 0.9
    assert 0.5 * uniform < np.mean(once) < uniform


def test_the_projects_loop_plays_as_the_textbook_does() -> None:
    """Over 40 seeds of 150 decisions its mean regret is within four standard errors; a seed repeats."""
    theirs = np.array(regret.textbook_block(0, 150))
    ours = np.array([regret.pure_regret(seed, 150) for seed in range(40)])
    assert ours[7] == regret.pure_regret(7, 150)
    error = float(np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs)))
    assert abs(ours.mean() - theirs.mean()) < 4 * error


def test_rewards_of_a_seed_are_the_same_for_every_loop() -> None:
    """What a seed pays does not depend on how many decisions are asked for."""
    assert regret.rewards_of(5, 50).tolist() == regret.rewards_of(5, 80)[:50].tolist()
