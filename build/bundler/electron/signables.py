"""The files of a bundle that may be signed anew: every Mach-O file, every PE file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bundler.assembly import binaries
from bundler.electron.signature import code_digest
from bundler.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bundler.targets import Target
    from sidecar.manifest import FileEntry

FORMATS = {"mac": "macho", "win": "pe"}
# A library asks for this to write machine code as it runs, which the hardened runtime refuses
# unless the program has the right to.
JIT = b"_pthread_jit_write_protect_np\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signable:
    """A native file: its sha256, the digest of it without signature, and what it asks for.

    `writes_code`: it imports what only programs with the right `allow-jit` may use.
    """

    path: str
    kind: Literal["library", "program"]
    sha256: str
    code: str
    writes_code: bool


def signables(root: Path, target: Target, entries: Iterable[FileEntry]) -> tuple[Signable, ...]:
    """Return the files of the bundle at `root` that a target's signer signs, in signing order.

    Libraries come before programs, and what lies deeper before what lies above; Linux signs none.
    Raises VerificationError for a file that is not the one in `entries`.
    """
    wanted = FORMATS.get(target.os)
    if wanted is None:
        return ()
    found = []
    for entry in entries:
        binary = binaries.read(root / entry.path)
        if binary is not None and binary.format == wanted:
            is_program = binary.kind == "program"
            found.append(_signable(root, entry, "program" if is_program else "library"))
    return tuple(sorted(found, key=_order))


def _order(signable: Signable) -> tuple[bool, int, str]:
    return signable.kind == "program", -signable.path.count("/"), signable.path


def _signable(root: Path, entry: FileEntry, kind: Literal["library", "program"]) -> Signable:
    data = (root / entry.path).read_bytes()
    code = code_digest(data)
    if hashlib.sha256(data).hexdigest() != entry.sha256 or code is None:
        raise VerificationError(
            f"{entry.path} is not the file that the manifest names",
            why="it was altered after the bundle was assembled",
            next_step="python3 build assemble puts it right; sign a copy, not the bundle",
        )
    return Signable(
        path=entry.path, kind=kind, sha256=entry.sha256, code=code, writes_code=JIT in data
    )


def table(found: Iterable[Signable]) -> str:
    """Return the list as the hooks and the script read it: kind, sha256, digest, path."""
    return "".join(f"{one.kind}\t{one.sha256}\t{one.code}\t{one.path}\n" for one in found)
