"""Reading a bundle, and whether it is what its manifest says, file by file."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.assembly.path_rules import ArchiveLimits, Member, MemberCheck
from bundler.atomic import FOLDER, keeps_modes
from bundler.bundle import folders_of, read_bundle, unfit
from bundler.errors import PolicyError, VerificationError, printable
from sidecar.manifest import MANIFEST, Damage, Manifest, damages, strays

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bundler.console import Progress

OTHERS_WRITE = 0o002
OWNER_READS = 0o500
# What a umask, or taking the right to write from a whole tree, may leave out of its modes.
UMASK = 0o277


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was compared: the manifest, how many files, how many bytes.

    `linked` files have other names (hard links): a change there is a change here.
    """

    manifest: Manifest
    files: int
    size: int
    linked: int = 0


def verify(root: Path, progress: Progress) -> Verified:
    """Compare every file of the bundle at `root` with its manifest.

    Nothing but regular files is opened, and no link followed. Modes count where the file system
    keeps them, less what a umask took from all of them. Raises VerificationError naming each
    difference, in words that are fit for a terminal.
    """
    bundle = read_bundle(root, purpose="be verified")
    if not any(bundle.lists.values()):
        raise unfit(root, f"{MANIFEST} lists no component with a file in it", "be verified")
    entries = bundle.entries
    modes = {path: entry.mode for path, entry in bundle.everything.items()}
    label = "verify"
    progress.start(label, sum(entry.size for entry in entries))
    found = list(_name_damages([entry.path for entry in bundle.own + entries]))
    found += damages(root, entries, on_bytes=lambda size: progress.advance(label, size))
    found += strays(root, modes.keys())
    statuses = _statuses(root, modes)
    found += _mode_damages(root, modes, statuses)
    progress.finish(label)
    if found:
        raise VerificationError(
            f"{root} differs from its manifest in {len(found)} places",
            why="\n    ".join(printable(str(damage)) for damage in found),
            next_step="python3 build assemble repairs it",
        )
    return Verified(
        manifest=bundle.manifest,
        files=len(entries),
        size=sum(entry.size for entry in entries),
        linked=sum(status.st_nlink > 1 for status in statuses.values()),
    )


def _name_damages(paths: Sequence[str]) -> Iterator[Damage]:
    """Yield which paths a bundle may not have: twice, one name on some systems, or on none."""
    check = MemberCheck(archive=MANIFEST, limits=ArchiveLimits(members=len(paths)), packed_bytes=0)
    for path in paths:
        try:
            check.claim(path, check.admit(Member(name=path, kind="file")))
        except PolicyError as error:
            yield Damage(kind="extra", path=path, detail=f"in {MANIFEST}: {error.why}")


def _statuses(root: Path, paths: Iterable[str]) -> dict[str, os.stat_result]:
    """Return what the regular files at `paths` are, as far as they are there."""
    found = {}
    for path in paths:
        with suppress(OSError):
            found[path] = os.lstat(f"{root}/{path}")
    return {path: status for path, status in found.items() if stat.S_ISREG(status.st_mode)}


def _mode_damages(
    root: Path, modes: Mapping[str, int], statuses: Mapping[str, os.stat_result]
) -> list[Damage]:
    """Return how modes differ from `modes`, those of the manifest; none where they mean nothing."""
    shown = {path: stat.S_IMODE(status.st_mode) for path, status in statuses.items()}
    # One that unpacks as a user takes its umask's bits from every file alike.
    umask = UMASK
    for path, mode in shown.items():
        umask &= ~(mode & modes[path])
    found = [
        Damage(kind="changed", path=path, detail=_mode_detail(mode, modes[path]))
        for path, mode in shown.items()
        if mode != modes[path] & ~umask
    ]
    found += _folder_damages(root, modes)
    are_executable = {bool(mode & 0o100) for mode in shown.values()}
    return found if found and _has_modes(root, are_executable) else []


def _mode_detail(mode: int, wanted: int) -> str:
    if (mode ^ wanted) & 0o100:
        return f"it is {'executable' if mode & 0o100 else 'not executable'}"
    return f"mode {mode:04o} instead of {wanted:04o}"


def _folder_damages(root: Path, paths: Iterable[str]) -> Iterator[Damage]:
    """Yield the folders of `paths` that everybody may write into, or not even their owner read.

    Unpacking makes folders by the umask and the folder around them, so the rest is not compared.
    """
    for folder in ("", *folders_of(paths)):
        try:
            status = os.lstat(f"{root}/{folder}")
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        is_wrong = mode & OTHERS_WRITE or mode & OWNER_READS != OWNER_READS
        if stat.S_ISDIR(status.st_mode) and is_wrong:
            detail = f"folder of mode {mode:04o} instead of {FOLDER:04o}"
            yield Damage(kind="changed", path=folder or ".", detail=detail)


def _has_modes(root: Path, shown: set[bool]) -> bool:
    """Return whether the file system at `root`, which shows the executable bits `shown`, has any.

    A bundle is never written into, so it is tried beside it. Where that cannot be done, one and the
    same bit on every file says that there is none.
    """
    place = root.resolve()
    is_same = place.parent.stat().st_dev == place.stat().st_dev
    kept = keeps_modes(place.parent) if is_same else None
    return len(shown) > 1 if kept is None else kept
