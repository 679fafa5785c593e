"""The commands `release`, `update-size`, `scan`, and `verify` of what a release holds."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bundler import environment
from bundler.cli import main
from bundler.project import Project
from bundler.release import vulnerabilities
from bundler.release.verify_sidecar import SUMS
from tests.support.commandline import Run, running
from tests.support.stocked import Stocked
from tests.support.tinybase import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

STEM = "sidecar-0.0.1-linux-x64"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    """Return a checkout that git knows, with everything that a release needs."""
    made = Stocked.make(tmp_path_factory.mktemp("release"))
    root = made.miniature.root
    tiny_base(
        made.miniature.project.out / "base-amd64.tar", more=("libstdc++.so.6", "libgcc_s.so.1")
    )
    (root / ".gitignore").write_text("/bundle/out/\n", encoding="utf-8")
    for arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qnm", "First"],
    ):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return made


@pytest.fixture
def run(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return running(stocked.miniature.project, monkeypatch, capsys)


@pytest.fixture(scope="module")
def folder(stocked: Stocked) -> Path:
    """Return a release that was made by the command, for those that look into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Project, "here", lambda: stocked.miniature.project)
        patch.setattr(environment, "is_inside", lambda _: True)
        assert main(["release", "--dry-run", "--offline"]) == 0
    return stocked.miniature.project.out / "release"


def test_two_dry_runs_give_the_same_checksums(run: Run, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = run("release", "--dry-run", "--offline", "--output", again)
    assert (done.code, done.output) == (0, f"{again}\n")
    assert (again / SUMS).read_bytes() == (folder / SUMS).read_bytes()


def test_a_dry_run_says_what_it_lacks_and_goes_on(run: Run, tmp_path: Path) -> None:
    done = run("release", "--dry-run", "--offline", "--output", tmp_path / "out")
    for target in ("linux-arm64", "mac-arm64", "win-x64"):
        assert f"missing: {target}: not locked for {target}: heavy-weight" in done.talk
    assert f"{STEM}.tar.zst\n" in done.talk


def test_the_statement_says_what_was_asked_for_and_what_is_missing(folder: Path) -> None:
    text = (folder / "sidecar-0.0.1.provenance.json").read_text(encoding="utf-8")
    definition: dict[str, Any] = json.loads(text)["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["isDryRun"] is True
    assert definition["internalParameters"]["missing"] == ["linux-arm64", "mac-arm64", "win-x64"]
    assert [one["name"] for one in definition["resolvedDependencies"]] == [
        "source",
        "base-amd64.tar",
        "bundle/models.lock.toml",
        "bundle/recipe.toml",
        "bundle/runtime.lock.toml",
        "pdm.lock",
    ]


def test_a_real_release_takes_everything_or_nothing(run: Run, tmp_path: Path) -> None:
    done = run("release", "--offline", "--output", tmp_path / "out")
    assert done.code == 10
    assert "not locked for linux-arm64" in done.talk
    assert not (tmp_path / "out").exists()


def test_a_real_release_of_what_can_be_had(run: Run, tmp_path: Path) -> None:
    options = ["--target", "linux-x64", "--version-tag", "v0.0.1", "--builder", "urn:b"]
    done = run("release", "--offline", *options, "--output", tmp_path / "out")
    assert done.code == 0
    statement = (tmp_path / "out" / "sidecar-0.0.1.provenance.json").read_text(encoding="utf-8")
    assert '"isDryRun":false' in statement
    assert '"notForRelease":[]' in statement
    assert '"builder":{"id":"urn:b"' in statement


def test_a_real_release_of_changed_sources_exits_7(
    run: Run, stocked: Stocked, tmp_path: Path
) -> None:
    change = stocked.miniature.root / "change.txt"
    change.write_bytes(b"")
    try:
        done = run("release", "--offline", "--target", "linux-x64", "--output", tmp_path / "out")
        assert done.code == 7
        assert "why: the checkout has uncommitted changes" in done.talk
        done = run("release", "--offline", "--dry-run", "--output", tmp_path / "out")
        assert done.code == 0
        assert "not for release: the checkout has uncommitted changes" in done.talk
    finally:
        change.unlink()


def test_a_model_that_is_not_locked_has_a_stand_in_in_a_dry_run_alone(
    run: Run, stocked: Stocked, tmp_path: Path
) -> None:
    recipe = stocked.miniature.project.recipe
    text = recipe.read_text(encoding="utf-8")
    model = '\n[models.catalogue.large]\nrepository = "a/large"\nlicense = "MIT"\n'
    try:
        changed = text.replace('release_model = "tiny"', 'release_model = "large"')
        recipe.write_text(changed + model, encoding="utf-8")
        done = run("release", "--offline", "--dry-run", "--output", tmp_path / "out")
        assert done.code == 0
        assert "the model large, which a release carries, is not locked; tiny stands" in done.talk
        done = run("release", "--offline", "--model", "tiny", "--target", "linux-x64")
        assert "the checkout has uncommitted changes" in done.talk
    finally:
        recipe.write_text(text, encoding="utf-8")


def test_image_without_a_base_ends_a_real_run(run: Run, stocked: Stocked, tmp_path: Path) -> None:
    base = stocked.miniature.project.out / "base-amd64.tar"
    aside = base.rename(tmp_path / "aside")
    try:
        options = ["--offline", "--target", "linux-x64", "--output", tmp_path / "out"]
        assert run("release", *options).code == 5
        assert run("release", "--dry-run", *options).code == 0
        assert not list((tmp_path / "out").glob("*.oci.tar"))
    finally:
        aside.rename(base)


def test_nothing_at_all_ends_even_a_dry_run(run: Run, tmp_path: Path) -> None:
    done = run(
        *("release", "--dry-run", "--offline", "--target", "win-x64"),
        *("--output", tmp_path / "out"),
    )
    assert done.code == 10


@pytest.mark.parametrize(
    "arguments", [["--version-tag", "v9"], ["--split-mb", "0"], ["--target", "amiga"]]
)
def test_what_makes_no_sense_exits_before_anything_is_made(
    run: Run, tmp_path: Path, arguments: list[str]
) -> None:
    done = run("release", "--dry-run", "--offline", *arguments, "--output", tmp_path / "out")
    assert done.code in (2, 10)
    assert "bundle linux-x64" not in done.talk
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_release_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    assert run("release", "--dry-run", "--offline", "--output", tmp_path).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_with_more_than_a_release_is_not_replaced(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(folder, tmp_path / "out")
    (place / "mine.txt").write_bytes(b"mine")
    done = run("release", "--dry-run", "--offline", "--output", place)
    assert (done.code, (place / "mine.txt").read_bytes()) == (2, b"mine")
    assert "names mine.txt; nothing was deleted" in done.talk


def test_a_folder_with_checksums_of_others_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "disk.iso").write_bytes(b"mine")
    (tmp_path / SUMS).write_text(f"{'0' * 64}  disk.iso\n", encoding="utf-8")
    assert run("release", "--dry-run", "--offline", "--output", tmp_path).code == 2
    assert (tmp_path / "disk.iso").read_bytes() == b"mine"


def test_a_release_takes_the_place_of_another(run: Run, folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "out")
    (place / f"{STEM}.zip").unlink()
    assert run("release", "--dry-run", "--offline", "--output", place).code == 0
    assert (place / f"{STEM}.zip").is_file()


def test_verify_takes_everything_that_a_release_holds(run: Run, folder: Path) -> None:
    for path in (folder, *(folder / f"{STEM}{end}" for end in (".tar.zst", ".zip", ".oci.tar"))):
        done = run("verify", path)
        assert done.code == 0, path
        assert "plan " in done.talk


def test_verify_of_a_damaged_release_exits_8(run: Run, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / f"{STEM}.zip").write_bytes(b"PK")
    for path in (copy, copy / f"{STEM}.zip"):
        done = run("verify", path)
        assert done.code == 8
        assert f"changed: {STEM}.zip" in done.talk


def test_verify_of_what_is_neither_exits_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / SUMS).write_text("hello\n", encoding="utf-8")
    done = run("verify", tmp_path)
    assert done.code == 2
    assert "not a list of checksums" in done.talk


def test_update_size_of_folders_shows_bundle_and_image(run: Run, stocked: Stocked) -> None:
    done = run("update-size", stocked.bundle, stocked.bundle)
    assert done.code == 0
    assert "bundle  all       0 bytes move\n" in done.output
    assert "image   all       0 bytes move\n" in done.output


def test_update_size_as_data(run: Run, stocked: Stocked, folder: Path) -> None:
    done = run("update-size", folder / f"{STEM}.zip", stocked.bundle, "--json")
    document: dict[str, Any] = json.loads(done.output)
    assert document["image"] is None
    assert "image: not known" in done.talk
    image = folder / f"{STEM}.oci.tar"
    document = json.loads(run("update-size", image, image, "--json").output)
    assert document["bundle"] is None
    assert document["image"]["compressed"] == 0


def test_update_size_refuses_what_cannot_be_compared(
    run: Run, stocked: Stocked, folder: Path
) -> None:
    assert run("update-size", folder / f"{STEM}.oci.tar", stocked.bundle).code == 2
    assert run("update-size", folder / "missing", stocked.bundle).code == 2


def test_scan_without_a_database_exits_5(run: Run, stocked: Stocked) -> None:
    done = run("scan", stocked.bundle, "--address", "http://127.0.0.1:9/")
    assert done.code == 5
    assert "the database of vulnerabilities did not answer" in done.talk


def test_scan_exits_7_for_what_the_recipe_does_not_accept(
    run: Run, stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [("pkg:pypi/feather@1.0", "A-1"), ("pkg:pypi/feather@1.0", "A-2")]
    monkeypatch.setattr(vulnerabilities, "ask", lambda *_: found)
    recipe = stocked.miniature.project.recipe
    text = recipe.read_text(encoding="utf-8")
    accepting = '\n[scan]\naddress = "http://127.0.0.1:9/"\naccepted = { A-1 = "not called" }\n'
    try:
        recipe.write_text(text + accepting, encoding="utf-8")
        done = run("scan", stocked.bundle)
    finally:
        recipe.write_text(text, encoding="utf-8")
    assert done.code == 7
    assert "A-1  pkg:pypi/feather@1.0  accepted: not called\n" in done.output
    assert "2 findings, 1 not accepted" in done.talk
    assert "why: A-2\n" in done.talk
