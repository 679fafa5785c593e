"""How much a JSON body holds, counted in slices before anything is made of it.

A parser makes an object of every two bytes of `[0,0,...]`, in one call that holds the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

SLICE_BYTES = 1 << 16


@dataclass(slots=True, kw_only=True)
class Extent:
    """What was counted outside of strings: a value has a mark before it, but for the first."""

    strings: int = 0
    commas: int = 0
    colons: int = 0
    opened: int = 0
    closed: int = 0
    is_ascii: bool = True

    @property
    def marks(self) -> int:
        """At least the number of values less one."""
        return self.commas + self.colons + self.opened

    @property
    def texts(self) -> int:
        """The strings that are no keys."""
        return self.strings - self.colons


def exceeding(body: bytes, *, max_marks: int) -> Extent | None:
    """Return what was counted when `body` came to have more than `max_marks`; None if it has not.

    So it is where a byte outside of strings is none of ASCII, which no JSON has.

    The rest is not looked at. For a body that is no JSON the counts are as good as any.
    """
    if len(body) <= max_marks:
        return None
    seen = Extent()
    is_inside = is_escaped = False
    for start in range(0, len(body), SLICE_BYTES):
        part = body[start : start + SLICE_BYTES]
        if is_escaped:
            part = part[1:]
        part = part.replace(rb"\\", b"").replace(rb"\"", b"")
        is_escaped = part.endswith(b"\\")
        pieces = part.split(b'"')
        outside = b'"'.join(pieces[is_inside::2])
        seen.strings += (len(pieces) - is_inside) // 2
        seen.commas += outside.count(b",")
        seen.colons += outside.count(b":")
        seen.opened += outside.count(b"[") + outside.count(b"{")
        seen.closed += outside.count(b"]") + outside.count(b"}")
        seen.is_ascii = outside.isascii()
        if seen.marks > max_marks or not seen.is_ascii:
            return seen
        is_inside ^= len(pieces) % 2 == 0
    return None
