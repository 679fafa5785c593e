from __future__ import annotations

import os
import stat
import zipfile
from typing import TYPE_CHECKING

import pytest

from bundler import archive
from bundler.bundle import read_bundle
from bundler.errors import DiskError, VerificationError
from tests.support import smallbundle
from tests.support.miniature import EPOCH

if TYPE_CHECKING:
    from pathlib import Path


PROGRAM = "python/bin/python3.11"
FILES = {PROGRAM: b"#!/bin/sh\n" * 300, "models/été.txt": b"summer", "models/empty": b""}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return smallbundle.make(tmp_path / "tree", "linux-x64", FILES)


def packed(tree: Path, output: Path, epoch: int = EPOCH) -> Path:
    archive.write_zip(tree, output, epoch=epoch)
    return output


def test_what_comes_out_is_what_went_in(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tree, tmp_path / "a.zip")) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(read_bundle(tree).everything)
        assert archive.read(PROGRAM) == b"#!/bin/sh\n" * 300
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}


def test_modes_and_times_are_the_same_whoever_packs(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tree, tmp_path / "a.zip")) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
        times = {info.date_time for info in archive.infolist()}
    listed = read_bundle(tree).everything
    assert modes == {path: stat.S_IFREG | entry.mode for path, entry in listed.items()}
    assert modes[PROGRAM] == 0o100755
    assert modes["models/empty"] == 0o100644
    assert times == {(2023, 11, 14, 22, 13, 20)}


def test_equal_trees_make_equal_zips(tree: Path, tmp_path: Path) -> None:
    first = packed(tree, tmp_path / "1.zip").read_bytes()
    (tree / PROGRAM).chmod(0o600)
    (tree / "models/empty").chmod(0o777)
    os.utime(tree / "models/empty", (1, 1))
    assert packed(tree, tmp_path / "2.zip").read_bytes() == first


def test_a_date_before_zips_is_the_first_they_know(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tree, tmp_path / "a.zip", epoch=0)) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_a_large_file_is_announced_as_zip64(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    path = packed(tree, tmp_path / "a.zip")
    assert b"\x01\x00\x10\x00" in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to("manifest.json")
    with pytest.raises(VerificationError, match="link cannot be packed"):
        packed(tree, tmp_path / "a.zip")


def test_a_place_that_cannot_be_written_is_a_disk_error(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        packed(tree, tmp_path / "missing" / "a.zip")
