from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bundler.errors import UsageError
from bundler.locking import client_lock, wheel_lock

if TYPE_CHECKING:
    from pathlib import Path

WHEELS = """
[metadata]
content_hash = "x"
[[package]]
name = "asked-for"
version = "1.2"
[[package]]
name = "needed"
version = "3"
"""
PACKAGES = {
    "packages": {
        "": {},
        "node_modules/@some/one": {"version": "4.5"},
        "node_modules/other": {"version": "6"},
        "node_modules/needed": {"version": "7"},
    }
}
# Locks where it is called, and fails without the file that keeps registries out of locks.
NPM = """#!/bin/sh
test "$*" = "install --package-lock-only --ignore-scripts" || exit 2
test -f .npmrc || { echo no settings; exit 1; }
echo locked > package-lock.json
"""


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    folder = tmp_path / "clients"
    folder.mkdir()
    groups = '[dependency-groups]\nquick = ["asked-for"]\nall = []\n'
    (folder / "pyproject.toml").write_text(f"[project]\n{groups}")
    wanted = {"dependencies": {"@some/one": "*"}, "devDependencies": {"other": "*"}}
    (folder / "package.json").write_text(json.dumps(wanted))
    (folder / ".npmrc").write_text("")
    return folder


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


@pytest.fixture
def pdm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let pdm lock WHEELS, and return how it is asked to."""
    seen: list[dict[str, Any]] = []

    def refresh(project: Path, settings: str, **told: Any) -> tuple[str, dict[str, int]]:
        seen.append({"project": project, "settings": settings, **told})
        return WHEELS, {}

    monkeypatch.setattr(wheel_lock, "refresh", refresh)
    return seen


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.mark.usefixtures("npm")
def test_both_locks_are_made_elsewhere(clients: Path, pdm: list[dict[str, Any]]) -> None:
    before = sorted(clients.iterdir())
    found = client_lock.refresh(clients, say=quiet)
    assert found == {
        clients / "pdm.lock": WHEELS,
        clients / "package-lock.json": "locked\n",
    }
    assert sorted(clients.iterdir()) == before
    assert pdm[0]["project"] == clients
    assert pdm[0]["groups"] == {"quick", "all"}
    assert set(pdm[0]["platforms"]) == {"linux-x64", "linux-arm64"}


@pytest.mark.usefixtures("pdm", "npm")
def test_npm_that_fails_is_told_with_its_words(clients: Path, npm: Path) -> None:
    npm.write_text("#!/bin/sh\necho no such package\nexit 1\n")
    with pytest.raises(UsageError) as caught:
        client_lock.refresh(clients, say=quiet)
    assert caught.value.why == "no such package"


@pytest.mark.usefixtures("pdm")
def test_a_machine_without_npm_is_told_so(
    clients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no npm on PATH"):
        client_lock.refresh(clients, say=quiet)


def test_the_clients_asked_for_have_the_locked_versions(clients: Path) -> None:
    assert client_lock.versions(clients) == {}
    (clients / "pdm.lock").write_text(WHEELS)
    (clients / "package-lock.json").write_text(json.dumps(PACKAGES))
    assert client_lock.versions(clients) == {
        "asked-for": "1.2",
        "npm:@some/one": "4.5",
        "npm:other": "6",
    }
