"""What a PDF says that glyphs together read as (ActualText), and where their letter stands.

Programs that set text with a shaper (Chromium) say so of letters with marks. PDFium puts all of
what is said at the first glyph, which is a mark, in pieces whose order is not that of reading.
"""

from __future__ import annotations

import codecs
import ctypes
import unicodedata
from dataclasses import dataclass

import pypdfium2_raw as pdfium

_KEY = ctypes.create_string_buffer(b"ActualText")
_STRING = 3  # type of a value
_TEXT = 1  # type of a page object
# Of what is said of one glyph and its marks; words and lines are said, too.
_MOST_BYTES, _MOST_LETTERS = 64, 4


@dataclass(slots=True, kw_only=True)
class ActualText:
    """What is said, in the order of reading, and where the last glyph of it is drawn, in points.

    A letter from right to left comes after its marks. `left` and `right` are those of its ink.
    """

    text: str
    x: float = 0.0
    y: float = 0.0
    left: float = 0.0
    right: float = 0.0
    is_put: bool = False


def spans(page: object) -> dict[int, ActualText]:
    """Return what the page's glyphs read as, by the addresses of their objects."""
    found: dict[int, ActualText] = {}
    before, span = 0, None
    for index in range(pdfium.FPDFPage_CountObjects(page)):
        drawn = pdfium.FPDFPage_GetObject(page, index)
        if pdfium.FPDFPageObj_GetType(drawn) != _TEXT:
            continue
        mark = pdfium.FPDFPageObj_GetMark(drawn, pdfium.FPDFPageObj_CountMarks(drawn) - 1)
        at = address(mark)
        if at != before:
            text = _said(mark) if at else ""
            before, span = at, ActualText(text=text) if text else None
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


def _put(span: ActualText, drawn: object) -> None:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(drawn, ctypes.byref(matrix))
    sides = [ctypes.c_float() for _ in range(4)]
    pdfium.FPDFPageObj_GetBounds(drawn, *map(ctypes.byref, sides))
    span.x, span.y = matrix.e, matrix.f
    span.left, span.right = sides[0].value, sides[2].value
