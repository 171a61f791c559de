"""Rows that wait at the same time are committed together; a poison row harms only its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from shared.errors import InvalidInput, Overloaded, Unavailable
from shared.storage.group_commit import GroupCommit

Row = tuple[str, str]
"""(key, content)"""

POISON = "\0"


class FakeTable:
    """A table with unique keys, whose commits wait for a gate and refuse poison."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.attempts: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False
        self.under_way = 0
        self.most_under_way = 0

    async def commit(self, rows: Sequence[Row]) -> set[str]:
        """Insert rows, all or none; return the keys that were new."""
        self.attempts.append([key for key, _ in rows])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if self.away:
            detail = "PostgreSQL is away"
            raise Unavailable(detail)
        if any(content == POISON for _, content in rows):
            detail = "PostgreSQL cannot store this"
            raise InvalidInput(detail, field="body")
        new = {key for key, _ in rows} - self.keys
        self.keys |= new
        return new


def group_commit(
    table: FakeTable, *, lanes: int = 2, rows_at_once: int = 500, limit: int = 1000
) -> GroupCommit[Row, str]:
    """Return a group commit into a table."""
    return GroupCommit(table.commit, lambda row: row[0], lanes=lanes, rows_at_once=rows_at_once, waiting_limit=limit)


def rows(*keys: str, content: str = "fine") -> list[Row]:
    """Return rows with these keys."""
    return [(key, content) for key in keys]


def run(test: Callable[[FakeTable], Awaitable[None]]) -> None:
    """Run a test on a table of its own, for ten seconds at most."""

    async def bounded() -> None:
        await asyncio.wait_for(test(FakeTable()), 10)

    asyncio.run(bounded())


async def waiting(*coroutines: Awaitable[set[str]]) -> list[asyncio.Future[set[str]]]:
    """Start requests and return once each waits."""
    tasks: list[asyncio.Future[set[str]]] = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_one_request_is_committed_at_once() -> None:
    """A request that is alone waits for nobody, and learns which of its rows were new."""

    async def test(table: FakeTable) -> None:
        table.keys = {"b"}
        assert await group_commit(table).take(rows("a", "b", "c")) == {"a", "c"}
        assert table.attempts == [["a", "b", "c"]]

    run(test)


def test_rows_that_wait_together_are_one_commit() -> None:
    """While a commit is under way others gather, and go together in the order in which they came."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=1)
        table.gate.clear()
        first = await waiting(committer.take(rows("a")))
        others = await waiting(*(committer.take(rows(key, key + "'")) for key in "bcd"))
        assert table.attempts == [["a"]]
        table.gate.set()
        assert await asyncio.gather(*first, *others) == [{"a"}, {"b", "b'"}, {"c", "c'"}, {"d", "d'"}]
        assert table.attempts == [["a"], ["b", "b'", "c", "c'", "d", "d'"]]

    run(test)


def test_requests_of_the_same_moment_are_one_commit() -> None:
    """Requests that arrive before any commit has begun share it even where lanes are idle."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=2)
        await asyncio.gather(*(committer.take(rows(str(at))) for at in range(20)))
        assert table.attempts == [[str(at) for at in range(20)]]

    run(test)


def test_a_commit_has_a_bounded_number_of_rows() -> None:
    """Groups are not torn apart: they fill a commit up to the bound, and a larger one goes alone."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=1, rows_at_once=3)
        requests = [("a", "b"), ("c",), ("d", "e"), ("f", "g", "h", "i"), ("j",)]
        await asyncio.gather(*(committer.take(rows(*keys)) for keys in requests))
        assert table.attempts == [["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"], ["j"]]

    run(test)


def test_as_many_transactions_as_lanes_are_under_way() -> None:
    """Two lanes commit at the same time, never three."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=2, rows_at_once=1)
        table.gate.clear()
        requests = await waiting(*(committer.take(rows(key)) for key in "abcdef"))
        assert table.attempts == [["a"], ["b"]]
        table.gate.set()
        assert await asyncio.gather(*requests) == [{key} for key in "abcdef"]
        assert table.most_under_way == 2

    run(test)


def test_a_poison_row_harms_only_its_own_request() -> None:
    """The commit that failed is retried request by request: one is refused, the others are taken."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table)
        results = await asyncio.gather(
            committer.take(rows("a")),
            committer.take(rows("b") + rows("c", content=POISON)),
            committer.take(rows("d", "e")),
            return_exceptions=True,
        )
        assert results[0] == {"a"}
        assert isinstance(results[1], InvalidInput)
        assert results[1].field == "body"
        assert results[2] == {"d", "e"}
        assert table.keys == {"a", "d", "e"}
        assert table.attempts == [["a", "b", "c", "d", "e"], ["a"], ["b", "c"], ["d", "e"]]

    run(test)


def test_a_poison_row_that_is_alone_is_tried_once() -> None:
    """There is nothing to divide."""

    async def test(table: FakeTable) -> None:
        with pytest.raises(InvalidInput):
            await group_commit(table).take(rows("a", content=POISON))
        assert table.attempts == [["a"]]

    run(test)


def test_an_error_that_nobody_foresaw_is_contained_too() -> None:
    """Any exception reaches the request whose rows cause it, and the next request finds a working lane."""

    async def commit(batch: Sequence[Row]) -> set[str]:
        if ("b", "fine") in batch:
            detail = "a fault"
            raise ZeroDivisionError(detail)
        return {key for key, _ in batch}

    async def test(table: FakeTable) -> None:
        committer = GroupCommit(commit, lambda row: row[0], lanes=1)
        results = await asyncio.gather(*(committer.take(rows(key)) for key in "abc"), return_exceptions=True)
        assert isinstance(results[1], ZeroDivisionError)
        assert [results[0], results[2]] == [{"a"}, {"c"}]
        assert await committer.take(rows("d")) == {"d"}

    run(test)


def test_a_store_that_is_away_fails_every_request_without_retry() -> None:
    """Nothing was taken, nobody waits for further attempts, and once it is back requests are taken again."""

    async def test(table: FakeTable) -> None:
        table.away = True
        committer = group_commit(table)
        results = await asyncio.gather(*(committer.take(rows(key)) for key in "abc"), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert table.attempts == [["a", "b", "c"]]
        table.away = False
        assert await committer.take(rows("a")) == {"a"}

    run(test)


def test_the_same_key_in_two_requests_is_new_to_one() -> None:
    """Counted once, whether the two share a commit, follow one another, or are retried singly."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table)
        together = await asyncio.gather(*(committer.take(rows("a", key)) for key in "bcd"))
        assert together == [{"a", "b"}, {"c"}, {"d"}]
        assert await committer.take(rows("a", "e")) == {"e"}
        singly = await asyncio.gather(
            committer.take(rows("f", content=POISON)),
            *(committer.take(rows("g", key)) for key in "hi"),
            return_exceptions=True,
        )
        assert singly[1:] == [{"g", "h"}, {"i"}]

    run(test)


def test_the_same_key_twice_in_one_request_is_new_once() -> None:
    """A request that repeats itself is told of one new row."""

    async def test(table: FakeTable) -> None:
        assert await group_commit(table).take(rows("a", "a", "b")) == {"a", "b"}

    run(test)


def test_too_many_rows_that_wait_are_refused() -> None:
    """Up to the limit requests wait, beyond it they are refused at once; rows under way do not count."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=1, limit=5)
        table.gate.clear()
        accepted = await waiting(committer.take(rows("1", "2", "3", "4", "5")))
        accepted += await waiting(committer.take(rows("a", "b")), committer.take(rows("c", "d")))
        with pytest.raises(Overloaded, match="4 rows wait"):
            await committer.take(rows("e", "f"))
        accepted += await waiting(committer.take(rows("g")))
        with pytest.raises(Overloaded):
            await committer.take(rows("h"))
        table.gate.set()
        await asyncio.gather(*accepted)
        assert await committer.take(rows("h", "i", "j", "k", "l")) == set("hijkl")
        assert table.keys == set("12345abcdghijkl")

    run(test)


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_caller_who_hangs_up_harms_nobody(cancelled: int) -> None:
    """Whether its rows wait or are under way: the others get their answers, and what waited is still committed."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=1)
        table.gate.clear()
        requests = await waiting(committer.take(rows("a")))
        requests += await waiting(committer.take(rows("b")), committer.take(rows("c")))
        requests[cancelled].cancel()
        await asyncio.sleep(0)
        table.gate.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert isinstance(results.pop(cancelled), asyncio.CancelledError)
        assert results == [{key} for at, key in enumerate("abc") if at != cancelled]
        assert table.keys == set("abc")
        assert await committer.take(rows("d")) == {"d"}

    run(test)


def test_a_caller_who_hangs_up_before_a_failure_is_not_told() -> None:
    """A failure goes to those who still wait, and no exception is left that nobody retrieves."""

    async def test(table: FakeTable) -> None:
        table.away = True
        table.gate.clear()
        committer = group_commit(table)
        requests = await waiting(committer.take(rows("a")), committer.take(rows("b")))
        requests[0].cancel()
        await asyncio.sleep(0)
        table.gate.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, Unavailable]

    run(test)


def test_closing_waits_for_what_is_under_way() -> None:
    """After `close` every row that was taken is committed."""

    async def test(table: FakeTable) -> None:
        committer = group_commit(table, lanes=2, rows_at_once=1)
        table.gate.clear()
        requests = await waiting(*(committer.take(rows(key)) for key in "abcde"))
        closing = asyncio.ensure_future(committer.close())
        await asyncio.sleep(0)
        assert not closing.done()
        table.gate.set()
        await closing
        assert table.keys == set("abcde")
        assert await asyncio.gather(*requests) == [{key} for key in "abcde"]

    run(test)


def test_rows_that_waited_too_long_are_not_tried() -> None:
    """Behind a commit that hangs, rows are refused once their time is over; the next ones are taken."""

    async def play(table: FakeTable) -> None:
        table.gate.clear()
        group = GroupCommit[Row, str](table.commit, lambda row: row[0], lanes=1, patience_s=0.05)
        [first] = await waiting(group.take(rows("a")))
        assert table.attempts == [["a"]]
        [second] = await waiting(group.take(rows("b")))
        await asyncio.sleep(0.1)
        table.gate.set()
        assert await first == {"a"}
        with pytest.raises(Unavailable):
            await second
        assert await group.take(rows("c")) == {"c"}
        assert table.attempts == [["a"], ["c"]]
        await group.close()

    run(play)
