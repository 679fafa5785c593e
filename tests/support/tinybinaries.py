"""The smallest ELF, Mach-O and PE files that say what a test needs them to say.

They hold headers and tables only, no code: enough to be read, never to be run.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ELF_MACHINES = {"x64": 62, "arm64": 183}
MACHO_MACHINES = {"x64": 0x01000007, "arm64": 0x0100000C}
PE_MACHINES = {"x64": 0x8664, "arm64": 0xAA64, "x86": 0x14C}


class _Strings:
    """A table of strings ended by zero bytes, as ELF keeps them."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset


def elf(  # noqa: PLR0913
    *,
    soname: str = "",
    needed: Sequence[str] = (),
    versions: Mapping[str, Sequence[str]] | None = None,
    runpath: str = "",
    rpath: str = "",
    machine: str = "x64",
    stack: str | None = "rw",
    textrel: bool = False,
    program: bool = False,
) -> bytes:
    """Return a 64-bit ELF library; `stack=None` leaves PT_GNU_STACK out, "rwx" sets its X."""
    strings = _Strings()
    wanted = versions or {}
    dynamic = [
        (1, strings.add(name)) for name in (*needed, *(v for v in wanted if v not in needed))
    ]
    for tag, text in ((14, soname), (29, runpath), (15, rpath)):
        if text:
            dynamic.append((tag, strings.add(text)))
    verneed = b""
    for number, (library, names) in enumerate(wanted.items(), 1):
        following = 0 if number == len(wanted) else 16 + 16 * len(names)
        verneed += struct.pack("<HHIII", 1, len(names), strings.add(library), 16, following)
        for index, name in enumerate(names, 1):
            hashed = 0
            for byte in name.encode():
                hashed = (hashed << 4) + byte
                hashed = (hashed ^ ((hashed & 0xF0000000) >> 24)) & 0x0FFFFFFF
            last = 0 if index == len(names) else 16
            verneed += struct.pack("<IHHII", hashed, 0, index + 1, strings.add(name), last)
    if textrel:
        dynamic.append((22, 0))
    interpreter = b"/lib64/ld-linux-x86-64.so.2\0" if program else b""
    segments = 2 + (stack is not None) + program
    start = 64 + 56 * segments
    at_verneed = start + len(interpreter)
    at_strings = at_verneed + len(verneed)
    at_symbols = at_strings + len(strings.data) + -(at_strings + len(strings.data)) % 8
    at_dynamic = at_symbols + 24
    dynamic += [(5, at_strings), (10, len(strings.data)), (6, at_symbols), (11, 24)]
    if verneed:
        dynamic += [(0x6FFFFFFE, at_verneed), (0x6FFFFFFF, len(wanted))]
    table = b"".join(struct.pack("<qQ", tag, value) for tag, value in (*dynamic, (0, 0)))
    end = at_dynamic + len(table)

    def segment(kind: int, flags: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, size, size, 8)

    headers = segment(3, 4, start, len(interpreter)) if program else b""
    headers += segment(1, 7, 0, end) + segment(2, 6, at_dynamic, len(table))
    if stack is not None:
        headers += segment(0x6474E551, 7 if "x" in stack else 6, 0, 0)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    fields = (3, ELF_MACHINES[machine], 1, 0, 64, 0, 0, 64, 56, segments, 64, 0, 0)
    head = ident + struct.pack("<HHIQQQIHHHHHH", *fields)
    body = head + headers + interpreter + verneed + strings.data
    return body.ljust(at_symbols, b"\0") + bytes(24) + table


def macho(  # noqa: PLR0913
    *,
    install_name: str = "",
    needed: Sequence[str] = (),
    weak: Sequence[str] = (),
    rpaths: Sequence[str] = (),
    minimum: tuple[int, int] = (11, 0),
    machine: str = "arm64",
    signed: bool = True,
    program: bool = False,
) -> bytes:
    """Return a 64-bit Mach-O library, or a program."""

    def command(kind: int, fixed: bytes, text: str = "") -> bytes:
        tail = (text.encode() + b"\0") if text else b""
        size = 8 + len(fixed) + len(tail)
        padding = -size % 8
        return struct.pack("<II", kind, size + padding) + fixed + tail + bytes(padding)

    def library(kind: int, name: str) -> bytes:
        return command(kind, struct.pack("<IIII", 24, 0, 0x10000, 0x10000), name)

    commands = [library(0xD, install_name)] if install_name else []
    commands += [library(0xC, name) for name in needed]
    commands += [library(0x80000018, name) for name in weak]
    commands += [command(0x8000001C, struct.pack("<I", 12), path) for path in rpaths]
    version = minimum[0] << 16 | minimum[1] << 8
    commands.append(command(0x32, struct.pack("<IIII", 1, version, version, 0)))
    commands.append(command(0x1B, bytes(range(16))))
    size = sum(map(len, commands)) + (16 if signed else 0)
    if signed:
        commands.append(command(0x1D, struct.pack("<II", 32 + size, 16)))
    kind = 2 if program else 6
    fields = (0xFEEDFACF, MACHO_MACHINES[machine], 0, kind, len(commands), size, 0, 0)
    return struct.pack("<IIIIIIII", *fields) + b"".join(commands) + bytes(16)


def fat(slices: Mapping[str, bytes]) -> bytes:
    """Return a Mach-O file with one slice for each architecture."""
    at, table, body = 4096, b"", b""
    for machine, data in slices.items():
        table += struct.pack(">IIIII", MACHO_MACHINES[machine], 0, at + len(body), len(data), 12)
        body += data.ljust(len(data) + -len(data) % 4096, b"\0")
    return (struct.pack(">II", 0xCAFEBABE, len(slices)) + table).ljust(at, b"\0") + body


def _version_resource(version: tuple[int, int], at: int) -> bytes:
    """Return the resource tree of one VS_VERSIONINFO, for the address it will lie at."""
    numbers = version[0] << 16 | version[1]
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, numbers, 0, numbers, *[0] * 8)
    head = struct.pack("<HHH", 40 + len(fixed), len(fixed), 0)
    info = (head + "VS_VERSION_INFO\0".encode("utf-16-le")).ljust(40, b"\0") + fixed
    tree = b""
    for level, (number, below) in enumerate(((16, 24), (1, 48), (1033, 72))):
        is_folder = 0x80000000 if level < 2 else 0
        tree += struct.pack("<IIHHHHII", 0, 0, 0, 0, 0, 1, number, below | is_folder)
    return tree + struct.pack("<IIII", at + 88, len(info), 0, 0) + info


def pe(
    *,
    needed: Sequence[str] = (),
    machine: str = "x64",
    subsystem: tuple[int, int] = (6, 0),
    toolset: tuple[int, int] = (14, 0),
    version: tuple[int, int] | None = None,
    program: bool = False,
) -> bytes:
    """Return a 64-bit PE library, or a program, that imports one function of each of `needed`."""
    base, raw = 0x1000, 0x200
    size_of_table = 20 * (len(needed) + 1)
    table, rest = b"", b""
    at = base + size_of_table
    for name in needed:
        hint = struct.pack("<H", 0) + b"f\0\0\0\0\0"
        thunks = struct.pack("<QQ", at + 32, 0)
        text = name.encode() + b"\0"
        block = (thunks + thunks + hint.ljust(8, b"\0") + text).ljust(40 + len(text) + 8, b"\0")
        table += struct.pack("<IIIII", at, 0, 0, at + 40, at + 16)
        rest += block
        at += len(block)
    section = table.ljust(size_of_table, b"\0") + rest
    at_resources = base + len(section) + -len(section) % 16
    resources = _version_resource(version, at_resources) if version else b""
    section = section.ljust(at_resources - base, b"\0") + resources
    padded = section.ljust(len(section) + -len(section) % raw, b"\0")
    directories = [(0, 0)] * 16
    directories[1] = (base, size_of_table)
    directories[2] = (at_resources, len(resources)) if version else (0, 0)
    in_memory = 0x1000 + len(padded) + -len(padded) % 0x1000
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        *(0x20B, *toolset, 0, len(padded), 0, 0, base, 0x180000000, 0x1000, raw),
        *(6, 0, 0, 0, *subsystem, 0, in_memory, raw, 0, 3, 0),
        *(0x100000, 0x1000, 0x100000, 0x1000, 0, 16),
    )
    optional += b"".join(struct.pack("<II", *directory) for directory in directories)
    flags = 0x22 | (0 if program else 0x2000)
    head = b"PE\0\0" + struct.pack(
        "<HHIIIHH", PE_MACHINES[machine], 1, 0, 0, 0, len(optional), flags
    )
    named = b".idata\0\0" + struct.pack(
        "<IIIIIIHHI", len(section), base, len(padded), raw, 0, 0, 0, 0, 0xC0000040
    )
    dos = (b"MZ" + bytes(58) + struct.pack("<I", 0x40)).ljust(0x40, b"\0")
    return (dos + head + optional + named).ljust(raw, b"\0") + padded
