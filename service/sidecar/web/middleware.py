"""What every request passes before it reaches a route, and its answer on the way out.

`create_app` puts the layers in order. The server has neither a lifespan nor WebSockets: whatever
comes is a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import problems, request_id
from sidecar.metrics import OTHER, Counts
from sidecar.problems import CLIENT_CLOSED, Problem
from sidecar.process.listener import host_name
from sidecar.process.logs import FIELDS
from sidecar.web import callers, errors
from sidecar.web.callers import Caller
from sidecar.web.errors import KIND, REFUSED

LINES_PER_S = 20
log = logging.getLogger("sidecar.requests")


@dataclass(frozen=True, slots=True)
class AccessLogMiddleware:
    """Names each request, counts its answer, and tells of those that were refused or failed.

    Everything is passed on to `app`, which has the paths `routes`. Pages of `allowed` origins may
    read every answer.
    A line has the status, the kind of problem, the id and the time; never a path, a parameter or
    a word of the body.
    """

    app: ASGIApp
    access_log: AccessLog
    counts: Counts
    routes: frozenset[str]
    allowed: frozenset[bytes] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its answer carries the id."""
        identity = request_id.chosen(scope["headers"])
        readable = callers.readable(scope["headers"], self.allowed)
        began = time.monotonic()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (request_id.HEADER, identity.encode())
                message["headers"] = [*message.get("headers", ()), header, *readable]
            await send(message)

        with request_id.using(identity):
            try:
                await self.app(scope, receive, named)
            except asyncio.CancelledError:  # the service ends, and this took longer than it has
                if status:
                    raise
                await errors.ProblemResponse(problems.stopping())(scope, receive, named)
            finally:
                seconds = time.monotonic() - began
                route = scope["path"] if scope["path"] in self.routes else OTHER
                raised = HTTPStatus.INTERNAL_SERVER_ERROR  # instead of answering
                self.counts.answer(route, scope.get(REFUSED, status or int(raised)), seconds)
                # What /health says of a service that is not ready is an answer and no problem.
                if KIND in scope and status >= HTTPStatus.BAD_REQUEST:
                    self.access_log.tell(status, scope[KIND], seconds)


class AccessLog:
    """Writes the lines, a few in a second at most: a flood of requests makes no flood of lines."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._second = -1
        self._told = 0
        self._untold = 0

    def tell(self, status: int, kind: str, seconds: float) -> None:
        """Write the line of the current request, or count it if there were too many of late.

        What a client that left would have got is logged for debugging alone.
        """
        level = logging.DEBUG if status == CLIENT_CLOSED else logging.INFO
        if not log.isEnabledFor(level):
            return
        now = int(time.monotonic())
        if now != self._second:
            if self._untold:
                log.info("%d more requests were not served", self._untold)
            self._second, self._told, self._untold = now, 0, 0
        if self._told >= LINES_PER_S:
            self._untold += 1
            return
        self._told += 1
        milliseconds = round(seconds * 1000)
        fields = {"status": status, "kind": kind, "milliseconds": milliseconds}
        log.log(level, "%d %s after %d ms", status, kind, milliseconds, extra={FIELDS: fields})


NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY = "*"
METHODS = ("GET", "HEAD")
OPEN_PATH = "/health"  # without the token it tells little, but a launcher has to wait for it
Health = Callable[[bool], Response]  # told whether the token was shown
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]+)")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def names(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Return the names that the service answers to when it listens on `host`.

    An address that means all of them is no name.
    """
    try:
        own = host_name(host)
    except ValueError:
        return NAMES.union(allowed)
    return NAMES.union(allowed, () if own in ("0.0.0.0", "[::]") else (own,))  # noqa: S104


class AccessMiddleware:
    """Refuses requests by their Host, Origin and token before anything else looks at them."""

    def __init__(
        self,
        app: ASGIApp,
        health: Health,
        *,
        hosts: frozenset[str],
        token: bytes | None = None,
        allowed: frozenset[bytes] = frozenset(),
        is_public: Callable[[Scope], bool] = lambda _: False,
    ) -> None:
        """Pass on to `app` what calls the service by one of `hosts` and shows the `token`.

        Of pages that is what our own and those of `allowed` origins send. Nothing but the token's
        digest is kept. What is public needs no token. What asks for `health` needs none either,
        which is told whether there was one, and is answered ahead of the framework: however much
        is asked for, it is soon.
        """
        self._app, self._health, self._hosts = app, health, hosts
        self._allowed, self._is_public = allowed, is_public
        self._digest = None if token is None else hashlib.sha256(token).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400, 401, 403 or 421."""
        problem = self._problem(scope)
        if problem is None and callers.is_preflight(scope):  # which has no token
            answer = callers.preflight(scope["headers"])
            if not isinstance(answer, Problem):
                await answer(scope, receive, send)
                return
            problem = answer
        elif problem is None:
            # Of the path as it was sent: a Host may make another of the URL that it is part of.
            is_open, is_trusted = scope["path"] == OPEN_PATH, self._is_trusted(scope["headers"])
            if is_open and scope["method"] in METHODS:
                await self._health(is_trusted)(scope, receive, send)
                return
            if is_open or is_trusted or self._is_public(scope):
                await self._app(scope, receive, send)
                return
            # The one answer to a token that is missing, wrong, or not in its header.
            why = "the service was started with a token"
            step = "send the header Authorization: Bearer TOKEN"
            problem = _refusal("no-token", "the token is missing or wrong", why, step)
        await errors.ProblemResponse(problem)(scope, receive, send)

    def _is_trusted(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return whether the token was shown; all that do not show it take the same time."""
        if self._digest is None:
            return True
        shown = [value for name, value in headers if name == b"authorization"]
        found = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
        digest = hashlib.sha256(found[1] if found else b"").digest()
        return hmac.compare_digest(digest, self._digest)

    def _problem(self, scope: Scope) -> Problem | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        found = _HOST.fullmatch(hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else None
        if found is None:
            what, step = "the request does not name one host", "send one Host header"
            return _refusal("bad-host", what, "exactly one Host header is needed", step)
        is_named = found[1] in self._hosts
        if ANY not in self._hosts and not is_named:
            what = "the host name is not allowed"
            why = "a web page can point any host name at this machine's address"
            step = "use 127.0.0.1, or start the service with --allow-host NAME"
            return _refusal("unknown-host", what, why, step)
        own = b"http://" + hosts[0] if is_named else None
        if callers.caller_of(scope, allowed=self._allowed, own=own) is not Caller.PAGE:
            return None
        if scope["path"] == callers.STOP_PATH:
            what, why = "web pages may not stop the service", "it serves other programs, too"
            return _refusal("web-page", what, why, "stop it from the app's own process")
        what = "requests of web pages are refused"
        why = "web pages of any origin can send requests to this machine"
        step = (
            "call the service from the app's own process, or start it with --allow-origin ORIGIN, "
            "where ORIGIN is the page's location.origin"
        )
        return _refusal("web-page", what, why, step)


def _refusal(kind: str, what: str, why: str, step: str) -> Problem:
    return Problem(kind, what, why, step, closes=True)
