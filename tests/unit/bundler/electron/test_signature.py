from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from bundler.electron.signing import code_digest
from bundler.project import Project
from tests.support.electronbuilder import node
from tests.support.tinybinaries import elf, fat, macho, pe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNATURE = Project.here().root / "bundle" / "electron" / "builder" / "signature.mjs"
LINKEDIT_BYTES = 72


def linked(*, signature: bytes = b"", code: bytes = b"\x01code\0\0\0") -> bytes:
    """Return a Mach-O library as a linker lays it out: __LINKEDIT, which ends with a signature.

    Signing appends to the file, and tells of it in one more command and in __LINKEDIT's sizes.
    """
    at = 32 + LINKEDIT_BYTES + 16
    body = code.ljust(len(code) + -len(code) % 16, b"\0") if signature else code
    size = len(body) + len(signature)
    segment = struct.pack("<II16sQQQQ", 0x19, LINKEDIT_BYTES, b"__LINKEDIT", 0, size, at, size)
    commands = segment.ljust(LINKEDIT_BYTES, b"\0")
    if signature:
        commands += struct.pack("<IIII", 0x1D, 16, at + len(body), len(signature))
    count, length = (2, LINKEDIT_BYTES + 16) if signature else (1, LINKEDIT_BYTES)
    head = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, count, length, 0, 0)
    return (head + commands).ljust(at, b"\0") + body + signature


def certified(data: bytes, table: bytes, checksum: int = 0xFEED) -> bytes:
    """Return a PE file with certificates, as a signer leaves it."""
    code = bytearray(data.ljust(len(data) + -len(data) % 8, b"\0"))
    optional = int.from_bytes(code[60:64], "little") + 24
    struct.pack_into("<I", code, optional + 64, checksum)
    struct.pack_into("<II", code, optional + 112 + 32, len(code), len(table))
    return bytes(code) + table


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (linked(), linked(signature=b"\xfa\xde" * 50)),
        (linked(signature=b"\xfa\xde"), linked(signature=b"\xfa\xde\x0c\xc0" * 99)),
        (fat({"arm64": linked()}), fat({"arm64": linked(signature=b"\xfa\xde" * 3000)})),
        (pe(), certified(pe(), b"certificate" * 9)),
        (certified(pe(), b"one"), certified(pe(), b"another, longer", checksum=1)),
    ],
    ids=["adhoc", "again", "fat", "pe", "pe again"],
)
def test_a_file_is_the_same_before_and_after_signing(one: bytes, other: bytes) -> None:
    assert one != other
    assert code_digest(one) == code_digest(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (linked(code=b"\x01code"), linked(code=b"\x02code")),
        (linked(signature=b"s" * 64), linked(signature=b"s" * 64, code=b"\x01c0de\0\0\0")),
        (fat({"arm64": linked()}), fat({"x64": linked()})),
        (pe(), pe(version=(1, 2))),
        (certified(pe(), b"c"), certified(pe(needed=["a.dll"]), b"c")),
    ],
    ids=["code", "signed code", "architecture", "resources", "imports"],
)
def test_other_code_is_another_file(one: bytes, other: bytes) -> None:
    assert code_digest(one) != code_digest(other)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"MZ", b"text\n", b"\xcf\xfa\xed\xfe", elf(), linked()[:40]),
        b"MZ".ljust(60, b"\0") + b"\xff\xff\xff\x7f",
        b"\xca\xfe\xba\xbe\0\0\0\x34java",
        b"\xca\xfe\xba\xbe\0\0\0\x02" + bytes(40),
    ],
)
def test_what_is_neither_or_cut_off_has_no_digest(data: bytes) -> None:
    assert code_digest(data) is None


def test_a_command_without_a_size_ends_the_reading() -> None:
    data = bytearray(linked())
    struct.pack_into("<I", data, 36, 0)
    assert code_digest(bytes(data)) is None


@pytest.mark.parametrize("make", [elf, macho, pe, linked, lambda: fat({"arm64": macho()})])
def test_node_comes_to_the_same_digest(tmp_path: Path, make: Callable[[], bytes]) -> None:
    if shutil.which("node") is None:
        pytest.skip("there is no Node here")
    file, script = tmp_path / "file", tmp_path / "digest.mjs"
    file.write_bytes(make())
    script.write_text(
        f'import {{ codeDigest }} from "{SIGNATURE.as_uri()}";\n'
        'import fs from "node:fs";\n'
        "process.stdout.write(String(codeDigest(fs.readFileSync(process.argv[2]))));\n"
    )
    expected = code_digest(make())
    assert node(script, file) == ("null" if expected is None else expected)
