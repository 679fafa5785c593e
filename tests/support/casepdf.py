"""PDFs of the kinds that readers get wrong, written by hand as `tinypdf` writes them."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING
from unicodedata import combining

from tests.support.aes import encrypted_cbc
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
_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


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
    """Return a PDF that is encrypted and that `password` opens.

    By RC4 with a key of 40 or 128 bits (`rc4-40`, `rc4-128`), or AES of 128 bits (`aes-128`);
    PDF 1.7, 7.6.
    """
    size = 5 if cipher == "rc4-40" else 16
    revision, version = {"rc4-40": (2, 1), "rc4-128": (3, 2), "aes-128": (4, 4)}[cipher]
    owner, identity, rights = b"o" * 32, bytes(range(16)), (-4).to_bytes(4, "little", signed=True)
    padded = (password.encode("latin-1") + _PADDING)[:32]
    key = hashlib.md5(padded + owner + rights + identity).digest()[:size]  # noqa: S324 - PDF's
    for _ in range(50 * (revision > 2)):
        key = hashlib.md5(key[:size]).digest()[:size]  # noqa: S324
    if revision == 2:
        user = rc4(key, _PADDING)
    else:
        user = hashlib.md5(_PADDING + identity).digest()  # noqa: S324
        for step in range(20):
            user = rc4(bytes(byte ^ step for byte in key), user)
        user += bytes(16)
    of_stream = key + (5).to_bytes(3, "little") + bytes(2) + b"sAlT" * (cipher == "aes-128")
    own = hashlib.md5(of_stream).digest()[: min(size + 5, 16)]  # noqa: S324
    plain = lines(*LEASE)
    body = encrypted_cbc(own, plain) if cipher == "aes-128" else rc4(own, plain)
    lock = b"<< /Filter /Standard /V %d /R %d /Length %d /P -4 /O <%s> /U <%s>" % (
        *(version, revision, size * 8, owner.hex().encode(), user.hex().encode()),
    )
    if cipher == "aes-128":
        lock += b" /CF << /StdCF << /CFM /AESV2 /Length 16 >> >> /StmF /StdCF /StrF /StdCF"
    objects = [CATALOG, tree([4]), WIN_ANSI, page(5), stream(body), lock + b" >>"]
    hexed = identity.hex().encode()
    return written(objects, trailer=b" /Encrypt 6 0 R /ID [<%s> <%s>]" % (hexed, hexed))


def rc4(key: bytes, data: bytes) -> bytes:
    """Return `data` under the stream cipher RC4."""
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def large_drawing(size: int) -> bytes:
    """Return what draws `size` bytes of lines and a title."""
    step = b"10 10 m 20 20 l S\n"
    return lines("Map of the harbour, scale 1:5000") + step * (size // len(step))


def deflated(content: bytes, *, cut: int | None = None) -> bytes:
    """Return a stream object of packed `content`, of which the last `cut` bytes are missing."""
    body = zlib.compress(content, 9)
    return stream(body[: -cut if cut else None], entries=b" /Filter /FlateDecode")
