"""The brackets of TeX's fonts of symbols, which have the places of two letters there.

Documentation made by LaTeX has <option> in brackets whose names (angbracketleft) are in no list of
glyphs that PDFium knows: it takes them for the letters at their places, "hoptioni".
"""

from __future__ import annotations

import ctypes
import re

import pypdfium2_raw as pdfium

# Computer Modern and Latin Modern, in the encoding OMS; a font that was cut down has a prefix.
_FONT = re.compile(rb"(?:[A-Z]{6}\+)?(?:CMB?SY|LMMathSymbols)\d")
_NAME_BYTES = 64
_BRACKETS = {"h": "\u27e8", "i": "\u27e9"}
# Where a bracket shows first: at a word's end, where i is rare. To ask for each one is slow.
_CLOSING = re.compile(r"i(?<=\wi)(?![^\W_])")  # the letter first: it is looked for fast
_EITHER = re.compile("[hi]")
# How many characters that are left out are passed over, and how many must be alike.
_MOST_STEPS, _HEAD_CHARS = 64, 4


def bracketed(text_page: object, text: str, *, more: int) -> str:
    """Return `text` with the brackets that stand in it as letters.

    The page has so many characters `more`, of which some may come before any other.
    """
    more = max(0, min(more, _MOST_STEPS))
    for found in _CLOSING.finditer(text):
        steps = range(more + 1)
        if any(_is_bracket(text_page, found.start() + step) for step in steps):
            return _all_bracketed(text_page, text, more)
    return text


def _all_bracketed(text_page: object, text: str, more: int) -> str:
    step = 0
    out = [*text]
    for found in _EITHER.finditer(text):
        at = found.start()
        if more:
            head = [*map(ord, text[at : at + _HEAD_CHARS])]
            steps = range(step, more + 1)
            step = next((to for to in steps if _codes(text_page, at + to, len(head)) == head), step)
        if _is_bracket(text_page, at + step):
            out[at] = _BRACKETS[found[0]]
    return "".join(out)


def _codes(text_page: object, index: int, count: int) -> list[int]:
    return [pdfium.FPDFText_GetUnicode(text_page, index + at) for at in range(count)]


def _is_bracket(text_page: object, index: int) -> bool:
    if pdfium.FPDFText_HasUnicodeMapError(text_page, index) != 1:
        return False
    name = ctypes.create_string_buffer(_NAME_BYTES)
    pdfium.FPDFText_GetFontInfo(text_page, index, name, _NAME_BYTES, None)
    return _FONT.match(name.value) is not None
