"""Request bodies, read strictly: the type, the size and the JSON are what they claim to be.

How much a body holds is counted in slices before a parser makes anything of it: it makes an object
of every two bytes of `[0,0,...]`, in one call that holds the interpreter. Long strings of a large
one are left in it: each is decoded when it is read, and not kept. A decoded text takes four bytes
for each of its characters if one of them is beyond U+FFFF.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import secrets
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import orjson
from starlette.requests import Request

from sidecar.problems import Problem, client_gone
from sidecar.scheduling.tokenizing import DeferredTexts
from sidecar.settings import MB, MOST_BODY_MB, Limits

JSON = "application/json"
SLICE_BYTES = 1 << 16
LONG_BYTES = 64  # a shorter string takes no more room than what would stand for it
MAX_NUMBER_DIGITS = 400
# Twice the texts that a request may have: fields that are not known may hold some, too.
MAX_VALUES = 2 * Limits().max_texts
MAX_CHARS = Limits().max_text_chars
MAX_DEPTH = 1_000  # more than the parsers read
NO_OBJECT = "the body is not a JSON object"
LONG_NUMBER = "the body has a number with too many digits"
TOO_DEEP = "the body is nested too deeply"
_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(r"[\ud800-\udfff]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE = re.compile(b'"')
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _slices(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each slice of `body` begins, and the slice without escaped quotes."""
    is_escaped = False
    for start in range(0, len(body), SLICE_BYTES):
        part = body[start : start + SLICE_BYTES]
        if is_escaped:
            part = b"_" + part[1:]
        part = part.replace(rb"\\", b"__").replace(rb"\"", b"__")
        is_escaped = part.endswith(b"\\")
        yield start, part


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

    def raw(self, number: int) -> memoryview:
        """Return a string as it stands in the body, with its quotes."""
        start, end = self._places[number]
        return memoryview(self._body)[start:end]

    def read(self, number: int) -> str:
        """Return a string, decoded. Raises JSONDecodeError."""
        text: str = orjson.loads(self.raw(number))
        return text

    def least_chars(self, number: int) -> int:
        """Return how many characters a string has at least, without decoding it."""
        start, end = self._places[number]
        view = memoryview(self._body)[start + 1 : end - 1]
        parts = (bytes(view[at : at + SLICE_BYTES]) for at in range(0, len(view), SLICE_BYTES))
        chars = sum(len(part.translate(None, _CONTINUATIONS)) for part in parts)
        # An escape of a backslash counts as none, one of six bytes as none: pairs are of two.
        escapes, long_escapes = (self._body.count(one, start, end) for one in (b"\\", b"\\u"))
        return chars - escapes - 5 * long_escapes


class LongStringTexts(DeferredTexts):
    """The texts of a list that was read from the rest of a body."""

    def __init__(self, long: LongStrings, found: Sequence[str], lengths: Sequence[int]) -> None:
        """Have the texts in `found`; `lengths` are those of the long strings, by number."""
        self._strings = long
        self._found = found
        each = zip(found, map(long.number_of, found), strict=True)
        super().__init__([len(text) if at is None else lengths[at] for text, at in each])

    def text(self, index: int) -> str:
        """Return one text."""
        text = self._found[index]
        number = self._strings.number_of(text)
        return text if number is None else self._strings.read(number)


def _long_strings(body: bytes, *, max_strings: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the long strings, quotes included; of one without an end, too."""
    found = (
        start + quote.start() for start, part in _slices(body) for quote in _QUOTE.finditer(part)
    )
    quotes = itertools.islice(found, 2 * max_strings)
    for opened in quotes:
        end = next(quotes, len(body) - 1) + 1
        if end - opened > LONG_BYTES + 1:
            yield opened, end


def _bad(what: str) -> Problem:
    return Problem("bad-json", what, next_step="send one JSON object, UTF-8")


def _unprocessable(what: str) -> Problem:
    return Problem("bad-value", what)


async def read(request: Request, *, max_bytes: int, is_any_type: bool = False) -> bytes:
    """Return the body of a JSON request.

    Raises Problem: 415 for another type, unless it `is_any_type`, or a content encoding, 413 for a
    body over `max_bytes`.
    """
    if is_any_type:
        refuse_encoded(request)
    else:
        kind_of(request)
    step = "send fewer texts at a time"
    if max_bytes < MOST_BODY_MB * MB:
        step += ", or start with a larger --max-body-mb"
    return await collect(request, "the body", max_bytes=max_bytes, next_step=step)


async def collect(request: Request, what: str, *, max_bytes: int, next_step: str) -> bytes:
    """Return the whole body, of any type.

    Raises Problem: 413 for a body over `max_bytes`, declared or not, before it has all been read,
    which tells of `what` it is and what to do instead; 499 if the client left.
    """

    def too_large() -> Problem:
        large = f"{what} is larger than {max_bytes} bytes"
        return Problem("too-large", large, next_step=next_step, closes=True)

    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_large()
    body, is_more = bytearray(), True
    while is_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise client_gone()
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise too_large()
        is_more = message.get("more_body", False)
    return bytes(body)


def is_sent(request: Request) -> bool:
    """Return whether the request comes with a body."""
    length = request.headers.get("content-length", "0").strip()
    return length != "0" or "transfer-encoding" in request.headers


def kind_of(request: Request, known: Iterable[str] = (JSON,)) -> str:
    """Return the media type of the body, one of `known`.

    A page can send any other type anywhere without asking; JSON takes a preflight. Raises Problem
    415, for a body that is compressed, too.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in known:
        kinds = " or ".join(known)
        step = f"send the header Content-Type: {kinds}"
        raise Problem("media-type", f"the Content-Type is not {kinds}", next_step=step)
    refuse_encoded(request)
    return kind


def refuse_encoded(request: Request) -> None:
    """Raise Problem 415 for a body that is compressed: a few bytes could become any number."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        what = "an encoded body is not accepted"
        step = "send it without Content-Encoding"
        raise Problem("content-encoding", what, next_step=step)


def parse(body: bytes, *, fields: Container[str] = (), place: str = "the body") -> dict[str, Any]:
    """Return the JSON object in `body`, of which `fields` may be named in a problem, or `place`.

    Raises Problem: 400 for what is not JSON in UTF-8 (a byte order mark, a duplicate key, deep
    nesting and overlong numbers included), 422 for values that no JSON text should carry: NaN,
    infinities, floats out of range, lone surrogates (naming the field and the text's index), or
    something other than an object, and for more than MAX_VALUES of them, which are counted before
    anything else is looked at.
    """
    _refuse_many(body)
    if body.startswith(_BOM):
        raise _no_json(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad("the body is not UTF-8") from error
    try:
        value = _STRICT.decode(text)
    except RecursionError as error:
        raise _bad(TOO_DEEP) from error
    except ValueError as error:
        raise _no_json(body) from error
    del text  # as large as the body
    if not isinstance(value, dict):
        raise _unprocessable(NO_OBJECT)
    if _SURROGATE.search(body):
        for name, found in value.items():
            where = _half_pair([name, found], name if name in fields else place)
            if where:
                what = f"{where}: it has half of a surrogate pair, which is no character"
                why = "text was cut in the middle of an emoji or another rare character"
                step = "leave out the half, or send U+FFFD instead"
                raise Problem("bad-value", what, why, step)
    return value


def parse_texts(
    body: bytes, names: Sequence[str], *, fields: Iterable[str] = ()
) -> tuple[dict[str, Any], Callable[[Sequence[str]], Sequence[str]]]:
    """Return the JSON object in `body` with its long strings left out, and what puts them back.

    Texts are in the fields `names`. Of other `fields` a long string is no text, and is there.
    That takes a list of strings that was found in the object, and returns texts that are decoded
    when they are read. Raises Problem as `parse`, and 422 for a longer string than any text may be.
    """
    _refuse_many(body)
    long = LongStrings(body, max_strings=MAX_VALUES + 2)
    others = [name for name in fields if name not in names]
    known = (*names, *others)
    value = parse(long.rest(), fields=known)

    def place_of(number: int) -> str:
        for place, text in _placed(value, known):
            if isinstance(text, str) and long.number_of(text) == number:
                return place
        return "the body"

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
                parse(b'{"":' + bytes(long.raw(number)) + b"}", place=place_of(number))
                raise
        lengths.append(length)
    _put_back(value, others, long, but=too_long)  # which are refused below

    def texts(found: Sequence[str]) -> Sequence[str]:
        if too_long.difference(map(long.number_of, found)):
            what = f"the body has a string of more than {MAX_CHARS} characters"
            raise Problem("text-too-long", what)
        return LongStringTexts(long, found, lengths)

    return value, texts


def _put_back(
    value: dict[str, Any], names: Iterable[str], long: LongStrings, *, but: Container[int]
) -> None:
    """Put the long strings that are fields `names` of `value` where they stood."""
    for name in names:
        found = value.get(name)
        number = long.number_of(found) if isinstance(found, str) else None
        if number is not None and number not in but:
            value[name] = long.read(number)


def _placed(value: Mapping[str, Any], names: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Yield the texts of the fields `names` in `value`, each with its place."""
    for name in names:
        found = value.get(name)
        if isinstance(found, list):
            yield from ((f"{name}.{at}", text) for at, text in enumerate(found))
        elif isinstance(found, dict):  # whose keys a client may have made up
            yield from ((name, text) for _, text in _placed(found, found))
        else:
            yield name, found


def _refuse_many(body: bytes) -> None:
    """Raise Problem for a body that has more than MAX_VALUES values, or is no JSON.

    A value has a mark before it, but for the first; of the strings, keys have a colon. The rest is
    not looked at once there are too many, a byte outside of strings is none of ASCII, which no JSON
    has, or a slice holds but digits: parsers copy a number.
    """
    if len(body) <= MAX_VALUES:
        return
    first = body[:SLICE_BYTES].lstrip(b" \t\r\n")[:1]
    strings = colons = marks = depth = 0
    is_inside = False
    for _, part in _slices(body):
        pieces = part.split(b'"')
        outside = b'"'.join(pieces[is_inside::2])
        if not outside.isascii():
            raise _no_json(body)
        if len(outside) > MAX_NUMBER_DIGITS and outside.isdigit():
            raise _bad(LONG_NUMBER)
        strings += (len(pieces) - is_inside) // 2
        is_inside ^= len(pieces) % 2 == 0
        opened = outside.count(b"[") + outside.count(b"{")
        depth += opened - outside.count(b"]") - outside.count(b"}")
        colons += outside.count(b":")
        marks += outside.count(b",") + outside.count(b":") + opened
        if marks > MAX_VALUES:
            break
    else:
        return
    if first != b"{":
        raise _unprocessable(NO_OBJECT) if first == b"[" else _no_json(body)
    if depth > MAX_DEPTH:
        raise _bad(TOO_DEEP)
    what = f"the body has more than {MAX_VALUES} values"
    instead = "send fewer texts at a time; GET /info names the most, max_texts"
    if strings - colons > MAX_VALUES // 2:
        raise Problem("too-many-texts", what, next_step=instead)
    raise Problem("too-many-values", what, next_step=instead)


def _no_json(body: bytes) -> Problem:
    is_marked = body.startswith(_BOM)
    return _bad("the body begins with a byte order mark" if is_marked else "the body is not JSON")


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
        raise _bad(LONG_NUMBER)
    return int(text)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)


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
