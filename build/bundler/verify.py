"""Whether a bundle is what its manifest says, file by file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import VerificationError
from bundler.files.modes import keeps_modes
from sidecar.manifest import (
    MANIFEST,
    MANIFESTS,
    Damage,
    Manifest,
    ManifestError,
    damages,
    read,
    read_entries,
    strays,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.console import Progress
    from sidecar.manifest import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was compared: the manifest, how many files, how many bytes."""

    manifest: Manifest
    files: int
    size: int


def verify(root: Path, progress: Progress) -> Verified:
    """Compare every file of the bundle at `root` with its manifest.

    The executable bit counts where the file system keeps one. Raises VerificationError naming each
    difference.
    """
    try:
        manifest = read(root)
        lists = {c.name: read_entries(root, c) for c in manifest.components}
    except ManifestError as error:
        raise VerificationError(
            f"{root} is not a bundle that can be verified",
            why=str(error),
            next_step="python3 build assemble",
        ) from error
    entries = [entry for listed in lists.values() for entry in listed] + list(manifest.documents)
    label = "verify"
    progress.start(label, sum(entry.size for entry in entries))
    found = list(damages(root, entries, on_bytes=lambda size: progress.advance(label, size)))
    known = {entry.path for entry in entries}
    known |= {MANIFEST, *(f"{MANIFESTS}/{name}.json" for name in lists)}
    found += strays(root, known)
    found += _mode_damages(root, entries)
    progress.finish(label)
    if found:
        raise VerificationError(
            f"{root} differs from its manifest in {len(found)} places",
            why="\n    ".join(
                f"{damage.kind}: {damage.path}" + (f" ({damage.detail})" if damage.detail else "")
                for damage in found
            ),
            next_step="python3 build assemble puts it right",
        )
    return Verified(
        manifest=manifest, files=len(entries), size=sum(entry.size for entry in entries)
    )


def _mode_damages(root: Path, entries: list[FileEntry]) -> list[Damage]:
    """Return how executable bits differ; none where they mean nothing."""
    shown = {}
    for entry in entries:
        with contextlib.suppress(OSError):
            shown[entry] = bool((root / entry.path).stat().st_mode & 0o100)
    found = [
        Damage(
            kind="changed",
            path=entry.path,
            detail=f"it is {'executable' if is_executable else 'not executable'}",
        )
        for entry, is_executable in shown.items()
        if is_executable != bool(entry.mode & 0o100)
    ]
    return found if found and _has_modes(root, set(shown.values())) else []


def _has_modes(root: Path, shown: set[bool]) -> bool:
    """Return whether the file system at `root`, which shows the executable bits `shown`, has any.

    A bundle is never written into, so it is tried beside it. Where that cannot be done, one and the
    same bit on every file says that there is none.
    """
    place = root.resolve()
    is_same = place.parent.stat().st_dev == place.stat().st_dev
    kept = keeps_modes(place.parent) if is_same else None
    return len(shown) > 1 if kept is None else kept
