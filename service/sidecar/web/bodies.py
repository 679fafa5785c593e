"""Request bodies, read strictly: the type, the size and the JSON are what they claim to be."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from starlette.requests import ClientDisconnect

from sidecar.problems import Problem, client_gone
from sidecar.settings import MB, MOST_BODY_MB, Limits
from sidecar.web import json_scan
from sidecar.web.json_scan import Quoted, QuotedTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from starlette.requests import Request

MAX_NUMBER_DIGITS = 400
# Twice the texts that a request may have: fields that are not known may hold some, too.
MAX_VALUES = 2 * Limits().max_texts
MAX_CHARS = Limits().max_text_chars
MAX_DEPTH = 1_000  # more than the parsers read
_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(r"[\ud800-\udfff]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _bad(what: str) -> Problem:
    return Problem(
        "bad-json",
        what,
        next_step="send one JSON object, UTF-8",
    )


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
    quoted = Quoted(body, max_strings=MAX_VALUES + 2)
    value = parse(quoted.rest(), fields=("texts",))

    def place_of(number: int) -> str:
        found = value.get("texts")
        items = enumerate(found if isinstance(found, list) else ())
        texts = ((at, text) for at, text in items if isinstance(text, str))
        at = next((at for at, text in texts if quoted.number_of(text) == number), None)
        return "the body" if at is None else f"texts.{at}"

    lengths: list[int] = []
    too_long = set()
    for number in range(len(quoted)):
        length = quoted.least_chars(number)
        if length > MAX_CHARS:
            too_long.add(number)
        else:
            try:
                length = len(quoted.read(number))
            except orjson.JSONDecodeError:
                _strict(b'{"":' + quoted.raw(number) + b"}", place=place_of(number))
                raise
        lengths.append(length)

    def texts(found: Sequence[str]) -> Sequence[str]:
        if too_long.difference(map(quoted.number_of, found)):
            what = f"the body has a string of more than {MAX_CHARS} characters"
            raise Problem("text-too-long", what)
        return QuotedTexts(quoted, found, lengths)

    return value, texts


def _refuse_many(body: bytes) -> None:
    found = json_scan.exceeding(body, max_marks=MAX_VALUES)
    if found is None:
        return
    first = body[: json_scan.SLICE_BYTES].lstrip(b" \t\r\n")[:1]
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
        message = "the body is not UTF-8"
        raise _bad(message) from error
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
        message = "the body has a key twice in one object"
        raise _bad(message)
    return found


def _constant(_name: str) -> NoReturn:
    message = "the body has NaN or an infinity, which JSON does not have"
    raise _unprocessable(message)


def _float(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_DIGITS else math.inf
    if math.isinf(value):
        message = "the body has a number that is out of range"
        raise _unprocessable(message)
    return value


def _int(text: str) -> int:
    if len(text) > MAX_NUMBER_DIGITS:
        message = "the body has a number with too many digits"
        raise _bad(message)
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
