"""Where the time of a test run went, read from the JUnit XML that pytest writes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Files that took less than this many seconds are added up in one row.
LEAST_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one file of tests took: set-up, calls and teardown, in seconds of one process."""

    file: str
    tests: int
    seconds: float

    @property
    def folder(self) -> str:
        """The folder below tests/ that the file lies in."""
        return self.file.split("/")[1]


def read(reports: Iterable[Path]) -> tuple[Spent, ...]:
    """Return what each file took in the runs that wrote `reports`.

    A run that broke off leaves a report that is missing, cut short or without names: what is not in
    it has no durations.
    """
    counts: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        try:
            cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
        except (FileNotFoundError, ET.ParseError):
            continue
        for case in cases:
            # Collection errors have no class name.
            name = case.attrib.get("classname") or case.attrib.get("name")
            if not name or "." not in name:
                continue
            file = _file(name)
            counts[file] += 1
            seconds[file] += float(case.attrib.get("time", 0))
    return tuple(
        Spent(file=file, tests=counts[file], seconds=seconds[file]) for file in sorted(counts)
    )


def _file(name: str) -> str:
    """Return the path of a test module: `tests.unit.test_x` and `tests.unit.test_x.TestY`."""
    parts = name.split(".")
    last = next((n for n, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return f"{'/'.join(parts[: last + 1])}.py"


def table(spent: Iterable[Spent], walls: Mapping[str, float]) -> str:
    """Return the durations as text: `walls` (seconds by name of a run), folders, then files."""
    files = sorted(spent, key=lambda one: -one.seconds)
    folders: dict[str, tuple[int, float]] = {}
    for one in files:
        tests, seconds = folders.get(one.folder, (0, 0.0))
        folders[one.folder] = tests + one.tests, seconds + one.seconds
    lines = ["where the time went (seconds; folders and files are sums over all processes)"]
    lines += [f"{seconds:8.1f}  {name}" for name, seconds in walls.items()]
    lines += [
        f"{seconds:8.1f}  tests/{name}, {tests} tests"
        for name, (tests, seconds) in sorted(folders.items(), key=lambda item: -item[1][1])
    ]
    slow = [one for one in files if one.seconds >= LEAST_SECONDS]
    lines += [f"{one.seconds:8.1f}  {one.file}, {one.tests} tests" for one in slow]
    if rest := files[len(slow) :]:
        seconds = sum(one.seconds for one in rest)
        lines.append(f"{seconds:8.1f}  {len(rest)} files below {LEAST_SECONDS:.0f} s each")
    return "\n".join(lines)
