from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bundler import atomic
from bundler.atomic import ABANDONED_AFTER_S, Partial, abandoned, disk_error, free_bytes
from bundler.errors import DiskError


def test_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    file = Partial(tmp_path, "new")
    file.write(b"abc")
    file.write(b"def")
    assert (file.sha256, file.offset) == (hashlib.sha256(b"abcdef").hexdigest(), 6)
    file.restart()
    file.write(b"xyz")
    file.publish(tmp_path / "in" / "there" / "final")
    assert (tmp_path / "in" / "there" / "final").read_bytes() == b"xyz"


@pytest.mark.parametrize("is_windows", [False, True])
def test_publishing_replaces_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_windows: bool
) -> None:
    monkeypatch.setattr(atomic, "IS_WINDOWS", is_windows)
    final = tmp_path / "final"
    final.write_bytes(b"damaged")
    final.chmod(0o444)
    file = Partial(tmp_path / "partial", "new")
    file.write(b"right")
    file.publish(final)
    assert final.read_bytes() == b"right"
    assert stat.S_IMODE(final.stat().st_mode) == 0o444
    assert list((tmp_path / "partial").iterdir()) == []


def test_nothing_is_published_before_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "folder" / "final"
    order: list[str] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        order.append(f"{'folder' if is_folder else 'file'} {final.exists()}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    file = Partial(tmp_path / "partial", "new")
    file.write(b"data")
    file.publish(final)
    assert order == ["file False", "folder True", "folder True"]


def test_bytes_survive_a_sweeper_that_took_their_name(tmp_path: Path) -> None:
    file = Partial(tmp_path / "partial", "new")
    file.write(b"data")
    file.path.unlink()
    file.publish(tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"data"
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_folder_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    file = Partial(tmp_path / "partial", "new")
    file.write(b"data")
    file.path.unlink()
    file.path.parent.rmdir()
    file.publish(tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"data"


def test_a_leftover_is_copied_so_that_its_writer_cannot_reach_the_copy(tmp_path: Path) -> None:
    leftover = tmp_path / "old"
    leftover.write_bytes(b"begin")
    file = Partial(tmp_path, "new")
    with leftover.open("r+b", buffering=0) as alive:
        file.adopt(leftover)
        alive.write(b"SPOIL")
    file.write(b"+end")
    file.publish(tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"begin+end"


def test_a_leftover_there_is_no_room_to_copy_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_bytes(b"begin")
    monkeypatch.setattr(atomic, "free_bytes", lambda _: 3)
    file = Partial(tmp_path, "new")
    file.adopt(tmp_path / "old")
    assert file.offset == 0
    file.close(keep=False)


def test_a_leftover_that_vanishes_is_no_loss(tmp_path: Path) -> None:
    file = Partial(tmp_path, "new")
    file.adopt(tmp_path / "gone")
    assert file.offset == 0
    file.close(keep=False)


def test_a_drive_that_is_not_there_is_a_disk_error() -> None:
    class Unplugged(type(Path())):  # type: ignore[misc]
        def exists(self) -> bool:
            return False

    with pytest.raises(DiskError, match="cannot be written") as caught:
        free_bytes(Unplugged("/store/below"))
    assert "No such file or directory" in caught.value.why


def test_a_living_writer_has_not_abandoned_its_file(tmp_path: Path) -> None:
    file = Partial(tmp_path, "new")
    assert list(abandoned(tmp_path)) == []
    file.close(keep=True)
    assert list(abandoned(tmp_path)) == [file.path]


def test_without_working_locks_only_age_makes_a_file_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for name, age_s in (("young", 60), ("old", ABANDONED_AFTER_S + 60)):
        path = tmp_path / name
        path.write_bytes(b"x")
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
    assert [path.name for path in abandoned(tmp_path)] == ["old"]


def test_what_is_abandoned_is_not_held_open_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)
    (tmp_path / "old").write_bytes(b"x")
    os.utime(tmp_path / "old", (0, 0))
    streams = []
    open_file = type(tmp_path).open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        streams.append(open_file(path, *arguments, **options))
        return streams[-1]

    monkeypatch.setattr(type(tmp_path), "open", opened)
    for path in abandoned(tmp_path):
        assert [stream.closed for stream in streams] == [True]
        path.unlink()
    assert list(tmp_path.iterdir()) == []
    file = Partial(tmp_path / "partial", "new")
    file.write(b"data")
    file.publish(tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"data"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_bytes_needed_and_free(tmp_path: Path, code: int) -> None:
    error = disk_error(OSError(code, "full"), tmp_path, purpose="torch.whl", needed=42)
    assert "torch.whl" in error.what
    assert "42 bytes are needed" in error.why
    assert "bytes are free" in error.why


def test_a_place_without_rights_is_told_apart_from_a_full_one(tmp_path: Path) -> None:
    error = disk_error(PermissionError(errno.EACCES, "Permission denied"), tmp_path, purpose="x")
    assert "cannot be written" in error.what
    assert "Permission denied" in error.why
