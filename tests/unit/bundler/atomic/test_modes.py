from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.tree import mode_of
from bundler.atomic import keeps_modes, set_date, set_mode
from bundler.bundle import read_bundle
from bundler.errors import VerificationError
from bundler.targets import TARGETS
from tests.support import smallbundle
from tests.support.modeless import forget_modes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["linux-x64", "linux-arm64", "mac-arm64"])
def test_where_modes_exist_the_source_decides(name: str) -> None:
    target = TARGETS[name]
    assert mode_of("bin/tool", 0o711, target) == 0o755
    assert mode_of("bin/tool", 0o100777, target) == 0o755
    assert mode_of("a.exe", 0o664, target) == 0o644


def test_for_windows_the_name_decides() -> None:
    target = TARGETS["win-x64"]
    for path in ("python.exe", "DLLs/_ssl.pyd", "torch/lib/C10.DLL"):
        assert mode_of(path, 0o644, target) == 0o755
    for path in ("google/protobuf/any.py", "dist-info/METADATA", "exe", "a.dll.txt"):
        assert mode_of(path, 0o777, target) == 0o644


def test_the_manifest_lists_the_mode_of_every_file(tmp_path: Path) -> None:
    root = smallbundle.make(tmp_path, "linux-x64")
    (root / "NOTICES.txt").chmod(0o777)
    modes = {path: entry.mode for path, entry in read_bundle(root).everything.items()}
    assert set(modes) == {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert {path for path, mode in modes.items() if mode == 0o755} == {"python/bin/python3.11"}
    assert set(modes.values()) == {0o644, 0o755}


def test_a_folder_without_a_manifest_lists_nothing(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="is not a bundle"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_that_takes_no_modes_and_dates_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    set_mode(tmp_path, 0o755)
    set_date(tmp_path, 0)
    assert keeps_modes(tmp_path) is False


def test_any_other_failure_is_raised(tmp_path: Path) -> None:
    for change in (set_mode, set_date):
        with pytest.raises(FileNotFoundError):
            change(tmp_path / "gone", 0o644)


@pytest.mark.parametrize("bits", [0o644, 0o755, 0o777, 0o600])
def test_a_disk_that_shows_one_mode_on_every_file_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    forget_modes(bits, monkeypatch.setattr)
    assert keeps_modes(tmp_path) is False


def test_whether_a_disk_keeps_modes_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    assert keeps_modes(tmp_path) is True
    assert list(tmp_path.iterdir()) == []
    assert keeps_modes(tmp_path / "gone") is None
