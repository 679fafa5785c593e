"""What is seen from left to right, put in the order in which it is read: pure functions.

The bidirectional algorithm (UAX #9) turned back. Several texts may be shown alike; the one without
marks of direction is taken.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PAIRS = ("()", "[]", "{}", "<>", "\u00ab\u00bb", "\u2039\u203a", "\u27e8\u27e9", "\u2264\u2265")
_MIRRORED = {pair[at]: pair[1 - at] for pair in _PAIRS for at in range(2)}
_CLOSED = {pair[0]: pair[1] for pair in _PAIRS[:-1]}
_OPENED = {close: opening for opening, close in _CLOSED.items()}
_RIGHT, _ARABIC, _LEFT = "R", "AL", "L"
_RIGHTS = (_RIGHT, _ARABIC)
_NUMBERS = ("EN", "AN")
# What ends a sentence stands outside of the word from left to right before it.
_STOPS = frozenset(".,:;!?\u060c\u061b\u061f\u2026")
# So many times more letters of one direction are clearly more.
_CLEAR = 3


def mirrored(letter: str) -> str:
    """Return the bracket that faces the other way, or what is none as it is."""
    return _MIRRORED.get(letter, letter)


def is_right(text: Iterable[str]) -> bool:
    """Return whether most letters are read from right to left."""
    kinds = Counter(map(_kind, text))
    return kinds[_RIGHT] + kinds[_ARABIC] >= kinds[_LEFT]


def pairs(text: str) -> int:
    """Return how many brackets have their other half in their line, less those without one."""
    found = 0
    for line in text.splitlines():
        brackets = [letter for letter in line if letter in _CLOSED or letter in _OPENED]
        found += len(brackets) - 2 * len(_alone(brackets))
    return found


def in_order(seen: Sequence[str], *, is_right: bool, mirror: bool = True) -> str:
    """Return the text of a line of glyphs, each its letters as read, from left to right.

    `is_right` says which way the page is read, where the line does not tell; `mirror` whether
    brackets are given as they are seen.
    """
    kinds = [_kind(one) for one in seen]
    if _is_line_right(kinds, otherwise=is_right):
        return _from_right(seen, mirror=mirror)
    out: list[str] = []
    at = 0
    while at < len(seen):
        end = at
        for to in range(at, len(seen)):
            if kinds[to] in _RIGHTS:
                end = to + 1
            elif kinds[to] == _LEFT or end == at:
                break
        out.append(_from_right(seen[at:end], mirror=mirror) if end > at else seen[at])
        at = max(end, at + 1)
    return "".join(out)


def _is_line_right(kinds: list[str], *, otherwise: bool) -> bool:
    """Return whether a line is read from right to left, as its ends and its letters tell."""
    strong = [kind in _RIGHTS for kind in kinds if kind in (*_RIGHTS, _LEFT)]
    if not strong:
        return otherwise
    rights, lefts = strong.count(True), strong.count(False)
    if strong[0] == strong[-1] and _CLEAR * strong.count(strong[0]) > len(strong):
        return strong[0]
    if rights > _CLEAR * lefts or lefts > _CLEAR * rights:
        return rights > lefts
    return otherwise


def _kind(glyph: str) -> str:
    """Return the bidirectional class of the first letter that has a strong one, or of the first."""
    kinds = [unicodedata.bidirectional(letter) for letter in glyph]
    strong = (kind for kind in kinds if kind in (_RIGHT, _ARABIC, _LEFT))
    return next(strong, kinds[0] if kinds else "")


def _from_right(seen: Sequence[str], *, mirror: bool) -> str:
    """Return the text of glyphs that are read from right to left."""
    read = [*reversed(seen)]
    kinds = [_kind(one) for one in read]
    out: list[str] = []
    at = 0
    is_arabic = _ARABIC in kinds and kinds.index(_ARABIC) <= _first(kinds, _RIGHT)
    while at < len(read):
        kind = kinds[at]
        if kind in (_RIGHT, _ARABIC):
            is_arabic = kind == _ARABIC
        start, end = _run(read, kinds, at, is_arabic=is_arabic)
        if end > at:
            del out[len(out) - (at - start) :]
            out += reversed(read[start:end])
            at = end
        else:
            out.append(mirrored(read[at]) if mirror else read[at])
            at += 1
    return "".join(out)


def _first(kinds: list[str], kind: str) -> int:
    return kinds.index(kind) if kind in kinds else len(kinds)


def _run(read: list[str], kinds: list[str], at: int, *, is_arabic: bool) -> tuple[int, int]:
    """Return from where to where what is read from left to right reaches that begins at `at`."""
    if kinds[at] not in (_LEFT, *_NUMBERS):
        return at, at
    end = _number(read, kinds, at, is_arabic=is_arabic)
    has_letter = is_apart = False
    for to in range(at, len(read)):
        if kinds[to] in _RIGHTS or (kinds[to] == "AN" and is_apart):
            break
        is_apart |= read[to].isspace()
        if kinds[to] == _LEFT:
            end, has_letter, is_apart = to + 1, True, False
    if not has_letter:
        return at, end
    return _edged(read, kinds, at, end)


def _number(read: list[str], kinds: list[str], at: int, *, is_arabic: bool) -> int:
    """Return where a number ends that begins at `at`."""
    end = at + 1
    if kinds[at] == _LEFT:
        return end
    while end < len(read):
        if kinds[end] == kinds[at]:
            end += 1
        elif (
            end + 1 < len(read)
            and kinds[end + 1] == kinds[at]
            and _joins(kinds, end, is_arabic=is_arabic)
        ):
            end += 2
        else:
            break
    if not is_arabic and end < len(read) and kinds[end] == "ET":
        end += 1
    return end


def _joins(kinds: list[str], at: int, *, is_arabic: bool) -> bool:
    return kinds[at] == "CS" or (kinds[at] == "ES" and not is_arabic)


def _edged(read: list[str], kinds: list[str], start: int, end: int) -> tuple[int, int]:
    """Return the run with the signs that stand beside it without a space, as around {word}."""
    first, last = start, end
    while first > 0 and _is_beside(read[first - 1], kinds[first - 1]):
        first -= 1
    while last < len(read) and _is_beside(read[last], kinds[last]):
        last += 1
    # As seen: read[last - 1] is the leftmost.
    whole = [*reversed(read[first:last])]
    alone = _alone(whole)
    size = len(whole)
    low, high = 0, size
    for place in alone:
        if place < last - end:
            low = max(low, place + 1)
        elif place >= last - start:
            high = min(high, place)
    while low < last - end and whole[low] in _STOPS:
        low += 1
    return first + (size - high), last - low


def _is_beside(letter: str, kind: str) -> bool:
    return not letter.isspace() and kind not in (_RIGHT, _ARABIC, _LEFT, "AN", "NSM", "BN", "B")


def _alone(seen: list[str]) -> list[int]:
    """Return the places of brackets without their other half."""
    opened: list[int] = []
    alone: list[int] = []
    for place, letter in enumerate(seen):
        if letter in _CLOSED:
            opened.append(place)
        elif letter in _OPENED:
            if opened and seen[opened[-1]] == _OPENED[letter]:
                opened.pop()
            else:
                alone.append(place)
    return alone + opened
