"""Errors on the wire: one JSON shape (RFC 9457), and never a word of the input in it."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED = 499
log = logging.getLogger("sidecar.problems")


class Problem(Exception):  # noqa: N818 (RFC 9457 calls it a problem)
    """A request that cannot be served: `kind` names it for programs, the rest is for people.

    `what` becomes `detail`, the field that older clients read.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        what: str,
        *,
        why: str = "",
        next_step: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hold the answer; none of it may quote the request."""
        super().__init__(kind)
        self.status = status
        self.kind = kind
        self.what = what
        self.why = why
        self.next_step = next_step
        self.headers = dict(headers or {})


def response(problem: Problem) -> Response:
    """Return the answer that carries `problem`."""
    try:
        title = HTTPStatus(problem.status).phrase
    except ValueError:
        title = "Client Closed Request"
    body = {
        "type": f"urn:sidecar:problem:{problem.kind}",
        "title": title,
        "status": problem.status,
        "detail": problem.what,
    }
    if problem.why:
        body["why"] = problem.why
    if problem.next_step:
        body["next"] = problem.next_step
    return Response(
        json.dumps(body, ensure_ascii=False).encode(),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def not_ready(phase: str) -> Problem:
    """Return the problem of a request that came before the model."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "loading",
        "the model is still loading",
        why=f"phase: {phase}",
        next_step="ask GET /health until it answers 200",
        headers={"Retry-After": "1"},
    )


def stopping() -> Problem:
    """Return the problem of a request that the service will not finish."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "stopping",
        "the service is stopping",
        next_step="start it again and repeat the request",
        headers={"Retry-After": "5", "Connection": "close"},
    )


def client_gone() -> Problem:
    """Return the problem that nobody reads: the client left before the answer."""
    return Problem(CLIENT_CLOSED, "client-gone", "the client went away")


async def answer_problem(_request: Request, error: Exception) -> Response:
    """Answer a Problem."""
    if not isinstance(error, Problem):
        raise error
    return response(error)


async def answer_http(_request: Request, error: Exception) -> Response:
    """Answer what the framework itself refuses: an unknown path, a wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    kind, step = {
        HTTPStatus.NOT_FOUND: ("unknown-path", "GET /openapi.json lists the routes"),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            "wrong-method",
            "GET /openapi.json lists the routes",
        ),
    }.get(HTTPStatus(error.status_code), ("refused", ""))
    phrase = HTTPStatus(error.status_code).phrase
    return response(Problem(error.status_code, kind, phrase, next_step=step, headers=error.headers))


async def answer_bug(_request: Request, error: Exception) -> Response:
    """Answer an exception that nobody foresaw, without its message, which may quote the input."""
    log.debug("answered 500 for %s", type(error).__name__)
    return response(
        Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "bug",
            "the service failed on this request",
            why=type(error).__name__,
            next_step="see the log; this is a bug of the service",
        )
    )
