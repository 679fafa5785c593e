"""What a profile puts into a bundle, and the rules of what it leaves out again, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bundler.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bundler.locks.wheels import LockedWheel, WheelLock
    from bundler.targets import Target

# Of pdm.lock: what the service imports by itself, and what the reference engine needs on top.
GROUPS = ("default", "reference")
WEIGHTS = ("whole", "half")
# Whose images stand on a base with a shell: Ray starts its workers and jobs by one.
WITH_SHELL = ("cluster",)
# The recipe's default: names of files and folders do not say it.
DEFAULT = "safe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The groups of pdm.lock that ship, less the packages in `without`, each with its reason.

    `packages` ship as well, without what their metadata asks for. `weights` whole: as they are
    locked. half: in float16, for the packed engine alone, proven against the golden vectors when
    they are made. `targets` empty means all.
    """

    name: str
    groups: tuple[str, ...] = GROUPS
    packages: tuple[str, ...] = ()
    weights: Literal["whole", "half"] = "whole"
    without: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


def label(target: str, profile: str) -> str:
    """Return what a bundle's folder and archives are called by: linux-x64, linux-x64-lean."""
    return target if profile == DEFAULT else f"{target}-{profile}"


def profile_named(name: str, diet: Mapping[str, Any]) -> Profile:
    """Return the profile called `name` of a recipe's table [diet]. Raises UsageError."""
    known = tuple(diet.get("profiles", ()))
    if name not in known:
        raise unknown("profile", name, known, option="--profile")
    contents = diet.get("contents", {})
    entry = contents.get(name, {})
    entry = contents.get(entry.get("like"), {}) | entry
    weights = entry.get("weights", "whole")
    lists = [entry.get(key, []) for key in ("groups", "packages", "targets")]
    if (
        weights not in WEIGHTS
        or not all(isinstance(value, list) for value in lists)
        or entry.get("like", name) not in known
    ):
        raise UsageError(
            f"the contents of the profile {name} cannot be understood",
            why="groups, packages and targets are lists, like is the name of a profile, "
            f"weights one of {', '.join(WEIGHTS)}",
            next_step="correct [diet.contents] in bundle/recipe.toml",
        )
    return Profile(
        name=name,
        groups=tuple(entry.get("groups", GROUPS)),
        packages=tuple(entry.get("packages", ())),
        weights=weights,
        without={package: str(reason) for package, reason in entry.get("without", {}).items()},
        targets=tuple(entry.get("targets", ())),
    )


def wheels_of(lock: WheelLock, target: Target, profile: Profile) -> tuple[LockedWheel, ...]:
    """Return the wheels of `profile` for `target`. Raises UsageError, and as `select` does."""
    # Names of profiles are checked before anything is installed.
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    from bundler.locks.wheels import select  # noqa: PLC0415

    without, packages = (
        {canonicalize_name(package) for package in named}
        for named in (profile.without, profile.packages)
    )
    chosen = select(lock, target, groups=profile.groups)
    shipped = {wheel.package for wheel in chosen} - without | packages
    if packages:
        chosen = select(lock, target, groups=GROUPS)
    if missing := sorted(packages - {wheel.package for wheel in chosen}):
        raise UsageError(
            f"the profile {profile.name} needs {missing[0]}",
            why=f"pdm.lock has no {missing[0]} for {target.name}",
            next_step="correct [diet.contents] in bundle/recipe.toml",
        )
    return tuple(wheel for wheel in chosen if wheel.package in shipped)


ACTIONS = ("remove", "strip")


# What every saving is measured against. It holds upstream's own test programs: never shipped.
UNSLIMMED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class DietRule:
    """One cut. `package` names a wheel, or `python` for the runtime.

    `paths` and `keep` are globs from the package's site-packages (from `python/` for the runtime):
    `*` stays within a folder, `**` crosses folders. `targets` empty means all.
    """

    name: str
    package: str
    paths: tuple[str, ...]
    reason: str
    action: str = "remove"
    profiles: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


def parse_rules(sections: Mapping[str, Any]) -> tuple[DietRule, ...]:
    """Return the rules under [diet] of a recipe. Raises UsageError, naming the rule."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415 - as above

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
