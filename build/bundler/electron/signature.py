"""What a Mach-O or PE file is, its signature left out: equal before and after signing.

bundle/electron/builder/signature.mjs computes the same digest on the machine that packages.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

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
