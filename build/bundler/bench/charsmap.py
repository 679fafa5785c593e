"""The table by which SentencePiece's tokenizers normalise characters, in its binary form.

That form is a length, a double-array trie over UTF-8, and the texts that its leaves point to. In
an array of units, the child by byte `c` of a node whose block begins at `b` is unit `b ^ c`, and
the unit `b` itself holds the node's value. A unit is the byte that leads to it, whether its node
has a value (bit 8), and where its block begins, from its own place (bits 10 and up).
"""

from __future__ import annotations

import itertools
import struct
import sys
import unicodedata
from collections import deque
from dataclasses import dataclass, field

HAS_VALUE = 1 << 8
OFFSET_SHIFT = 10
IS_VALUE = 1 << 31
BLOCK = 256
FREE = -1


@dataclass(slots=True)
class _Node:
    """A place in the trie: what a text that ends here becomes, and how it goes on."""

    value: int | None = None
    children: dict[int, _Node] = field(default_factory=dict)


def nfkc() -> dict[str, str]:
    """Return what NFKC makes of single characters where it changes them; white space is a space."""
    table = {}
    for number in range(1, sys.maxunicode + 1):
        character = chr(number)
        if 0xD800 <= number <= 0xDFFF:  # noqa: PLR2004 - halves of a pair are no text
            continue
        made = " " if character.isspace() else unicodedata.normalize("NFKC", character)
        if made != character:
            table[character] = made
    return table


def charsmap(table: dict[str, str]) -> bytes:
    """Return `table` in the form that `tokenizers.normalizers.Precompiled` reads."""
    root = _Node()
    texts = bytearray()
    for key, made in sorted(table.items()):
        node = root
        for byte in key.encode():
            node = node.children.setdefault(byte, _Node())
        node.value = len(texts)
        texts += made.encode() + b"\0"
    units = _units(root)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(texts)


def _units(root: _Node) -> list[int]:
    units = [0, *[FREE] * (BLOCK - 1)]
    begins: set[int] = set()
    leaves: list[tuple[int, int]] = []
    queue = deque([(0, root)])
    while queue:
        place, node = queue.popleft()
        if not node.children and node.value is not None:
            leaves.append((place, node.value))
            continue
        wanted = [*([0] if node.value is not None else []), *sorted(node.children)]
        begin = _fitting(units, wanted, begins)
        begins.add(begin)
        units[place] |= (place ^ begin) << OFFSET_SHIFT
        if node.value is not None:
            units[place] |= HAS_VALUE
            units[begin] = IS_VALUE | node.value
        for byte, child in node.children.items():
            units[begin ^ byte] = byte
            queue.append((begin ^ byte, child))
    # What has a value alone needs no search: one unit each, behind all the blocks.
    for place, value in leaves:
        units[place] |= (place ^ len(units)) << OFFSET_SHIFT | HAS_VALUE
        units.append(IS_VALUE | value)
    return [0 if unit == FREE else unit for unit in units]


def _fitting(units: list[int], wanted: list[int], begins: set[int]) -> int:
    """Return where a block may begin so that every wanted unit of it is free.

    No two blocks begin at one place: a byte would lead from one node to the other's children.
    """
    for place in itertools.count():
        if place >= len(units):
            units += [FREE] * BLOCK
        begin = place ^ wanted[0]
        if begin not in begins and all(units[begin ^ byte] == FREE for byte in wanted):
            return begin
    raise AssertionError
