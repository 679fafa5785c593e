"""A bundle sent as one file: verified, packed, named, and verified again where it arrives."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler import pack
from bundler.digests import Digest
from bundler.files.partial import disk_error
from bundler.profiles import label
from bundler.verify import verify

if TYPE_CHECKING:
    from bundler.console import Progress
    from bundler.verify import Verified
    from sidecar.manifest import Manifest

PRODUCT = "sidecar"
SUFFIX = ".tar.zst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A bundle's archive: where it lies, its digest with the size, and what it holds."""

    path: Path
    digest: Digest
    manifest: Manifest


def name_of(manifest: Manifest) -> str:
    """Return the file name of a bundle's archive."""
    return f"{PRODUCT}-{manifest.version}-{label(manifest.target, manifest.profile)}{SUFFIX}"


def send(bundle: Path, output: Path | None, *, epoch: int, progress: Progress) -> Parcel:
    """Pack the bundle at `bundle` after verifying it; equal bundles make equal archives.

    Goes beside the bundle, under its own name, unless `output` names a file. `epoch` is the date
    of every entry, in seconds since 1970. Raises VerificationError, PolicyError, DiskError.
    """
    verified = verify(bundle, progress)
    path = output or bundle.parent / name_of(verified.manifest)
    step = "archive"
    progress.start(step, verified.size)
    pack.archive(bundle, path, epoch=epoch, on_bytes=lambda size: progress.advance(step, size))
    progress.finish(step)
    return Parcel(path=path, digest=Digest.of_file(path), manifest=verified.manifest)


def receive(archive: Path, progress: Progress) -> Verified:
    """Unpack `archive` beside itself, verify what comes out, and remove it again.

    A killed run leaves a hidden folder beside the archive. Raises VerificationError, PolicyError
    or IntegrityError for an archive that is damaged or hostile, and DiskError.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", dir=archive.parent))
    except OSError as error:
        raise disk_error(error, archive.parent, purpose=f"what {archive.name} holds") from error
    try:
        step = "unpack"
        progress.start(step, None)
        root = folder / "bundle"
        pack.unpack(archive, root, on_bytes=lambda size: progress.advance(step, size))
        progress.finish(step)
        return verify(root, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
