"""Lines with letters from right to left, put in logical order by where their glyphs stand.

Some programs draw such a line as it is read and others as it is seen, and mark neither; PDFium
takes each for the latter, and letters with marks one by one. Where the glyphs stand is the same in
all: they are sorted from left to right, and what the bidirectional algorithm (UAX #9) does to show
a text is turned back. Several texts may be shown alike; the one without marks of direction is
taken.

Programs that set text with a shaper (Chromium) say what glyphs together read as (ActualText) of
letters with marks. PDFium puts all of what is said at the first glyph, which is a mark, in pieces
whose order is not that of reading.
"""

from __future__ import annotations

import codecs
import ctypes
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import pypdfium2_raw as pdfium

from sidecar.documents.normal import HYPHEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KEY = ctypes.create_string_buffer(b"ActualText")
_STRING = 3  # type of a value
_TEXT = 1  # type of a page object
# Of what is said of one glyph and its marks; words and lines are said, too.
_MOST_BYTES, _MOST_LETTERS = 64, 4


@dataclass(slots=True, kw_only=True)
class Glyph:
    """What is drawn at one place, in points, and its place among the characters of PDFium's.

    `left` and `right` are those of its ink. With `is_said`, `text` is what glyphs are said to read
    as, and has no place `at` before one of them is met.
    """

    text: str
    x: float = 0.0
    y: float = 0.0
    left: float = 0.0
    right: float = 0.0
    size: float = 1.0
    at: int = -1
    is_turned: bool = False
    is_said: bool = False


def spans(page: object) -> dict[int, Glyph]:
    """Return what the page's glyphs are said to read as, by the addresses of their objects.

    Each is in the order of reading, where a letter from right to left comes after its marks, and
    where the last glyph of it is drawn.
    """
    found: dict[int, Glyph] = {}
    before, span = 0, None
    for index in range(pdfium.FPDFPage_CountObjects(page)):
        drawn = pdfium.FPDFPage_GetObject(page, index)
        if pdfium.FPDFPageObj_GetType(drawn) != _TEXT:
            continue
        mark = pdfium.FPDFPageObj_GetMark(drawn, pdfium.FPDFPageObj_CountMarks(drawn) - 1)
        at = address(mark)
        if at != before:
            text = _said(mark) if at else ""
            before, span = at, Glyph(text=text, is_said=True) if text else None
        if span is not None:
            found[address(drawn)] = span
            _put(span, drawn)
    return found


def address(pointer: object) -> int:
    """Return where a pointer of PDFium's points to; 0 if to nothing."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _said(mark: object) -> str:
    """Return the letter with marks, or the ligature, that a mark of content says; else nothing."""
    if pdfium.FPDFPageObjMark_GetParamValueType(mark, _KEY) != _STRING:
        return ""
    size, buffer = ctypes.c_ulong(), (ctypes.c_ubyte * _MOST_BYTES)()
    pdfium.FPDFPageObjMark_GetParamBlobValue(mark, _KEY, buffer, _MOST_BYTES, ctypes.byref(size))
    said = bytes(buffer[: size.value])
    if size.value > _MOST_BYTES or not said.startswith(codecs.BOM_UTF16_BE):
        return ""
    text = said[len(codecs.BOM_UTF16_BE) :].decode("utf-16-be", "replace")
    marks = sum(map(bool, map(unicodedata.combining, text)))
    return text if 0 < marks < len(text) <= marks + _MOST_LETTERS else ""


def _put(span: Glyph, drawn: object) -> None:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(drawn, ctypes.byref(matrix))
    sides = [ctypes.c_float() for _ in range(4)]
    pdfium.FPDFPageObj_GetBounds(drawn, *map(ctypes.byref, sides))
    span.x, span.y = matrix.e, matrix.f
    span.left, span.right = sides[0].value, sides[2].value


_PAIRS = ("()", "[]", "{}", "<>", "\u00ab\u00bb", "\u2039\u203a", "\u27e8\u27e9", "\u2264\u2265")
_MIRRORED = {pair[at]: pair[1 - at] for pair in _PAIRS for at in range(2)}
_CLOSED = {pair[0]: pair[1] for pair in _PAIRS[:-1]}
_OPENED = {close: opening for opening, close in _CLOSED.items()}
# Bidirectional classes, a letter each; others are "o", spaces " ", and those in numbers ";".
_CLASSES = {"L": "L", "R": "R", "AL": "A", "EN": "E", "AN": "N", "ES": "+", "CS": ",", "ET": "%"}
_CLASSES |= dict.fromkeys(("NSM", "BN", "B"), "m")
# What is read from right to left within a line of the other way, and from left to right in one of
# this way: words with all between them, but for an Arabic number apart from them; or a number.
_RIGHT_RUN = re.compile("[RA](?:[^L]*[RA])?")
_LEFT_RUN = re.compile("(?=[LEN])(?:[^RA ;L]*(?:[ ;][^RANL]*)?L)+")
_NUMBER, _ARABIC_NUMBER = re.compile(r"([EN])(?:[+,;]?\1)*%?"), re.compile(r"([EN])(?:[,;]?\1)*")
_BESIDE = "E+,%o"
# What ends a sentence stands outside of the word from left to right before it.
_STOPS = frozenset(".,:;!?\u060c\u061b\u061f\u2026")
# So many times more letters of one direction are clearly more.
_CLEAR = 3


def mirrored(letter: str) -> str:
    """Return the bracket that faces the other way, or what is none as it is."""
    return _MIRRORED.get(letter, letter)


def is_right(text: Iterable[str]) -> bool:
    """Return whether most letters are read from right to left."""
    kinds = Counter(_kinds(text))
    return kinds["R"] + kinds["A"] >= kinds["L"]


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
    kinds = _kinds(seen)
    if _is_line_right(kinds, otherwise=is_right):
        return _from_right(seen, mirror=mirror)
    out: list[str] = []
    at = 0
    for found in _RIGHT_RUN.finditer(kinds):
        out += [*seen[at : found.start()], _from_right(seen[slice(*found.span())], mirror=mirror)]
        at = found.end()
    return "".join([*out, *seen[at:]])


def _is_line_right(kinds: str, *, otherwise: bool) -> bool:
    """Return whether a line is read from right to left, as its ends and its letters tell."""
    strong = [kind != "L" for kind in kinds if kind in "RAL"]
    if not strong:
        return otherwise
    rights, lefts = strong.count(True), strong.count(False)
    if strong[0] == strong[-1] and _CLEAR * strong.count(strong[0]) > len(strong):
        return strong[0]
    if rights > _CLEAR * lefts or lefts > _CLEAR * rights:
        return rights > lefts
    return otherwise


def _kinds(seen: Iterable[str]) -> str:
    return "".join(map(_kind, seen))


@lru_cache(1024)
def _kind(glyph: str) -> str:
    """Return the bidirectional class of the first letter that has a strong one, or of the first."""
    kinds = [unicodedata.bidirectional(letter) for letter in glyph]
    strong = (kind for kind in kinds if kind in ("R", "AL", "L"))
    kind = next(strong, kinds[0] if kinds else "")
    if glyph.isspace():
        return ";" if kind == "CS" else " "
    return _CLASSES.get(kind, "o")


def _from_right(seen: Sequence[str], *, mirror: bool) -> str:
    """Return the text of glyphs that are read from right to left."""
    read = [*reversed(seen)]
    kinds = _kinds(read)
    out: list[str] = []
    at = 0
    is_arabic = [kind for kind in kinds if kind in "RA"][:1] == ["A"]
    while at < len(read):
        if kinds[at] in "RA":
            is_arabic = kinds[at] == "A"
        number = _ARABIC_NUMBER if is_arabic else _NUMBER
        start = end = at
        if (found := _LEFT_RUN.match(kinds, at)) is not None:
            start, end = _edged(read, kinds, at, found.end())
        elif (found := number.match(kinds, at)) is not None:
            end = found.end()
        if end > at:
            del out[len(out) - (at - start) :]
            out += reversed(read[start:end])
            at = end
        else:
            out.append(mirrored(read[at]) if mirror else read[at])
            at += 1
    return "".join(out)


def _edged(read: list[str], kinds: str, start: int, end: int) -> tuple[int, int]:
    """Return the run with the signs that stand beside it without a space, as around {word}."""
    first = len(kinds[:start].rstrip(_BESIDE))
    last = len(kinds) - len(kinds[end:].lstrip(_BESIDE))
    # As seen: read[last - 1] is the leftmost.
    whole = [*reversed(read[first:last])]
    low, high = 0, len(whole)
    for place in _alone(whole):
        if place < last - end:
            low = max(low, place + 1)
        elif place >= last - start:
            high = min(high, place)
    while low < last - end and whole[low] in _STOPS:
        low += 1
    return first + (len(whole) - high), last - low


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


def ordered(page: object, text_page: object, text: str) -> str:
    """Return `text` with its lines that have letters from right to left in logical order."""
    if not _LETTER.search(text):
        return text
    is_read_right = is_right(text)
    places = _places(text_page, {line for line in text.split(_BREAK) if _LETTER.search(line)})
    said = spans(page)
    lines: list[str | list[Glyph]] = []
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
                else in_order(row, is_right=is_read_right, mirror=mirror)
                for row in line
            ).replace(f"{HYPHEN}\n", HYPHEN)
            for line in rows
        )

    # Fonts tell either the bracket that is seen or the one that is read.
    return max(text_of(mirror=True), text_of(mirror=False), key=pairs)


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
    text_page: object, indices: list[int], line: str, said: dict[int, Glyph]
) -> list[Glyph] | None:
    """Return what the line consists of, None where it is not level.

    `said` is what glyphs are said to read as, by their objects.
    """
    glyphs: list[Glyph] = []
    for at, (index, (letter, is_turned)) in enumerate(zip(indices, _turned(line), strict=True)):
        left, right = _reach(text_page, index)
        if letter == " " and right - left < _SAME:  # PDFium's own
            continue
        if abs(math.sin(pdfium.FPDFText_GetCharAngle(text_page, index))) > _LEVEL:
            return None
        drawn = address(pdfium.FPDFText_GetTextObject(text_page, index)) if said else 0
        span = said.get(drawn)
        if span is not None:
            if span.at < 0:
                span.size, span.at = _size(text_page, index), at
                glyphs.append(span)
            continue
        x, y = origin(text_page, index)
        if glyphs and at == glyphs[-1].at + len(glyphs[-1].text) and letter != " ":
            last = glyphs[-1]
            if last.text != " " and math.dist((last.x, last.y), (x, y)) < _SAME:
                last.text += letter
                if abs(last.left - left) > _SAME:  # PDFium's guess, of a text said to stand here
                    last.left, wide = last.x, (right - left) * len(last.text)
                    last.right = last.x + wide
                continue
        glyph = Glyph(text=letter, x=x, y=y, left=left, right=right, at=at, is_turned=is_turned)
        glyph.size = _size(text_page, index)
        glyphs.append(glyph)
    return glyphs


def _is_same_line(glyphs: list[Glyph], others: list[Glyph]) -> bool:
    """Return whether PDFium broke a line in two, as it does at marks."""
    if len(glyphs) + len(others) > _MOST:
        return False
    first, second = (
        next((one for one in line if not _is_mark(one)), None) for line in (glyphs[::-1], others)
    )
    if first is None or second is None:
        return True
    return abs(first.y - second.y) < _SAME_LINE * max(first.size, second.size)


def origin(text_page: object, index: int) -> tuple[float, float]:
    """Return where the character at `index` is drawn, in points."""
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
    sides = [kind != "L" if kind in "RAL" else None for kind in _kinds(line)]
    runs = [side for side, _ in groupby(sides)]
    is_turned = 0 < runs.count(True) >= runs.count(False)
    found: list[tuple[str, bool]] = []
    for letter, side in zip(line, sides, strict=True):
        is_turned = is_turned if side is None else side
        found.append((mirrored(letter) if is_turned else letter, is_turned))
    return found


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


def _is_mark(glyph: Glyph) -> bool:
    return all(unicodedata.category(letter) in _MARKS for letter in glyph.text)


def _rows(glyphs: list[Glyph]) -> list[list[str]]:
    """Return the glyphs by line, from the top, each from left to right with spaces and marks."""
    rows: list[list[Glyph]] = []
    letters = [glyph for glyph in glyphs if not _is_mark(glyph)]
    marks = [(glyph, _under(glyph, letters)) for glyph in glyphs if _is_mark(glyph)]
    # One that stands alone is read as a letter.
    letters += [mark for mark, letter in marks if letter is None]
    for glyph in sorted(letters, key=lambda one: -one.y):
        if rows and rows[-1][0].y - glyph.y < _STEP * max(glyph.size, rows[-1][0].size):
            rows[-1].append(glyph)
        else:
            rows.append([glyph])
    # How many letters a glyph has counts until then.
    spaced = [_spaced(sorted(row, key=lambda one: one.x)) for row in rows]
    for glyph in letters:
        if not glyph.is_said:
            glyph.text = _as_read(glyph.text, is_turned=glyph.is_turned)
    for mark, letter in marks:
        if letter is not None:
            letter.text += mark.text
    return [[one if isinstance(one, str) else one.text for one in row] for row in spaced]


def _under(mark: Glyph, letters: list[Glyph]) -> Glyph | None:
    """Return the letter that a mark is drawn over, None if there is none."""
    middle = (mark.left + mark.right) / 2
    near = (one for one in letters if one.text != " " and abs(one.y - mark.y) < one.size)
    return min(near, key=lambda one: abs((one.left + one.right) / 2 - middle), default=None)


def _spaced(row: list[Glyph]) -> list[Glyph | str]:
    """Return the glyphs, and a space for each gap between words."""
    letters: list[Glyph] = []
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
    out: list[Glyph | str] = letters[:1]  # type: ignore[assignment]
    for at in range(1, len(letters)):
        least = _least_gap(*letters[at - 1 : at + 1], has_spaces=bool(drawn))
        if at in drawn or gaps[at] > least:
            out.append(" ")
        out.append(letters[at])
    return out


def _least_gap(before: Glyph, after: Glyph, *, has_spaces: bool) -> float:
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


def _is_marked(glyph: Glyph) -> bool:
    return len(glyph.text) > 1 and any(map(unicodedata.combining, glyph.text))
