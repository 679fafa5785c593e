"""Lines with letters from right to left, put in logical order by where their glyphs stand.

Some programs draw such a line as it is read and others as it is seen, and mark neither; PDFium
takes each for the latter, and letters with marks one by one. Where the glyphs stand is the same in
all: they are sorted from left to right, and what the bidirectional algorithm (UAX #9) does to show
a text is turned back.
"""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

import pypdfium2_raw as pdfium

from sidecar.documents import logical, spans
from sidecar.documents.normal import HYPHEN
from sidecar.documents.spans import ActualText

_BREAK = "\r\n"
_LETTER = re.compile("[\u05be-\u07ff\u0860-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_MARKS = frozenset(("Mn", "Me"))
_FORMS = (range(0xFB1D, 0xFB50), range(0xFB50, 0xFE00), range(0xFE70, 0xFEFD))
# Shares of the size of a font: gaps that are spaces, and steps to another line.
_DRAWN_GAP, _SAID_GAP, _GAP, _WIDE_GAP, _WIDEST_GAP = 0.05, 0.1, 0.14, 0.25, 0.8
_INK_GAP = 0.2
_STEP, _SAME_LINE = 0.6, 0.5
# In points: glyphs so near to each other are one. The sine of a line's slope.
_SAME, _LEVEL = 0.01, 0.05
# Lines of more characters stay as they are.
_MOST = 1_000
_MOST_PIECES = 16


@dataclass(slots=True, kw_only=True)
class _Glyph:
    """What is drawn at one place, in points, and its place among the characters of PDFium's."""

    text: str
    x: float
    y: float
    left: float
    right: float
    size: float
    at: int
    is_turned: bool
    is_said: bool = False


def ordered(page: object, text_page: object, text: str) -> str:
    """Return `text` with its lines that have letters from right to left in logical order."""
    if not _LETTER.search(text):
        return text
    is_right = logical.is_right(text)
    places = _places(text_page, {line for line in text.split(_BREAK) if _LETTER.search(line)})
    said = spans.spans(page)
    lines: list[str | list[_Glyph]] = []
    for line in text.split(_BREAK):
        found = places.get(line)
        indices = found.pop() if found and len(line) <= _MOST else None
        glyphs = _glyphs(text_page, indices, line, said) if indices else None
        if glyphs == []:  # what is said of all of it stands there already
            continue
        last = lines[-1] if lines else ""
        if glyphs and not isinstance(last, str) and _is_same_line(last, glyphs):
            after = last[-1].at + len(last[-1].text) + 1
            last += [replace(glyph, at=glyph.at + after) for glyph in glyphs]
        else:
            lines.append(glyphs or line)
    rows = [[line] if isinstance(line, str) else _rows(line) for line in lines]

    def text_of(*, mirror: bool) -> str:
        return _BREAK.join(
            "\n".join(
                row
                if isinstance(row, str)
                else logical.in_order(row, is_right=is_right, mirror=mirror)
                for row in line
            ).replace(f"{HYPHEN}\n", HYPHEN)
            for line in rows
        )

    # Fonts tell either the bracket that is seen or the one that is read.
    return max(text_of(mirror=True), text_of(mirror=False), key=logical.pairs)


def _places(text_page: object, wanted: set[str]) -> dict[str, list[list[int]]]:
    """Return where the page has the characters of these lines; of equal ones from the last."""
    lines: list[tuple[list[str], list[int]]] = [([], [])]
    for index in range(pdfium.FPDFText_CountChars(text_page)):
        code = pdfium.FPDFText_GetUnicode(text_page, index)
        if code == ord("\n"):
            lines.append(([], []))
        elif code and code != ord("\r"):
            lines[-1][0].append(chr(code))
            lines[-1][1].append(index)
    drawn = [("".join(letters), indices) for letters, indices in lines]
    found: dict[str, list[list[int]]] = {}
    for line, indices in reversed(drawn):
        if line in wanted:
            found.setdefault(line, []).append(indices)
    # Where marks stand higher or lower, PDFium has one of its lines in pieces.
    lacking = wanted - found.keys()
    for start in reversed(range(len(drawn) if lacking else 0)):
        line = ""
        places: list[int] = []
        for piece, indices in drawn[start : start + _MOST_PIECES]:
            line, places = line + piece, places + indices
            if line in lacking:
                found.setdefault(line, []).append(places)
    return found


def _glyphs(
    text_page: object, indices: list[int], line: str, said: dict[int, ActualText]
) -> list[_Glyph] | None:
    """Return what the line consists of, None where it is not level.

    `said` is what glyphs are said to read as, by their objects.
    """
    glyphs: list[_Glyph] = []
    for at, (index, (letter, is_turned)) in enumerate(zip(indices, _turned(line), strict=True)):
        left, right = _reach(text_page, index)
        if letter == " " and right - left < _SAME:  # PDFium's own
            continue
        if abs(math.sin(pdfium.FPDFText_GetCharAngle(text_page, index))) > _LEVEL:
            return None
        drawn = spans.address(pdfium.FPDFText_GetTextObject(text_page, index)) if said else 0
        span = said.get(drawn)
        if span is not None:
            if not span.is_put:
                span.is_put = True
                glyphs.append(_of_span(span, size=_size(text_page, index), at=at))
            continue
        x, y = _origin(text_page, index)
        if glyphs and at == glyphs[-1].at + len(glyphs[-1].text) and letter != " ":
            last = glyphs[-1]
            if last.text != " " and math.dist((last.x, last.y), (x, y)) < _SAME:
                last.text += letter
                if abs(last.left - left) > _SAME:  # PDFium's guess, of a text said to stand here
                    last.left, wide = last.x, (right - left) * len(last.text)
                    last.right = last.x + wide
                continue
        size = _size(text_page, index)
        glyphs.append(
            _Glyph(
                text=letter, x=x, y=y, left=left, right=right, size=size, at=at, is_turned=is_turned
            )
        )
    return glyphs


def _of_span(span: ActualText, *, size: float, at: int) -> _Glyph:
    sides = {"x": span.x, "y": span.y, "left": span.left, "right": span.right}
    return _Glyph(text=span.text, **sides, size=size, at=at, is_turned=False, is_said=True)


def _is_same_line(glyphs: list[_Glyph], others: list[_Glyph]) -> bool:
    """Return whether PDFium broke a line in two, as it does at marks."""
    if len(glyphs) + len(others) > _MOST:
        return False
    places = [
        next(((one.y, one.size) for one in line if not _is_mark(one)), None)
        for line in (glyphs[::-1], others)
    ]
    first, second = places
    return None in places or (
        first is not None
        and second is not None
        and abs(first[0] - second[0]) < _SAME_LINE * max(first[1], second[1])
    )


def _origin(text_page: object, index: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(text_page, index, ctypes.byref(x), ctypes.byref(y))
    return x.value, y.value


def _reach(text_page: object, index: int) -> tuple[float, float]:
    box = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, ctypes.byref(box))
    return box.left, box.right


def _size(text_page: object, index: int) -> float:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(text_page, index, ctypes.byref(matrix))
    size = pdfium.FPDFText_GetFontSize(text_page, index) * math.hypot(matrix.c, matrix.d)
    return float(abs(size)) or 1.0


def _turned(line: str) -> list[tuple[str, bool]]:
    """Return the characters as they are drawn, and whether PDFium turned and mirrored each."""
    runs = [direction for direction, _ in groupby(map(_direction, line))]
    is_turned = 0 < runs.count(1) >= runs.count(-1)
    found: list[tuple[str, bool]] = []
    for letter in line:
        direction = _direction(letter)
        is_turned = direction > 0 if direction else is_turned
        found.append((logical.mirrored(letter) if is_turned else letter, is_turned))
    return found


def _direction(letter: str) -> int:
    kind = unicodedata.bidirectional(letter)
    return 1 if kind in ("R", "AL") else -1 if kind == "L" else 0


def _as_read(text: str, *, is_turned: bool) -> str:
    """Return the letters of one glyph in logical order.

    PDFium turns them with their line, but not those into which it took a ligature apart.
    """
    if unicodedata.combining(text[0]) and not unicodedata.combining(text[-1]):
        return text[::-1]
    has_marks = any(map(unicodedata.combining, text))
    return text if has_marks or not is_turned or text in _ligatures() else text[::-1]


@cache
def _ligatures() -> frozenset[str]:
    forms = (unicodedata.normalize("NFKC", chr(code)) for codes in _FORMS for code in codes)
    return frozenset(form for form in forms if len(form) > 1)


def _is_mark(glyph: _Glyph) -> bool:
    return all(unicodedata.category(letter) in _MARKS for letter in glyph.text)


def _rows(glyphs: list[_Glyph]) -> list[list[str]]:
    """Return the glyphs by line, from the top, each from left to right with spaces and marks."""
    rows: list[list[_Glyph]] = []
    letters = [glyph for glyph in glyphs if not _is_mark(glyph)]
    for glyph in sorted(letters, key=lambda one: -one.y):
        if rows and rows[-1][0].y - glyph.y < _STEP * max(glyph.size, rows[-1][0].size):
            rows[-1].append(glyph)
        else:
            rows.append([glyph])
    # How many letters a glyph has counts until then.
    spaced = [_spaced(sorted(row, key=lambda one: one.x)) for row in rows]
    _put_marks([glyph for glyph in glyphs if _is_mark(glyph)], letters)
    return [[one if isinstance(one, str) else one.text for one in row] for row in spaced]


def _put_marks(marks: list[_Glyph], letters: list[_Glyph]) -> None:
    """Put letters of one glyph in logical order, and after them the marks drawn over them."""
    for glyph in letters:
        if not glyph.is_said:
            glyph.text = _as_read(glyph.text, is_turned=glyph.is_turned)
    under = [glyph for glyph in letters if glyph.text != " "]
    for mark in marks:
        middle = (mark.left + mark.right) / 2
        near = [one for one in under if abs(one.y - mark.y) < one.size]
        if near:
            base = min(near, key=lambda one: abs((one.left + one.right) / 2 - middle))
            base.text += mark.text


def _spaced(row: list[_Glyph]) -> list[_Glyph | str]:
    """Return the glyphs, and a space for each gap between words."""
    letters: list[_Glyph] = []
    gaps: list[float] = []
    drawn: set[int] = set()
    end = -math.inf
    for glyph in row:
        if glyph.text == " ":
            drawn.add(len(letters))
            continue
        gaps.append((max(glyph.x, glyph.left) - end) / glyph.size if letters else 0)
        letters.append(glyph)
        end = max(end, glyph.right)
    # Some draw a space, and the next glyph over it.
    drawn = {
        at
        for at in drawn
        if 0 < at < len(letters)
        and (gaps[at] > _DRAWN_GAP or any(map(_is_marked, letters[at - 1 : at + 1])))
    }
    out: list[_Glyph | str] = letters[:1]  # type: ignore[assignment]
    for at in range(1, len(letters)):
        least = _least_gap(*letters[at - 1 : at + 1], has_spaces=bool(drawn))
        if at in drawn or gaps[at] > least:
            out.append(" ")
        out.append(letters[at])
    return out


def _least_gap(before: _Glyph, after: _Glyph, *, has_spaces: bool) -> float:
    """Return from which share of the font's size on a gap between two glyphs is a space.

    Where the line has spaces that are drawn, others are PDFium's or wide; of a letter with marks
    it knows the place of one glyph.
    """
    if before.is_said or after.is_said:
        return _INK_GAP
    first, second = (before, after) if before.at < after.at else (after, before)
    between = second.at - first.at - len(first.text)
    if between == 0 and (has_spaces or not (before.is_turned or after.is_turned)):
        return math.inf
    if has_spaces and (_is_marked(before) or _is_marked(after)):
        return _WIDE_GAP if between == 1 else _WIDEST_GAP
    if between == 1:
        return _SAID_GAP
    return _WIDE_GAP if has_spaces else _GAP


def _is_marked(glyph: _Glyph) -> bool:
    return len(glyph.text) > 1 and any(map(unicodedata.combining, glyph.text))
