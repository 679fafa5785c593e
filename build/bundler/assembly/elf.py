"""Taking symbol tables out of ELF files, the same on every machine.

binutils' strip would do, but its output follows its version, and a Mac has none for Linux. What is
dropped here is never loaded: sections without SHF_ALLOC lie outside every segment (ELF gABI, 4-8).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SEGMENT = struct.Struct("<IIQQQQQQ")
SHT_NULL, SHT_NOBITS = 0, 8
PAGE_BYTES = 4096
SHF_ALLOC, SHF_INFO_LINK = 2, 0x40
DEBUG_PREFIXES = (b".debug_", b".zdebug_", b".gdb_index", b".symtab", b".strtab")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    name_at: int
    name: bytes
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def end(self) -> int:
        return self.offset + (0 if self.type in (SHT_NULL, SHT_NOBITS) else self.size)

    def is_odd(self, size: int) -> bool:
        """Return whether this lies outside a file of `size` bytes, or wants a vast alignment."""
        return self.end > size or (not self.flags & SHF_ALLOC and self.align > PAGE_BYTES)

    @property
    def is_dropped(self) -> bool:
        return not self.flags & SHF_ALLOC and self.name.startswith(DEBUG_PREFIXES)


def strip_symbols(path: Path) -> bool:
    """Drop symbol and debug tables from the 64-bit little-endian ELF file at `path`.

    Return whether the file became smaller. A file that is no such ELF, has nothing to drop, or
    whose tables lie between loaded parts is left as it is. Written in place: callers work on a
    stage that is thrown away if they die.
    """
    data = path.read_bytes()
    slim = stripped(data)
    if slim is None or len(slim) >= len(data):
        return False
    path.write_bytes(slim)
    return True


def stripped(data: bytes) -> bytes | None:
    """Return `data` without symbol and debug tables, or None where that cannot be done safely."""
    if not data.startswith(MAGIC) or len(data) < HEADER.size:
        return None
    header = list(HEADER.unpack_from(data))
    sections = _sections(data, header)
    if not any(section.is_dropped for section in sections):
        return None
    segments = header[5] + header[9] * header[10]
    if (header[10] and header[9] != SEGMENT.size) or segments > len(data):
        return None
    end = _loaded_end(data, header, sections)
    tables = [s for s in sections if s.is_dropped]
    if end > len(data) or any(section.offset < end for section in tables):
        return None
    # One table may serve as section names and symbol names at once.
    if sections[header[13]].is_dropped or any(s.is_odd(len(data)) for s in sections):
        return None
    body = bytearray(data[:end])
    places: dict[int, int] = {}
    kept: list[_Section] = []
    for index, section in enumerate(sections):
        if section.is_dropped:
            continue
        places[index] = len(kept)
        if section.offset >= end and section.type not in (SHT_NULL, SHT_NOBITS):
            _pad(body, max(section.align, 1))
            kept.append(replace(section, offset=len(body)))
            body += data[section.offset : section.offset + section.size]
        else:
            kept.append(section)
    _pad(body, 8)
    header[6] = len(body)
    header[12] = len(kept)
    header[13] = places[header[13]]
    for section in kept:
        body += SECTION.pack(
            section.name_at,
            section.type,
            section.flags,
            section.address,
            section.offset,
            section.size,
            places.get(section.link, 0),
            places.get(section.info, 0) if section.flags & SHF_INFO_LINK else section.info,
            section.align,
            section.entry_size,
        )
    body[: HEADER.size] = HEADER.pack(*header)
    return bytes(body)


def _sections(data: bytes, header: list[int]) -> list[_Section]:
    """Return the section table; empty if it is missing or does not lie inside the file."""
    start, size, count, names_at = header[6], header[11], header[12], header[13]
    if not start or size != SECTION.size or start + size * count > len(data) or names_at >= count:
        return []
    raw = [SECTION.unpack_from(data, start + index * size) for index in range(count)]
    _, _, _, _, names, names_size, *_ = raw[names_at]
    strings = data[names : names + names_size]
    return [
        _Section(
            name_at=name,
            name=strings[name : strings.find(b"\0", name)],
            type=kind,
            flags=flags,
            address=address,
            offset=offset,
            size=length,
            link=link,
            info=info,
            align=align,
            entry_size=entry_size,
        )
        for name, kind, flags, address, offset, length, link, info, align, entry_size in raw
    ]


def _loaded_end(data: bytes, header: list[int], sections: list[_Section]) -> int:
    """Return the offset behind everything a loader maps, the headers included."""
    ends = [HEADER.size, header[5] + header[9] * header[10]]
    for index in range(header[10]):
        _, _, offset, _, _, size, _, _ = SEGMENT.unpack_from(data, header[5] + index * header[9])
        ends.append(offset + size)
    ends += [
        section.offset + section.size
        for section in sections
        if section.flags & SHF_ALLOC and section.type != SHT_NOBITS
    ]
    return max(ends)


def _pad(body: bytearray, align: int) -> None:
    body += bytes(-len(body) % align)
