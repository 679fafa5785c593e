from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from sidecar.manifest import MANIFEST
from sidecar.process import presence
from sidecar.process.presence import Presence

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    (made / "python").mkdir(parents=True)
    (made / "python/python3.11").write_bytes(b"a program")
    (made / MANIFEST).write_bytes(b'{"plan": "one"}')
    return made


@pytest.fixture
def known(bundle: Path) -> Presence:
    return Presence(bundle, program=str(bundle / "python/python3.11"))


def test_a_bundle_that_nobody_touches_is_present(known: Presence) -> None:
    assert (known.state, known.is_gone) == ("present", False)


def test_outside_of_a_bundle_all_is_present() -> None:
    assert not Presence(None).is_gone


def test_a_bundle_that_is_moved_away_is_gone_until_it_is_back(
    bundle: Path, known: Presence
) -> None:
    away = bundle.rename(bundle.with_name("away"))
    assert known.is_gone
    away.rename(bundle)
    assert not known.is_gone


@pytest.mark.parametrize("name", [MANIFEST, "python/python3.11"])
def test_a_deleted_file_of_the_bundle_makes_it_gone(
    bundle: Path, known: Presence, name: str
) -> None:
    (bundle / name).unlink()
    assert known.is_gone
    assert known.state == "gone"


@pytest.mark.parametrize("is_in_place", [False, True])
def test_another_version_of_the_same_size_and_time_is_noticed(
    bundle: Path, known: Presence, is_in_place: bool
) -> None:
    path = bundle / MANIFEST
    before = path.stat()
    if not is_in_place:
        path.unlink()
    path.write_bytes(b'{"plan": "two"}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.is_gone
    assert known.is_gone


def test_another_file_in_the_programs_place_is_noticed(bundle: Path, known: Presence) -> None:
    path = bundle / "python/python3.11"
    other = bundle / "other"
    other.write_bytes(path.read_bytes())
    other.replace(path)
    assert known.is_gone


def test_a_copy_of_the_same_manifest_is_the_same_bundle(bundle: Path, known: Presence) -> None:
    other = bundle / "other"
    other.write_bytes((bundle / MANIFEST).read_bytes())
    other.replace(bundle / MANIFEST)
    assert not known.is_gone


def test_a_program_outside_of_the_bundle_is_not_looked_at(bundle: Path, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_bytes(b"")
    known = Presence(bundle, program=str(program))
    program.unlink()
    assert not known.is_gone


def test_the_manifest_is_read_again_only_where_its_file_changed(
    bundle: Path, known: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = presence._content

    def count(path: Path) -> bytes | None:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(presence, "_content", count)
    assert [known.is_gone for _ in range(3)] == [False] * 3
    assert reads == []
    (bundle / MANIFEST).write_bytes(b"{}")
    assert [known.is_gone for _ in range(3)] == [True] * 3
    assert len(reads) == 1


def test_want_of_files_says_nothing_of_the_bundle(
    bundle: Path, known: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle / MANIFEST).write_bytes(b"{}")

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert not known.is_gone
    assert known.is_gone


def test_a_bundle_without_a_manifest_is_present_until_one_appears(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    known = Presence(bundle)
    assert not known.is_gone
    (bundle / MANIFEST).write_bytes(b"{}")
    assert known.is_gone
