"""The checks and tests that every change must pass, run by their own tools."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bundler.console import Console
    from bundler.project import Project

SOURCES = ("build", "service", "tests")


def static_checks(project: Project, console: Console, *, fix: bool = False) -> int:
    """Run format, lint, types and the import contract; return the first failure's exit code."""
    format_mode = [] if fix else ["--check"]
    lint_mode = ["--fix"] if fix else []
    steps = (
        ("format", ["-m", "ruff", "format", "--quiet", *format_mode, *SOURCES]),
        ("lint", ["-m", "ruff", "check", "--quiet", *lint_mode, *SOURCES]),
        ("types", ["-m", "mypy", "--no-error-summary"]),
        ("imports", ["-c", "from importlinter.cli import lint_imports_command as c; c()"]),
    )
    for name, arguments in steps:
        started = time.monotonic()
        code = _run(project, [*arguments])
        if code:
            console.say(f"{name}: failed")
            return code
        console.say(f"{name}: clean, {time.monotonic() - started:.1f} s")
    return 0


def unit_tests(project: Project, console: Console) -> int:
    """Run the tests that need nothing but the environment, on every core."""
    console.say("unit tests")
    return _run(project, ["-m", "pytest", "-q", "--numprocesses", "auto", "tests/unit"])


def all_tests(project: Project, console: Console) -> int:
    """Run every test; return the first failure's exit code."""
    console.say("unit tests and searches for counter-examples")
    quick = ["tests/unit", "tests/property"]
    code = _run(project, ["-m", "pytest", "-q", "--numprocesses", "auto", *quick])
    if code:
        return code
    # These share one bundle, one container engine and the machine's cores.
    console.say("faults, a short soak, smoke and integration tests")
    slow = [f"tests/{name}" for name in ("faults", "soak", "smoke", "integration")]
    return _run(project, ["-m", "pytest", "-v", *slow])


def some_tests(project: Project, console: Console, arguments: Sequence[str]) -> int:
    """Run pytest with `arguments`; return its exit code."""
    console.say("tests")
    return _run(project, ["-m", "pytest", *arguments])


def _run(project: Project, arguments: list[str]) -> int:
    paths = os.pathsep.join(str(path) for path in (project.root / "build", project.service))
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "PYTHONPYCACHEPREFIX": str(project.out / "cache" / "bytecode"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(project.out / "cache" / "hypothesis"),
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project.root, env=environment, check=False
    )
    return done.returncode
