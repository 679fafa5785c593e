"""What a JSON body holds, found before a parser makes anything of it.

How much it is, counted in slices: a parser makes an object of every two bytes of `[0,0,...]`, in
one call that holds the interpreter. And its long strings, left in it: each is decoded when it is
read, and not kept. A decoded text takes four bytes for each of its characters if one is beyond
U+FFFF.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from sidecar.scheduling.texts import DeferredTexts

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


LONG_BYTES = 64  # a shorter one takes no more room than what would stand for it
_CONTINUATIONS = bytes(range(0x80, 0xC0))


class Quoted:
    """The long strings of one body."""

    def __init__(self, body: bytes, *, max_strings: int) -> None:
        """Find them in `body`; none after the first `max_strings`, more of which no JSON has."""
        self._body = body
        # What stands for a string in the body: no client knows what it is this time.
        self._mark = secrets.token_hex(8)
        self._places = list(_long_strings(body, max_strings=max_strings))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def rest(self) -> bytes:
        """Return the body with a short string in the place of each long one."""
        if not self._places:
            return self._body
        view = memoryview(self._body)
        parts: list[bytes | memoryview] = []
        at = 0
        for number, (start, end) in enumerate(self._places):
            parts += view[at:start], b'"%s%d"' % (self._mark.encode(), number)
            at = end
        parts.append(view[at:])
        return b"".join(parts)

    def number_of(self, text: str) -> int | None:
        """Return which string `text`, found in the rest, stands for; None if it is one itself."""
        return int(text[len(self._mark) :]) if text.startswith(self._mark) else None

    def raw(self, number: int) -> bytes:
        """Return a string as it stands in the body, with its quotes."""
        start, end = self._places[number]
        return self._body[start:end]

    def read(self, number: int) -> str:
        """Return a string, decoded. Raises JSONDecodeError."""
        start, end = self._places[number]
        text: str = orjson.loads(memoryview(self._body)[start:end])
        return text

    def least_chars(self, number: int) -> int:
        """Return how many characters a string has at least, without decoding it."""
        start, end = self._places[number]
        view = memoryview(self._body)[start + 1 : end - 1]
        chars = sum(
            len(bytes(view[at : at + SLICE_BYTES]).translate(None, _CONTINUATIONS))
            for at in range(0, len(view), SLICE_BYTES)
        )
        # An escape of a backslash counts as none, one of six bytes as none: pairs are of two.
        return (
            chars - self._body.count(b"\\", start, end) - 5 * self._body.count(b"\\u", start, end)
        )


class QuotedTexts(DeferredTexts):
    """The texts of a list that was read from the rest of a body."""

    def __init__(self, quoted: Quoted, found: Sequence[str], lengths: Sequence[int]) -> None:
        """Have the texts in `found`; `lengths` are those of the long strings, by number."""
        self._quoted = quoted
        self._found = found
        numbers = map(quoted.number_of, found)
        super().__init__(
            [
                len(text) if number is None else lengths[number]
                for text, number in zip(found, numbers, strict=True)
            ]
        )

    def text(self, index: int) -> str:
        """Return one text."""
        text = self._found[index]
        number = self._quoted.number_of(text)
        return text if number is None else self._quoted.read(number)


def _long_strings(body: bytes, *, max_strings: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the long strings, quotes included; of one without an end, too."""
    opened = -1
    left = 2 * max_strings
    is_escaped = False
    for start in range(0, len(body), SLICE_BYTES):
        part = body[start : start + SLICE_BYTES]
        if is_escaped:
            part = b"_" + part[1:]
        part = part.replace(rb"\\", b"__").replace(rb"\"", b"__")
        is_escaped = part.endswith(b"\\")
        at = part.find(b'"')
        while at >= 0 and left:
            left -= 1
            if opened < 0:
                opened = start + at
            else:
                if start + at - opened > LONG_BYTES:
                    yield opened, start + at + 1
                opened = -1
            at = part.find(b'"', at + 1)
    if opened >= 0 and left:
        yield opened, len(body)
