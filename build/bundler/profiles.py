"""What a profile puts into a bundle, before any rule takes something out again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bundler.errors import UsageError
from bundler.names import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bundler.locks.lockfile import LockedWheel, WheelLock
    from bundler.targets import Target

# Of pdm.lock: what the service imports by itself, and what the reference engine needs on top.
GROUPS = ("default", "reference")
WEIGHTS = ("whole", "half")
# The recipe's default: names of files and folders do not say it.
DEFAULT = "safe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The groups of pdm.lock that ship, less the packages in `without`, each with its reason.

    `weights` whole: as they are locked. half: in float16, for the packed engine alone, proven
    against the golden vectors when they are made.
    """

    name: str
    groups: tuple[str, ...] = GROUPS
    weights: Literal["whole", "half"] = "whole"
    without: Mapping[str, str] = field(default_factory=dict)


def label(target: str, profile: str) -> str:
    """Return what a bundle's folder and archives are called by: linux-x64, linux-x64-lean."""
    return target if profile == DEFAULT else f"{target}-{profile}"


def profile_named(name: str, diet: Mapping[str, Any]) -> Profile:
    """Return the profile called `name` of a recipe's table [diet]. Raises UsageError."""
    known = tuple(diet.get("profiles", ()))
    if name not in known:
        raise unknown("profile", name, known, option="--profile")
    entry = diet.get("contents", {}).get(name, {})
    weights = entry.get("weights", "whole")
    if weights not in WEIGHTS or not isinstance(entry.get("groups", []), list):
        raise UsageError(
            f"the contents of the profile {name} cannot be understood",
            why=f"groups is a list of groups of pdm.lock, weights one of {', '.join(WEIGHTS)}",
            next_step="correct [diet.contents] in bundle/recipe.toml",
        )
    return Profile(
        name=name,
        groups=tuple(entry.get("groups", GROUPS)),
        weights=weights,
        without={package: str(reason) for package, reason in entry.get("without", {}).items()},
    )


def wheels_of(lock: WheelLock, target: Target, profile: Profile) -> tuple[LockedWheel, ...]:
    """Return the wheels of `profile` for `target`. Raises as `select` does."""
    # Names of profiles are checked before anything is installed.
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    from bundler.locks.lockfile import select  # noqa: PLC0415

    chosen = select(lock, target, groups=profile.groups)
    without = {canonicalize_name(package) for package in profile.without}
    return tuple(wheel for wheel in chosen if wheel.package not in without)
