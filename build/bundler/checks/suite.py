"""The checks and tests that every change must pass, run by their own tools."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bundler import atomic
from bundler.checks import selection
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bundler.checks.selection import Area
    from bundler.console import Console
    from bundler.project import Project

SOURCES = ("build", "service", "tests")
QUICK = ("tests/unit", "tests/property")
SLOW = ("tests/faults", "tests/soak", "tests/smoke", "tests/integration")
NOT_FULL = ("-m", "not full")
# Each process of the slow tests may hold a bundle's service and a container beside its own, and
# gets whole files (tests/conftest.py), the longest of which come first.
MOST_SLOW = 4
BY_GROUP = ("--dist=loadgroup", "--no-loadscope-reorder")
# The bundles that the slow tests look at, and where tests find them.
BUNDLES = {"SIDECAR_BUNDLE": "safe", "SIDECAR_LEAN_BUNDLE": "lean"}
# The checker's words are worth reading where a contract is broken.
IMPORTS = """
import contextlib, io, sys
from importlinter.cli import lint_imports
said = io.StringIO()
with contextlib.redirect_stdout(said):
    code = lint_imports(no_logo=True, cache_dir="bundle/out/cache/imports")
if code:
    sys.stderr.write(said.getvalue())
sys.exit(code)
"""
# pytest's own exit code where a selection has no test.
NO_TESTS = 5
# What a run writes at its worst moment beside what lies there already: copies of bundles in the
# folder for temporary files, a container engine's data and foreign bundles in the checkout.
NEEDED_BYTES = {False: 6 << 30, True: 8 << 30}


def static_checks(project: Project, console: Console, *, fix: bool = False) -> int:
    """Run all of format, lint, types and imports; return the first failure's exit code."""
    format_mode = [] if fix else ["--check"]
    lint_mode = ["--fix"] if fix else []
    steps = (
        ("format", ["-m", "ruff", "format", "--quiet", *format_mode, *SOURCES]),
        ("lint", ["-m", "ruff", "check", "--quiet", *lint_mode, *SOURCES]),
        ("types", ["-m", "mypy", "--no-error-summary"]),
        ("imports", ["-c", IMPORTS]),
    )
    first_failure = 0
    for name, arguments in steps:
        started = time.monotonic()
        code = _run(project, [*arguments])
        if code:
            remedy = "; python3 build check --fix corrects it" if name == "format" else ""
            console.say(f"{name}: failed{remedy}")
        else:
            console.say(f"{name}: clean, {time.monotonic() - started:.1f} s")
        first_failure = first_failure or code
    return first_failure


def unit_tests(project: Project, console: Console, *, everything: bool) -> int:
    """Run the unit tests that the changes here need, or all; on every core."""
    change = None if everything else selection.changes(project.root)
    if change is None:
        console.say("unit tests: all")
        return _unit_tests(project, [selection.UNIT])
    if not change.paths:
        console.say(f"unit tests: none, nothing differs from {change.base}; --all runs them all")
        return 0
    chosen = selection.select(project.root, change.paths)
    if chosen.everything_for:
        console.say(f"unit tests: all, for the change of {chosen.everything_for}")
    else:
        console.say(
            f"unit tests: {len(chosen.tests)} files, for what differs from {change.base}; "
            "--all runs them all"
        )
    return _unit_tests(project, chosen.tests)


def _unit_tests(project: Project, paths: Iterable[str]) -> int:
    return _run(project, ["-m", "pytest", "-q", *_processes(), *paths])


def some_tests(project: Project, console: Console, arguments: Sequence[str]) -> int:
    """Run pytest with `arguments`; return its exit code."""
    console.say("tests")
    return _run(project, ["-m", "pytest", *arguments])


@dataclass(kw_only=True)
class Suite:
    """One run of `python3 build test`: its reports, and how long each part took."""

    project: Project
    console: Console
    began: float = field(default_factory=time.monotonic)
    walls: dict[str, float] = field(default_factory=dict)
    bundles: dict[str, str] = field(default_factory=dict)

    @property
    def reports(self) -> Path:
        """The folder of the JUnit XML files."""
        return self.project.out / "tests"

    def run(self, *, full: bool, changed: bool, within_min: float | None) -> int:
        """Run every test, with `full` the full-size ones too; return the first failure's code.

        With `changed` of the full-size ones those that the changes of a day call for, after all
        others, and none is begun later than `within_min` minutes after the start. Raises DiskError
        if there is less space than such a run takes.
        """
        shutil.rmtree(self.reports, ignore_errors=True)
        # Runs that were killed left container engines' data here.
        shutil.rmtree(self.project.out / "scratch", ignore_errors=True)
        self._check_space(NEEDED_BYTES[full])
        try:
            with self._timed("static checks"):
                code = static_checks(self.project, self.console)
            if code:
                return code
            select = () if full and not changed else NOT_FULL
            slow = [*_processes(most=MOST_SLOW), *BY_GROUP, "-v", *select, *SLOW]
            code = (
                self._pytest("unit and property", [*_processes(), "-q", *select, *QUICK])
                or self._assemble()
                or self._pytest("faults, soak, smoke, integration", slow)
            )
            if changed and not code:
                code = self._areas(within_min)
            return code
        finally:
            spent = read_durations(sorted(self.reports.glob("*.xml")))
            self.console.say(durations_table(spent, self.walls))
            self.console.say(f"reports: {self.reports}")

    def _check_space(self, needed: int) -> None:
        for place in (self.project.out, Path(tempfile.gettempdir())):
            if atomic.free_bytes(place) < needed:
                raise atomic.disk_error(
                    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
                    place,
                    purpose="the tests",
                    needed=needed,
                )

    def _areas(self, within_min: float | None) -> int:
        """Run the full-size tests that the changes of a day call for, while there is time."""
        known = selection.read_areas(self.project.root)
        wanted = selection.concerned(known, selection.changed_within_a_day(self.project.root))
        ran: list[str] = []
        late: list[str] = []
        code = 0
        for area in wanted:
            if within_min is not None and time.monotonic() - self.began > within_min * 60:
                late.append(area.name)
                continue
            code = self._area(area) or code
            ran.append(area.name)
        unconcerned = [area.name for area in known if area not in wanted]
        self.console.say(
            f"full size, run: {', '.join(ran) or 'none'}\n"
            f"full size, left out because nothing they test changed: "
            f"{', '.join(unconcerned) or 'none'}\n"
            f"full size, left out for want of time: {', '.join(late) or 'none'}"
        )
        return code

    def _area(self, area: Area) -> int:
        code = self._pytest(f"full size: {area.name}", ["-v", "-m", "full", *area.tests])
        # What an area needs may be absent here; its table is held by a test.
        return 0 if code == NO_TESTS else code

    def _assemble(self) -> int:
        """Assemble each bundle that the slow tests look at, once for all of their processes."""
        for variable, profile in BUNDLES.items():
            if given := os.environ.get(variable):
                self.bundles[variable] = given
                continue
            command = [sys.executable, str(self.project.root / "build"), "assemble"]
            with self._timed(f"assembling {profile}"):
                done = subprocess.run(
                    [*command, "--profile", profile],
                    cwd=self.project.root,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                    check=False,
                )
            if done.returncode:
                return done.returncode
            self.bundles[variable] = done.stdout.strip()
        return 0

    def _pytest(self, name: str, arguments: Iterable[str]) -> int:
        report = self.reports / f"{len(self.walls):02d}.xml"
        self.console.say(name)
        command = ["-m", "pytest", f"--junitxml={report}", *arguments]
        with self._timed(name):
            return _run(self.project, command, self.bundles)

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.walls[name] = time.monotonic() - began


def _processes(*, most: int = sys.maxsize) -> tuple[str, ...]:
    """Return pytest's options to run on the usable cores, in `most` processes."""
    return (f"--numprocesses={min(cores.count(), most)}",)


def _run(project: Project, arguments: list[str], more: Mapping[str, str] | None = None) -> int:
    paths = os.pathsep.join(str(path) for path in (project.root / "build", project.service))
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "PYTHONPYCACHEPREFIX": str(project.out / "cache" / "bytecode"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(project.out / "cache" / "hypothesis"),
        **(more or {}),
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project.root, env=environment, check=False
    )
    return done.returncode


# Files that took less than this many seconds are added up in one row.
LEAST_SECONDS = 5.0


# By file of tests: how many, and their set-up, calls and teardown in seconds of one process.
Spent = dict[str, tuple[int, float]]


def read_durations(reports: Iterable[Path]) -> Spent:
    """Return what each file took in the runs that wrote `reports`.

    A run that broke off leaves a report that is missing, cut short or without names: what is not in
    it has no durations.
    """
    spent: Spent = {}
    for report in reports:
        try:
            cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
        except (FileNotFoundError, ET.ParseError):
            continue
        for case in cases:
            # Collection errors have no class name.
            name = case.get("classname") or case.get("name") or ""
            if "." in name:
                _add(spent, _file(name), 1, float(case.get("time", 0)))
    return spent


def _add(spent: Spent, name: str, tests: int, seconds: float) -> None:
    before = spent.get(name, (0, 0.0))
    spent[name] = before[0] + tests, before[1] + seconds


def _file(name: str) -> str:
    """Return the path of a test module: `tests.unit.test_x` and `tests.unit.test_x.TestY`."""
    parts = name.split(".")
    last = next((n for n, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return f"{'/'.join(parts[: last + 1])}.py"


def durations_table(spent: Spent, walls: Mapping[str, float]) -> str:
    """Return the durations as text: `walls` (seconds by name of a run), folders, then files."""
    folders: Spent = {}
    for file, (tests, seconds) in spent.items():
        _add(folders, "/".join(file.split("/")[:2]), tests, seconds)
    slow = {file: took for file, took in spent.items() if took[1] >= LEAST_SECONDS}
    lines = ["where the time went (seconds; folders and files are sums over all processes)"]
    lines += [f"{seconds:8.1f}  {name}" for name, seconds in walls.items()]
    for group in (folders, slow):
        lines += [
            f"{seconds:8.1f}  {name}, {tests} tests"
            for name, (tests, seconds) in sorted(group.items(), key=lambda item: -item[1][1])
        ]
    if rest := [took[1] for file, took in spent.items() if file not in slow]:
        lines.append(f"{sum(rest):8.1f}  {len(rest)} files below {LEAST_SECONDS:.0f} s each")
    return "\n".join(lines)
