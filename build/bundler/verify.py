"""Whether a bundle is what its manifest says, file by file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import VerificationError
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
    from collections.abc import Iterator
    from pathlib import Path

    from bundler.console import Progress
    from sidecar.manifest import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was compared: the manifest, how many files, how many bytes."""

    manifest: Manifest
    files: int
    size: int


def verify(root: Path, progress: Progress, *, with_modes: bool = os.name != "nt") -> Verified:
    """Compare every file of the bundle at `root` with its manifest.

    `with_modes` also compares the executable bit. Raises VerificationError naming each difference.
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
    if with_modes:
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


def _mode_damages(root: Path, entries: list[FileEntry]) -> Iterator[Damage]:
    for entry in entries:
        try:
            mode = (root / entry.path).stat().st_mode
        except OSError:
            continue
        if bool(mode & 0o100) != bool(entry.mode & 0o100):
            word = "not executable" if entry.mode & 0o100 else "executable"
            yield Damage(kind="changed", path=entry.path, detail=f"it is {word}")
