"""The outermost layer: every request gets an id, and one that is not served gets a line of log."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import problems, request_id
from sidecar.problems import CLIENT_CLOSED
from sidecar.process.logs import FIELDS
from sidecar.web import errors
from sidecar.web.errors import KIND

LINES_PER_S = 20
log = logging.getLogger("sidecar.requests")


class Door:
    """Names each request, and tells of those that were refused or failed.

    A line has the status, the kind of problem, the id and the time; never a path, a parameter or
    a word of the body.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        """Pass everything on to `app`, and tell `ledger` what was not served."""
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its answer carries the id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = request_id.chosen(scope["headers"])
        started = time.monotonic()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (request_id.HEADER, identity.encode())
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        with request_id.using(identity):
            try:
                await self._app(scope, receive, named)
            except asyncio.CancelledError:  # the service ends, and this took longer than it has
                if status:
                    raise
                await errors.response(problems.stopping())(scope, receive, named)
            finally:
                # What /health says of a service that is not ready is an answer and no problem.
                kind = scope.get(KIND)
                if kind is not None and status >= HTTPStatus.BAD_REQUEST:
                    self._ledger.tell(status, kind, time.monotonic() - started)


class Ledger:
    """Writes the lines, a few in a second at most: a flood of requests makes no flood of lines."""

    def __init__(self, *, lines_per_s: int = LINES_PER_S) -> None:
        """Begin with nothing told."""
        self._lines_per_s = lines_per_s
        self._second = -1
        self._told = 0
        self._untold = 0

    def tell(self, status: int, kind: str, seconds: float) -> None:
        """Write the line of the current request, or count it if there were too many of late.

        What a client that left would have got is of interest to nobody but who debugs.
        """
        level = logging.DEBUG if status == CLIENT_CLOSED else logging.INFO
        if not log.isEnabledFor(level):
            return
        now = int(time.monotonic())
        if now != self._second:
            if self._untold:
                log.info("%d more requests were not served", self._untold)
            self._second, self._told, self._untold = now, 0, 0
        if self._told >= self._lines_per_s:
            self._untold += 1
            return
        self._told += 1
        milliseconds = round(seconds * 1000)
        fields = {"status": status, "kind": kind, "milliseconds": milliseconds}
        log.log(level, "%d %s after %d ms", status, kind, milliseconds, extra={FIELDS: fields})
