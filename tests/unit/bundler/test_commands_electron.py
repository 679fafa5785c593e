from __future__ import annotations

import argparse
import io
import shutil
from typing import TYPE_CHECKING

import pytest

from bundler.commands import electron
from bundler.console import Console
from bundler.errors import UsageError
from bundler.project import Project
from tests.support import smallbundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a checkout that has two bundles of the default profile."""
    made = Project(root=tmp_path / "sidecar")
    templates = ("bundle", "electron", "builder")
    shutil.copytree(
        Project.here().root.joinpath(*templates), made.root.joinpath(*templates), symlinks=True
    )
    shutil.copyfile(Project.here().recipe, made.recipe)
    for name in ("linux-x64", "win-x64"):
        smallbundle.make(made.out, name)
    return made


def run(project: Project, *arguments: str | Path) -> str:
    """Run the command and return what it said."""
    parser = argparse.ArgumentParser()
    electron.add_arguments(parser)
    said = io.StringIO()
    assert electron.run(parser.parse_args([*map(str, arguments)]), project, Console(said)) == 0
    return said.getvalue()


def test_all_bundles_of_the_profile_are_taken_in(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "app" / "sidecar"
    said = run(project, "--output", output)
    assert capsys.readouterr().out == f"{output}\n"
    assert "linux-x64: " in said
    assert "win-x64: " in said
    assert "extends: sidecar/electron-builder.yml" in said
    text = (output / "electron-builder.yml").read_text(encoding="utf-8")
    assert '"../sidecar/bundle/out/${os}-${arch}/python"' in text


def test_the_apps_folder_is_the_one_with_a_package_or_the_one_named(
    project: Project, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text("{}")
    said = run(project, "--output", app / "build" / "deep", "--target", "linux-x64")
    assert "extends: build/deep/electron-builder.yml" in said
    assert "win-x64" not in said
    named = ("--app", app / "build", "--from", "${env.BUNDLES}")
    assert "extends: deep/electron" in run(project, "--output", app / "build" / "deep", *named)
    text = (app / "build" / "deep" / "electron-builder.yml").read_text(encoding="utf-8")
    assert '"${env.BUNDLES}/${os}-${arch}/python"' in text


def test_without_a_bundle_the_next_step_is_to_assemble_one(
    project: Project, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no bundle"):
        run(project, "--output", tmp_path / "out", "--profile", "lean")
    with pytest.raises(UsageError, match="there is no bundle at") as caught:
        run(project, "--output", tmp_path / "out", "--target", "mac-arm64")
    assert "python3 build assemble --target mac-arm64 makes one" in caught.value.next_step
