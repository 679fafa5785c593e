"""The doing of a profile's rules: what is left out of a bundle, and what that saves.

A rule never decides more than its globs say; whether a profile is harmless is decided by proof, not
here: the smoke test, the golden vectors and the import trace run on the slimmed tree.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from bundler.assembly.build_report import LeftOut
from bundler.assembly.elf import strip_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bundler.profiles import DietRule


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    spelled = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(spelled.get(part, re.escape(part)) for part in parts))


def matches(path: str, glob: str) -> bool:
    """Return whether the POSIX `path` is named by `glob`."""
    return _pattern(glob).fullmatch(path) is not None


def takes(rule: DietRule, path: str) -> bool:
    """Return whether `rule` applies to the file at `path`."""
    return any(matches(path, glob) for glob in rule.paths) and not any(
        matches(path, glob) for glob in rule.keep
    )


def removing(path: str, rules: Iterable[DietRule]) -> DietRule | None:
    """Return the first of `rules` that removes the file at `path`, or None."""
    return next((rule for rule in rules if rule.action == "remove" and takes(rule, path)), None)


def keeps(rules: Sequence[DietRule]) -> Callable[[str], bool]:
    """Return what tells whether `rules` leave a path in."""
    return lambda path: removing(path, rules) is None


def apply(root: Path, files: Iterable[str], rules: Sequence[DietRule]) -> tuple[LeftOut, ...]:
    """Apply `rules` to `files` (POSIX paths from `root`), and return what each one saved.

    A file is removed by the first rule that takes it; stripping follows for what remains.
    """
    savings = []
    for path in sorted(files):
        for rule in rules:
            if not takes(rule, path):
                continue
            file = root / path
            before = file.stat().st_size
            if rule.action == "remove":
                file.unlink()
                savings.append(LeftOut(rule=rule, path=path, size=before))
                break
            if strip_symbols(file):
                after = file.stat().st_size
                savings.append(LeftOut(rule=rule, path=path, size=before - after))
    return tuple(savings)
