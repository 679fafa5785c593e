"""From the bytes of a text file to its text: by its mark, as declared, as UTF-8, or detected.

Encodings are called what the Encoding Standard (WHATWG) calls them, so that `TextDecoder` knows
them, and are read as browsers do: `iso-8859-1` as windows-1252, `shift_jis` with NEC's and IBM's
characters, which a file in it may have. What bytes without a mark are in is told from a few
kilobytes of them.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from importlib import resources
from importlib.resources.abc import Traversable, TraversableResources
from importlib.util import find_spec
from typing import Any, cast

from sidecar.documents.losses import Document, Loss, merged
from sidecar.problems import Problem

# Work is bounded by these: three windows of a file that may have 20 MB.
WINDOW_BYTES = 8_192
WINDOWS = 3
LINE_BYTES = 512
# Looked through in one call, which holds the interpreter.
SCAN_BYTES = 1 << 18
# What a guess must come with. The detection's confidence is low where a text is short.
LEAST_CONFIDENCE = 0.005
LEAST_OF_RARE = 0.1
# UTF-16 without a mark: the characters that only it has at such places.
LEAST_TELLING, LEAST_TELLING_OF_ASCII = 0.05, 0.7
LEAST_CONTROLS = 0.05
MOST_UNKNOWN = 0.02
_NONE = "utf-8"
_WIDE_BYTE = re.compile(rb"[\x80-\xff]")
_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\v\f\r")
_PLAIN = bytes(range(32, 127))
MOST_PLAIN = 0.8
_WIDE = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
# Scripts with letters, kana and the punctuation of CJK, and its wide forms; not the blocks whose
# high byte is a line end or a space.
_TELLING = (range(0x0900), range(0x0E00, 0x2000), range(0x3000, 0x3100), range(0xFF00, 0xFFF0))
_MODERN = (
    *(f"cp{page}" for page in range(1250, 1259)),
    *("cp874", "cp932", "cp949", "euc-jp", "gb18030", "big5", "koi8-r", "koi8-u"),
)
_WESTERN = "cp1252"
_LIKE_WESTERN = ("cp1250", "cp1254", "cp1257", "cp1258")
_ESCAPED = ("iso2022_jp_2", "iso2022_kr")  # all of it is ASCII, by escape sequences
# Of systems before Unicode: so rare now that they need to be told well.
_OLD = ("cp437", "cp850", "cp866", "mac-roman", "mac-cyrillic")
DETECTED = (*_MODERN, *_OLD, *_ESCAPED, *_WIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """The codec that bytes are most likely in; `confidence` is above 0 and up to 1."""

    codec: str
    confidence: float


def ascii_bytes(data: bytes) -> Guess | None:
    """Return what `data`, which is UTF-8, is else: other encodings use the bytes of ASCII, too.

    None where it is UTF-8.
    """
    head = data[:WINDOW_BYTES]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    found = None
    if controls > LEAST_CONTROLS * len(head):
        found = _wide(data, least=LEAST_TELLING_OF_ASCII)
    if found is None and b"\x1b$" in data and data.isascii():
        return _ask(head, _ESCAPED)
    return found


def other_bytes(data: bytes) -> Guess | None:
    """Return what `data`, which is not UTF-8, most likely is; None for what seems to be no text."""
    return _wide(data, least=LEAST_TELLING) or _legacy(_sample(data))


def _wide(data: bytes, *, least: float) -> Guess | None:
    """Return UTF-16 or UTF-32 if `data` is text in it.

    Text in any script has spaces, line ends or its script's punctuation; bytes of another encoding
    that are read so become characters from everywhere, few of which are those.
    """
    head = data[:WINDOW_BYTES]
    plain = len(head) - len(head.translate(None, _PLAIN))
    if b"\0" not in head and plain > MOST_PLAIN * len(head):
        return None
    shares = {
        codec: _telling(head, codec) for codec, size in _WIDE.items() if len(data) % size == 0
    }
    codec = max(shares, key=lambda name: shares[name], default="")
    return Guess(codec=codec, confidence=shares[codec]) if shares.get(codec, 0) >= least else None


def _telling(head: bytes, codec: str) -> float:
    """Return the share of telling characters in `head` as `codec` reads it, 0 if it is no text."""
    try:
        text = codecs.getincrementaldecoder(codec)().decode(head)
    except UnicodeDecodeError:
        return 0.0
    telling = unknown = 0
    for char in text:
        category = unicodedata.category(char)
        if category == "Cs" or (category == "Cc" and not char.isspace()):
            return 0.0
        unknown += category in {"Cn", "Co"}
        telling += any(ord(char) in block for block in _TELLING)
    return 0.0 if unknown > MOST_UNKNOWN * len(text) else telling / max(1, len(text))


def _legacy(sample: bytes) -> Guess | None:
    """Return what chardet tells of `sample`: the rarer of two that are alike only where clear."""
    found = _ask(sample, _MODERN + _OLD)
    if found is not None and found.codec in _OLD and found.confidence < LEAST_OF_RARE:
        found = _ask(sample, _MODERN)
    if found is None or found.confidence < LEAST_CONFIDENCE:
        return Guess(codec=_WESTERN, confidence=LEAST_CONFIDENCE) if _is_western(sample) else None
    if found.codec in _LIKE_WESTERN and found.confidence < LEAST_OF_RARE and _is_western(sample):
        return Guess(codec=_WESTERN, confidence=found.confidence)
    return found


def _is_western(sample: bytes) -> bool:
    """Return whether `sample` can be text in Western letters, with some beyond ASCII."""
    wide = len(_WIDE_BYTE.findall(sample))
    if sample.translate(None, _CONTROLS) != sample or wide * 2 > len(sample):
        return False
    try:
        sample.decode(_WESTERN)
    except UnicodeDecodeError:
        return False
    return True


class _Held(TraversableResources):
    """The files of tables, in the place of the loader that would read them from their folder."""

    def __init__(self, folder: Traversable) -> None:
        """Read them as they are: unpacked, they take thirty times the memory."""
        self._archive = zipfile.ZipFile(io.BytesIO(), "w")
        for file in folder.iterdir():
            if file.name.endswith(".bin"):
                self._archive.writestr(file.name, file.read_bytes())

    def get_resource_reader(self, _package: str) -> _Held:
        """Return what reads the files; importlib.resources asks for it."""
        return self

    def files(self) -> Traversable:
        """Return the folder that holds them."""
        return zipfile.Path(self._archive)


def load_ahead() -> None:
    """Load the detection, and the files of its tables, which it unpacks for the first text."""
    from chardet import models  # noqa: PLC0415 (as below)

    if models.__spec__ is not None:
        models.__spec__.loader = cast("Any", _Held(resources.files(models)))


def _ask(sample: bytes, codecs_: tuple[str, ...]) -> Guess | None:
    import chardet  # noqa: PLC0415 (a quarter of a second that no other file costs)

    # UTF-8 stands for none: no sample is that.
    found = chardet.detect(
        sample,
        max_bytes=max(1, len(sample)),
        compat_names=False,
        include_encodings=(*codecs_, _NONE),
        no_match_encoding=_NONE,
    )
    codec = found["encoding"]
    if codec is None or codec == _NONE:
        return None
    return Guess(codec=codec, confidence=float(found["confidence"]))


def _sample(data: bytes) -> bytes:
    """Return some of `data` from its beginning, middle and end, with what is not ASCII.

    A window begins with a line, or with ASCII before the first byte that is none, and so never
    within a character. One that is cut there comes alone.
    """
    windows: list[bytes] = []
    for start in range(0, len(data), max(1, -(-len(data) // WINDOWS))):
        begin = data.find(b"\n", start) + 1 if start else 0
        wide = _wide_byte(data, begin)
        if wide is None or (start and not begin):
            continue
        first = max(begin, wide - LINE_BYTES)
        window = data[first : first + WINDOW_BYTES]
        if first + WINDOW_BYTES < len(data):
            lines, _, _ = window.rpartition(b"\n")
            if not lines:
                return b"\n".join(windows) or window
            window = lines
        windows.append(window)
    return b"\n".join(windows)


def _wide_byte(data: bytes, begin: int) -> int | None:
    """Return the place of the first byte from `begin` on that is not ASCII."""
    for start in range(begin, len(data), SCAN_BYTES):
        part = data[start : start + SCAN_BYTES]
        if not part.isascii() and (found := _WIDE_BYTE.search(part)) is not None:
            return start + found.start()
    return None


MARKS = (  # the longer first: that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# So many bytes are decoded in one call, which holds the interpreter.
SLICE_BYTES = 1 << 20
MOST_NAME_CHARS = 40
# A file is not in the encoding that it is declared to be in where so many characters do not fit,
# and no text where so many are controls that no text has.
MOST_REPLACED, MOST_FOUL, FEW_FOUL = 0.25, 0.1, 3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:+-]*")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+")
# A terminal's, as for colours, goes as a whole.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# Those that no program writes into text: not NUL, backspace, DOS' end, escapes and separators.
_FOUL = re.compile("[\x01-\x07\x0e-\x19\x7f-\x84\x86-\x9f]+")
_SEPARATOR = re.compile("[\x1c-\x1f]")
_REPLACEMENT = "\ufffd"
# By Python's name: codecs that are no encodings, or not the same on every system.
_UNFIT = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_UNFIT |= {"mbcs", "oem", "utf-7", "rot13"}
_ALSO = {
    "windows_874": "cp874",
    "windows_31j": "cp932",
    "iso_8859_8_i": "iso8859_8",
    "unicode_1_1_utf_8": "utf_8",
}
# What reads everything that the first does, and more of what files have.
_READ_BY = {
    "ascii": "utf-8",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_2",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "tis-620": "cp874",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
    "utf-8-sig": "utf-8",
}
_CALLED = {
    "big5hkscs": "big5",
    "cp866": "ibm866",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "euc_jis_2004": "euc-jp",
    "iso2022_jp_2": "iso-2022-jp",
    "mac-roman": "macintosh",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Bytes read by one codec: the text without controls, and what was counted meanwhile."""

    text: str
    chars: int
    wide: int  # outside of ASCII
    replaced: int
    controls: int
    foul: int


def codec_of(name: str) -> str:
    """Return Python's codec for the encoding `name`. Raises ValueError if there is none."""
    name = name.strip()
    if len(name) <= MOST_NAME_CHARS and _NAME.fullmatch(name):
        spelled = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("x_")
        spelled = _ALSO.get(spelled, spelled)
        if _is_known(spelled):
            found = codecs.lookup(spelled)
            if found.name not in _UNFIT:
                return _READ_BY.get(found.name, found.name)
    raise ValueError("unknown encoding")


def _is_known(spelled: str) -> bool:
    """Return whether Python reads text in this encoding."""
    # It keeps the name of each that it looks up, of those that it does not have, too.
    if find_spec(f"encodings.{aliases.get(spelled, spelled)}") is None:
        return False
    try:
        codecs.getincrementaldecoder(spelled)
        "".encode(spelled)  # what turns bytes into bytes refuses
    except (LookupError, UnicodeError):
        return False
    return True


def name_of(codec: str) -> str:
    """Return what the Encoding Standard calls what Python's `codec` reads, where it has it."""
    if match := re.fullmatch(r"cp(125\d|874)", codec):
        return f"windows-{match[1]}"
    if match := re.fullmatch(r"iso8859-(\d+)", codec):
        return f"iso-8859-{match[1]}"
    if match := re.fullmatch(r"utf-(16|32)-([bl]e)", codec):
        return f"utf-{match[1]}{match[2]}"
    return _CALLED.get(codec, codec.replace("_", "-"))


def decode_clean(data: bytes) -> Document | None:
    """Return the text of UTF-8 that has no mark and no controls; None for all other bytes."""
    if data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF8)):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    is_clean = not _CONTROL.search(text)
    return Document(text=text, encoding=name_of("utf-8")) if is_clean else None


def decode(data: bytes, *, codec: str | None = None) -> Document:
    """Return the text in `data`, declared to be in `codec` if that is given.

    A mark at the beginning says more than a declaration. Raises Problem 422 for bytes that are no
    text, or not in the encoding that they are declared to be in.
    """
    mark, marked = next((m for m in MARKS if data.startswith(m[0])), (b"", None))
    known = marked or codec
    if known is not None:
        found = _read(data[len(mark) :], known)
        if found.replaced > max(1, MOST_REPLACED * found.chars):
            raise _wrong_encoding(name_of(known))
        return _decoded(found, known)
    found = _read(data, "utf-8")
    guess = None
    if not found.replaced:
        guess = ascii_bytes(data)
    elif found.replaced >= found.wide and not _is_damaged_ascii(data):
        guess = other_bytes(data)
        if guess is None:
            raise _not_text()
    if guess is None:
        return _decoded(found, "utf-8")
    found = _read(data, guess.codec)
    if found.replaced > MOST_REPLACED * found.chars:
        raise _not_text()
    return _decoded(found, guess.codec, guess=guess)


def _decoded(found: _Reading, codec: str, *, guess: Guess | None = None) -> Document:
    if found.foul > max(FEW_FOUL, MOST_FOUL * found.chars) or (
        found.controls and not found.text.strip()
    ):
        raise _not_text()
    unsure = found.replaced
    if guess is not None:
        # Where ASCII's characters are the same bytes, they are no guess.
        is_same = not codec.startswith(("utf-16", "utf-32", "iso2022"))
        unsure = max(1, found.wide + found.replaced) if is_same else found.chars
    losses = [Loss(kind="encoding", count=unsure), Loss(kind="controls", count=found.controls)]
    return Document(
        text=found.text,
        encoding=name_of(codec),
        confidence=None if guess is None else guess.confidence,
        losses=merged(losses),
    )


def _is_damaged_ascii(data: bytes) -> bool:
    """Return whether what is not ASCII in `data` is one byte that no text has, or a cut sequence.

    The byte is 0xFF: it is no part of UTF-8, and elsewhere a letter that stands with others.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = error.end == len(data) and error.end - error.start > 1
        return is_cut or data.isascii() or data.replace(b"\xff", b"").isascii()
    return False


def _read(data: bytes, codec: str) -> _Reading:
    pieces: list[str] = []
    chars = marks = wide = controls = foul = 0
    for piece in _pieces(data, codec):
        chars += len(piece)
        marks += piece.count(_REPLACEMENT)
        wide += 0 if piece.isascii() else len(piece) - len(piece.encode("ascii", "ignore"))
        if _CONTROL.search(piece):
            foul += _shorter(piece, _FOUL.sub("", piece))
            apart, sequences = _SEQUENCE.subn("", piece)
            # A separator keeps words apart.
            spaced, separators = _SEPARATOR.subn(" ", apart)
            piece = _CONTROL.sub("", spaced)  # noqa: PLW2901
            controls += sequences + separators + _shorter(spaced, piece)
        pieces.append(piece)
    # Those that stand in the file are left where all that cannot be read is left out.
    unread = _pieces(data, codec, errors="ignore") if marks else ()
    written = sum(piece.count(_REPLACEMENT) for piece in unread)
    return _Reading(
        text="".join(pieces),
        chars=chars,
        wide=wide - marks,
        replaced=marks - written,
        controls=controls,
        foul=foul,
    )


def _shorter(before: str, after: str) -> int:
    return len(before) - len(after)


def _pieces(data: bytes, codec: str, *, errors: str = "replace") -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(codec)(errors)
    for start in range(0, max(1, len(data)), SLICE_BYTES):
        end = start + SLICE_BYTES
        yield decoder.decode(data[start:end], final=end >= len(data))


def _not_text() -> Problem:
    return Problem(
        "not-text",
        "the file is not text",
        why="its bytes are text in no known encoding",
        next_step="save it as UTF-8 text, or declare its encoding with charset",
    )


def _wrong_encoding(name: str) -> Problem:
    return Problem(
        "wrong-encoding",
        f"the file is not text in {name}",
        why="it is declared or marked as that, and much of it cannot be decoded",
        next_step="declare its encoding with charset, or leave charset out to have it detected",
    )
