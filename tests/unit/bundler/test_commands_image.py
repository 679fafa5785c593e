"""The command `image`, from its arguments to its archive."""

from __future__ import annotations

import json
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from bundler import environment
from bundler.cli import main
from bundler.project import Project
from tests.support.miniature import Miniature
from tests.support.tinybase import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

NAME = "sidecar-0.0.1-linux-x64.oci.tar"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    miniature = Miniature.make(tmp_path / "project")
    miniature.assemble(miniature.project.output("linux-x64"))
    monkeypatch.setattr(Project, "here", lambda: miniature.project)
    monkeypatch.setattr(environment, "is_inside", lambda _: True)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return miniature.project


@pytest.fixture
def base(project: Project) -> Path:
    return tiny_base(project.out / "base-amd64.tar", more=("libstdc++.so.6", "libgcc_s.so.1"))


def image(*arguments: object) -> int:
    return main(["image", *map(str, arguments)])


@pytest.mark.usefixtures("base")
def test_the_archive_is_named_after_the_bundle_and_lies_beside_it(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image("--target", "linux-x64") == 0
    output, talk = capsys.readouterr()
    archive = project.out / NAME
    assert output == f"{archive}\n"
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert f"digest {index['manifests'][0]['digest']}\n" in talk
    sbom = project.out / f"{NAME}.sbom.cdx.json"
    assert sbom.read_bytes() == (project.output("linux-x64") / "sbom.cdx.json").read_bytes()


@pytest.mark.usefixtures("base")
def test_other_profile_has_a_folder_and_archive_of_its_own(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image("--profile", "none") == 2
    assert "next: python3 build assemble --profile none makes one" in capsys.readouterr().err
    whole = project.output("linux-x64-none")
    shutil.copytree(project.output("linux-x64"), whole)
    path = whole / "manifest.json"
    held = json.loads(path.read_bytes())
    path.write_text(json.dumps(held | {"profile": "none"}), encoding="utf-8")
    assert image("--profile", "none") == 0
    assert capsys.readouterr().out == f"{project.out / NAME.replace('x64', 'x64-none')}\n"


def test_without_a_base_it_says_how_to_make_one(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image(project.output("linux-x64")) == 5
    assert "next: ci/base amd64 makes one; --base none" in capsys.readouterr().err
    path = project.output("linux-x64") / "manifest.json"
    held = path.read_bytes()
    path.write_text(json.dumps(json.loads(held) | {"profile": "cluster"}), encoding="utf-8")
    assert image(project.output("linux-x64")) == 5
    assert "next: ci/base --shell amd64 makes one" in capsys.readouterr().err
    path.write_bytes(held)
    assert image(project.output("linux-x64"), "--base", "none") == 0


def test_a_tag_without_an_engine_is_written_and_not_loaded(
    project: Project, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "i.tar"
    bundle = project.output("linux-x64")
    assert image(bundle, "--tag", "mine", "--base", base, "--output", place) == 0
    assert f"not loaded: no engine answers here; docker load --input {place}" in (
        capsys.readouterr().err
    )
    with tarfile.open(place) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert entry["RepoTags"] == ["mine:latest"]


def test_a_tag_is_given_to_the_engine(
    project: Project, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n', encoding="utf-8")
    docker.chmod(0o755)
    assert image(project.output("linux-x64"), "--tag", "mine:2", "--base", base) == 0
    assert "loaded: docker run --rm -p 127.0.0.1:8421:8421 mine:2\n" in capsys.readouterr().err
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked == ["info", f"load --input {project.out / NAME}"]


def arm(project: Project, name: str, profile: str) -> None:
    """Make a bundle for the other machine of this machine's own."""
    folder = shutil.copytree(project.output("linux-x64"), project.output(name))
    held = json.loads((folder / "manifest.json").read_bytes())
    changed = json.dumps(held | {"target": "linux-arm64", "profile": profile})
    (folder / "manifest.json").write_text(changed, encoding="utf-8")


def test_two_targets_are_one_archive_with_a_bill_of_fetched_for_each(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    arm(project, "linux-arm64", "safe")
    assert image("--target", "linux-x64", "--target", "linux-arm64", "--base", "none") == 0
    archive = project.out / "sidecar-0.0.1-linux-x64-linux-arm64.oci.tar"
    assert capsys.readouterr().out == f"{archive}\n"
    sboms = {path.name for path in project.out.glob("*.sbom.cdx.json")}
    assert sboms == {f"{archive.name}.{name}.sbom.cdx.json" for name in ("amd64", "arm64")}


def test_each_target_is_taken_in_the_profile_that_it_has_by_default(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = project.recipe.read_text(encoding="utf-8")
    rules = '\n[targets.linux-arm64]\ndefault_profile = "lean"\n'
    project.recipe.write_text(recipe + rules, encoding="utf-8")
    arm(project, "linux-arm64-lean", "lean")
    assert image("--target", "linux-x64", "--target", "linux-arm64", "--base", "none") == 0
    archive = project.out / "sidecar-0.0.1-linux-x64-linux-arm64-lean.oci.tar"
    assert capsys.readouterr().out == f"{archive}\n"


def test_nonsense_is_refused_before_anything_is_made(project: Project, tmp_path: Path) -> None:
    bundle = project.output("linux-x64")
    assert image(bundle, "--tag", "No Name") == 2
    assert image(bundle, bundle, "--base", "none") == 2
    assert image("--target", "linux-x65") == 10
    assert image("--target", "mac-arm64") == 10
    assert image(tmp_path / "nothing") == 2
    assert image(bundle, "--base", tmp_path / "nothing") == 2
    assert not list(project.out.glob("*.tar"))
