"""Whether a page of a PDF draws something that cannot be unpacked.

PDFium says nothing of a stream that it cannot read: the page is then simply shorter, or empty. So
the packed streams of the file are tried, and where one is broken, or a page shows nothing, what the
page draws is looked at in a copy of the page alone, in which all is plain but the streams.
"""

from __future__ import annotations

import ctypes
import re
import zlib

import pypdfium2_raw as pdfium

# Streams of so many bytes are tried, unpacked; what is longer is no page's text.
_MOST = 4 << 20
_STEP = 1 << 16
_PACKED = re.compile(rb"<<([^<>]{0,400}/FlateDecode\b[^<>]{0,400})>>\s{0,8}stream\r?\n")
# Of pictures, fonts, tables of objects and whatever names what it is; or packed more than once.
_OTHER = re.compile(
    rb"/(?:Type|Subtype|Length1|Predictor|DecodeParms|FunctionType|N"
    rb"|ASCII85Decode|A85|ASCIIHexDecode|AHx|LZWDecode|LZW|RunLengthDecode|RL|Crypt)\b"
)
_NAMED = re.compile(
    rb"\n(\d+) 0 obj\s*<<((?:(?!endobj).){0,2000}?)>>\s*stream\r?\n(.*?)\r?\nendstream", re.DOTALL
)
_CONTENTS = re.compile(rb"/Contents(?:\s*\[([^\]]{0,20000})\]|\s+(\d+) 0 R)")
_REFERENCE = re.compile(rb"(\d+) 0 R")
_FILTERS = re.compile(rb"/Filter\s*(?:\[([^\]]*)\]|/(\w+))")
_KNOWN = frozenset(
    (
        *(b"FlateDecode", b"LZWDecode", b"ASCII85Decode", b"ASCIIHexDecode", b"RunLengthDecode"),
        *(b"Fl", b"LZW", b"A85", b"AHx", b"RL", b"Crypt"),
    )
)
# Operators that show text, a picture or a form.
_SHOWS = re.compile(rb"(?:[)>\]]\s*(?:Tj|TJ|'|\")|/\w+\s+Do|\bBI)(?![\w])")
_SHOWS_NOTHING = re.compile(rb"(?:\(\s*\)|<\s*>|\[\s*\])\s*(?:Tj|TJ|'|\")")


def has_damage(data: bytes) -> bool:
    """Return whether a stream in `data` that may be a page's drawing cannot be unpacked whole.

    Nothing is known of encrypted ones.
    """
    view = memoryview(data)  # of which a part is no copy
    return b"/Encrypt" not in data and any(
        not _OTHER.search(found[1]) and _unpacked(view[found.end() : found.end() + _MOST]) is None
        for found in _PACKED.finditer(data)
    )


def _unpacked(data: bytes | memoryview) -> bytes | None:
    """Return what `data`, of zlib's format, holds; None if it does not come to its end.

    The checksum after that is passed over, as PDFium does.
    """
    unpack = zlib.decompressobj(wbits=-15)
    out = bytearray()
    try:
        for at in range(2, len(data), _STEP):
            out += unpack.decompress(data[at : at + _STEP], _MOST - len(out))
            if unpack.eof or len(out) >= _MOST:
                return bytes(out)
    except zlib.error:
        pass
    return None


def copied(document: object, number: int) -> bytes:
    """Return a document of the page with this number, from 1, alone; empty if it cannot be had."""
    copy = pdfium.FPDF_CreateNewDocument()
    pages = (ctypes.c_int * 1)(number - 1)
    out = bytearray()

    def write(_self: object, data: int, size: int) -> int:
        out.extend(ctypes.string_at(data, size))
        return 1

    try:
        if not pdfium.FPDF_ImportPagesByIndex(copy, document, pages, 1, 0):
            return b""
        writer = pdfium.FPDF_FILEWRITE(version=1)
        writer.WriteBlock = type(writer.WriteBlock)(write)
        pdfium.FPDF_SaveAsCopy(copy, ctypes.byref(writer), pdfium.FPDF_NO_INCREMENTAL)
        return bytes(out)
    finally:
        pdfium.FPDF_CloseDocument(copy)


def is_damaged(copy: bytes, *, is_empty: bool) -> bool:
    """Return whether the one page in `copy` draws what cannot be unpacked or understood.

    `is_empty` says that nothing of it was understood.
    """
    contents = _CONTENTS.search(copy)
    if contents is None:
        return False
    numbers = set(_REFERENCE.findall(contents[1]) if contents[1] else [contents[2]])
    drawn = False
    for found in _NAMED.finditer(copy):
        if found[1] not in numbers:
            continue
        numbers.discard(found[1])
        filters = _filters(found[2])
        if not set(filters) <= _KNOWN:
            return True
        data = found[3]
        if filters == [b"FlateDecode"]:
            plain = _unpacked(data)
            if plain is None:
                return True
            data = plain
        elif filters:
            continue
        drawn = drawn or bool(_SHOWS.search(_SHOWS_NOTHING.sub(b"", data)))
    return bool(numbers) or (is_empty and drawn)


def _filters(entries: bytes) -> list[bytes]:
    found = _FILTERS.search(entries)
    if found is None:
        return []
    return re.findall(rb"/(\w+)", found[1]) if found[1] is not None else [found[2]]
