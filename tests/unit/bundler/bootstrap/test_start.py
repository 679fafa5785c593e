from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.bootstrap import interpreters
from bundler.bootstrap.platforms import supported, this_machine
from bundler.bootstrap.standalone import Standalone, suitable_python
from bundler.console import Console
from bundler.errors import UnreachableError, UsageError
from bundler.project import Project

PROJECT = Project.here()
HERE = supported(this_machine())
CONSOLE = Console(io.StringIO())


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(command="up", **given)


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> list[Standalone]:
    """Hide every Python of this machine; return what was made to fetch one."""
    made: list[Standalone] = []

    def program(standalone: Standalone, _: object) -> Path:
        made.append(standalone)
        return Path("/fetched")

    monkeypatch.setattr(interpreters, "find", lambda *_: (None, ["/a: it does not start"]))
    monkeypatch.setattr(Standalone, "program", program)
    return made


def test_a_python_of_this_machine_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "find", lambda *_: (Path("/found"), []))
    assert suitable_python(PROJECT, options(), HERE, CONSOLE) == Path("/found")


def test_a_command_without_options_for_downloads_fetches_from_the_recipe(
    nothing_here: list[Standalone],
) -> None:
    assert suitable_python(PROJECT, options(), HERE, CONSOLE) == Path("/fetched")
    (made,) = nothing_here
    assert (made.store, made.mirror, made.is_offline) == (PROJECT.store, "", False)


def test_options_for_downloads_are_obeyed(nothing_here: list[Standalone], tmp_path: Path) -> None:
    given = options(
        store=tmp_path, offline=True, mirror=["runtime=http://m.example", "hub=http://h.example"]
    )
    suitable_python(PROJECT, given, HERE, CONSOLE)
    (made,) = nothing_here
    assert (made.store, made.mirror, made.is_offline) == (tmp_path, "http://m.example", True)


def test_a_mirror_of_nothing_exits_2(nothing_here: list[Standalone]) -> None:
    with pytest.raises(UsageError, match="there is no source 'rntime'"):
        suitable_python(PROJECT, options(mirror=["rntime=x"]), HERE, CONSOLE)
    assert nothing_here == []


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize("help_", ["", "set SSL_CERT_FILE"])
def test_where_there_is_none_one_message_says_what_helps(
    monkeypatch: pytest.MonkeyPatch, help_: str
) -> None:
    def program(*_: object) -> Path:
        raise UnreachableError("it is not there", why="the network is down", next_step=help_)

    monkeypatch.setattr(Standalone, "program", program)
    monkeypatch.setattr(interpreters, "ways", lambda command: [f"one {command}", "two"])
    with pytest.raises(UnreachableError) as caught:
        suitable_python(PROJECT, options(), HERE, CONSOLE)
    assert caught.value.exit_code == 5
    assert caught.value.render() == (
        "error: the builder needs CPython 3.11, and can neither find nor fetch one\n"
        "  why: it is not there: the network is down; passed over /a: it does not start\n"
        f"  next: {'set SSL_CERT_FILE; or ' if help_ else ''}"
        "install one, then run the same command again:\n"
        "    one up\n"
        "    two"
    )


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_the_same_command_runs_there_without_pythons_variables(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, command: list[str], environment: dict[str, str]) -> None:
        seen.append((command, environment))
        raise SystemExit(7)

    def run(
        command: list[str], env: dict[str, str], **_: object
    ) -> subprocess.CompletedProcess[str]:
        seen.append((command, env))
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PYTHONPATH", "/other")
    monkeypatch.setenv("PYTHONHOME", "/other")
    try:
        code = interpreters.become(Path("/p/python"), PROJECT, ["plan", "--json"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    ((command, environment),) = seen
    assert code == 7
    assert command == [str(Path("/p/python")), str(PROJECT.root / "build"), "plan", "--json"]
    assert not [name for name in environment if name.startswith("PYTHON")]
    assert environment["PATH"] == os.environ["PATH"]


def test_a_ctrl_c_is_left_to_the_command_that_was_started() -> None:
    # Windows has no exec, and gives a Ctrl-C to both; here the child sends ours.
    code = "import os, signal, sys\nos.kill(os.getppid(), signal.SIGINT)\nsys.exit(7)"
    before = signal.getsignal(signal.SIGINT)
    assert interpreters._outwait([sys.executable, "-I", "-c", code], dict(os.environ)) == 7
    assert signal.getsignal(signal.SIGINT) is before
