"""pdm.lock as data, and the choice of one wheel per package and target.

No resolver and no host: markers and tags are those of the target (PEP 508, PEP 425).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.markers import (
    InvalidMarker,
    Marker,
    UndefinedComparison,
    UndefinedEnvironmentName,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bundler.digests import SHA256, Artifact, Digest
from bundler.errors import PolicyError, UnsupportedError, UsageError
from bundler.project import parse_toml, read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from bundler.targets import Target

REFRESH = "python3 build lock --wheels"
# CUDA builds weigh gigabytes and never ship; one of these means that torch's source slipped.
FORBIDDEN = ("nvidia-", "cuda-", "triton")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One entry of the lock: a package at a version, with every file that was locked for it."""

    name: str
    version: str
    groups: frozenset[str]
    marker: Marker | None
    dependencies: tuple[Requirement, ...]
    files: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedWheel:
    """The one wheel of a package for a target."""

    package: str
    version: str
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelLock:
    """Every package of pdm.lock, and the hash of the pyproject.toml that it was made from."""

    packages: tuple[LockedPackage, ...]
    content_hash: str


def read_lock(path: Path) -> WheelLock:
    """Return the lock in the file at `path`. Raises UsageError."""
    return parse_lock(read_text(path, REFRESH))


def parse_lock(text: str) -> WheelLock:
    """Return the lock written in `text`. Raises UsageError, naming the package at fault."""
    raw = parse_toml(text, "pdm.lock")
    try:
        content_hash = str(raw["metadata"]["content_hash"])
        packages = tuple(_package(entry) for entry in raw["package"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "pdm.lock lacks or misspells a key",
            why=f"{type(error).__name__}: {error}",
            next_step=REFRESH,
        ) from error
    for package in packages:
        if package.name.startswith(FORBIDDEN):
            raise PolicyError(
                f"pdm.lock holds {package.name}",
                why="a CUDA build of torch was locked; the bundle ships the CPU build",
                next_step="lock torch from PyTorch's CPU index: python3 build lock --wheels",
            )
    return WheelLock(packages=packages, content_hash=content_hash)


def _package(entry: Mapping[str, Any]) -> LockedPackage:
    name = canonicalize_name(entry["name"])
    files = []
    for file in entry.get("files", ()):
        algorithm, _, value = file.get("hash", "").partition(":")
        if algorithm != "sha256" or not SHA256.fullmatch(value):
            raise UsageError(
                f"pdm.lock has no sha256 for {name}",
                why=f"{file.get('file', 'a file')} carries {file.get('hash') or 'no hash'}",
                next_step=REFRESH,
            )
        files.append(Artifact(name=str(file["file"]), digest=Digest(sha256=value)))
    try:
        return LockedPackage(
            name=name,
            version=entry["version"],
            groups=frozenset(entry.get("groups", ("default",))),
            marker=Marker(entry["marker"]) if "marker" in entry else None,
            dependencies=tuple(map(Requirement, entry.get("dependencies", ()))),
            files=tuple(files),
        )
    except (InvalidMarker, InvalidRequirement) as error:
        what = "marker" if isinstance(error, InvalidMarker) else "dependency"
        raise UsageError(f"pdm.lock has a {what} that cannot be read, for {name}") from error


def content_hash(pyproject: Mapping[str, Any]) -> str:
    """Return what pdm writes into a lock of this pyproject.toml, in hex.

    As pdm 2.29 computes it: the parts that decide a resolution, as sorted JSON, hashed.
    """
    project, settings = pyproject.get("project", {}), pyproject.get("tool", {}).get("pdm", {})
    groups = pyproject.get("dependency-groups", {})
    decisive = {
        "sources": settings.get("source", []),
        "dependencies": project.get("dependencies", []),
        "dev-dependencies": {canonicalize_name(name): group for name, group in groups.items()},
        "optional-dependencies": project.get("optional-dependencies", {}),
        "requires-python": project.get("requires-python", ""),
        "resolution": settings.get("resolution", {}),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def require_current(lock: WheelLock, pyproject: Path) -> None:
    """Raise UsageError if `lock` was made from another pyproject.toml than the one there."""
    if not pyproject.exists():
        return
    wanted = content_hash(parse_toml(read_text(pyproject), pyproject.name))
    if lock.content_hash.removeprefix("sha256:") != wanted:
        raise UsageError(
            "pdm.lock is older than pyproject.toml",
            why="the dependencies changed since the last lock",
            next_step=REFRESH,
        )


def select(
    lock: WheelLock, target: Target, *, groups: Collection[str] = ("default",)
) -> tuple[LockedWheel, ...]:
    """Return exactly one wheel for each package that `groups` need on `target`, by name.

    Raises UnsupportedError (a package has no wheel for the target) and UsageError (the lock holds
    two that fit, or nothing but a source distribution).
    """
    candidates: dict[str, list[LockedPackage]] = {}
    for package in lock.packages:
        if package.groups.intersection(groups) and _holds(package.marker, target):
            candidates.setdefault(package.name, []).append(package)
    found = {name: _choose(name, packages, target) for name, packages in candidates.items()}
    if missing := sorted(name for name, wheel in found.items() if wheel is None):
        raise UnsupportedError(
            f"not locked for {target.name}: {', '.join(missing)}",
            why="none of the files locked for them fits the target's tags",
            next_step="python3 build lock --wheels, where their index can be reached",
        )
    chosen = tuple(wheel for _, wheel in sorted(found.items()) if wheel)
    _check_closed(chosen, candidates, target)
    return chosen


def _holds(marker: Marker | None, target: Target) -> bool:
    """Return whether what has `marker` is wanted on `target`. Raises UsageError."""
    try:
        return marker is None or marker.evaluate({**target.markers, "extra": ""})
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise UsageError(
            f"pdm.lock has a marker that means nothing for {target.name}",
            why=f"{marker}: {error}",
            next_step=REFRESH,
        ) from error


def _choose(name: str, packages: Iterable[LockedPackage], target: Target) -> LockedWheel | None:
    """Return the best wheel among entries of one package, or None; two that fit are an error."""
    ranks = target.tag_ranks()
    files = [(package, artifact) for package in packages for artifact in package.files]
    wheels = [file for file in files if file[1].name.endswith(".whl")]
    fitting: list[tuple[int, str, LockedPackage, Artifact]] = []
    for package, artifact in wheels:
        try:
            *_, tags = parse_wheel_filename(artifact.name)
        except InvalidWheelFilename as error:
            raise UsageError(f"pdm.lock has an invalid name of a wheel, for {name}") from error
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None:
            fitting.append((rank, artifact.name, package, artifact))
    if not fitting:
        if files and not wheels:
            raise UsageError(
                f"{name} is locked as a source distribution only",
                why="the bundle is assembled from wheels; nothing is compiled",
                next_step=f"pick another version of {name}, then python3 build lock --wheels",
            )
        return None
    versions = {package.version for _, _, package, _ in fitting}
    best = min(fitting, key=lambda found: found[:2])
    rivals = [found for found in fitting if found[0] == best[0] and found[3] != best[3]]
    if len(versions) > 1 or rivals:
        names = sorted({found[1] for found in fitting})
        raise UsageError(
            f"pdm.lock holds more than one wheel of {name} for {target.name}",
            why=", ".join(names),
            next_step=REFRESH,
        )
    return LockedWheel(package=name, version=best[2].version, artifact=best[3])


def _check_closed(
    chosen: Iterable[LockedWheel], candidates: Mapping[str, Iterable[LockedPackage]], target: Target
) -> None:
    """Refuse a selection in which a wheel needs a package that was not selected."""
    present = {wheel.package for wheel in chosen}
    for wheel in chosen:
        for package in candidates[wheel.package]:
            if package.version != wheel.version:
                continue
            for requirement in package.dependencies:
                needed = canonicalize_name(requirement.name)
                if needed not in present and _holds(requirement.marker, target):
                    raise UnsupportedError(
                        f"{needed} is not locked for {target.name}",
                        why=f"{wheel.package} {wheel.version} needs it there",
                        next_step=REFRESH,
                    )
