"""Where the dataset comes from, how it is read, split and moved in time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from functions.console import obd_source
from functions.console.failure import ConsoleFailure
from functions.console.obd_log import is_held_out, read_campaign
from functions.console.obd_source import Folder, Wheel, find_source
from functions.console.replay_shift import WEEK_S, Shift, choose_shift, remember_shift, weeks_to_last_week
from tests.unit.console.conftest import ROWS


@pytest.fixture
def wheel(dataset: Path, tmp_path: Path) -> Path:
    """Pack the dataset as the wheel packs it."""
    path = tmp_path / "cache" / "obp-0.4.1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in dataset.rglob("*.csv"):
            archive.write(file, f"obp/dataset/obd/{file.relative_to(dataset)}")
    return path


def test_wheel_and_folder_hold_the_same(dataset: Path, wheel: Path) -> None:
    """A wheel, the folder itself and the folder above it are read alike."""
    from_wheel = read_campaign(find_source(wheel), "men")
    assert from_wheel == read_campaign(find_source(dataset), "men")
    assert from_wheel == read_campaign(find_source(dataset.parent), "men")
    assert from_wheel.items == ("0", "1", "2", "3")
    assert len(from_wheel.impressions) == 2 * ROWS


def test_cached_wheel_is_not_fetched_again(wheel: Path) -> None:
    """What lies in the cache is used."""

    def download(_cache: Path) -> None:
        pytest.fail("must not be called")

    assert isinstance(find_source(None, cache=wheel.parent, download=download), Wheel)


def test_missing_wheel_is_fetched(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache and an installed obp the wheel is fetched into the cache."""
    monkeypatch.setattr(obd_source, "_installed", lambda: None)
    cache = tmp_path / "empty"
    cache.mkdir()

    def download(folder: Path) -> None:
        (folder / wheel.name).write_bytes(wheel.read_bytes())

    source = find_source(None, cache=cache, download=download)
    assert source.name == str(cache / wheel.name)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip cannot get it, the error says why and names --data."""
    monkeypatch.setattr(obd_source, "_installed", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConsoleFailure, match=r"cannot be had.*--data"):
        find_source(None, cache=tmp_path / "cache")


@pytest.mark.parametrize("content", [b"no zip", None])
def test_useless_data_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A file that is no archive and a path that is nothing are told."""
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConsoleFailure):
        read_campaign(find_source(path), "all")


def test_damaged_row_is_named(dataset: Path, tmp_path: Path) -> None:
    """A row that cannot be read is named by file and number."""
    for file in dataset.rglob("*.csv"):
        copy = tmp_path / file.relative_to(dataset)
        copy.parent.mkdir(parents=True)
        lines = file.read_text().splitlines()
        lines[5] = lines[5].replace("2019", "the year")
        copy.write_text("\n".join(lines))
    with pytest.raises(ConsoleFailure, match=r"random/men/men.csv.*row 4"):
        read_campaign(Folder(tmp_path), "men")


def test_fewer_rows_keep_all_items(dataset: Path) -> None:
    """`rows` takes the first of each log; the actions are those of the whole campaign."""
    log = read_campaign(Folder(dataset), "all", rows=3)
    assert [row.key for row in log.impressions] == [f"{b}-all-{i}" for b in ("random", "bts") for i in range(3)]
    assert log.items == ("0", "1", "2", "3")


def test_split_is_a_property_of_the_row(dataset: Path) -> None:
    """The held-out part has about its share, and a smaller share holds out a subset."""
    rows = read_campaign(Folder(dataset), "all").impressions
    half = {row.key for row in rows if is_held_out(row, 0.5)}
    third = {row.key for row in rows if is_held_out(row, 0.3)}
    assert third < half
    assert len(half) == pytest.approx(0.5 * len(rows), abs=4 * (0.25 * len(rows)) ** 0.5)


@pytest.mark.parametrize("days", [0.0, 0.5, 6.9, 7.0, 2550.3])
def test_shift_leads_to_the_last_week(days: float) -> None:
    """After the shift the log's end lies within the seven days before now."""
    end = 1_575_158_387.0
    now = end + days * 86_400
    assert 0 <= now - (end + weeks_to_last_week(end, now) * WEEK_S) < WEEK_S


def test_repeat_uses_the_remembered_shift(tmp_path: Path) -> None:
    """The same server gets the same shift later on, unless it lost the policies or the log grew too old."""
    memory = tmp_path / "deep" / "memory.json"

    def shift(now: float, *, exist: bool, server: str = "here", asked: int | None = None) -> int:
        return choose_shift(asked=asked, log_end=0.0, now=now, server=server, policies_exist=exist, memory=memory).weeks

    assert shift(10.5 * WEEK_S, exist=True) == 10
    remember_shift(Shift(10, ""), "here", memory)
    remember_shift(Shift(4, ""), "there", memory)
    assert shift(13.5 * WEEK_S, exist=True) == 10
    assert shift(13.5 * WEEK_S, exist=False) == 13
    assert shift(13.5 * WEEK_S, exist=True, asked=2) == 2
    assert shift(13.5 * WEEK_S, exist=True, server="elsewhere") == 13
    assert shift(90.5 * WEEK_S, exist=True) == 90
    memory.write_text("{damaged")
    assert shift(13.5 * WEEK_S, exist=True) == 13
