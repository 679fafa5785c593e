from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.commands.image import engine, full_name, load
from bundler.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("sidecar", "sidecar:latest"),
        ("sidecar:1.0", "sidecar:1.0"),
        ("example.com:5000/team/side-car", "example.com:5000/team/side-car:latest"),
    ],
)
def test_a_name_without_a_tag_is_the_latest(given: str, full: str) -> None:
    assert full_name(given) == full


@pytest.mark.parametrize("given", ["", "Sidecar", "a b", "-x", "a:", "a/../b", "a:b:c"])
def test_what_no_engine_would_take_as_a_name_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="not a name of an image"):
        full_name(given)


def test_no_engine_here_is_none(programs: Path) -> None:
    assert engine() is None
    program(programs, "docker", "exit 1")
    assert engine() is None


def test_an_engine_that_does_not_answer_is_passed_over(programs: Path) -> None:
    program(programs, "docker", "exit 1")
    podman = program(programs, "podman", "exit 0")
    assert engine() == str(podman)


def test_what_an_engine_says_against_an_archive_is_passed_on(
    programs: Path, tmp_path: Path
) -> None:
    docker = program(programs, "docker", 'echo "no room for $3" >&2; exit 1')
    with pytest.raises(UnreachableError) as caught:
        load(str(docker), tmp_path / "i.tar")
    assert caught.value.why == f"no room for {tmp_path / 'i.tar'}"
    load(str(program(programs, "docker", "exit 0")), tmp_path / "i.tar")
