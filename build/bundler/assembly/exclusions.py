"""The doing of a profile's rules: what is left out of a bundle, and what that saves.

A rule never decides more than its globs say; whether a profile is harmless is decided by proof, not
here: the smoke test, the golden vectors and the import trace run on the slimmed tree.
"""

from __future__ import annotations

import re
import struct
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from bundler.assembly.build_report import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bundler.profiles import DietRule


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    spelled = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(spelled.get(part, re.escape(part)) for part in parts))


def matches(path: str, glob: str) -> bool:
    """Return whether the POSIX `path` is named by `glob`."""
    return _pattern(glob).fullmatch(path) is not None


def takes(rule: DietRule, path: str) -> bool:
    """Return whether `rule` applies to the file at `path`."""
    return any(matches(path, glob) for glob in rule.paths) and not any(
        matches(path, glob) for glob in rule.keep
    )


def removing(path: str, rules: Iterable[DietRule]) -> DietRule | None:
    """Return the first of `rules` that removes the file at `path`, or None."""
    return next((rule for rule in rules if rule.action == "remove" and takes(rule, path)), None)


def keeps(rules: Sequence[DietRule]) -> Callable[[str], bool]:
    """Return what tells whether `rules` leave a path in."""
    return lambda path: removing(path, rules) is None


def apply(root: Path, files: Iterable[str], rules: Sequence[DietRule]) -> tuple[LeftOut, ...]:
    """Apply `rules` to `files` (POSIX paths from `root`), and return what each one saved.

    A file is removed by the first rule that takes it; stripping follows for what remains.
    """
    savings = []
    for path in sorted(files):
        for rule in rules:
            if not takes(rule, path):
                continue
            file = root / path
            before = file.stat().st_size
            if rule.action == "remove":
                file.unlink()
                savings.append(LeftOut(rule=rule, path=path, size=before))
                break
            if strip_symbols(file):
                after = file.stat().st_size
                savings.append(LeftOut(rule=rule, path=path, size=before - after))
    return tuple(savings)


MAGIC = b"\x7fELF\x02\x01"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SEGMENT = struct.Struct("<IIQQQQQQ")
SHT_NULL, SHT_NOBITS = 0, 8
PAGE_BYTES = 4096
SHF_ALLOC, SHF_INFO_LINK = 2, 0x40
DEBUG_PREFIXES = (b".debug_", b".zdebug_", b".gdb_index", b".symtab", b".strtab")


class _Section(NamedTuple):
    name_at: int
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
    def has_bytes(self) -> bool:
        return self.type not in (SHT_NULL, SHT_NOBITS)

    def is_odd(self, size: int) -> bool:
        """Return whether this lies outside a file of `size` bytes, or wants a vast alignment."""
        end = self.offset + (self.size if self.has_bytes else 0)
        return end > size or (not self.flags & SHF_ALLOC and self.align > PAGE_BYTES)


def strip_symbols(path: Path) -> bool:
    """Drop symbol and debug tables from the 64-bit little-endian ELF file at `path`.

    Return whether the file became smaller. A file that is no such ELF, has nothing to drop, or
    whose tables lie between loaded parts is left as it is. Written in place: callers work on a
    stage that is thrown away if they die.

    binutils' strip would do, but its output follows its version, and a Mac has none for Linux. What
    is dropped is never loaded: sections without SHF_ALLOC lie outside every segment (gABI, 4-8).
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
    sections, dropped = _sections(data, header)
    if not dropped:
        return None
    segments = header[5] + header[9] * header[10]
    if (header[10] and header[9] != SEGMENT.size) or segments > len(data):
        return None
    end = _loaded_end(data, header, sections)
    if end > len(data) or any(sections[index].offset < end for index in dropped):
        return None
    # One table may serve as section names and symbol names at once.
    if header[13] in dropped or any(section.is_odd(len(data)) for section in sections):
        return None
    body = bytearray(data[:end])
    places: dict[int, int] = {}
    kept: list[_Section] = []
    for index, section in enumerate(sections):
        if index in dropped:
            continue
        places[index] = len(kept)
        if section.offset >= end and section.has_bytes:
            _pad(body, max(section.align, 1))
            kept.append(section._replace(offset=len(body)))
            body += data[section.offset : section.offset + section.size]
        else:
            kept.append(section)
    _pad(body, 8)
    header[6] = len(body)
    header[12] = len(kept)
    header[13] = places[header[13]]
    for section in kept:
        info = places.get(section.info, 0) if section.flags & SHF_INFO_LINK else section.info
        body += SECTION.pack(*section._replace(link=places.get(section.link, 0), info=info))
    body[: HEADER.size] = HEADER.pack(*header)
    return bytes(body)


def _sections(data: bytes, header: list[int]) -> tuple[list[_Section], set[int]]:
    """Return the section table, and the indices of those to drop.

    Both are empty if it is missing or does not lie inside the file.
    """
    start, size, count, names_at = header[6], header[11], header[12], header[13]
    if not start or size != SECTION.size or start + size * count > len(data) or names_at >= count:
        return [], set()
    places = range(start, start + size * count, size)
    sections = [_Section(*SECTION.unpack_from(data, place)) for place in places]
    names = sections[names_at]
    strings = data[names.offset : names.offset + names.size]
    dropped = {
        index
        for index, section in enumerate(sections)
        if not section.flags & SHF_ALLOC
        and strings[section.name_at : strings.find(b"\0", section.name_at)].startswith(
            DEBUG_PREFIXES
        )
    }
    return sections, dropped


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
