"""PDFs of a few hundred bytes, written by hand; and small ones that are anything but harmless."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
SAID = b"BT /F1 12 Tf 10 100 Td (Some text.) Tj ET"


def pdf(pages: Sequence[str]) -> bytes:
    """Return a PDF with one line of ASCII text on each page."""
    objects = [CATALOG, tree([4 + 2 * number for number in range(len(pages))]), FONT]
    for number, text in enumerate(pages):
        said = f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode("ascii")
        objects += [page(5 + 2 * number), stream(said)]
    return written(objects)


def written(objects: Sequence[bytes], *, trailer: bytes = b"", is_circular: bool = False) -> bytes:
    """Return the file that consists of `objects`, numbered from 1; the first is the catalogue.

    `trailer` is added to the trailer's entries; where `is_circular`, the table is before itself.
    """
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    if is_circular:
        trailer += b" /Prev %d" % start
    count = len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % count
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R%s >>\n" % (count, trailer)
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def tree(pages: Sequence[int]) -> bytes:
    """Return the page tree, which is object 2, of pages with these numbers."""
    kids = " ".join(f"{number} 0 R" for number in pages)
    return f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode()


def page(contents: int, *, extra: bytes = b"") -> bytes:
    """Return a page that shows the stream with the number `contents`; its font is object 3."""
    return (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents %d 0 R"
        b" /Resources << /Font << /F1 3 0 R >> >>%s >>" % (contents, extra)
    )


def stream(data: bytes, *, entries: bytes = b"") -> bytes:
    """Return a stream object of `data` as it is."""
    return b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def packed(data: bytes) -> bytes:
    """Return a stream object of `data`, deflated."""
    return stream(zlib.compress(data, 9), entries=b" /Filter /FlateDecode")


def scanned(count: int = 2) -> bytes:
    """Return a PDF whose pages have a picture each, and no text."""
    pixels = stream(
        bytes(48),
        entries=b" /Type /XObject /Subtype /Image /Width 4 /Height 4 /BitsPerComponent 8"
        b" /ColorSpace /DeviceRGB",
    )
    objects = [CATALOG, tree([4 + 2 * number for number in range(count)]), pixels]
    for number in range(count):
        shown = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents %d 0 R" % (
            5 + 2 * number
        )
        objects.append(shown + b" /Resources << /XObject << /I 3 0 R >> >> >>")
        objects.append(stream(b"q 200 0 0 200 0 0 cm /I Do Q"))
    return written(objects)


def large_stream(size: int = 80 << 20) -> bytes:
    """Return a PDF of a few hundred KB whose one page unpacks to `size` bytes."""
    return written([CATALOG, tree([4]), FONT, page(5), packed(b" " * size)])


def shared_stream(pages: int = 4, size: int = 5 << 20) -> bytes:
    """Return a PDF of some KB: every page shows the same stream of `size` bytes of text."""
    word = b"(abcdefgh) Tj "
    shown = b"BT /F1 12 Tf 10 100 Td " + word * (size // len(word)) + b"ET"
    last = 4 + pages
    objects = [CATALOG, tree(range(4, last)), FONT, *[page(last)] * pages, packed(shown)]
    return written(objects)


def slow(pages: int = 40, size: int = 50 << 20, *, said: bytes = b"") -> bytes:
    """Return a PDF of some KB: every page unpacks the same `size` bytes, and draws `said` alone."""
    last = 4 + pages
    step = b"q Q "
    objects = [CATALOG, tree(range(4, last)), FONT, *[page(last)] * pages]
    return written([*objects, packed(step * (size // len(step)) + said)])


def cyclic_outline() -> bytes:
    """Return a PDF whose outline's entries follow each other in a circle."""
    catalog = b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>"
    outlines = b"<< /Type /Outlines /First 7 0 R /Last 8 0 R /Count 2 >>"
    entries = [
        b"<< /Title (%c) /Parent 6 0 R /Next %d 0 R /First %d 0 R >>" % (65 + at, 8 - at, 8 - at)
        for at in range(2)
    ]
    return written([catalog, tree([4]), FONT, page(5), stream(SAID), outlines, *entries])


def cyclic_pages() -> bytes:
    """Return a PDF whose page tree contains itself."""
    cycle = b"<< /Type /Pages /Count 2 /Kids [4 0 R 2 0 R] /Parent 2 0 R >>"
    return written([CATALOG, cycle, FONT, page(5), stream(SAID)])


def circular_xref() -> bytes:
    """Return a PDF whose table of objects names itself as the one before it."""
    return written([CATALOG, tree([4]), FONT, page(5), stream(SAID)], is_circular=True)


def endless_forms(depth: int = 40) -> bytes:
    """Return a PDF of few KB in which every form shows the next one twice."""
    objects = [CATALOG, tree([4]), FONT]
    last = 6 + depth
    xobjects = b" /XObject << /X %d 0 R >>"
    shown = page(5).replace(b" /Resources <<", b" /Resources <<" + xobjects % 6)
    objects += [shown, stream(b"/X Do /X Do")]
    for number in range(6, last):
        entries = b" /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources <<%s /Font << >> >>"
        objects.append(stream(b"/X Do /X Do", entries=entries % (xobjects % (number + 1))))
    objects.append(stream(SAID, entries=b" /Type /XObject /Subtype /Form /BBox [0 0 9 9]"))
    return written(objects)


def encrypted() -> bytes:
    """Return a PDF that says it is encrypted."""
    lock = b"<< /Filter /Standard /V 1 /R 2 /P -4 /O (%s) /U (%s) >>" % (b"o" * 32, b"u" * 32)
    objects = [CATALOG, tree([4]), FONT, page(5), stream(SAID), lock]
    identity = b" /Encrypt 6 0 R /ID [<00112233445566778899aabbccddeeff> <00>]"
    return written(objects, trailer=identity)


def bombs() -> Mapping[str, tuple[bytes, str]]:
    """Return hostile and broken files by name, each with how its refusal must end.

    An empty end means that the file is read: its fault lies where nobody looks. What is too complex
    for the memory may also end by a crash, as the system refuses it in the middle of native code.
    """
    return {
        "80 MB stream": (large_stream(), "document-scanned"),
        "four pages on one stream": (shared_stream(), "document-too-complex"),
        "forty pages on one stream": (slow(), "document-timeout"),
        "cyclic outline": (cyclic_outline(), ""),
        "cyclic page tree": (cyclic_pages(), ""),
        "circular xref": (circular_xref(), ""),
        "forms in forms": (endless_forms(), "document-too-complex"),
        "encrypted": (encrypted(), "document-encrypted"),
        "truncated": (pdf(["x"])[:150], "document-unreadable"),
        "no pages": (pdf([]), "document-no-pages"),
        "not a PDF": (b"MZ" + bytes(1000), "document-not-pdf"),
        "scanned": (scanned(), "document-scanned"),
    }
