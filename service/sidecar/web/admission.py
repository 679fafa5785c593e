"""How much may be on its way at once: bodies are bounded in all, as well as each for itself."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import problems
from sidecar.problems import Problem

BODIES_RETRY_S = 2
LONGEST_RETRY_S = 60


def busy(what: str, why: str, *, retry_s: float) -> Problem:
    """Return the problem of a request that there is no room for at present."""
    seconds = min(max(1, round(retry_s)), LONGEST_RETRY_S)
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "busy",
        what,
        why=why,
        next_step=f"send it again in {seconds} s; Retry-After says so, too",
        headers={"Retry-After": str(seconds)},
    )


class Bodies:
    """Counts the bytes of all bodies from their arrival until their request is answered."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        """Pass requests on to `app` while their bodies are `max_bytes` or fewer together."""
        self._app = app
        self._max_bytes = max_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429; a body that is alone is always let in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b""))
            if size:
                own += size
                self._held += size
                if self._held > max(self._max_bytes, own):
                    raise self._full()
            return message

        if self._held and self._held + _declared(scope) > self._max_bytes:
            await problems.response(self._full())(scope, receive, send)
            return
        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= own

    def _full(self) -> Problem:
        problem = busy(
            "the service holds too many bodies at once",
            f"together they may have {self._max_bytes} bytes",
            retry_s=BODIES_RETRY_S,
        )
        problem.headers["Connection"] = "close"
        return problem


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
