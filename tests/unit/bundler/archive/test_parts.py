from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.archive import split_file
from bundler.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(range(250)))
    return path


def test_the_parts_are_the_whole(whole: Path) -> None:
    data = whole.read_bytes()
    parts = split_file(whole, 100)
    assert [part.name for part in parts] == ["a.zip.001", "a.zip.002", "a.zip.003"]
    assert [part.stat().st_size for part in parts] == [100, 100, 50]
    assert b"".join(part.read_bytes() for part in parts) == data
    assert not whole.exists()


@pytest.mark.parametrize("size", [250, 1000])
def test_what_is_small_enough_stays_whole(whole: Path, size: int) -> None:
    assert split_file(whole, size) == (whole,)


def test_no_part_is_empty(whole: Path) -> None:
    assert [part.stat().st_size for part in split_file(whole, 125)] == [125, 125]


def test_more_parts_than_there_are_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(1001))
    with pytest.raises(UsageError, match="cut into parts that small"):
        split_file(path, 1)
    assert path.exists()
