"""Who sends a request, by the headers in which a browser says so; programs have none of them.

| `Origin` | `Sec-Fetch-Site` | request | sent by |
|---|---|---|---|
| none | none, `none`, `same-origin` | any | a program, or a user who typed the address |
| none | another | any | a page |
| one of `--allow-origin` | any | any but `/shutdown` | an allowed page |
| `http://` + `Host`, a name of ours | none, `same-origin` | POST but `/shutdown` | our page |
| another, `null`, more than one | any | any | a page |

What a page sends is refused. The fourth row holds where our page is served.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Scope

from sidecar.problems import Problem

Headers = Sequence[tuple[bytes, bytes]]
STOP_PATH = "/shutdown"
METHODS = ("GET", "HEAD", "POST", "DELETE")
# What clients in a page send beside what they may without asking; OpenAI's have a family of them.
SENT = frozenset(
    (
        *("authorization", "content-type", "user-agent", "x-document-password", "x-request-id"),
        *("openai-organization", "openai-project"),
    )
)
SENT_FAMILY = "x-stainless-*"
_FAMILY = re.compile("x-stainless-[a-z0-9-]+")
# What a page may read of an answer beside what it may of any.
SHOWN = (
    *("X-Sidecar-Count", "X-Sidecar-Dim", "X-Sidecar-Fingerprint", "X-Sidecar-Model"),
    *("X-Sidecar-Tokens", "X-Sidecar-Truncated", "Retry-After", "X-Request-Id", "X-Should-Retry"),
)
KEPT_S = 600  # for which a browser keeps the answer to a preflight
_ASKS = b"access-control-request-method"
_VARIES = (b"vary", b"Origin")


def allowed(origins: Iterable[str]) -> frozenset[bytes]:
    """Return the origins as headers have them."""
    return frozenset(origin.encode() for origin in origins)


class Caller(enum.Enum):
    """Who sends a request."""

    PROGRAM = enum.auto()
    OUR_PAGE = enum.auto()
    ALLOWED_PAGE = enum.auto()
    PAGE = enum.auto()


def caller_of(scope: Scope, *, allowed: frozenset[bytes], own: bytes | None) -> Caller:
    """Return who sends the request, as the table at the head of this module says.

    `own` is the origin of our page at the request's Host, None where there is none.
    """
    if is_program(scope["headers"]):
        return Caller.PROGRAM
    origins = _values(scope["headers"], b"origin")
    if len(origins) != 1 or scope["path"] == STOP_PATH:
        return Caller.PAGE
    if origins[0] in allowed:
        return Caller.ALLOWED_PAGE
    is_ours = origins[0] == own and scope["method"] == "POST"
    has_site = _sites(scope["headers"]) <= {b"same-origin"}
    return Caller.OUR_PAGE if is_ours and has_site else Caller.PAGE


def is_program(headers: Headers) -> bool:
    """Return whether no page sent these headers, by the first row of the table."""
    return not _values(headers, b"origin") and _sites(headers) <= {b"none", b"same-origin"}


def readable(headers: Headers, allowed: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that let a page of an `allowed` origin read it.

    No origin is let in with cookies, of which there are none.
    """
    if not allowed:
        return []
    origins = _values(headers, b"origin")
    if len(origins) != 1 or origins[0] not in allowed:
        return [_VARIES]
    shown = ", ".join(SHOWN).encode()
    return [
        (b"access-control-allow-origin", origins[0]),
        (b"access-control-expose-headers", shown),
        _VARIES,
    ]


def is_preflight(scope: Scope) -> bool:
    """Return whether a browser asks what an allowed page may send."""
    if scope["method"] != "OPTIONS":
        return False
    return all(_values(scope["headers"], name) for name in (b"origin", _ASKS))


def preflight(headers: Headers) -> Response | Problem:
    """Return the answer to what a browser asks; a problem for what no page may send."""
    methods = {value.decode("latin-1") for value in _values(headers, _ASKS)}
    asked = b",".join(_values(headers, b"access-control-request-headers")).decode("latin-1")
    names = {name.strip().lower() for name in asked.split(",")} - {""}
    if not methods <= set(METHODS) or not all(map(_may_be_sent, names)):
        what = "a page may not send this method or header"
        why = f"pages may send {', '.join(METHODS)}, and {', '.join(sorted(SENT))}, {SENT_FAMILY}"
        return Problem("web-page", what, why, "leave the others out")
    told = {
        "Access-Control-Allow-Methods": ", ".join(METHODS),
        "Access-Control-Allow-Headers": ", ".join(sorted(SENT | names)),
        "Access-Control-Max-Age": str(KEPT_S),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=told)


def _may_be_sent(name: str) -> bool:
    return name in SENT or _FAMILY.fullmatch(name) is not None


def _sites(headers: Headers) -> set[bytes]:
    return {value.strip().lower() for value in _values(headers, b"sec-fetch-site")}


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
