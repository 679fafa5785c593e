"""Bodies that cost a parser, a validator or a tokenizer far more than their bytes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.support import stub_service
from tests.support.vitals import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--port", "0"]
COMMAND = [*PROGRAM, "--engine", "hash"]


def _filled(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

    return make


def _list_of(item: bytes) -> Callable[[int], bytes]:
    return _filled(b'{"texts":[', item + b",", item + b"]}")


def _text_of(unit: bytes, *, first: bytes = b"", options: bytes = b"") -> Callable[[int], bytes]:
    return _filled(b"{" + options + b'"texts":["' + first, unit, b'"]}')


def _keys(size: int) -> bytes:
    return b"{" + b",".join(b'"%x":0' % number for number in range(size // 11)) + b"}"


# With a number that is no short integer a body is read by the slower of two parsers.
_SLOW = b'"batch_size":1.5,'
KINDS: dict[str, Callable[[int], bytes]] = {
    "zeros": _list_of(b"0"),
    "nulls": _list_of(b"null"),
    "floats": _list_of(b"1.5"),
    "integers of 390 digits": _list_of(b"9" * 390),
    "lists": _list_of(b"[]"),
    "nested lists": _list_of(b"[" * 400 + b"]" * 400),
    "objects": _list_of(b'{"a":"b"}'),
    "empty texts": _list_of(b'""'),
    "short texts": _list_of(b'"ab"'),
    "one text": _text_of(b"a"),
    "one text with an emoji": _text_of(b"a", first="\U0001f600".encode()),
    "texts with an emoji": _list_of(b'"\xf0\x9f\x98\x80' + b"a" * 99_999 + b'"'),
    "numbers and an emoji": _text_of(b"a", first="\U0001f600".encode(), options=_SLOW),
    "key with an emoji": _filled(b'{"\xf0\x9f\x98\x80', b"a", b'":0}'),
    "emoji and no end": _filled(b'{"texts":["\xf0\x9f\x98\x80', b"a", b""),
    "emoji outside of texts": _filled(b'{"texts":[\xf0\x9f\x98\x80', b" ", b"]}"),
    "one text of quotes": _text_of(rb"\"", options=_SLOW),
    "one text of newlines": _text_of(rb"\n", options=_SLOW),
    "one text of backslashes": _text_of(rb"\\"),
    "one text of pairs": _text_of(rb"\ud83d\ude00", options=_SLOW),
    "half a pair": _text_of(b"a", first=rb"\ud83d"),
    "no end": _filled(b'{"texts":["', b"a", b""),
    "no UTF-8": _filled(b'{"texts":["', b"a", b'\xff"]}'),
    "digits": _filled(b'{"texts":[],"batch_size":', b"9", b"}"),
    "pooling": _filled(b'{"texts":[],"pooling":"', b"a", b'"}'),
    "key": _filled(b'{"', b"a", b'":0}'),
    "keys": _keys,
    "one key again and again": _filled(b"{", b'"a":0,', b'"b":0}'),
    "depth of lists": _filled(b'{"texts":', b"[", b""),
    "depth of objects": _filled(b"", b'{"a":', b""),
    "spaces": _filled(b'{"texts":[', b" ", b"]}"),
}


def _long_texts_of(unit: str) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        text = unit.encode() * (min(size, MIB) // len(unit.encode()))
        return _list_of(b'"' + text + b'"')(size)

    return make


# Texts of 1 MiB that a tokenizer finds no white space in.
TEXTS: dict[str, Callable[[int], bytes]] = {
    "one word": _long_texts_of("a"),
    "backslashes": _long_texts_of(r"\\"),
    "emoji": _long_texts_of("\U0001f600"),
    "combining marks": _long_texts_of("\u0301"),
    "Han characters": _long_texts_of("\u65e5"),
    "zero-width joiners": _long_texts_of("\u200d"),
    "controls": _long_texts_of("\x7f"),
}


# The other routes that take texts: what stands before the first one, and after the last.
ROUTES: dict[str, tuple[bytes, bytes]] = {
    "/embed": (b'"inputs":[', b"]}"),
    "/v1/embeddings": (b'"input":[', b"]}"),
    "/api/embed": (b'"input":[', b"]}"),
    "/api/embeddings": (b'"prompt":', b"}"),
    "/similarity": (b'"inputs":{"source_sentence":"a","sentences":[', b"]}}"),
}
# Those of KINDS that such a route could take otherwise than /embed does.
SOME = (
    *("zeros", "nested lists", "empty texts", "one text", "half a pair", "no end"),
    *("one text with an emoji", "texts with an emoji"),
)


def spelled(body: bytes, path: str) -> bytes:
    """Return a body of /embed as the route at `path` takes one."""
    before, after = ROUTES[path]
    made = body.replace(b'"texts":[', before, 1)
    return made.removesuffix(b"]}") + after if body.endswith(b"]}") else made
