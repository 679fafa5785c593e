"""Request bodies, read strictly: the type, the size and the JSON are what they claim to be.

How much a body holds is counted in slices before a parser makes anything of it: it makes an object
of every two bytes of `[0,0,...]`, in one call that holds the interpreter. Long strings of a large
one are left in it: each is decoded when it is read, and not kept. A decoded text takes four bytes
for each of its characters if one of them is beyond U+FFFF.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from starlette.requests import ClientDisconnect

from sidecar.problems import Problem, client_gone
from sidecar.scheduling.texts import DeferredTexts
from sidecar.settings import MB, MOST_BODY_MB, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from starlette.requests import Request

SLICE_BYTES = 1 << 16
LONG_BYTES = 64  # a shorter string takes no more room than what would stand for it
MAX_NUMBER_DIGITS = 400
# Twice the texts that a request may have: fields that are not known may hold some, too.
MAX_VALUES = 2 * Limits().max_texts
MAX_CHARS = Limits().max_text_chars
MAX_DEPTH = 1_000  # more than the parsers read
_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(r"[\ud800-\udfff]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_CONTINUATIONS = bytes(range(0x80, 0xC0))


@dataclass(slots=True, kw_only=True)
class JsonCounts:
    """What was counted outside of strings: a value has a mark before it, but for the first."""

    strings: int = 0
    commas: int = 0
    colons: int = 0
    opened: int = 0
    closed: int = 0
    is_ascii: bool = True
    has_long_number: bool = False  # one that reaches through all of a slice

    @property
    def marks(self) -> int:
        """At least the number of values less one."""
        return self.commas + self.colons + self.opened

    @property
    def texts(self) -> int:
        """The strings that are no keys."""
        return self.strings - self.colons


def counts_above(body: bytes, *, max_marks: int) -> JsonCounts | None:
    """Return what was counted when `body` came to have more than `max_marks`; None if it has not.

    So it is where a byte outside of strings is none of ASCII, which no JSON has, and where a slice
    holds but digits: parsers copy a number.

    The rest is not looked at. For a body that is no JSON the counts are as good as any.
    """
    if len(body) <= max_marks:
        return None
    seen = JsonCounts()
    is_inside = is_escaped = False
    for start in range(0, len(body), SLICE_BYTES):
        part = body[start : start + SLICE_BYTES]
        if is_escaped:
            part = part[1:]
        part = part.replace(rb"\\", b"").replace(rb"\"", b"")
        is_escaped = part.endswith(b"\\")
        pieces = part.split(b'"')
        outside = b'"'.join(pieces[is_inside::2])
        seen.strings += (len(pieces) - is_inside) // 2
        seen.commas += outside.count(b",")
        seen.colons += outside.count(b":")
        seen.opened += outside.count(b"[") + outside.count(b"{")
        seen.closed += outside.count(b"]") + outside.count(b"}")
        seen.is_ascii = outside.isascii()
        seen.has_long_number = len(outside) > MAX_NUMBER_DIGITS and outside.isdigit()
        if seen.marks > max_marks or not seen.is_ascii or seen.has_long_number:
            return seen
        is_inside ^= len(pieces) % 2 == 0
    return None


class LongStrings:
    """The long strings of one body."""

    def __init__(self, body: bytes, *, max_strings: int) -> None:
        """Find them in `body`; none after the first `max_strings`, more of which no JSON has."""
        self._body = body
        # What stands for a string in the body: no client knows what it is this time.
        self._mark = secrets.token_hex(8)
        self._places = list(_long_strings(body, max_strings=max_strings))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def rest(self) -> bytes:
        """Return the body with a short string in the place of each long one."""
        if not self._places:
            return self._body
        view = memoryview(self._body)
        parts: list[bytes | memoryview] = []
        at = 0
        for number, (start, end) in enumerate(self._places):
            parts += view[at:start], b'"%s%d"' % (self._mark.encode(), number)
            at = end
        parts.append(view[at:])
        return b"".join(parts)

    def number_of(self, text: str) -> int | None:
        """Return which string `text`, found in the rest, stands for; None if it is one itself."""
        return int(text[len(self._mark) :]) if text.startswith(self._mark) else None

    def raw(self, number: int) -> bytes:
        """Return a string as it stands in the body, with its quotes."""
        start, end = self._places[number]
        return self._body[start:end]

    def read(self, number: int) -> str:
        """Return a string, decoded. Raises JSONDecodeError."""
        start, end = self._places[number]
        text: str = orjson.loads(memoryview(self._body)[start:end])
        return text

    def least_chars(self, number: int) -> int:
        """Return how many characters a string has at least, without decoding it."""
        start, end = self._places[number]
        view = memoryview(self._body)[start + 1 : end - 1]
        chars = sum(
            len(bytes(view[at : at + SLICE_BYTES]).translate(None, _CONTINUATIONS))
            for at in range(0, len(view), SLICE_BYTES)
        )
        # An escape of a backslash counts as none, one of six bytes as none: pairs are of two.
        return (
            chars - self._body.count(b"\\", start, end) - 5 * self._body.count(b"\\u", start, end)
        )


class LongStringTexts(DeferredTexts):
    """The texts of a list that was read from the rest of a body."""

    def __init__(self, long: LongStrings, found: Sequence[str], lengths: Sequence[int]) -> None:
        """Have the texts in `found`; `lengths` are those of the long strings, by number."""
        self._strings = long
        self._found = found
        numbers = map(long.number_of, found)
        super().__init__(
            [
                len(text) if number is None else lengths[number]
                for text, number in zip(found, numbers, strict=True)
            ]
        )

    def text(self, index: int) -> str:
        """Return one text."""
        text = self._found[index]
        number = self._strings.number_of(text)
        return text if number is None else self._strings.read(number)


def _long_strings(body: bytes, *, max_strings: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the long strings, quotes included; of one without an end, too."""
    opened = -1
    left = 2 * max_strings
    is_escaped = False
    for start in range(0, len(body), SLICE_BYTES):
        part = body[start : start + SLICE_BYTES]
        if is_escaped:
            part = b"_" + part[1:]
        part = part.replace(rb"\\", b"__").replace(rb"\"", b"__")
        is_escaped = part.endswith(b"\\")
        at = part.find(b'"')
        while at >= 0 and left:
            left -= 1
            if opened < 0:
                opened = start + at
            else:
                if start + at - opened > LONG_BYTES:
                    yield opened, start + at + 1
                opened = -1
            at = part.find(b'"', at + 1)
    if opened >= 0 and left:
        yield opened, len(body)


def _bad(what: str) -> Problem:
    return Problem("bad-json", what, next_step="send one JSON object, UTF-8")


def _unprocessable(what: str) -> Problem:
    return Problem("bad-value", what)


def _too_large(limit: int) -> Problem:
    return Problem(
        "too-large",
        f"the body is larger than {limit} bytes",
        next_step="send fewer texts at a time"
        + (", or start with a larger --max-body-mb" if limit < MOST_BODY_MB * MB else ""),
        closes=True,
    )


async def read(request: Request, *, max_bytes: int) -> bytes:
    """Return the body of a JSON request.

    Raises Problem: 415 for another type or a content encoding, 413 for a body over `max_bytes`.
    """
    refuse_kind(request)
    return await collect(request, max_bytes=max_bytes, too_large=_too_large)


async def collect(
    request: Request, *, max_bytes: int, too_large: Callable[[int], Problem]
) -> bytes:
    """Return the body, whatever it is.

    Raises Problem: what `too_large` gives for a body over `max_bytes`, declared or not, before it
    has all been read; 499 if the client left.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large(max_bytes)
    except ClientDisconnect as error:
        raise client_gone() from error
    return bytes(body)


def is_sent(request: Request) -> bool:
    """Return whether the request comes with a body."""
    length = request.headers.get("content-length", "0").strip()
    return length != "0" or "transfer-encoding" in request.headers


def refuse_kind(request: Request) -> None:
    """Raise Problem 415 unless the body is declared as plain JSON.

    A page can send any other type anywhere without asking; JSON takes a preflight.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        what = "the Content-Type is not application/json"
        step = "send the header Content-Type: application/json"
        raise Problem("media-type", what, next_step=step)
    refuse_encoding(request)


def refuse_encoding(request: Request) -> None:
    """Raise Problem 415 for a body that is compressed: a few bytes could become any number."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        what = "an encoded body is not accepted"
        step = "send it without Content-Encoding"
        raise Problem("content-encoding", what, next_step=step)


def parse(body: bytes, *, fields: Container[str] = ()) -> dict[str, Any]:
    """Return the JSON object in `body`, of which `fields` may be named in a problem.

    Raises Problem: 400 for what is not JSON in UTF-8 (a byte order mark, a duplicate key, deep
    nesting and overlong numbers included), 422 for values that no JSON text should carry: NaN,
    infinities, floats out of range, lone surrogates (naming the field and the text's index), or
    something other than an object, and for more than MAX_VALUES of them, which are counted before
    anything else is looked at.
    """
    _refuse_many(body)
    plain = _plain(body)
    return _strict(body, fields) if plain is None else plain


def parse_texts(body: bytes) -> tuple[dict[str, Any], Callable[[Sequence[str]], Sequence[str]]]:
    """Return the JSON object in `body` with its long strings left out, and what puts them back.

    That takes a list of strings that was found in the object, and returns texts that are decoded
    when they are read. Raises Problem as `parse`, and 422 for a longer string than any text may be.
    """
    _refuse_many(body)
    long = LongStrings(body, max_strings=MAX_VALUES + 2)
    value = parse(long.rest(), fields=("texts",))

    def place_of(number: int) -> str:
        found = value.get("texts")
        items = enumerate(found if isinstance(found, list) else ())
        texts = ((at, text) for at, text in items if isinstance(text, str))
        at = next((at for at, text in texts if long.number_of(text) == number), None)
        return "the body" if at is None else f"texts.{at}"

    lengths: list[int] = []
    too_long = set()
    for number in range(len(long)):
        length = long.least_chars(number)
        if length > MAX_CHARS:
            too_long.add(number)
        else:
            try:
                length = len(long.read(number))
            except orjson.JSONDecodeError:
                _strict(b'{"":' + long.raw(number) + b"}", place=place_of(number))
                raise
        lengths.append(length)

    def texts(found: Sequence[str]) -> Sequence[str]:
        if too_long.difference(map(long.number_of, found)):
            what = f"the body has a string of more than {MAX_CHARS} characters"
            raise Problem("text-too-long", what)
        return LongStringTexts(long, found, lengths)

    return value, texts


def _refuse_many(body: bytes) -> None:
    found = counts_above(body, max_marks=MAX_VALUES)
    if found is None:
        return
    if found.has_long_number:
        raise _long_number()
    first = body[:SLICE_BYTES].lstrip(b" \t\r\n")[:1]
    if first == b"[":
        raise _no_object() if found.is_ascii else _no_json(body)
    if first != b"{" or not found.is_ascii:
        raise _no_json(body)
    if found.opened - found.closed > MAX_DEPTH:
        raise _too_deep()
    what = f"the body has more than {MAX_VALUES} values"
    instead = "send fewer texts at a time; GET /info names the most, max_texts"
    if found.texts > MAX_VALUES // 2:
        raise Problem("too-many-texts", what, next_step=instead)
    raise Problem("too-many-values", what, next_step=instead)


def _no_object() -> Problem:
    return _unprocessable("the body is not a JSON object")


def _no_json(body: bytes) -> Problem:
    is_marked = body.startswith(_BOM)
    return _bad("the body begins with a byte order mark" if is_marked else "the body is not JSON")


def _long_number() -> Problem:
    return _bad("the body has a number with too many digits")


def _too_deep() -> Problem:
    return _bad("the body is nested too deeply")


def _plain(body: bytes) -> dict[str, Any] | None:
    """Return the object in a body that is as plain as requests are; None for any other.

    orjson reads large bodies several times faster, but keeps the last of duplicate keys and makes
    floats of long integers. What has no nested objects, no numbers but short integers, and as many
    strings as were read has neither: no key was lost.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    strings = len(value)
    for found in value.values():
        if isinstance(found, str):
            strings += 1
        elif isinstance(found, list):
            if not all(type(text) is str for text in found):
                return None
            strings += len(found)
        elif found is not None and not isinstance(found, int):
            return None
    escaped = body.replace(rb"\\", b"").count(rb"\"") if b"\\" in body else 0
    return value if body.count(b'"') - escaped == 2 * strings else None


def _strict(body: bytes, fields: Container[str] = (), *, place: str = "the body") -> dict[str, Any]:
    if body.startswith(_BOM):
        raise _no_json(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad("the body is not UTF-8") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise _no_json(body) from error
    del text  # as large as the body
    if not isinstance(value, dict):
        raise _no_object()
    if _SURROGATE.search(body):
        for name, found in value.items():
            where = _half_pair([name, found], name if name in fields else place)
            if where:
                what = f"{where}: it has half of a surrogate pair, which is no character"
                raise Problem(
                    "bad-value",
                    what,
                    why="text was cut in the middle of an emoji or another rare character",
                    next_step="leave out the half, or send U+FFFD instead",
                )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("the body has a key twice in one object")
    return found


def _constant(_name: str) -> NoReturn:
    raise _unprocessable("the body has NaN or an infinity, which JSON does not have")


def _float(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_DIGITS else math.inf
    if math.isinf(value):
        raise _unprocessable("the body has a number that is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_NUMBER_DIGITS:
        raise _long_number()
    return int(text)


def _half_pair(entry: list[Any], place: str) -> str | None:
    """Return where in a key and its value half of a pair is, however deep, without a copy.

    `place` names the entry; an item of a list directly in it has its index behind that.
    """
    _, value = entry
    texts = value if isinstance(value, list) else ()
    left: list[tuple[object, str]] = [(found, place) for found in entry if found is not texts]
    left += ((text, f"{place}.{index}") for index, text in enumerate(texts))
    left.reverse()  # the first is told
    while left:
        found, where = left.pop()
        if isinstance(found, dict):
            left += ((inner, where) for pair in found.items() for inner in pair)
        elif isinstance(found, list):
            left += ((inner, where) for inner in found)
        elif isinstance(found, str) and not found.isascii() and _HALF.search(found):
            return where
    return None
