"""What encoding bytes without a mark are in, told from a few kilobytes of them."""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
import zipfile
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable, TraversableResources
from typing import Any, cast

# Work is bounded by these: three windows of a file that may have 20 MB.
WINDOW_BYTES = 8_192
WINDOWS = 3
LINE_BYTES = 512
# Looked through in one call, which holds the interpreter.
SLICE_BYTES = 1 << 18
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
CODECS = (*_MODERN, *_OLD, *_ESCAPED, *_WIDE)


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

    Text in any script has spaces, line ends or punctuation of its own; bytes of another encoding
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
    for start in range(begin, len(data), SLICE_BYTES):
        part = data[start : start + SLICE_BYTES]
        if not part.isascii() and (found := _WIDE_BYTE.search(part)) is not None:
            return start + found.start()
    return None
