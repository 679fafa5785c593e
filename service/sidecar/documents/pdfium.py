"""PDFium as it is used here: a document's bytes to what its pages show and its annotations say.

Read with no font of the machine, so that a document gives the same text everywhere.
"""

from __future__ import annotations

import codecs
import ctypes
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator

import pypdfium2_raw as pdfium

from sidecar.documents import bidi, normal

# Computer Modern and Latin Modern, in the encoding OMS; a font that was cut down has a prefix.
_FONT = re.compile(rb"(?:[A-Z]{6}\+)?(?:CMB?SY|LMMathSymbols)\d")
_NAME_BYTES = 64
_BRACKETS = {"h": "\u27e8", "i": "\u27e9"}
# Where a bracket shows first: at a word's end, where i is rare. To ask for each one is slow.
_CLOSING = re.compile(r"i(?<=\wi)(?![^\W_])")  # the letter first: it is looked for fast
_EITHER = re.compile("[hi]")
# How many characters that are left out are passed over to find others, and how many of those must
# be alike.
_MOST_STEPS, _HEAD_CHARS = 64, 8


def bracketed(text_page: object, text: str, *, more: int) -> str:
    """Return `text` with the brackets that stand in it as letters.

    Documentation made by LaTeX has <option> in brackets whose names (angbracketleft) are in no list
    of glyphs that PDFium knows: it takes them for the letters at their places, "hoptioni".

    The page has so many characters `more`, of which some may come before any other.
    """
    more = max(0, min(more, _MOST_STEPS))
    if not any(
        _is_bracket(text_page, found.start() + step)
        for found in _CLOSING.finditer(text)
        for step in range(more + 1)
    ):
        return text
    step = 0
    out = [*text]
    for found in _EITHER.finditer(text):
        at = found.start()
        if more:
            head = text[at : at + _HEAD_CHARS]
            step = next(_places(text_page, head, at + step, more - step), at + step) - at
        if _is_bracket(text_page, at + step):
            out[at] = _BRACKETS[found[0]]
    return "".join(out)


def _places(text_page: object, text: str, start: int, more: int) -> Iterator[int]:
    """Yield where the page has the characters `text`, from `start` on, after at most `more`."""
    codes = [*map(ord, text)]
    for index in range(start, start + min(max(0, more), _MOST_STEPS) + 1):
        at = range(index, index + len(codes))
        if [pdfium.FPDFText_GetUnicode(text_page, place) for place in at] == codes:
            yield index


def _is_bracket(text_page: object, index: int) -> bool:
    if pdfium.FPDFText_HasUnicodeMapError(text_page, index) != 1:
        return False
    name = ctypes.create_string_buffer(_NAME_BYTES)
    pdfium.FPDFText_GetFontInfo(text_page, index, name, _NAME_BYTES, None)
    return _FONT.match(name.value) is not None


_PASSWORD, _SECURITY = 4, 5  # what FPDF_GetLastError says of an encrypted document
_LINK, _POPUP, _WIDGET = 2, 16, 20  # subtypes of annotations without words of their own
_UNSEEN = 0x02 | 0x20  # flags of an annotation: hidden, no view
_TEXT, _PATH = 1, 2  # types of page objects
_VALUES = (4, 5, 6)  # form fields with a value in words: combo box, list box, text field
_CHECKS = (2, 3)  # check box, radio button
# Rules and frames are paths, too; so many on a page without text are a picture.
_PICTURE_PATHS = 50
_MAX_ANNOTATIONS = 10_000
# So many characters of a page are asked whether the font tells their letters.
_SAMPLE = 48
# A quarter is many.
_MANY = 4
_NO_CODES = (0, 0xFFFE, 0xFFFF)
_NO_CODE = re.compile(f"[{''.join(map(chr, _NO_CODES))}]")
_BREAK = "\r\n"
_BREAK_CODES = (*map(ord, _BREAK),)
# Lines that begin alike and so near to each other, in points, are one to a reader.
_SAME = 1.5
_SPACE, _A, _Z, _CASE = 0x20, 0x61, 0x7A, 0x20
_ACCENTED = re.compile(f"[{re.escape(''.join(normal.ACCENTS))}][^\\W\\d_]")
_HEADER = b"%PDF-"
_UTF_16 = "utf-16-le"
_ROOT = re.compile(rb"(\d{1,10})\s+(\d{1,5})\s+obj\b(?!.*\bobj\b)", re.DOTALL)
_ROOT_BYTES = 1024


class Unfit(Exception):  # noqa: N818 (nothing failed)
    """The document has no text for us; the word says why."""


class PageError(Exception):
    """A page cannot be read."""


def start() -> None:
    """Get PDFium ready, with no fonts but its own."""
    no_fonts = (ctypes.POINTER(ctypes.c_char) * 1)()
    config = pdfium.FPDF_LIBRARY_CONFIG(version=2, m_pUserFontPaths=no_fonts)
    pdfium.FPDF_InitLibraryWithConfig(ctypes.byref(config))
    codecs.lookup(_UTF_16)  # a module, which cannot be read any more later on


class PdfDocument:
    """A PDF that was opened."""

    def __init__(self, data: bytes, *, password: str | None = None) -> None:
        """Open `data`, with `password` or the empty one if one is asked for. Raises Unfit."""
        self._passwords = (password.encode(), None) if password else (None,)
        at = data.find(_HEADER)
        if at < 0:
            raise Unfit("not-pdf")
        self._data = data[at:]
        self._document = self._opened(self._data)
        if self._document is None:
            self._data = _with_trailer(self._data)
            self._document = self._opened(self._data)
        if self._document is None:
            raise Unfit("unreadable")
        self.count = int(pdfium.FPDF_GetPageCount(self._document))
        if self.count < 1:
            raise Unfit("no-pages")
        self._form = self._opened_form()
        self._has_damage: bool | None = None
        self._before = ""

    def _opened(self, data: bytes) -> object | None:
        for password in self._passwords:
            document = pdfium.FPDF_LoadMemDocument64(data, len(data), password)
            if document:
                return document  # type: ignore[no-any-return]
        if pdfium.FPDF_GetLastError() in (_PASSWORD, _SECURITY):
            raise Unfit("password" if len(self._passwords) > 1 else "encrypted")
        return None

    def _opened_form(self) -> object | None:
        if pdfium.FPDF_GetFormType(self._document) == 0:
            return None
        # PDFium keeps the address of this.
        self._form_info = pdfium.FPDF_FORMFILLINFO(version=1)
        return pdfium.FPDFDOC_InitFormFillEnvironment(  # type: ignore[no-any-return]
            self._document, ctypes.byref(self._form_info)
        )

    def close(self) -> None:
        """Let go of what PDFium holds."""
        if self._form is not None:
            pdfium.FPDFDOC_ExitFormFillEnvironment(self._form)
        pdfium.FPDF_CloseDocument(self._document)

    def read(self, number: int, *, most: int) -> normal.Page:
        """Return the page with this number, from 1, after those before it; at most `most` are read.

        Raises PageError.
        """
        handle = pdfium.FPDF_LoadPage(self._document, number - 1)
        if not handle:
            raise PageError
        try:
            text = _shown(handle)
            page = normal.normal(text, before=self._before)
            self._before = page.text
            if not text.strip():
                page.losses["picture"] += _is_picture(handle)
            objects = pdfium.FPDFPage_CountObjects(handle)
            copy = b"" if objects and not self._is_suspect(most) else copied(self._document, number)
            if is_damaged(copy, is_empty=not objects):
                page.losses["page"] += 1
            self._add_annotations(handle, page)
            return page
        finally:
            pdfium.FPDF_ClosePage(handle)

    def _is_suspect(self, most: int) -> bool:
        """Return whether a stream is broken; not asked where the rest is left out in any case."""
        if self._has_damage is None:
            self._has_damage = self.count <= most and has_damage(self._data)
        return self._has_damage

    def _add_annotations(self, handle: object, page: normal.Page) -> None:
        count = min(pdfium.FPDFPage_GetAnnotCount(handle), _MAX_ANNOTATIONS)
        lines = [page.text] if page.text else []
        for index in range(count):
            annotation = pdfium.FPDFPage_GetAnnot(handle, index)
            if not annotation:
                continue
            try:
                kind, said = self._said_by(annotation)
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)
            said = said and normal.normal(said).text.strip()
            if said:
                page.notes[kind] += 1
                lines.append(said)
        page.text = "\n".join(lines)

    def _said_by(self, annotation: object) -> tuple[str, str]:
        """Return the kind of note, and the words, that an annotation adds to its page."""
        subtype = pdfium.FPDFAnnot_GetSubtype(annotation)
        if subtype in (_LINK, _POPUP) or pdfium.FPDFAnnot_GetFlags(annotation) & _UNSEEN:
            return "annotations", ""
        if subtype != _WIDGET:
            return "annotations", _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
        if self._form is None:
            return "form-values", ""
        kind = pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation)
        if kind in _VALUES:
            said = _string(pdfium.FPDFAnnot_GetFormFieldValue, self._form, annotation)
        elif kind in _CHECKS and _is_on(annotation):
            said = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, self._form, annotation)
        else:
            said = ""
        return "form-values", said


def _is_on(annotation: object) -> bool:
    """Return whether a box is checked: its look is another than that of an empty one."""
    return _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"AS") not in ("", "Off")


def _shown(handle: object) -> str:
    """Return the characters that stand within the page, in the order of reading."""
    text_page = pdfium.FPDFText_LoadPage(handle)
    if not text_page:
        raise PageError
    try:
        count = pdfium.FPDFText_CountChars(text_page)
        box = pdfium.FS_RECTF()
        pdfium.FPDF_GetPageBoundingBox(handle, ctypes.byref(box))
        area = (box.left, box.top, box.right, box.bottom)
        # A character may be two, and the last one is NUL.
        # Of few sizes: each makes another type, which takes longer to make than the text to copy.
        size = 1 << (2 * count + 1).bit_length()
        buffer = (ctypes.c_ushort * size)()
        text = _decoded(buffer, pdfium.FPDFText_GetBoundedText(text_page, *area, buffer, size))
        is_untold = _is_untold(text_page, count)
        # Characters that are mapped to none are left out of it.
        if is_untold or (count > len(text) and _lacks(text_page, count)):
            more = count - len(text)
            text = _told(text_page, count, area, more=more, is_untold=is_untold) or text
        text = _once(text_page, text, more=count - len(text))
        text = bracketed(text_page, text, more=count - len(text))
        text = normal.accented(text, _accents(text_page, text, more=count - len(text)))
        return bidi.ordered(handle, text_page, text)
    finally:
        pdfium.FPDFText_ClosePage(text_page)


def _is_untold(text_page: object, count: int) -> bool:
    """Return whether the fonts tell no letters for many of the characters."""
    asked = range(0, count, max(1, count // _SAMPLE))
    untold = sum(pdfium.FPDFText_HasUnicodeMapError(text_page, index) == 1 for index in asked)
    return bool(untold * _MANY > len(asked))


def _lacks(text_page: object, count: int) -> bool:
    """Return whether a character may be mapped to none.

    All are asked for at once, which says it of some that are mapped, too, as of hyphens; to ask for
    each one is slow.
    """
    size = count + 1
    buffer = (ctypes.c_ushort * size)()
    said = pdfium.FPDFText_GetText(text_page, 0, count, buffer)
    text = ctypes.string_at(buffer, 2 * count).decode(_UTF_16, "replace")
    return (
        said < size
        or len(text) < count
        or any(
            pdfium.FPDFText_GetUnicode(text_page, found.start()) in _NO_CODES
            for found in _NO_CODE.finditer(text)
        )
    )


def _told(
    text_page: object, count: int, area: tuple[float, ...], *, more: int, is_untold: bool
) -> str | None:
    """Return the characters one by one, with U+FFFD for those that nothing tells.

    None if all are told that stand in `area`, the page's; it has so many `more` than that. A font
    that tells no letters often has them at their usual codes, which are then what PDFium says; a
    font that was cut down has them in the order of their first use.
    """
    codes = [pdfium.FPDFText_GetUnicode(text_page, index) for index in range(count)]
    lost = {index for index, code in enumerate(codes) if code in _NO_CODES}
    outside = _outside(text_page, codes, area) if more > len(lost) else set[int]()
    if is_untold:
        error = pdfium.FPDFText_HasUnicodeMapError
        untold = [index for index in range(count) if error(text_page, index) == 1]
        if not _are_letters([codes[index] for index in untold]):
            lost.update(untold)
    hyphens = {index for index in range(count) if pdfium.FPDFText_IsHyphen(text_page, index) == 1}
    lost -= hyphens
    if lost <= outside:
        return None
    said = (
        normal.REPLACEMENT if index in lost else normal.HYPHEN if index in hyphens else chr(code)
        for index, code in enumerate(codes)
        if index not in outside
    )
    return "".join(said).encode(_UTF_16, "surrogatepass").decode(_UTF_16, "replace")


def _outside(text_page: object, codes: list[int], area: tuple[float, ...]) -> set[int]:
    """Return which characters stand outside of `area`, the left, top, right and bottom of a page.

    Of what PDFium puts between, a space stands where the character before it does, and a line ends
    in the page if some of it does.
    """
    left, top, right, bottom = area
    found: set[int] = set()
    is_outside = is_begun = False
    for index, code in enumerate(codes):
        if pdfium.FPDFText_IsGenerated(text_page, index) != 1:
            start, end, low, high = _box(text_page, index)
            is_outside = start < end and not (
                start < right and end > left and low < top and high > bottom
            )
            is_begun = is_begun or not is_outside
        if (not is_begun) if code in _BREAK_CODES else is_outside:
            found.add(index)
        is_begun = is_begun and code != _BREAK_CODES[-1]
    return found


def _are_letters(codes: list[int]) -> bool:
    """Return whether codes without a meaning of their own are the usual ones of letters."""
    controls = sum(code < _SPACE for code in codes)
    lower = sum(_A <= code <= _Z for code in codes)
    upper = sum(_A <= code + _CASE <= _Z for code in codes)
    return not controls * _MANY > len(codes) and (lower >= upper or not controls)


def _accents(text_page: object, text: str, *, more: int) -> frozenset[int]:
    """Return the places in `text` of accents that are drawn over the letter after them.

    The page has so many characters `more`, of which some may come before.
    """
    return frozenset(
        found.start()
        for found in _ACCENTED.finditer(text)
        if any(
            _overlaps(text_page, index)
            for index in _places(text_page, found[0], found.start(), more)
        )
    )


def _overlaps(text_page: object, index: int) -> bool:
    """Return whether the middle of the character at `index` is over the one after it."""
    left, right, *_ = _box(text_page, index)
    start, end, *_ = _box(text_page, index + 1)
    return start < (left + right) / 2 < end


def _box(text_page: object, index: int) -> list[float]:
    """Return the left, right, bottom and top of the character at `index`."""
    sides = [ctypes.c_double() for _ in range(4)]
    pdfium.FPDFText_GetCharBox(text_page, index, *map(ctypes.byref, sides))
    return [side.value for side in sides]


def _once(text_page: object, text: str, *, more: int) -> str:
    """Return `text` without the lines that are drawn over the same line a second time.

    PDFium does so itself where one follows the other; not where all of a page is drawn twice.
    """
    lines = text.split(_BREAK)
    if len(set(lines)) == len(lines):
        return text
    counts = Counter(lines)
    kept: list[str] = []
    drawn: dict[str, list[tuple[float, float]]] = {}
    at = step = 0
    for line in lines:
        start, at = at, at + len(line) + len(_BREAK)
        index = None
        if counts[line] > 1 and line.strip():
            head = line[:_HEAD_CHARS]
            index = next(_places(text_page, head, start + step, more - step), None)
        if index is not None:
            step = index - start  # so that the next one is not found where this one is
            place, places = bidi.origin(text_page, index), drawn.setdefault(line, [])
            if any(math.dist(place, other) < _SAME for other in places):
                continue
            places.append(place)
        kept.append(line)
    return _BREAK.join(kept)


def _is_picture(handle: object) -> bool:
    """Return whether a page without text shows something else."""
    kinds: Counter[int] = Counter()
    for index in range(min(pdfium.FPDFPage_CountObjects(handle), 2 * _PICTURE_PATHS)):
        kinds[pdfium.FPDFPageObj_GetType(pdfium.FPDFPage_GetObject(handle, index))] += 1
    others = kinds.total() - kinds[_TEXT] - kinds[_PATH]
    return others > 0 or kinds[_PATH] >= _PICTURE_PATHS


def _string(ask: object, *given: object) -> str:
    """Return the text that a function of PDFium's writes to a buffer of so many bytes."""
    size = ask(*given, None, 0)  # type: ignore[operator]
    count = size // 2 + 1
    buffer = (ctypes.c_ushort * count)()
    ask(*given, buffer, size)  # type: ignore[operator]
    return _decoded(buffer, count)


def _decoded(buffer: ctypes.Array[ctypes.c_ushort], count: int) -> str:
    return ctypes.string_at(buffer, 2 * count).decode(_UTF_16, "replace").rstrip("\0")


def _with_trailer(data: bytes) -> bytes:
    """Return `data` with a trailer that names the catalogue, for a file that lost its own.

    PDFium finds the objects of such a file itself, but not where to begin.
    """
    at = data.rfind(b"/Catalog")
    found = _ROOT.search(data[max(0, at - _ROOT_BYTES) : max(0, at)])
    if found is None:
        return data
    return data + b"\ntrailer\n<< /Root %s %s R >>\nstartxref\n0\n%%%%EOF\n" % found.groups()


# PDFium says nothing of a stream that it cannot read: the page is then simply shorter, or empty.
# So the packed streams of the file are tried, and where one is broken, or a page shows nothing,
# what the page draws is looked at in a copy of the page alone, in which only streams are packed.
# Streams of so many bytes are tried, unpacked; what is longer is no page's text.
_MOST = 4 << 20
_STEP = 1 << 16
_PACKED = re.compile(rb"<<([^<>]{0,400}/FlateDecode\b[^<>]{0,400})>>\s{0,8}stream\r?\n")
# Of pictures, fonts, tables of objects and all that names its type; or packed more than once.
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
