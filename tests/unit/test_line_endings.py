from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.build_context import BuildContext, BuildOptions
from bundler.console import Console
from bundler.project import Project

ROOT = Path(__file__).parents[2]
PLAIN = {"i/lf", "i/none", "i/-text"}
PICTURE = ".png"


def git(place: Path, *arguments: str | Path) -> str:
    options = ["-c", "user.name=A", "-c", "user.email=a@example.invalid", "-c", "commit.gpgSign=no"]
    done = subprocess.run(
        ["git", "-C", place, *options, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def plan_id(root: Path) -> str:
    """Return the plan id of a bundle for another machine than this one, so no host is probed."""
    options = BuildOptions(target="mac-arm64", runtime="standalone", is_offline=True)
    return BuildContext.gather(options, Project(root=root), Console(io.StringIO())).plan_only().id


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return the paths of texts that are, or with the next commit will be, in the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    found = [name for name in listed if name and (ROOT / name).is_file()]
    return [name for name in found if not name.endswith(PICTURE)]


@pytest.fixture
def repository(tmp_path: Path, texts: list[str]) -> Path:
    """Return a repository with the files as they are now, and a checkout of Linux' kind."""
    place = tmp_path / "repository"
    for name in texts:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place / name)
    git(place, "init", "--quiet")
    git(place, "-c", "core.autocrlf=false", "add", "--all")
    git(place, "commit", "--quiet", "--no-verify", "--message", "as it is")
    return place


def test_a_clone_as_git_for_windows_makes_it_has_the_same_plan(
    repository: Path, tmp_path: Path, texts: list[str]
) -> None:
    clone = tmp_path / "clone"
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    git(repository, "clone", "--quiet", *settings, repository, clone)
    assert [name for name in texts if b"\r\n" in (clone / name).read_bytes()] == []
    assert plan_id(clone) == plan_id(repository)


def test_a_checkout_that_has_the_line_endings_of_windows_has_the_same_plan(
    repository: Path, texts: list[str]
) -> None:
    before = plan_id(repository)
    for path in (repository / name for name in texts):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert plan_id(repository) == before


@pytest.mark.usefixtures("texts")
def test_no_text_in_the_repository_has_a_carriage_return() -> None:
    lines = git(ROOT, "ls-files", "--eol").splitlines()
    assert lines
    assert [line for line in lines if line.split()[0] not in PLAIN] == []
    unmarked = [line for line in lines if "attr/text=auto eol=lf" not in line]
    assert [line for line in unmarked if "attr/-text" not in line] == []
