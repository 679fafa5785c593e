"""PDFs of the kinds that readers get wrong, written by hand as `tinypdf` writes them."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING
from unicodedata import combining

from pypdf import PdfWriter

from tests.support.tinypdf import CATALOG, FONT, page, stream, tree, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEASE = (
    "The lease of the Harbour Street office ends on 30 June.",
    "Either party may give notice of termination in writing.",
)
DEPOSIT = "Page three says the deposit is 4,200 euros."
WIN_ANSI = FONT.replace(b" >>", b" /Encoding /WinAnsiEncoding >>")
# A letter of Helvetica: what has no shape is no text to PDFium.
_FIRST = ord("K")  # from here on no glyph of Helvetica is narrow


def lines(*texts: str) -> bytes:
    """Return what draws `texts`, each on a line of its own."""
    drawn = b"".join(b"(%s) Tj T*\n" % text.encode("cp1252") for text in texts)
    return b"BT /F1 6 Tf 9 TL 5 180 Td\n%sET\n" % drawn


def at(*places: tuple[float, float, str]) -> bytes:
    """Return what draws texts at places, in this order."""
    return b"".join(
        b"BT /F1 6 Tf %g %g Td (%s) Tj ET\n" % (x, y, text.encode("cp1252"))
        for x, y, text in places
    )


def drawing(
    content: bytes, *, font: bytes = WIN_ANSI, extra: bytes = b"", more: Sequence[bytes] = ()
) -> bytes:
    """Return a PDF of a page with this content and `extra` entries, and `more` objects from 6."""
    objects = [CATALOG, tree([4]), font, page(5, extra=extra), stream(content), *more]
    return written(objects)


def second_page(contents: bytes) -> bytes:
    """Return a PDF of three pages, the second of which has this object for its contents."""
    streams = [stream(lines(*LEASE)), contents, stream(lines(DEPOSIT))]
    objects = [CATALOG, tree([4, 6, 8]), WIN_ANSI]
    for number, content in enumerate(streams):
        objects += [page(5 + 2 * number), content]
    return written(objects)


def mapped(codes: Mapping[int, str], shown: Sequence[int]) -> bytes:
    """Return a PDF that shows characters by codes, which a table gives their letters."""
    font = FONT.replace(b" >>", b" /ToUnicode 6 0 R >>")
    content = b"BT /F1 8 Tf 5 100 Td <%s> Tj ET" % bytes(shown).hex().encode()
    return drawing(content, font=font, more=[_table(codes)])


def _table(codes: Mapping[int, str]) -> bytes:
    entries = b" ".join(
        b"<%02X> <%s>" % (code, text.encode("utf-16-be").hex().encode())
        for code, text in codes.items()
    )
    return stream(
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def"
        b" /CMapType 2 def 1 begincodespacerange <00> <FF> endcodespacerange"
        b" %d beginbfchar %s endbfchar endcmap end end" % (len(codes), entries)
    )


def visual(text: str) -> bytes:
    """Return a PDF that draws `text`, which is written from right to left, from left to right.

    Numbers in it are drawn as they are read.
    """
    letters = sorted(set(text))
    codes = {1 + number: letter for number, letter in enumerate(letters)}
    words = [word if word.isascii() else word[::-1] for word in text.split(" ")]
    drawn = " ".join(reversed([w[::-1] if w.isdecimal() and not w.isascii() else w for w in words]))
    return mapped(codes, [1 + letters.index(letter) for letter in drawn])


def placed(drawn: Sequence[tuple[float, float, str]]) -> bytes:
    """Return a PDF that draws texts at places; a pair of letters of a ligature is one glyph.

    Glyphs are 5 points wide, but marks, which are half of that. There is no space. A letter with
    its marks is said as one (ActualText), and drawn after them, which stand higher.
    """
    found = {glyph: code for code, glyph in enumerate(sorted({*_glyphs(drawn)}), start=_FIRST)}
    widths = b" ".join(b"500" if combining(glyph[0]) else b"1000" for glyph in found)
    font = FONT.replace(
        b" >>",
        b" /ToUnicode 6 0 R /FirstChar %d /LastChar %d /Widths [%s] >>"
        % (_FIRST, max(found.values()), widths),
    )

    def shown(x: float, y: float, text: str) -> bytes:
        if len(text) > 1 and combining(text[1]):
            said = (
                b"/Span <</ActualText <%s>>> BDC\n"
                % f"\ufeff{text}".encode("utf-16-be").hex().encode()
            )
            marks = [shown(x + 1, y + 2, mark) for mark in text[:0:-1]]
            return b"".join([said, *marks, shown(x, y, text[0]), b"EMC\n"])
        codes = bytes(found[glyph] for glyph in _glyphs([(x, y, text)]))
        return b"BT /F1 5 Tf %g %g Td <%s> Tj ET\n" % (x, y, codes.hex().encode())

    content = b"".join(shown(*place) for place in drawn)
    return drawing(content, font=font, more=[_table({found[glyph]: glyph for glyph in found})])


def _glyphs(drawn: Sequence[tuple[float, float, str]]) -> list[str]:
    return [glyph for *_, text in drawn for glyph in ([text] if text == "لا" else text)]


def japanese(encoding: str, text: bytes) -> bytes:
    """Return a PDF whose font has no table, but a known order of characters."""
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Mincho /DescendantFonts [6 0 R]"
        b" /Encoding /%s >>" % encoding.encode()
    )
    below = (
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Mincho /CIDSystemInfo"
        b" << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> /FontDescriptor 7 0 R >>"
    )
    described = (
        b"<< /Type /FontDescriptor /FontName /Mincho /Flags 4 /FontBBox [0 0 1000 1000]"
        b" /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>"
    )
    content = b"BT /F1 8 Tf 5 100 Td <%s> Tj ET" % text.hex().encode()
    return drawing(content, font=font, more=[below, described])


def spread(words: Sequence[str]) -> bytes:
    """Return a PDF whose words are apart by their places alone, without spaces, as XeTeX draws."""
    drawn = " -650 ".join(f"({word})" for word in words)
    return drawing(b"BT /F1 5 Tf 5 100 Td [%s] TJ ET" % drawn.encode("ascii"))


def form() -> bytes:
    """Return a form whose values stand in fields, one of them without a look; and two comments."""
    widget = b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (%s) /V (%s) /Rect [9 9 99 29] /F 4%s >>"
    comment = b"<< /Type /Annot /Subtype /%s /Contents (%s) /Rect [9 9 99 29]%s >>"
    box = (
        b"<< /Type /Annot /Subtype /Widget /FT /Btn /T (%s) /TU (%s) /AS /%s /Rect [9 9 29 29] /F 4"
        b" /AP << /N << /Yes 13 0 R /Off 13 0 R >> >> >>"
    )
    look = stream(
        b"/Tx BMC q BT /F1 9 Tf 2 5 Td (12 April 1984) Tj ET Q EMC",
        entries=b" /Type /XObject /Subtype /Form /BBox [0 0 99 20] /Resources"
        b" << /Font << /F1 3 0 R >> >>",
    )
    annotations = [
        widget % (b"name", b"Maria Sommer", b""),
        widget % (b"born", b"12 April 1984", b" /AP << /N 13 0 R >>"),
        comment % (b"FreeText", b"Reviewer: clause 7 must be struck out", b""),
        comment % (b"Text", b"hidden from everyone", b" /F 2"),
        comment % (b"Link", b"where it leads", b""),
        box % (b"a1", b"Newsletter wanted", b"Yes"),
        box % (b"a2", b"Call me", b"Off"),
    ]
    named = " ".join(f"{6 + number} 0 R" for number in range(len(annotations))).encode()
    catalog = CATALOG.replace(b" >>", b" /AcroForm << /Fields [6 0 R 7 0 R 11 0 R 12 0 R] >> >>")
    content = stream(lines("Application for membership", "Name:", "Date of birth:"))
    shown = page(5, extra=b" /Annots [%s]" % named)
    return written([catalog, tree([4]), WIN_ANSI, shown, content, *annotations, look])


def locked(*, cipher: str, password: str = "") -> bytes:
    """Return a PDF that is encrypted by a cipher, as pypdf names it, and that `password` opens."""
    writer = PdfWriter(clone_from=io.BytesIO(drawing(lines(*LEASE))))
    writer.encrypt(password, "the owner's", algorithm=cipher)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def large_drawing(size: int) -> bytes:
    """Return what draws `size` bytes of lines and a title."""
    step = b"10 10 m 20 20 l S\n"
    return lines("Map of the harbour, scale 1:5000") + step * (size // len(step))


def deflated(content: bytes, *, cut: int | None = None) -> bytes:
    """Return a stream object of packed `content`, of which the last `cut` bytes are missing."""
    body = zlib.compress(content, 9)
    return stream(body[: -cut if cut else None], entries=b" /Filter /FlateDecode")
