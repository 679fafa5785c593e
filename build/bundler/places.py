"""What lies at the places that people name: a bundle, nothing, or something that is not ours.

Standard library only: this is known before anything is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError
from sidecar.manifest import MANIFEST, MANIFESTS

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "embedding_sidecar"


def require_bundle(path: Path, *, make: str = "python3 build assemble") -> None:
    """Raise UsageError unless a bundle lies at `path`, whole or damaged; `make` makes one."""
    if _is_bundle(path):
        return
    step = f"{make} makes one, and says where"
    if path.is_dir():
        why = f"the folder has no {MANIFEST} with {MANIFESTS} beside it"
        inside = sorted(folder for folder in path.iterdir() if _is_bundle(folder))
        if inside:
            step = f"name a bundle in it: {inside[0]}"
    else:
        why = "it is a file, and a bundle is a folder" if path.exists() else "nothing is there"
    raise UsageError(f"there is no bundle at {path}", why=why, next_step=step)


def refuse_foreign(destination: Path) -> None:
    """Refuse to replace what is not a bundle. Raises UsageError."""
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise UsageError(
            "the output is not a folder", why=str(destination), next_step="name another --output"
        )
    if not destination.is_dir():
        return
    if _has_lists(destination):
        return
    if next(destination.iterdir(), None) is not None:
        raise UsageError(
            "the output folder holds something that is not a bundle",
            why=f"{destination} has files, but not {MANIFEST} and {MANIFESTS}; nothing was deleted",
            next_step="name an empty or a new folder with --output",
        )


def _is_bundle(path: Path) -> bool:
    """Return whether there is a bundle at `path`; a damaged one may have lost its manifest."""
    return _has_lists(path) or (path / SERVICE).is_dir()


def _has_lists(path: Path) -> bool:
    # Other programs have a manifest.json too; the folder of lists beside it is ours alone.
    return (path / MANIFEST).is_file() and (path / MANIFESTS).is_dir()
