from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.release.contents import read_checkout

if TYPE_CHECKING:
    from pathlib import Path


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
