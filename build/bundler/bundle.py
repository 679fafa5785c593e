"""A bundle as its manifest lists it, and what lies at the places that people name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.atomic import PLAIN
from bundler.digests import Digest
from bundler.errors import UsageError, VerificationError, printable
from sidecar.manifest import (
    MANIFEST,
    MANIFESTS,
    FileEntry,
    Manifest,
    ManifestError,
    decode,
    read_entries,
    read_paper,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SERVICE = "embedding_sidecar"
SBOM = "sbom.cdx.json"
NOTICES = "NOTICES.txt"
# What a bundle says of itself to people.
DOCUMENTS = (MANIFEST, SBOM, NOTICES)


def require_bundle(path: Path, *, make: str = "python3 build assemble") -> None:
    """Raise UsageError unless a bundle lies at `path`, whole or damaged; `make` makes one."""
    if _is_bundle(path):
        return
    step = f"{make} makes one and prints its path"
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
    if destination.is_dir() and not _has_lists(destination) and any(destination.iterdir()):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBundle:
    """A bundle as its manifest has it, and the files of each component.

    `own` are the manifest and its lists.
    """

    root: Path
    manifest: Manifest
    lists: Mapping[str, tuple[FileEntry, ...]]
    own: tuple[FileEntry, ...]

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The files of all components."""
        return tuple(entry for entries in self.lists.values() for entry in entries)

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """The files of all components, then the documents."""
        return self.files + self.manifest.documents

    @property
    def everything(self) -> dict[str, FileEntry]:
        """Every file by its path, the manifest and its lists among them."""
        return {entry.path: entry for entry in self.own + self.entries}


def read_bundle(root: Path, *, purpose: str = "be read") -> ListedBundle:
    """Return the bundle at `root`; no file is read but its manifest and lists.

    Raises VerificationError for what is not a bundle that can `purpose`.
    """
    try:
        data = read_paper(root, MANIFEST)
        manifest = decode(data)
        lists = {c.name: read_entries(root, c) for c in manifest.components}
        own = {MANIFEST: (len(data), Digest.of_bytes(data).sha256)}
        for component in manifest.components:
            name = f"{MANIFESTS}/{component.name}.json"
            own[name] = ((root / name).stat().st_size, component.digest)
    except (OSError, ManifestError) as error:
        raise unfit(root, str(error), purpose) from error
    return ListedBundle(
        root=root,
        manifest=manifest,
        lists=lists,
        own=tuple(
            FileEntry(path=path, mode=PLAIN, size=size, sha256=sha256)
            for path, (size, sha256) in own.items()
        ),
    )


def folders_of(paths: Iterable[str]) -> list[str]:
    """Return every folder that `paths` lie in, parents first."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(found)


def unfit(root: Path, why: str, purpose: str) -> VerificationError:
    """Return the error for what is not a bundle that can `purpose`."""
    return VerificationError(
        f"{root} is not a bundle that can {purpose}",
        why=printable(why),
        next_step="python3 build assemble",
    )
