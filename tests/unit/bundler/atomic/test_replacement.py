from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from bundler.atomic import replace_files
from bundler.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_every_file_holds_its_text_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("old")
    replace_files({tmp_path / "a.toml": "ä\n", tmp_path / "deep" / "b.json": "two\n"})
    assert (tmp_path / "a.toml").read_bytes() == "ä\n".encode()
    assert names(tmp_path) == ["a.toml", "deep", "deep/b.json"]


def test_a_disk_that_fills_while_writing_changes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old a")
    second.write_text("old b")
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bundler.atomic.os.fsync", full)
    with pytest.raises(DiskError, match="the disk is full: no room for b"):
        replace_files({first: "new a", second: "new b"})
    assert (first.read_text(), second.read_text()) == ("old a", "old b")
    assert names(tmp_path) == ["a", "b"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DiskError, match=r"x\.toml cannot be written"):
        replace_files({tmp_path / "file" / "x.toml": "text"})


def test_a_crash_between_two_renames_leaves_whole_files_in_the_order_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, lock = tmp_path / "golden.json", tmp_path / "lock.toml"
    golden.write_text("old golden")
    lock.write_text("old lock")
    monkeypatch.setattr("bundler.atomic.sync_folder", _killed)
    with pytest.raises(KeyboardInterrupt):
        replace_files({golden: "new golden", lock: "new lock"})
    assert (golden.read_text(), lock.read_text()) == ("new golden", "old lock")


def _killed(_: Path) -> None:
    raise KeyboardInterrupt
