"""Answers that say what went wrong, in one JSON shape (RFC 9457)."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sidecar import request_id
from sidecar.problems import Problem, at_limit, bundle_gone
from sidecar.process import limits

MEDIA_TYPE = "application/problem+json"
REFUSED = "sidecar.refused"  # in the scope: the status of a refusal that was answered below the app
FORM = "sidecar.form"  # in the scope: how a dialect writes a problem, a `Form`
KIND = "sidecar.kind"  # in the scope of a request: the kind of problem it was answered with
DOCUMENTED = "GET /openapi.json describes every route and field"
# What the framework itself refuses: the kind, and why.
UNROUTED: Mapping[int, tuple[str, str]] = {
    HTTPStatus.NOT_FOUND: ("unknown-path", "no route has this path"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("wrong-method", "the path has other methods"),
}
# What is said where a problem itself has no reason or no advice.
REASONS = {
    HTTPStatus.BAD_REQUEST: "the request is not valid HTTP or JSON",
    HTTPStatus.FORBIDDEN: "access denied",
    HTTPStatus.NOT_FOUND: "not found",
    HTTPStatus.CONFLICT: "a resource changed while the request was served",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the limits of a request are in GET /info",
    HTTPStatus.UNPROCESSABLE_ENTITY: "the route does not take such a value",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "the Content-Type of the body does not match the route",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily unavailable",
}
ADVICE = {
    HTTPStatus.CONFLICT: "send the request again",
    HTTPStatus.SERVICE_UNAVAILABLE: "ask GET /health, and send the request again",
}
# The status, the body and the headers that a dialect has for a problem.
Form = Callable[[Problem], tuple[int, dict[str, object], dict[str, str]]]
log = logging.getLogger("sidecar.errors")


class ProblemResponse(Response):
    """The answer that carries a problem; its kind is left in the scope for the log."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        """Write the body, with the id of the current request if there is one.

        It has the headers of the problem, and those in `headers`.
        """
        self.problem = problem
        self.told = {**headers_of(problem), **(headers or {})}
        body = json.dumps(_body(problem), ensure_ascii=False).encode()
        super().__init__(body, status_code=problem.status, headers=self.told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, in the form of the dialect that the request was made in."""
        scope[KIND] = self.problem.kind
        form: Form | None = scope.get(FORM)
        if form is None:
            await super().__call__(scope, receive, send)
        else:
            await self.written(form)(scope, receive, send)

    def written(self, form: Form) -> Response:
        """Return the same answer in the form of a dialect."""
        status, body, headers = form(self.problem)
        return JSONResponse(body, status, headers={**self.told, **headers})


def headers_of(problem: Problem) -> dict[str, str]:
    """Return the headers that say of `problem` what programs act upon."""
    found = {} if problem.retry_s is None else {"Retry-After": str(problem.retry_s)}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        found["WWW-Authenticate"] = "Bearer"
    return {**found, "Connection": "close"} if problem.closes else found


def _body(problem: Problem) -> dict[str, object]:
    try:
        status = HTTPStatus(problem.status)
    except ValueError:
        title, why, step = "Client Closed Request", "it closed the connection", "send it again"
    else:
        title = status.phrase
        why, step = REASONS.get(status, status.description or title), ADVICE.get(status, DOCUMENTED)
    return {
        "type": f"urn:sidecar:problem:{problem.kind}",
        "title": title,
        "status": problem.status,
        "detail": problem.what,
        "why": problem.why or why,
        "next": problem.next_step or step,
        "request": request_id.current(),
    }


def known(error: Exception) -> Problem | None:
    """Return the problem that `error` means, None for a bug.

    A limit of threads or files is told as that, with its value and what raises it.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        if error.status_code not in UNROUTED:
            return None
        kind, why = UNROUTED[error.status_code]
        return Problem(kind, HTTPStatus(error.status_code).phrase, why, DOCUMENTED)
    limit = limits.named(error)
    if limit is not None:
        log.warning("a request met a limit: %s", limit)
        return at_limit("a limit of the system leaves too little for this request", limit)
    is_process = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if not (isinstance(error, MemoryError) or is_process):
        return None
    log.warning("memory did not suffice for a request")
    what = "there is not enough memory for this request"
    step = "send fewer texts at once, or give the service more memory"
    return Problem("out-of-memory", what, next_step=step, retry_s=5)


def bug(request: Request, error: Exception) -> Problem:
    """Return the problem of an unforeseen exception.

    It is without its message, which may quote the input. Where the bundle is gone, code may miss
    any file of it.
    """
    if request.app.state.service.presence.is_gone:
        log.warning("the bundle is gone, and a request failed: %s", type(error).__name__)
        return bundle_gone()
    log.debug("answered 500 for %s", type(error).__name__)
    step = "see the log; this is a bug of the service"
    return Problem("bug", "the service failed on this request", type(error).__name__, step)


async def answer_known(_request: Request, error: Exception) -> Response:
    """Answer what a problem is known for. Raises any other error again."""
    problem = known(error)
    if problem is None:
        raise error
    headers = error.headers if isinstance(error, HTTPException) else None
    return ProblemResponse(problem, headers)


async def answer_bug(request: Request, error: Exception) -> Response:
    """Answer any other error."""
    return ProblemResponse(bug(request, error))
