"""Documents that a request carries itself, for clients that open files on their own authority."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus

from starlette.datastructures import QueryParams
from starlette.requests import Request

from sidecar.documents.documents import MEDIA_TYPES
from sidecar.problems import Problem
from sidecar.web import bodies

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


def options(query: QueryParams, *, charset: str | None) -> Mapping[str, str]:
    """Return the options in a query, with the charset of the body's type if it names none.

    Raises Problem 422 for one that is given twice.
    """
    found = dict(query.multi_items())
    if len(found) != len(query.multi_items()):
        what = "the query has an option twice"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-value", what)
    return found if charset is None else {"charset": charset, **found}


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
