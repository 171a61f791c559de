"""Runs that many ask for: shared, never older than whoever asked, one at a time for each name."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from shared.edge.runs import Runs


class Work:
    """Runs that end when they are let; counts what began and how many went at once."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self.begun: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.let = asyncio.Event()

    async def run(self, name: str) -> int:
        """Wait to be let; return the number of this run."""
        self.begun.append(name)
        number = len(self.begun)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.let.wait()
        self.at_once -= 1
        if name == "failing":
            raise ValueError(number)
        return number


def test_who_asks_at_once_shares_and_who_asks_later_gets_a_later_run() -> None:
    """Ten who ask before a run began share it; ten who ask while it goes on share the next, one at a time."""

    async def main() -> None:
        work = Work()
        runs = Runs(work.run)
        first = [asyncio.create_task(runs.asked("p")) for _ in range(10)]
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(runs.asked("p")) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert work.begun == ["p"]
        work.let.set()
        assert set(await asyncio.gather(*first)) == {1}
        assert set(await asyncio.gather(*later)) == {2}
        assert work.most_at_once == 1

    asyncio.run(main())


def test_names_go_side_by_side_and_a_failure_is_its_own() -> None:
    """Other names do not wait; whoever shared a run that failed is told, and the next one is another run."""

    async def main() -> None:
        work = Work()
        runs = Runs(work.run)
        good = asyncio.create_task(runs.asked("p"))
        bad = [asyncio.create_task(runs.asked("failing")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert work.at_once == 2
        work.let.set()
        assert await good == 1
        for task in bad:
            with pytest.raises(ValueError, match="2"):
                await task
        with pytest.raises(ValueError, match="3"):
            await runs.asked("failing")

    asyncio.run(main())


def test_a_run_rests_and_a_caller_who_leaves_takes_nobody_along() -> None:
    """No run begins before its rest is over; a cancelled caller leaves the run to the others."""

    async def main() -> None:
        work = Work()
        runs = Runs(work.run)
        runs.rest_until("p", monotonic() + 0.05)
        leaving, staying = asyncio.create_task(runs.asked("p")), asyncio.create_task(runs.asked("p"))
        await asyncio.sleep(0.01)
        assert work.begun == []
        leaving.cancel()
        work.let.set()
        assert await staying == 1
        assert leaving.cancelled()

    asyncio.run(main())
