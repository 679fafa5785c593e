from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.bootstrap import interpreters
from bundler.bootstrap.interpreters import find, own_shortcoming, shortcoming, without_python
from bundler.bootstrap.platforms import PLATFORMS, supported, this_machine

HERE = supported(this_machine())
GOOD = {
    "implementation": "cpython",
    "version": [3, 11, 4],
    "bits": 64,
    "machine": "amd64",
    "executable": "",
    "missing": [],
}
LINUX = PLATFORMS["linux-x64"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="scripts stand in for interpreters")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def speaking(path: Path, **facts: Any) -> Path:
    """Write a program that says `facts` of itself, as a good Python otherwise would."""
    said = {**GOOD, "machine": HERE.machine, "executable": str(path), **facts}
    return script(path, f"echo '{json.dumps(said)}'")


def environ(*folders: Path, pyenv: Path | None = None) -> dict[str, str]:
    path = os.pathsep.join(map(str, folders))
    return {"PATH": path, "PYENV_ROOT": str(pyenv or "/nonexistent")}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"version": [3, 12, 1]}, "cpython 3.12.1, not CPython 3.11"),
        ({"implementation": "pypy"}, "pypy 3.11.4"),
        ({"bits": 32}, "32-bit"),
        ({"machine": "aarch64"}, "arm64, not for x86_64"),
        ({"missing": ["ensurepip"]}, "without ensurepip, which is in python3.11-venv"),
        ({"missing": ["_ssl", "_ctypes"]}, "without _ssl, _ctypes"),
    ],
)
def test_what_a_python_lacks_is_said(facts: dict[str, Any], words: str) -> None:
    assert words in shortcoming({**GOOD, **facts}, LINUX)
    assert shortcoming(GOOD, LINUX) == ""


def test_the_python_that_runs_the_tests_can_run_the_builder() -> None:
    assert own_shortcoming(HERE) == ""
    facts = interpreters.ask([sys.executable], os.environ)
    assert facts is not None
    assert facts | {"executable": ""} == interpreters.own_facts() | {"executable": ""}


def test_the_first_on_path_that_works_is_taken(tmp_path: Path) -> None:
    shim = script(tmp_path / "shims/python3.11", "echo 'not active' >&2; exit 127")
    bare = speaking(tmp_path / "debian/python3.11", missing=["ensurepip"])
    good = speaking(tmp_path / "good/python3.11")
    speaking(tmp_path / "later/python3.11")
    folders = [path.parent for path in (shim, bare, good)] + [tmp_path / "later"]
    program, passed_over = find(HERE, environ(*folders))
    assert program == good
    assert passed_over == [
        f"{shim}: it does not start",
        f"{bare}: it comes without ensurepip, which is in python3.11-venv",
    ]


def test_what_a_program_says_it_is_gets_started_not_its_shim(tmp_path: Path) -> None:
    real = speaking(tmp_path / "versions/3.11.4/bin/python3.11")
    speaking(tmp_path / "shims/python3.11", executable=str(real))
    assert find(HERE, environ(tmp_path / "shims"))[0] == real


def test_a_version_of_pyenv_is_found_though_it_is_not_active(tmp_path: Path) -> None:
    for name in ("3.11.9", "3.11.10", "3.11-dev", "3.12.1"):
        speaking(tmp_path / "versions" / name / "bin/python3.11")
    assert find(HERE, environ(pyenv=tmp_path))[0] == tmp_path / "versions/3.11.10/bin/python3.11"


@pytest.mark.parametrize("body", ["exit 0", "echo nonsense", "echo '[]' >&2", "kill -9 $$"])
def test_a_program_that_is_no_python_is_passed_over(tmp_path: Path, body: str) -> None:
    script(tmp_path / "python3.11", body)
    program, passed_over = find(HERE, environ(tmp_path))
    assert program is None
    assert passed_over == [f"{tmp_path / 'python3.11'}: it does not start"]


def test_nothing_on_path_is_found_by_a_relative_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaking(tmp_path / "python3.11")
    monkeypatch.chdir(tmp_path)
    assert find(HERE, environ(Path())) == (None, [])
    assert find(HERE, {"PYENV_ROOT": "/nonexistent"}) == (None, [])


def test_windows_launcher_is_asked_for_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    launcher = script(tmp_path / "py.exe", f"test \"$1\" = -3.11 && echo '{json.dumps(GOOD)}'")
    program, passed_over = find(PLATFORMS["win-x64"], environ(tmp_path))
    assert (program, passed_over) == (launcher, [])


def test_a_python_is_tried_without_the_variables_of_another(tmp_path: Path) -> None:
    body = f"test -z \"$PYTHONHOME$PYTHONPATH\" && echo '{json.dumps(GOOD)}'"
    script(tmp_path / "python3.11", body)
    found = interpreters.ask(
        [str(tmp_path / "python3.11")],
        {**environ(tmp_path), "PYTHONHOME": "/x", "PYTHONPATH": "/y"},
    )
    assert found == GOOD


def test_no_variable_of_python_is_left() -> None:
    given = {"PYTHONPATH": "a", "PYTHONUTF8": "1", "PIP_USER": "1", "PATH": "b"}
    assert without_python(given) == {"PIP_USER": "1", "PATH": "b"}
