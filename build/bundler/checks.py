"""The checks and tests that every change must pass, run by their own tools, and which it needs.

A change needs the unit tests of the packages touched, and of whatever imports them. A test file is
needed if it lies where tests of a touched package lie (tests/unit mirrors the tree), or if it
imports a touched module, itself or by way of others. Imports inside of functions count.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bundler import atomic
from bundler.project import git
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
# folder for temporary files, a container engine's data, foreign bundles and the clients of other
# services in the checkout.
NEEDED_BYTES = {False: 6 << 30, True: 9 << 30}


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
    change = None if everything else changes(project.root)
    if change is None:
        console.say("unit tests: all")
        return _unit_tests(project, [UNIT])
    if not change.paths:
        console.say(f"unit tests: none, nothing differs from {change.base}; --all runs them all")
        return 0
    chosen = select(project.root, change.paths)
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
        for place in (self.project.out, Path(tempfile.gettempdir())):
            atomic.require_space(place, NEEDED_BYTES[full], purpose="the tests")
        try:
            with self._timed("static checks"):
                code = static_checks(self.project, self.console)
            if code:
                return code
            chosen = () if full and not changed else NOT_FULL
            # A gate on what the quick tests cover; they take longer for it.
            covered = [] if chosen else ["--cov", f"--cov-report=html:{self.reports / 'coverage'}"]
            slow = [*_processes(most=MOST_SLOW), *BY_GROUP, "-v", *chosen, *SLOW]
            code = (
                self._pytest("unit and property", [*_processes(), "-q", *covered, *chosen, *QUICK])
                or self._assemble()
                or self._pytest("faults, soak, smoke, integration", slow)
            )
            if changed and not code:
                code = self._areas(within_min)
            return code
        finally:
            self.console.say("where the time went (seconds)")
            for name, seconds in self.walls.items():
                self.console.say(f"{seconds:8.1f}  {name}")
            self.console.say(f"reports: {self.reports}")

    def _areas(self, within_min: float | None) -> int:
        """Run the full-size tests that the changes of a day call for, while there is time."""
        known = read_areas(self.project.root)
        wanted = concerned(known, changed_within_a_day(self.project.root))
        ran: list[str] = []
        late: list[str] = []
        code = 0
        for area in wanted:
            if within_min is not None and time.monotonic() - self.began > within_min * 60:
                late.append(area.name)
                continue
            found = self._pytest(f"full size: {area.name}", ["-v", "-m", "full", *area.tests])
            # What an area needs may be absent here; its table is held by a test.
            code = (found if found != NO_TESTS else 0) or code
            ran.append(area.name)
        unconcerned = [area.name for area in known if area not in wanted]
        self.console.say(
            f"full size, run: {', '.join(ran) or 'none'}\n"
            f"full size, left out because nothing they test changed: "
            f"{', '.join(unconcerned) or 'none'}\n"
            f"full size, left out for want of time: {', '.join(late) or 'none'}"
        )
        return code

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


UNIT = "tests/unit"
# Where packages of ours lie.
PACKAGES = ("service/sidecar", "build/bench", "build/bundler", "tests")
# Tests at the top of tests/unit look at the whole checkout: documents and sources of every kind;
# those of the pipelines read these.
PIPELINES = (".ci/", ".github/", "ci/", "Dockerfile")
OF_PIPELINES = f"{UNIT}/test_pipeline"
# Read by the builder and the bench; the service knows nothing of it.
RECIPE = "bundle/recipe.toml"
SURFACE = "tests/surface.txt"
# Their tests run with `python3 build test` alone.
OTHER_TESTS = ("faults", "integration", "property", "smoke", "soak")
# The module that imports every module of a package by its name.
BY_NAME = {"bundler.cli": "bundler.commands"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Paths that differ from `base`, which is a commit in words; the working tree included."""

    base: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Files of tests to run, and why that is all of them where it is."""

    tests: tuple[str, ...]
    everything_for: str = ""


def changes(root: Path) -> Change | None:
    """Return what differs from the commit where this branch left the main one.

    Without a main branch that is what differs from HEAD. None without git.
    """
    for main in ("origin/HEAD", "origin/main", "main"):
        base = git(root, "merge-base", "HEAD", main)
        if base:
            break
    else:
        main, base = "HEAD", git(root, "rev-parse", "HEAD")
    if not base:
        return None
    paths = _difference(root, base[0])
    return None if paths is None else Change(base=f"{main} ({base[0][:8]})", paths=paths)


def select(root: Path, paths: Iterable[str]) -> Selection:
    """Return the unit tests that changes of `paths` in the checkout at `root` need.

    All of them for a path that no rule knows: locks, configuration, data, what all tests share.
    """
    wanted: set[str] = set()
    files = _test_files(root)
    importers: Mapping[str, set[str]] | None = None
    for path in sorted(set(paths)):
        if (whole := _documents(path, files)) is not None:
            wanted |= whole
            continue
        module = module_of(path)
        if module is None or path == "tests/conftest.py":
            return Selection(tests=(UNIT,), everything_for=path)
        if importers is None:
            importers = _importers(root)
        found = {file for file in _downstream(module, importers) if file in files}
        found |= _mirror(path, files)
        if not found:
            return Selection(tests=(UNIT,), everything_for=path)
        wanted |= found | _top(files)
    return Selection(tests=tuple(sorted(wanted)))


def _documents(path: str, files: Iterable[str]) -> set[str] | None:
    """Return the tests for a path that no module imports and some tests read; None for others."""
    parts = PurePosixPath(path).parts
    if path.startswith(PIPELINES):
        return _top(files) | _beginning(OF_PIPELINES, files)
    if path == RECIPE:
        readers = (OF_PIPELINES, f"{UNIT}/bundler/", f"{UNIT}/bench/")
        return _top(files) | _beginning(readers, files)
    if path.endswith(".md") or path == SURFACE:
        return _top(files)
    if parts[0] == "tests" and parts[1] in OTHER_TESTS:
        return _top(files) | {
            file for file in files if file.startswith(f"{UNIT}/bundler/test_checks")
        }
    return None


def module_of(path: str) -> str | None:
    """Return the module that a path of the checkout holds, None where it is none of ours."""
    pure = PurePosixPath(path)
    package = next((one for one in PACKAGES if path.startswith(f"{one}/")), None)
    if package is None or pure.suffix != ".py":
        return None
    names = pure.with_suffix("").relative_to(PurePosixPath(package).parent).parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def _test_files(root: Path) -> frozenset[str]:
    found = (root / UNIT).rglob("test_*.py")
    return frozenset(path.relative_to(root).as_posix() for path in found)


def _top(files: Iterable[str]) -> set[str]:
    at_top = {file for file in files if PurePosixPath(file).parent.as_posix() == UNIT}
    return {file for file in at_top if not file.startswith(OF_PIPELINES)}


def _beginning(start: str | tuple[str, ...], files: Iterable[str]) -> set[str]:
    return {file for file in files if file.startswith(start)}


def _mirror(path: str, files: Iterable[str]) -> set[str]:
    """Return the tests of a module's package, or those named after the package one level up."""
    pure = PurePosixPath(path)
    if pure.parts[:2] == ("tests", "unit"):
        return (
            {path} & set(files)
            if pure.name != "conftest.py"
            else _beginning(f"{pure.parent}/", files)
        )
    if pure.parts[0] == "tests":
        return set()
    package = PurePosixPath(UNIT, *pure.parts[1:-1])
    if len(package.parts) == 3:  # noqa: PLR2004 - a package's own top: the module's tests alone
        return _beginning(f"{package}/test_{pure.stem}", files)
    beside = {file for file in files if PurePosixPath(file).parent == package}
    return beside or _beginning(f"{package.parent}/test_{package.name}", files)


def _importers(root: Path) -> Mapping[str, set[str]]:
    """Return by module's name the paths of those that import it."""
    importers: dict[str, set[str]] = defaultdict(set)
    for path in (path for package in PACKAGES for path in (root / package).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for module in imported(path.read_text(encoding="utf-8"), module_of(name) or ""):
            importers[module].add(name)
    return importers


def imported(source: str, module: str = "") -> set[str]:
    """Return the names of ours that a module's source imports, each package above them included."""
    ours = {package.rpartition("/")[2] for package in PACKAGES}
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    if module in BY_NAME:
        names.add(f"{BY_NAME[module]}.*")
    return {name for name in names if name.partition(".")[0] in ours}


def _downstream(module: str, importers: Mapping[str, set[str]]) -> set[str]:
    """Return the paths of all that import a module, itself or by way of others."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        package = name.rpartition(".")[0]
        for path in importers.get(name, set()) | importers.get(f"{package}.*", set()):
            if path not in seen:
                seen.add(path)
                waiting += [found] if (found := module_of(path)) else []
    return seen


TABLE = "tests/full.toml"
DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Full-size tests that belong together.

    `tests` are files and folders for pytest, `sources` patterns of paths whose change calls for
    them; `minutes` is what they took on two cores, to begin the short ones first.
    """

    name: str
    tests: Sequence[str]
    sources: Sequence[str]
    minutes: float

    def concerns(self, path: str) -> bool:
        """Return whether a change of `path` calls for these tests."""
        return any(fnmatchcase(path, pattern) for pattern in self.sources) or any(
            path == test or path.startswith(f"{test}/") for test in self.tests
        )


def read_areas(root: Path) -> tuple[Area, ...]:
    """Return the areas of the checkout at `root`, the shortest first."""
    table = tomllib.loads((root / TABLE).read_text(encoding="utf-8"))
    areas = (Area(name=name, **entry) for name, entry in table["area"].items())
    return tuple(sorted(areas, key=lambda area: area.minutes))


def concerned(areas: Iterable[Area], paths: Iterable[str] | None) -> tuple[Area, ...]:
    """Return the areas that changes of `paths` call for; all of them where those are unknown."""
    if paths is None:
        return tuple(areas)
    changed = tuple(paths)
    return tuple(area for area in areas if any(area.concerns(path) for path in changed))


def changed_within_a_day(root: Path) -> tuple[str, ...] | None:
    """Return the paths that differ from the newest commit older than a day.

    None where that is unknown: no git, or a history that does not reach so far back.
    """
    base = git(root, "rev-list", "-1", f"--before=@{int(time.time()) - DAY_S}", "HEAD")
    return _difference(root, base[0]) if base else None


def _difference(root: Path, base: str) -> tuple[str, ...] | None:
    """Return the paths that differ from the commit `base`, the working tree included."""
    changed = git(root, "diff", "--name-only", "--no-renames", "-z", base)
    fresh = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return None if changed is None or fresh is None else tuple(sorted({*changed, *fresh}))
