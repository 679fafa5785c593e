from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bundler.bundle import read_bundle
from bundler.console import Progress
from bundler.errors import VerificationError
from bundler.release.contents import check_written, checksums, compressor_versions, read_checkout
from tests.support.released import COMMIT, STEM, Released
from tests.support.tinybase import tiny_base

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return Released.make(tmp_path_factory.mktemp("edition"))


def statement(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (folder / "sidecar-0.0.1.provenance.json").read_text(encoding="utf-8")
    )
    return document


def test_a_release_has_archives_evidence_checksums_and_the_verifier(released: Released) -> None:
    assert sorted(path.name for path in released.folder.iterdir()) == [
        "SHA256SUMS",
        f"{STEM}.NOTICES.txt",
        f"{STEM}.manifest.json",
        f"{STEM}.oci.tar",
        f"{STEM}.sbom.cdx.json",
        f"{STEM}.tar.zst",
        f"{STEM}.zip",
        "sidecar-0.0.1.provenance.json",
        "verify_sidecar.py",
    ]


def test_the_same_edition_gives_the_same_bytes(released: Released, tmp_path: Path) -> None:
    released.write(tmp_path / "again")
    for path in released.folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_usual_program_reads_the_checksums(released: Released) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(
        [program, "--check", "--strict", "SHA256SUMS"],
        cwd=released.folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count(": OK\n") == 8


def test_the_checksums_are_sorted_by_name() -> None:
    assert checksums({"b": "2" * 64, "a": "1" * 64}) == f"{'1' * 64}  a\n{'2' * 64}  b\n".encode()


def test_the_statement_names_every_artifact(released: Released) -> None:
    subjects = {
        one["name"]: one["digest"]["sha256"] for one in statement(released.folder)["subject"]
    }
    others = {"SHA256SUMS", "sidecar-0.0.1.provenance.json"}
    assert subjects == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in released.folder.iterdir()
        if path.name not in others
    }


def test_the_image_names_the_commit(released: Released) -> None:
    assert COMMIT.encode() in released.path(".oci.tar").read_bytes()


def test_a_bundle_without_a_base_gets_no_image(released: Released, tmp_path: Path) -> None:
    edition = replace(released.edition, bases={})
    replace(released, edition=edition).write(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.oci.tar"))


def test_linux_bundles_share_one_image(released: Released, tmp_path: Path) -> None:
    arm = shutil.copytree(released.bundle, tmp_path / "arm")
    text = (arm / "manifest.json").read_bytes().replace(b"linux-x64", b"linux-arm64")
    (arm / "manifest.json").write_bytes(text)
    base = tiny_base(
        tmp_path / "base.tar", machine="arm64", more=("libstdc++.so.6", "libgcc_s.so.1")
    )
    edition = replace(
        released.edition,
        bundles=(*released.edition.bundles, read_bundle(arm)),
        bases={**released.edition.bases, "linux-arm64": base},
    )
    replace(released, edition=edition).write(tmp_path / "out")
    (image,) = (tmp_path / "out").glob("*.oci.tar")
    assert image.name == "sidecar-0.0.1-linux-x64-linux-arm64.oci.tar"
    (report,) = check_written(image, Progress())
    (plain,) = check_written(released.path(".oci.tar"), Progress())
    assert report.files == 2 * plain.files


def test_large_archives_are_cut_and_give_the_whole_again(
    released: Released, tmp_path: Path
) -> None:
    replace(released, edition=replace(released.edition, part_bytes=5000)).write(tmp_path / "out")
    for suffix in (".zip", ".tar.zst", ".oci.tar"):
        parts = sorted((tmp_path / "out").glob(f"{STEM}{suffix}.*"))
        assert len(parts) > 1
        joined = b"".join(part.read_bytes() for part in parts)
        assert joined == released.path(suffix).read_bytes()
        assert not (tmp_path / "out" / f"{STEM}{suffix}").exists()


def test_a_release_that_was_damaged_does_not_pass(released: Released, tmp_path: Path) -> None:
    copy = shutil.copytree(released.folder, tmp_path / "copy")
    (copy / f"{STEM}.NOTICES.txt").write_bytes(b"none")
    with pytest.raises(VerificationError) as caught:
        check_written(copy, Progress())
    assert f"changed: {STEM}.NOTICES.txt" in caught.value.why


def test_a_bundle_that_is_damaged_is_not_released(released: Released, tmp_path: Path) -> None:
    bundle = shutil.copytree(released.bundle, tmp_path / "bundle")
    (bundle / "NOTICES.txt").write_bytes(b"none")
    (one,) = released.edition.bundles
    edition = replace(released.edition, bundles=(replace(one, root=bundle),), bases={})
    with pytest.raises(VerificationError, match=r"NOTICES\.txt is not what the manifest says"):
        replace(released, edition=edition).write(tmp_path / "out")


def test_what_decides_compressed_bytes_is_named() -> None:
    assert set(compressor_versions()) == {"deflate", "python", "zlib", "zstandard"}
    assert compressor_versions()["zlib"] == zlib.ZLIB_RUNTIME_VERSION


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "inner").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"a")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--no-verify", "--message", "First")
    return root


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert read_checkout(checkout) == (git(checkout, "rev-parse", "HEAD"), [])


@pytest.mark.parametrize("name", ["a.txt", "new.txt"])
def test_changes_are_found(checkout: Path, name: str) -> None:
    (checkout / name).write_bytes(b"b")
    commit, findings = read_checkout(checkout)
    assert commit is not None
    assert findings == ["the checkout has uncommitted changes"]


def test_a_new_file_is_found_whatever_git_is_configured_to_show(checkout: Path) -> None:
    git(checkout, "config", "status.showUntrackedFiles", "no")
    (checkout / "new.txt").write_bytes(b"b")
    assert read_checkout(checkout)[1] == ["the checkout has uncommitted changes"]


def test_a_checkout_whose_state_git_cannot_tell_is_not_clean(checkout: Path) -> None:
    (checkout / ".git" / "index").write_bytes(b"damaged")
    commit, findings = read_checkout(checkout)
    assert commit is not None
    assert findings == ["git does not say whether the checkout has uncommitted changes"]


def test_a_folder_inside_another_checkout_has_no_commit(checkout: Path) -> None:
    assert read_checkout(checkout / "inner")[0] is None


def test_without_git_there_is_no_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_checkout(tmp_path)[1] == ["the sources are not a git checkout"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_checkout(checkout)[0] is None


def test_variables_of_another_repository_change_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert read_checkout(checkout)[1] == []
