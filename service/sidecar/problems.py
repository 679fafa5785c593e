"""What keeps a request from being served, as plain data: no word of the input is in it.

Every problem says what happened, why, and what to do next; the web makes answers of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.process.system_limits import Limit

CLIENT_CLOSED = 499
LONGEST_RETRY_S = 60


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
        why="it is shutting down and takes no new requests",
        next_step="start it again and repeat the request",
        headers={"Retry-After": "5", "Connection": "close"},
    )


def busy(what: str, why: str, *, retry_s: float) -> Problem:
    """Return the problem of a request that there is no room for at present."""
    seconds = min(max(1, round(retry_s)), LONGEST_RETRY_S)
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "busy",
        what,
        why=why,
        next_step=f"send it again in {seconds} s (Retry-After)",
        headers={"Retry-After": str(seconds)},
    )


def at_limit(what: str, limit: Limit) -> Problem:
    """Return the problem of a request that met a limit of the system."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "system-limit",
        what,
        why=str(limit),
        next_step=f"send it again when fewer requests run; {limit.remedy}",
        headers={"Retry-After": "5"},
    )


def bundle_gone() -> Problem:
    """Return the problem of a request that needs a file of the bundle, which is no longer there."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "bundle-gone",
        "the service needs a file of its bundle, which is gone",
        why="the bundle was moved, replaced or deleted while the service ran",
        next_step="restart the service from the bundle's current path, and send the request again",
        headers={"Retry-After": "5"},
    )


def client_gone() -> Problem:
    """Return the problem that nobody reads: the client left before the answer."""
    return Problem(CLIENT_CLOSED, "client-gone", "the client went away")
