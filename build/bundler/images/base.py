"""The root file system below a bundle in an image: whether it carries what the bundle asks for."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

from bundler.assembly.linkage import version_key
from bundler.digests import Digest
from bundler.errors import PolicyError, UsageError
from bundler.images.layers import Foundation

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.manifest import Manifest

LIBC = "libc.so.6"
# The machine that an ELF file is for, as its header spells it (elf.h).
MACHINES = {"amd64": 62, "arm64": 183}
_LIBRARY = re.compile(r"lib.+\.so\.\d+")
_SYMBOLS = re.compile(rb"GLIBC_(2\.\d+)\0")


def check_base(path: Path, manifest: Manifest, architecture: str) -> Foundation:
    """Return the tar at `path` as a layer that the bundle of `manifest` can stand on.

    Raises UsageError if it is no tar, and PolicyError if a library of the manifest's floor is not
    in it, too old, or another machine's.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            names = {member.name.rpartition("/")[2]: member for member in tar if not member.isdir()}
            libc = _read(tar, names.get(LIBC))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"{path.name} is no base for an image",
            why=f"it must be a tar of a root file system, not compressed ({error})",
            next_step="ci/base makes one",
        ) from error
    wanted = [LIBC, *(name for name in manifest.floor if _LIBRARY.fullmatch(name))]
    missing = sorted({name for name in wanted if name not in names})
    if missing:
        raise _unfit(path, f"it has no {', '.join(missing)}")
    if int.from_bytes(libc[18:20], "little") != MACHINES[architecture]:
        raise _unfit(path, f"it is not for {architecture}")
    newest = max((found.decode() for found in _SYMBOLS.findall(libc)), key=version_key, default="")
    floor = manifest.floor.get("glibc", "")
    if version_key(newest) < version_key(floor):
        raise _unfit(path, f"its C library has the symbols of {newest}, the bundle wants {floor}")
    return Foundation(path=path, identity=Digest.of_file(path).sha256)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    """Return a file's bytes; a link's are those of what it leads to."""
    stream = tar.extractfile(member) if member else None
    return stream.read() if stream else b""


def _unfit(path: Path, why: str) -> PolicyError:
    return PolicyError(
        f"this bundle cannot run on {path.name}",
        why=why,
        next_step="ci/base makes one: --suite NAME from a newer release, ARCH for another machine",
    )
