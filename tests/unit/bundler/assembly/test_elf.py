from __future__ import annotations

import random
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.exclusions import HEADER, SECTION, SEGMENT, strip_symbols, stripped

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"what is loaded" * 3
ALLOC = 2


def image(
    *sections: tuple[bytes, int, int, bytes], names: bytes = b".shstrtab", load: bytes = TEXT
) -> bytes:
    """Return an ELF file: one loaded segment, then `sections` (name, type, flags, data)."""
    body = bytearray(HEADER.size + SEGMENT.size) + load
    loaded = len(body)
    listed = [(b"", 0, 0, b""), *sections, (names, 3, 0, b"")]
    table = b"".join(name + b"\0" for name, *_ in listed)
    rows = []
    at = 0
    for index, (name, kind, flags, data) in enumerate(listed):
        content = table if index == len(listed) - 1 else data
        offset = len(body) if kind else 0
        # A symbol table's link is its strings: here, the section that follows it.
        link = index + 1 if kind == 2 else 0
        rows.append((at, kind, flags, 0, offset, len(content), link, 0, 1, 0))
        at += len(name) + 1
        body += content
    body += bytes(-len(body) % 8)
    start = len(body)
    for row in rows:
        body += SECTION.pack(*row)
    body[: HEADER.size] = HEADER.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(3, 62, 1, 0, HEADER.size, start, 0, HEADER.size, SEGMENT.size, 1),
        *(SECTION.size, len(rows), len(rows) - 1),
    )
    body[HEADER.size : HEADER.size + SEGMENT.size] = SEGMENT.pack(
        1, 5, 0, 0, 0, loaded, loaded, 4096
    )
    return bytes(body)


SYMBOLS = (
    (b".comment", 1, 0, b"made by hand"),
    (b".symtab", 2, 0, b"s" * 480),
    (b".strtab", 3, 0, b"t" * 300),
    (b".debug_info", 1, 0, b"d" * 1000),
)


def sections_of(data: bytes) -> dict[bytes, bytes]:
    header = HEADER.unpack_from(data)
    rows = [SECTION.unpack_from(data, header[6] + n * SECTION.size) for n in range(header[12])]
    names = data[rows[header[13]][4] :][: rows[header[13]][5]]
    return {
        names[row[0] :].partition(b"\0")[0]: data[row[4] : row[4] + row[5]]
        for row in rows
        if row[1]
    }


def test_symbols_and_debug_data_go_and_the_rest_stays() -> None:
    data = image(*SYMBOLS)
    slim = stripped(data)
    assert slim is not None
    assert len(data) - len(slim) >= 480 + 300 + 1000
    assert set(sections_of(slim)) == {b".comment", b".shstrtab"}
    assert sections_of(slim)[b".comment"] == b"made by hand"
    loaded = HEADER.size + SEGMENT.size + len(TEXT)
    assert slim[HEADER.size : loaded] == data[HEADER.size : loaded]


def test_what_was_stripped_has_nothing_more_to_strip() -> None:
    slim = stripped(image(*SYMBOLS))
    assert slim is not None
    assert stripped(slim) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF\x02\x01",
        b"MZ" + bytes(200),
        b"\x7fELF\x01\x01" + bytes(200),
        image((b".comment", 1, 0, b"nothing to drop")),
        image((b".symtab", 2, ALLOC, b"loaded")),
        image(*SYMBOLS, names=b".strtab"),
        image(*SYMBOLS)[:400],
    ],
    ids=["empty", "short", "pe", "32 bit", "no symbols", "loaded", "one table for all", "cut"],
)
def test_what_cannot_be_stripped_safely_is_left(data: bytes, tmp_path: Path) -> None:
    assert stripped(data) is None
    (tmp_path / "file").write_bytes(data)
    assert not strip_symbols(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data


def test_tables_between_loaded_parts_are_left() -> None:
    data = bytearray(image(*SYMBOLS))
    segment = list(SEGMENT.unpack_from(data, HEADER.size))
    segment[5] = len(data) - 8
    data[HEADER.size : HEADER.size + SEGMENT.size] = SEGMENT.pack(*segment)
    assert stripped(bytes(data)) is None


def test_damaged_headers_never_end_in_anything_but_a_smaller_file_or_none() -> None:
    data = image(*SYMBOLS)
    chance = random.Random(7)
    header = HEADER.unpack_from(data)
    places = [*range(16, HEADER.size + SEGMENT.size), *range(header[6], len(data))]
    for _ in range(3000):
        damaged = bytearray(data)
        for place in chance.sample(places, 2):
            damaged[place] = chance.randrange(256)
        slim = stripped(bytes(damaged))
        assert slim is None or slim.startswith(b"\x7fELF")


def test_a_real_library_still_loads_and_has_no_symbols(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    source, library = tmp_path / "one.c", tmp_path / "one.so"
    source.write_text(
        "static int hidden(void) { return 41; }\nint one(void) { return hidden() - 40; }\n"
    )
    subprocess.run(
        [compiler, "-g", "-O0", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
    )
    if not library.read_bytes().startswith(b"\x7fELF\x02\x01"):
        pytest.skip("this machine's libraries are no 64-bit little-endian ELF files")
    before = library.stat().st_size
    assert strip_symbols(library)
    assert library.stat().st_size < before
    import ctypes  # noqa: PLC0415

    assert ctypes.CDLL(str(library)).one() == 1
    assert b".symtab" not in sections_of(library.read_bytes())
    assert struct.unpack_from("<H", library.read_bytes(), 60)[0] > 5
