"""What of a bundle is signed, with which rights, and the digest of code that a signature leaves."""

from __future__ import annotations

import hashlib
import plistlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bundler.assembly import binaries
from bundler.errors import VerificationError
from bundler.targets import target_named

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bundler.bundle import ListedBundle
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


def signables(bundle: ListedBundle) -> tuple[Signable, ...]:
    """Return the files of `bundle` that its target's signer signs, in signing order.

    Libraries come before programs, and what lies deeper before what lies above; Linux signs none.
    Raises VerificationError for a file that is not the listed one.
    """
    root, wanted = bundle.root, FORMATS.get(target_named(bundle.manifest.target).os)
    if wanted is None:
        return ()
    found = []
    for entry in bundle.files:
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
            next_step="python3 build assemble repairs it; sign a copy, not the bundle",
        )
    return Signable(
        path=entry.path, kind=kind, sha256=entry.sha256, code=code, writes_code=JIT in data
    )


def signing_table(found: Iterable[Signable]) -> str:
    """Return the list as the hooks and the script read it: kind, sha256, digest, path."""
    return "".join(f"{one.kind}\t{one.sha256}\t{one.code}\t{one.path}\n" for one in found)


MACHO_64: Final = 0xFEEDFACF
# A load command has at least its kind and its size.
COMMAND_BYTES: Final = 8
MACHO_FAT: Final = 0xCAFEBABE
# A Java class file has the same four bytes, then its version, which starts at 45.
MOST_SLICES: Final = 44
LC_SEGMENT_64: Final = 0x19
LC_CODE_SIGNATURE: Final = 0x1D
LINKEDIT: Final = b"__LINKEDIT".ljust(16, b"\0")
PE: Final = 0x4550
PE_PLUS: Final = 0x20B
CERTIFICATES: Final = 4


def code_digest(data: bytes) -> str | None:
    """Return the sha256 of `data` without its signature, or None if it is neither Mach-O nor PE.

    Left out are a Mach-O file's signature and the sizes that grow with it, slice by slice, and a
    PE file's certificates and checksum. A file that is cut off has none either.
    """
    try:
        for read in (_macho, _fat, _pe):
            code = read(data)
            if code is not None:
                return hashlib.sha256(code).hexdigest()
    except struct.error:
        return None
    return None


def _trimmed(code: bytes | bytearray) -> bytes:
    """Return `code` less the zero bytes at its end: signing aligns what it appends."""
    return bytes(code).rstrip(b"\0")


def _macho(data: bytes) -> bytes | None:
    if data[:4] != MACHO_64.to_bytes(4, "little"):
        return None
    code = bytearray(data)
    end, at = len(code), 32
    (count,) = struct.unpack_from("<I", code, 16)
    for _ in range(count):
        kind, size = struct.unpack_from("<II", code, at)
        if size < COMMAND_BYTES or at + size > len(code):
            raise struct.error("a load command of no length, or cut off")
        if kind == LC_CODE_SIGNATURE:
            (end,) = struct.unpack_from("<I", code, at + 8)
            code[at : at + size] = bytes(size)
            commands, bytes_of_them = struct.unpack_from("<II", code, 16)
            struct.pack_into("<II", code, 16, commands - 1, bytes_of_them - size)
        elif kind == LC_SEGMENT_64 and code[at + 8 : at + 24] == LINKEDIT:
            struct.pack_into("<Q", code, at + 32, 0)  # vmsize
            struct.pack_into("<Q", code, at + 48, 0)  # filesize
        at += size
    return _trimmed(code[:end])


def _fat(data: bytes) -> bytes | None:
    if data[:4] != MACHO_FAT.to_bytes(4, "big"):
        return None
    (count,) = struct.unpack_from(">I", data, 4)
    if not 0 < count <= MOST_SLICES:
        return None
    parts = []
    for at in range(8, 8 + 20 * count, 20):
        start, size = struct.unpack_from(">II", data, at + 8)
        code = _macho(data[start : start + size])
        if code is None:
            return None
        parts += [data[at : at + 8], hashlib.sha256(code).digest()]
    return b"".join(parts)


def _pe(data: bytes) -> bytes | None:
    if data[:2] != b"MZ":
        return None
    (head,) = struct.unpack_from("<I", data, 60)
    if struct.unpack_from("<I", data, head) != (PE,):
        return None
    optional = head + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    certificates = optional + (112 if magic == PE_PLUS else 96) + 8 * CERTIFICATES
    (end,) = struct.unpack_from("<I", data, certificates)
    code = bytearray(data[: end or len(data)])
    code[optional + 64 : optional + 68] = bytes(4)  # checksum
    code[certificates : certificates + 8] = bytes(8)
    return _trimmed(code)


ALLOW_JIT = "com.apple.security.cs.allow-jit"
DISABLE_LIBRARY_VALIDATION = "com.apple.security.cs.disable-library-validation"
APP_SANDBOX = "com.apple.security.app-sandbox"
INHERIT = "com.apple.security.inherit"


def entitlements(*rights: str, has_team: bool = True) -> bytes:
    """Return the property list of an app with its helpers, or of the programs in a bundle.

    A signature without a team, ad-hoc or self-signed, also needs its libraries not to be compared
    with it: macOS takes them for somebody else's. Where one team signs all, library validation
    stays on. Nothing is debugged, and no DYLD_ variable is set.
    """
    lacking = () if has_team else (DISABLE_LIBRARY_VALIDATION,)
    return plistlib.dumps(dict.fromkeys((*rights, *lacking), True), sort_keys=True)
