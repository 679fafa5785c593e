"""Who may talk to the service: programs that call it by its name, and no web page.

A page in a browser reaches every port of the user's machine. Its requests carry an Origin, or
through rebinding of names (CWE-350) the Host of a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar import problems
from sidecar.listener import host_name
from sidecar.problems import Problem

NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY = "*"
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


class Guard:
    """Refuses requests by their Host and Origin before anything else looks at them."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        """Pass on to `app` what calls the service by one of `hosts`."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400, 403 or 421."""
        problem = self._problem(scope["headers"]) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problems.response(problem)(scope, receive, send)

    def _problem(self, headers: Sequence[tuple[bytes, bytes]]) -> Problem | None:
        hosts = [value for name, value in headers if name == b"host"]
        found = _HOST.fullmatch(hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else None
        if found is None:
            what = "the request does not name one host"
            return _refusal(HTTPStatus.BAD_REQUEST, "bad-host", what, "send one Host header")
        if ANY not in self._hosts and found[1] not in self._hosts:
            what = "the service is not known by this host's name"
            step = "call it as 127.0.0.1, or start it with --allow-host NAME"
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", what, step)
        if any(name == b"origin" for name, _ in headers):
            what = "requests of web pages are refused"
            step = "call the service from the app's own process, not from a page"
            return _refusal(HTTPStatus.FORBIDDEN, "web-page", what, step)
        return None


def _refusal(status: HTTPStatus, kind: str, what: str, step: str) -> Problem:
    return Problem(status, kind, what, next_step=step, headers={"Connection": "close"})
