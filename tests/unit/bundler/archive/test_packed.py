from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from bundler.archive import PackedBundle, pack_verified
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import VerificationError
from bundler.release.contents import check_written
from tests.support.miniature import EPOCH, Miniature
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parcel")
    Miniature.make(root / "project").assemble(root / "bundle")
    return root / "bundle"


def sent(bundle: Path, output: Path | None) -> PackedBundle:
    return pack_verified(bundle, output, epoch=EPOCH, progress=Progress())


def test_a_parcel_is_named_after_product_version_and_target(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "any name")
    parcel = sent(copy, None)
    assert parcel.path == tmp_path / "sidecar-0.0.1-linux-x64.tar.zst"
    assert parcel.digest == Digest.of_file(parcel.path)


def test_what_is_sent_is_received_whole(bundle: Path, tmp_path: Path) -> None:
    parcel = sent(bundle, tmp_path / "made" / "b.tar.zst")
    (report,) = check_written(parcel.path, Progress())
    assert report.manifest == parcel.manifest
    assert [path.name for path in parcel.path.parent.iterdir()] == ["b.tar.zst"]


def test_the_same_bundle_makes_the_same_archive(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in copy.rglob("*"):
        executable = (bundle / path.relative_to(copy)).stat().st_mode & 0o100
        path.chmod(0o700 if executable else 0o600)
    assert sent(copy, tmp_path / "1").digest == sent(bundle, tmp_path / "2").digest


def test_a_damaged_bundle_is_not_sent(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "NOTICES.txt").write_bytes(b"")
    with pytest.raises(VerificationError, match="differs"):
        sent(copy, tmp_path / "b.tar.zst")
    assert not (tmp_path / "b.tar.zst").exists()


def test_an_archive_of_something_that_was_changed_is_not_received(
    bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "NOTICES.txt").write_bytes(b"less")
    files = [path for path in copy.rglob("*") if path.is_file()]
    entries = [
        Entry(
            name=path.relative_to(copy).as_posix(),
            data=path.read_bytes(),
            mode=path.stat().st_mode & 0o777,
        )
        for path in files
    ]
    write_tar(tmp_path / "b.tar.zst", entries)
    with pytest.raises(VerificationError) as caught:
        check_written(tmp_path / "b.tar.zst", Progress())
    assert "changed: NOTICES.txt" in caught.value.why
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.zst", "copy"]


def test_an_archive_with_a_flipped_bit_is_not_received(bundle: Path, tmp_path: Path) -> None:
    parcel = sent(bundle, tmp_path / "b.tar.zst")
    data = bytearray(parcel.path.read_bytes())
    data[len(data) // 2] ^= 4
    parcel.path.write_bytes(data)
    with pytest.raises(VerificationError):
        check_written(parcel.path, Progress())
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.zst"]
