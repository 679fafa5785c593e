from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from bundler.bootstrap.standalone import unpack
from bundler.errors import PolicyError
from bundler.targets import TARGETS
from tests.support.standalone import few_entries
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


def test_a_runtime_is_unpacked_whole_with_its_links(folder: Path, tmp_path: Path) -> None:
    entries = few_entries(TARGETS["linux-x64"])
    unpack(write_tar(tmp_path / "linux.tar.gz", entries), folder)
    program = folder / "bin/python3.11"
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert str((folder / "bin/python3").readlink()) == "python3.11"
    assert (folder / "lib/python3.11/ensurepip/__init__.py").is_file()
    assert stat.S_IMODE((folder / "lib/python3.11/os.py").stat().st_mode) == 0o644
    hard = folder / "share/terminfo/E/Eterm-color"
    assert hard.read_bytes() == (folder / "share/terminfo/E/Eterm").read_bytes()
    assert len(list(folder.rglob("*.py"))) == sum(entry.name.endswith(".py") for entry in entries)


def test_windows_archives_are_unpacked_too(folder: Path, tmp_path: Path) -> None:
    unpack(write_tar(tmp_path / "windows.tar.gz", few_entries(TARGETS["win-x64"])), folder)
    assert (folder / "python.exe").is_file()


def test_name_in_another_case_replaces_on_such_disks(folder: Path, tmp_path: Path) -> None:
    entries = [Entry(name="python/a", data=b"1", mode=0o444), Entry(name="python/a", data=b"2")]
    unpack(write_tar(tmp_path / "twice.tar.gz", entries), folder)
    assert (folder / "a").read_bytes() == b"2"


HOSTILE = [
    Entry(name="python/../../evil", data=b"x"),
    Entry(name="/python/evil", data=b"x"),
    Entry(name="python/c:/evil", data=b"x"),
    Entry(name="python/..\\evil", data=b"x"),
    Entry(name="python/link", type=tarfile.SYMTYPE, link="/etc/passwd"),
    Entry(name="python/lib/link", type=tarfile.SYMTYPE, link="../../evil"),
    Entry(name="python/pipe", type=tarfile.FIFOTYPE),
    Entry(name="python/device", type=tarfile.CHRTYPE),
]


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda entry: entry.name)
def test_what_no_runtime_holds_is_refused(folder: Path, tmp_path: Path, entry: Entry) -> None:
    archive = write_tar(tmp_path / "bad.tar.gz", [entry])
    with pytest.raises(PolicyError, match="the runtime's archive holds"):
        unpack(archive, folder)
    assert [path for path in tmp_path.rglob("*") if path.name == "evil"] == []


def test_nothing_is_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    entries = [
        Entry(name="python/lib/deep/x", data=b"x"),
        Entry(name="python/way", type=tarfile.SYMTYPE, link="lib/deep"),
        Entry(name="python/way/evil", data=b"x"),
    ]
    with pytest.raises(PolicyError):
        unpack(write_tar(tmp_path / "bad.tar.gz", entries), folder)
