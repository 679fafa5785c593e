"""The archive's bytes come from the tree and from nothing else."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from bundler import archive
from bundler.assembly.safe_extract import extract
from bundler.bundle import read_bundle
from bundler.errors import DiskError, VerificationError
from tests.support import smallbundle

EPOCH = 1_700_000_000
LONG = "python/" + "deep/" * 50 + "file"
FILES = {
    "python/bin/python3.11": b"ELF" * 9000,
    LONG: b"x",
    "models/é.txt": b"words",
    "python/empty.py": b"",
}


def make(root: Path, **more: bytes) -> Path:
    """Make a small bundle below `root`; `more` are files of its models."""
    files = {f"models/{name}": data for name, data in more.items()}
    return smallbundle.make(root, "linux-x64", {**FILES, **files})


def members(archive: Path) -> list[tarfile.TarInfo]:
    """Return the headers in a packed archive."""
    data = zstandard.ZstdDecompressor().stream_reader(archive.read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


def test_what_is_packed_unpacks_to_the_same_tree(tmp_path: Path) -> None:
    root = make(tmp_path / "b")
    archive.write_tar_zst(root, tmp_path / "b.tar.zst", epoch=EPOCH)
    modes = extract(tmp_path / "b.tar.zst", tmp_path / "c", strip=0)
    assert modes == {path: entry.mode for path, entry in read_bundle(root).everything.items()}
    assert {path: (tmp_path / "c" / path).read_bytes() for path in modes} == {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    assert stat.S_IMODE((tmp_path / "c/python/bin/python3.11").stat().st_mode) == 0o755


def test_headers_say_nothing_of_this_machine(tmp_path: Path) -> None:
    archive.write_tar_zst(make(tmp_path / "b"), tmp_path / "b.tar.zst", epoch=EPOCH)
    found = members(tmp_path / "b.tar.zst")
    assert [info.name for info in found] == sorted(info.name for info in found)
    assert {(i.uid, i.gid, i.uname, i.gname, i.mtime) for i in found} == {(0, 0, "", "", EPOCH)}
    assert {info.mode for info in found} == {0o644, 0o755}
    data = zstandard.ZstdDecompressor().stream_reader((tmp_path / "b.tar.zst").read_bytes()).read()
    assert str(os.getpid()).encode() + b"/" not in data
    assert str(tmp_path).encode() not in data


def test_place_times_umask_zone_locale_and_folder_order_change_no_byte(tmp_path: Path) -> None:
    archive.write_tar_zst(make(tmp_path / "one"), tmp_path / "one.tar.zst", epoch=EPOCH)
    script = (
        "import os, sys; os.umask(0o077); from pathlib import Path\n"
        "scandir = os.scandir\n"
        "class Reversed(list):\n"
        "    __enter__ = lambda self: self\n"
        "    __exit__ = lambda *_: None\n"
        "os.scandir = lambda *a: Reversed(sorted(scandir(*a), key=lambda e: e.name)[::-1])\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from tests.unit.bundler.archive.test_tar_zst import make\n"
        "from bundler.archive import write_tar_zst\n"
        f"write_tar_zst(make(Path(sys.argv[1])), Path(sys.argv[2]), epoch={EPOCH})\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TZ": "Asia/Kathmandu"}
    environment |= {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    root = str(Path(__file__).parents[4])
    two, out = tmp_path / "élan vital" / "two", tmp_path / "two.tar.zst"
    subprocess.run([sys.executable, "-c", script, two, out, root], check=True, env=environment)
    assert out.read_bytes() == (tmp_path / "one.tar.zst").read_bytes()


def test_the_count_of_threads_never_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "JOB_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "WINDOW_LOG", 18)
    big = b"".join(b"%d\n" % (n * 7919 % 99_991) for n in range(900_000))
    root = make(tmp_path / "b", big=big)
    archives = []
    monkeypatch.setattr(archive, "ZSTD_LEVEL", 3)
    for threads in (1, 2, 3):
        monkeypatch.setattr(archive, "THREADS", threads)
        archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH)
        archives.append((tmp_path / "a").read_bytes())
    assert len(set(archives)) == 1


def test_another_epoch_is_another_archive(tmp_path: Path) -> None:
    root = make(tmp_path / "b")
    archive.write_tar_zst(root, tmp_path / "1", epoch=EPOCH)
    archive.write_tar_zst(root, tmp_path / "2", epoch=EPOCH + 1)
    assert (tmp_path / "1").read_bytes() != (tmp_path / "2").read_bytes()


def test_progress_adds_up_to_the_trees_bytes(tmp_path: Path) -> None:
    heard: list[int] = []
    root = make(tmp_path / "b")
    archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH, on_bytes=heard.append)
    assert sum(heard) == sum(p.stat().st_size for p in root.rglob("*") if p.is_file())


def test_a_link_is_refused_and_the_old_archive_stays(tmp_path: Path) -> None:
    root = make(tmp_path / "b")
    (tmp_path / "a").write_bytes(b"old")
    (root / "link").symlink_to("manifest.json")
    with pytest.raises(VerificationError, match="link cannot be packed"):
        archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_modes_are_the_manifests_whatever_the_disk_shows(tmp_path: Path) -> None:
    root = make(tmp_path / "b")
    archive.write_tar_zst(root, tmp_path / "1", epoch=EPOCH)
    for mode in (0o600, 0o777):
        for path in root.rglob("*"):
            path.chmod(0o700 if path.is_dir() else mode)
        archive.write_tar_zst(root, tmp_path / "2", epoch=EPOCH)
        assert (tmp_path / "2").read_bytes() == (tmp_path / "1").read_bytes()


def test_a_file_that_is_in_no_list_and_a_folder_without_a_manifest_exit_8(tmp_path: Path) -> None:
    root = make(tmp_path / "b")
    (root / ".DS_Store").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"\.DS_Store cannot be packed"):
        archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH)
    with pytest.raises(VerificationError, match="is not a bundle"):
        archive.write_tar_zst(tmp_path, tmp_path / "a", epoch=EPOCH)


@pytest.mark.parametrize("data", [b"WORDS", b"wor", b"words and more", None])
def test_a_file_that_is_not_the_listed_one_exits_8(tmp_path: Path, data: bytes | None) -> None:
    root = make(tmp_path / "b")
    (root / "models/é.txt").unlink()
    if data is not None:
        (root / "models/é.txt").write_bytes(data)
    with pytest.raises(VerificationError, match=r"^models"):
        archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_exits_6_and_leaves_the_old_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    root = make(tmp_path / "b")
    monkeypatch.setattr("bundler.atomic.os.fsync", full)
    with pytest.raises(DiskError, match="disk is full"):
        archive.write_tar_zst(root, tmp_path / "a", epoch=EPOCH)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
