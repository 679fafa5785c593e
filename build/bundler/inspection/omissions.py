"""What is not in a bundle and why: found again in the wheels that it was made from.

Nothing about this is kept in a bundle. What a rule removed is the size of the wheel's own file;
what a rule stripped is the wheel's file less the bundle's. The bytecode that removed sources would
have had is not counted.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.assembly.exclusions import removing, takes
from bundler.digests import Digest
from bundler.inspection.inventory import Owner
from bundler.profiles import parse_rules, profile_named, rules_for, wheels_of
from bundler.targets import target_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bundler.artifacts.store import Store
    from bundler.inspection.inventory import Inventory
    from bundler.locks.wheels import WheelLock
    from bundler.profiles import DietRule
    from bundler.recipe import Recipe
    from bundler.targets import Target
    from sidecar.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """What a bundle lacks of one file of a wheel: `size` bytes, and the rule that says so.

    `path` is where the file is or would be in the bundle. Without a rule no bundle takes it:
    scripts, headers, foreign bytecode, licences that NOTICES.txt carries.
    """

    path: str
    size: int
    package: Owner
    rule: DietRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Omissions:
    """All that was left out. `absent` are wheels the store lacks, `foreign` those of other bundles.

    `foreign` names the wheels that lock and bundle disagree on: the lock has moved on.
    """

    found: tuple[Omission, ...]
    absent: tuple[str, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSaving:
    """What one rule saved: how many files it touched, how many bytes less there are."""

    rule: DietRule
    files: int
    size: int


def rules_of(recipe: Recipe, manifest: Manifest) -> tuple[DietRule, ...]:
    """Return the recipe's rules for the profile and target of a bundle."""
    rules = parse_rules(recipe.sections.get("diet", {}))
    return rules_for(
        rules,
        profile=manifest.profile,
        target=target_named(manifest.target),
        packages=frozenset(rule.package for rule in rules),
    )


def omissions(recipe: Recipe, lock: WheelLock, store: Store, inventory: Inventory) -> Omissions:
    """Return what the bundle of `inventory` lacks of its wheels. Reads only names and sizes."""
    target = target_named(inventory.manifest.target)
    profile = profile_named(inventory.manifest.profile, recipe.sections.get("diet", {}))
    rules = rules_of(recipe, inventory.manifest)
    found: list[Omission] = []
    absent = []
    foreign = []
    present = inventory.wheels()
    for wheel in wheels_of(lock, target, profile) if present else ():
        package = Owner(name=wheel.package, version=wheel.version)
        if package not in present:
            foreign.append(f"{package.name} {package.version}")
            continue
        path = store.path(Digest(sha256=wheel.artifact.digest.sha256))
        if path is None:
            absent.append(wheel.artifact.name)
            continue
        own = tuple(rule for rule in rules if rule.package == wheel.package)
        with zipfile.ZipFile(path) as archive:
            members = [(i.filename, i.file_size) for i in archive.infolist() if not i.is_dir()]
        found += _lacking(members, package, own, inventory, target)
    return Omissions(
        found=tuple(sorted(found, key=lambda omission: omission.path)),
        absent=tuple(absent),
        foreign=tuple(foreign),
    )


def by_rule(found: Iterable[Omission]) -> tuple[RuleSaving, ...]:
    """Return what each rule saved, the most first."""
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    rules = {}
    for omission in found:
        if omission.rule is not None:
            rules[omission.rule.name] = omission.rule
            files[omission.rule.name] += 1
            sizes[omission.rule.name] += omission.size
    savings = [RuleSaving(rule=rules[name], files=files[name], size=sizes[name]) for name in rules]
    return tuple(sorted(savings, key=lambda saving: (-saving.size, saving.rule.name)))


def _lacking(
    members: Iterable[tuple[str, int]],
    package: Owner,
    rules: tuple[DietRule, ...],
    inventory: Inventory,
    target: Target,
) -> Iterator[Omission]:
    for name, size in members:
        place = place_of(name, target)
        path = posixpath.normpath(f"{target.site_packages}/{place or name}")
        owned = inventory.files.get(path)
        if owned is None:
            rule = removing(name, rules) or (removing(place, rules) if place else None)
            yield Omission(path=path, size=size, package=package, rule=rule)
        elif owned.entry.size < size and (rule := _stripping(place or name, rules)) is not None:
            yield Omission(path=path, size=size - owned.entry.size, package=package, rule=rule)


def _stripping(path: str, rules: Iterable[DietRule]) -> DietRule | None:
    return next((rule for rule in rules if rule.action == "strip" and takes(rule, path)), None)


def place_of(member: str, target: Target) -> str | None:
    """Return where a wheel's member goes, from site-packages, or None for scripts and headers."""
    folder, slash, rest = member.partition("/")
    if not slash or not folder.endswith(".data"):
        return member
    scheme, _, inner = rest.partition("/")
    match scheme:
        case "purelib" | "platlib":
            return inner
        case "data":
            # Its place is python/, above site-packages.
            return "../" * target.site_packages.count("/") + inner
        case _:
            return None
