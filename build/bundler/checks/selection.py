"""Which unit tests a change needs: those of the packages touched, and of whatever imports them.

A test file is needed if it lies where tests of a touched package lie (tests/unit mirrors the tree),
or if it imports a touched module, itself or by way of others. Imports inside of functions count.
"""

from __future__ import annotations

import ast
import subprocess
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

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
        return _top(files) | {file for file in files if file.startswith(OF_PIPELINES)}
    if path == RECIPE:
        readers = (OF_PIPELINES, f"{UNIT}/bundler/", f"{UNIT}/bench/")
        return _top(files) | {file for file in files if file.startswith(readers)}
    if path.endswith(".md") or path == SURFACE:
        return _top(files)
    if parts[0] == "tests" and parts[1] in OTHER_TESTS:
        return _top(files) | _below(f"{UNIT}/bundler/checks", files)
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


def _below(folder: str, files: Iterable[str]) -> set[str]:
    return {file for file in files if file.startswith(f"{folder}/")}


def _mirror(path: str, files: Iterable[str]) -> set[str]:
    """Return the tests of a module's package, or those named after the package one level up."""
    pure = PurePosixPath(path)
    if pure.parts[:2] == ("tests", "unit"):
        return (
            {path} & set(files) if pure.name != "conftest.py" else _below(str(pure.parent), files)
        )
    if pure.parts[0] == "tests":
        return set()
    package = PurePosixPath(UNIT, *pure.parts[1:-1])
    if len(package.parts) == 3:  # noqa: PLR2004 - a package's own top: the module's tests alone
        return {file for file in files if file.startswith(f"{package}/test_{pure.stem}")}
    beside = {file for file in files if PurePosixPath(file).parent == package}
    named = f"{package.parent}/test_{package.name}"
    return beside or {file for file in files if file.startswith(named)}


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
    tests: tuple[str, ...]
    sources: tuple[str, ...]
    minutes: float

    def concerns(self, path: str) -> bool:
        """Return whether a change of `path` calls for these tests."""
        return any(fnmatchcase(path, pattern) for pattern in self.sources) or any(
            path == test or path.startswith(f"{test}/") for test in self.tests
        )


def read_areas(root: Path) -> tuple[Area, ...]:
    """Return the areas of the checkout at `root`, the shortest first."""
    table = tomllib.loads((root / TABLE).read_text(encoding="utf-8"))
    areas = (
        Area(
            name=name,
            tests=tuple(entry["tests"]),
            sources=tuple(entry["sources"]),
            minutes=float(entry["minutes"]),
        )
        for name, entry in table["area"].items()
    )
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


def git(root: Path, *words: str) -> tuple[str, ...] | None:
    """Return what git says in the checkout at `root`, by line or NUL; None where it fails."""
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - as PATH has it
            cwd=root,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return tuple(part for part in done.stdout.replace("\n", "\0").split("\0") if part)
