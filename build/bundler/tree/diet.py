"""What a profile leaves out of a bundle, as data with reasons, and the doing of it.

A rule never decides more than its globs say; whether a profile is harmless is decided by proof, not
here: the smoke test, the golden vectors and the import trace run on the slimmed tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from bundler.errors import UsageError
from bundler.native.elf import strip_symbols

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bundler.targets import Target

ACTIONS = ("remove", "strip")
# What every saving is measured against. It holds upstream's own test programs, so nobody ships it.
UNSLIMMED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class DietRule:
    """One cut. `package` names a wheel, or `python` for the runtime.

    `paths` and `keep` are globs from the package's site-packages (from `python/` for the runtime):
    `*` stays within a folder, `**` crosses folders. `targets` empty means all.
    """

    name: str
    package: str
    action: str
    paths: tuple[str, ...]
    reason: str
    profiles: tuple[str, ...]
    keep: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Return whether this rule applies to the file at `path`."""
        return any(matches(path, glob) for glob in self.paths) and not any(
            matches(path, glob) for glob in self.keep
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What a rule took from one file: its name, the path from the rule's root, bytes saved."""

    rule: str
    path: str
    size: int


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    spelled = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(spelled.get(part, re.escape(part)) for part in parts))


def matches(path: str, glob: str) -> bool:
    """Return whether the POSIX `path` is named by `glob`."""
    return _pattern(glob).fullmatch(path) is not None


def parse_rules(sections: Mapping[str, Any]) -> tuple[DietRule, ...]:
    """Return the rules under [diet] of a recipe. Raises UsageError, naming the rule."""
    rules = []
    profiles = tuple(sections.get("profiles", ()))
    for name, entry in sections.get("rules", {}).items():
        try:
            rule = DietRule(
                name=name,
                package=canonicalize_name(entry["package"]),
                action=entry.get("action", "remove"),
                paths=tuple(entry["paths"]),
                keep=tuple(entry.get("keep", ())),
                reason=entry["reason"],
                profiles=tuple(entry["profiles"]),
                targets=tuple(entry.get("targets", ())),
            )
        except KeyError as error:
            raise UsageError(f"the diet rule {name} lacks {error}") from error
        for key in ("paths", "keep", "profiles", "targets"):
            # A string would be taken for a list of letters, and `*` is one.
            if isinstance(entry.get(key), str):
                raise UsageError(f"the diet rule {name} has a {key} that is no list")
        if rule.action not in ACTIONS:
            raise UsageError(
                f"the diet rule {name} has the action {rule.action!r}",
                why=f"the actions are {', '.join(ACTIONS)}",
            )
        if unknown := sorted(set(rule.profiles) - set(profiles)):
            raise UsageError(
                f"the diet rule {name} is for the profile {unknown[0]!r}",
                why=f"the profiles are {', '.join(profiles)}",
            )
        rules.append(rule)
    return tuple(rules)


def rules_for(
    rules: Iterable[DietRule], *, profile: str, target: Target, packages: frozenset[str]
) -> tuple[DietRule, ...]:
    """Return the rules of `profile` that speak of one of `packages` on `target`."""
    return tuple(
        rule
        for rule in rules
        if profile in rule.profiles
        and (not rule.targets or target.name in rule.targets or target.os in rule.targets)
        and rule.package in packages
    )


def removing(path: str, rules: Iterable[DietRule]) -> DietRule | None:
    """Return the first of `rules` that removes the file at `path`, or None."""
    return next((rule for rule in rules if rule.action == "remove" and rule.takes(path)), None)


def left_out(files: Iterable[tuple[str, int]], rules: Sequence[DietRule]) -> tuple[Saving, ...]:
    """Return what `rules` saved on `files`, paths with sizes that were never written."""
    return tuple(
        Saving(rule=rule.name, path=path, size=size)
        for path, size in files
        if (rule := removing(path, rules)) is not None
    )


def apply(root: Path, files: Iterable[str], rules: Sequence[DietRule]) -> tuple[Saving, ...]:
    """Apply `rules` to `files` (POSIX paths from `root`), and return what each one saved.

    A file is removed by the first rule that takes it; stripping follows for what remains.
    """
    savings = []
    for path in sorted(files):
        for rule in rules:
            if not rule.takes(path):
                continue
            file = root / path
            before = file.stat().st_size
            if rule.action == "remove":
                file.unlink()
                savings.append(Saving(rule=rule.name, path=path, size=before))
                break
            if strip_symbols(file):
                after = file.stat().st_size
                savings.append(Saving(rule=rule.name, path=path, size=before - after))
    return tuple(savings)
