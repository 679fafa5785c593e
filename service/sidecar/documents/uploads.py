"""Documents that a request carries itself, for clients that open files on their own authority."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus

from starlette.requests import Request

from sidecar.documents.documents import MEDIA_TYPES
from sidecar.problems import Problem
from sidecar.web import bodies

HEADER = "X-Document-Password"
_SENT = f"Content-Type: {', '.join(MEDIA_TYPES)}"


def suffix_of(request: Request) -> str:
    """Return the suffix that decides how the body is read, by its media type.

    Raises Problem 415 for a type that is not read, or a content encoding.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        what = "the body is not declared as a document that is read"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", what, next_step=_SENT)
    bodies.refuse_encoding(request)
    return MEDIA_TYPES[kind]


def options(request: Request) -> Mapping[str, str]:
    """Return the options of an upload: those in the query, and what its headers say beside.

    Raises Problem 422 for one that is given twice, or a password where it would be seen.
    """
    query = request.query_params.multi_items()
    found = dict(query)
    if len(found) != len(query):
        what = "the query has an option twice"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-value", what)
    if any(name.lower() in {"password", HEADER.lower()} for name in found):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "bad-value",
            "password: it is not taken from the query",
            why="programs on the way keep addresses with their queries",
            next_step=f"send the header {HEADER}: the password's UTF-8 in base64",
        )
    charset, password = charset_of(request), password_of(request)
    told = {"charset": charset, **found, "password": password}
    return {name: value for name, value in told.items() if value is not None}


def password_of(request: Request) -> str | None:
    """Return the password in the headers. Raises Problem 422 unless it is base64 of UTF-8, once."""
    sent = request.headers.getlist(HEADER)
    if not sent:
        return None
    try:
        if len(sent) > 1:
            raise ValueError  # noqa: TRY301 (which it is cannot be told)
        return base64.b64decode(sent[0], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        # No cause: what is wrong with it would say some of it.
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "bad-value",
            f"{HEADER}: it is not base64 of UTF-8",
            next_step="send the password's UTF-8 in base64, in one header",
        ) from None


def charset_of(request: Request) -> str | None:
    """Return what the body's type says that it is encoded in, if it is text and says so."""
    declared = Message()
    declared["Content-Type"] = request.headers.get("content-type", "")
    if declared.get_content_maintype() != "text":
        return None
    return declared.get_content_charset() or None


async def read(request: Request, *, max_bytes: int) -> bytes:
    """Return the body. Raises Problem 413 over `max_bytes`, before it has all been read."""
    return await bodies.collect(request, max_bytes=max_bytes, too_large=too_large)


def too_large(limit: int) -> Problem:
    """Return the problem of a document that is too large to be read."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        f"the document is larger than {limit} bytes",
        next_step="split it, or send its text alone",
        headers={"Connection": "close"},
    )
