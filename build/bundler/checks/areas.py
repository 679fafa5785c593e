"""Which full-size tests a change needs: a table of areas, and the sources that each depends on.

`python3 build test` repeats nothing at full size; what it leaves out is marked `full`. An area is
a set of those tests with the sources that can break them.
"""

from __future__ import annotations

import subprocess
import time
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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


def read(root: Path) -> tuple[Area, ...]:
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
    if not base:
        return None
    changed = git(root, "diff", "--name-only", "-z", base[0])
    fresh = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return None if changed is None or fresh is None else (*changed, *fresh)


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
