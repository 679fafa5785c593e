"""Archives become plain trees: no links, no owners, two modes, nothing half done."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from bundler.assembly.path_rules import ArchiveLimits
from bundler.assembly.safe_extract import extract
from bundler.errors import DiskError, IntegrityError, PolicyError
from tests.support.tinytar import Entry, tar_bytes, write_tar

if TYPE_CHECKING:
    from pathlib import Path

FILES = [
    Entry(name="top", type=tarfile.DIRTYPE, mode=0o700),
    Entry(name="top/empty", type=tarfile.DIRTYPE, mode=0o755),
    Entry(name="top/bin/tool", data=b"#!", mode=0o700),
    Entry(name="top/notes.txt", data=b"notes", mode=0o666),
    Entry(name="top/\u00e9t\u00e9/" + "deep/" * 40 + "file", data=b"long"),
]


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of every file below `root`."""
    return {
        path.relative_to(root).as_posix(): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.zst"])
def test_every_compression_gives_the_same_tree(tmp_path: Path, suffix: str) -> None:
    modes = extract(write_tar(tmp_path / f"a.{suffix}", FILES), tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "bin/tool": (0o755, b"#!"),
        "notes.txt": (0o644, b"notes"),
        "\u00e9t\u00e9/" + "deep/" * 40 + "file": (0o644, b"long"),
    }
    assert list(modes) == sorted(tree(tmp_path / "out"))
    assert modes == {path: mode for path, (mode, _) in tree(tmp_path / "out").items()}


def test_the_format_is_told_by_content_since_stored_files_have_no_suffix(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar.zst", FILES).rename(tmp_path / "4f5e")
    assert "notes.txt" in extract(packed, tmp_path / "out")


def test_empty_folders_are_not_made(tmp_path: Path) -> None:
    extract(write_tar(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert not (tmp_path / "out/empty").exists()


def test_a_closed_umask_changes_no_mode(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar", FILES)
    old = os.umask(0o077)
    try:
        extract(packed, tmp_path / "out")
    finally:
        os.umask(old)
    folders = [tmp_path / "out", *(p for p in (tmp_path / "out").rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o755}
    assert {mode for mode, _ in tree(tmp_path / "out").values()} == {0o755, 0o644}


def test_links_become_copies_of_the_file_they_reach(tmp_path: Path) -> None:
    entries = [
        Entry(name="top/bin/python", type=tarfile.SYMTYPE, link="python3"),
        Entry(name="top/bin/python3", type=tarfile.SYMTYPE, link="../lib/./program"),
        Entry(name="top/lib/program", data=b"program", mode=0o755),
        Entry(name="top/lib/second", type=tarfile.LNKTYPE, link="top/lib/program"),
    ]
    extract(write_tar(tmp_path / "a.tar.gz", entries), tmp_path / "out")
    assert tree(tmp_path / "out") == dict.fromkeys(
        ("bin/python", "bin/python3", "lib/program", "lib/second"), (0o755, b"program")
    )
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert all(p.stat().st_nlink == 1 for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_a_kept_link_to_a_file_that_is_not_kept_still_has_its_bytes(tmp_path: Path) -> None:
    entries = [
        Entry(name="top/a", data=b"bytes"),
        Entry(name="top/b", type=tarfile.SYMTYPE, link="a"),
    ]
    packed = write_tar(tmp_path / "a.tar", entries)
    assert list(extract(packed, tmp_path / "out", keep=lambda path: path != "a")) == ["b"]
    assert tree(tmp_path / "out") == {"b": (0o644, b"bytes")}


def test_what_is_not_kept_is_never_written_and_may_differ_in_case(tmp_path: Path) -> None:
    entries = [
        Entry(name="top/share/E/Eterm", data=b"1"),
        Entry(name="top/share/e/eterm", data=b"2"),
        Entry(name="top/share/loop", type=tarfile.SYMTYPE, link="loop"),
        Entry(name="top/keep", data=b"3"),
    ]
    packed = write_tar(tmp_path / "a.tar", entries)
    paths = extract(packed, tmp_path / "out", keep=lambda path: not path.startswith("share/"))
    assert list(paths) == ["keep"]
    with pytest.raises(PolicyError, match=r"share/loop|share/e/eterm"):
        extract(packed, tmp_path / "other")


def test_a_leading_dot_is_no_folder(tmp_path: Path) -> None:
    entries = [
        Entry(name="./", type=tarfile.DIRTYPE, mode=0o755),
        Entry(name="./top/file", data=b"1"),
    ]
    assert list(extract(write_tar(tmp_path / "a.tar", entries), tmp_path / "out")) == ["file"]


def test_without_strip_the_paths_stay_whole(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar", [Entry(name="one"), Entry(name="two/three")])
    assert list(extract(packed, tmp_path / "out", strip=0)) == ["one", "two/three"]


def test_an_empty_folder_may_stand_but_nothing_is_written_over(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar", FILES)
    (tmp_path / "out").mkdir()
    extract(packed, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(DiskError, match="out cannot be unpacked into"):
        extract(packed, tmp_path / "out")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive at all" * 100,
        tar_bytes(FILES)[:-9728],
        gzip.compress(tar_bytes(FILES))[:-20],
        zstandard.compress(tar_bytes(FILES))[:-20],
        gzip.compress(tar_bytes(FILES))[:-8] + bytes(8),
        b"\x28\xb5\x2f\xfd" + bytes(100),
    ],
    ids=["empty", "text", "tar-cut", "gzip-cut", "zstd-cut", "gzip-crc", "zstd-rubbish"],
)
def test_a_damaged_archive_exits_4_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    packed = tmp_path / "a.tar"
    packed.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        extract(packed, tmp_path / "out")
    assert caught.value.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_full_disk_exits_6_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = write_tar(tmp_path / "a.tar", FILES)
    monkeypatch.setattr("bundler.atomic.free_bytes", lambda _: 3)
    with pytest.raises(DiskError, match=r"the disk is full: no room for a\.tar") as caught:
        extract(packed, tmp_path / "out")
    assert "bytes are needed, 3 bytes are free" in caught.value.why
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_disk_that_fills_meanwhile_exits_6_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    packed = write_tar(tmp_path / "a.tar", FILES)
    monkeypatch.setattr("bundler.assembly.safe_extract.shutil.copyfileobj", full)
    with pytest.raises(DiskError, match=r"a\.tar") as caught:
        extract(packed, tmp_path / "out")
    assert "bytes are needed" in caught.value.why
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ArchiveLimits(members=3), "3 members"),
        (ArchiveLimits(names=20), "over 20 files and folders"),
        (ArchiveLimits(member_bytes=4), "at most 4"),
        (ArchiveLimits(total_bytes=9), "over 9 bytes"),
    ],
)
def test_each_limit_is_named_when_it_is_passed(
    tmp_path: Path, limits: ArchiveLimits, why: str
) -> None:
    packed = write_tar(tmp_path / "a.tar", FILES)
    with pytest.raises(PolicyError) as caught:
        extract(packed, tmp_path / "out", limits=limits)
    assert why in caught.value.why
    assert not (tmp_path / "out").exists()


def test_copies_of_links_count_against_the_limit(tmp_path: Path) -> None:
    entries = [
        Entry(name="top/a", data=bytes(1000)),
        *(Entry(name=f"top/l{n}", type=tarfile.SYMTYPE, link="a") for n in range(9)),
    ]
    packed = write_tar(tmp_path / "a.tar", entries)
    with pytest.raises(PolicyError, match="l8"):
        extract(packed, tmp_path / "out", limits=ArchiveLimits(total_bytes=9_999))
    assert len(extract(packed, tmp_path / "out", limits=ArchiveLimits(total_bytes=10_000))) == 10
