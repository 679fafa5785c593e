"""Who may talk to the service: programs that call it by its name, and no web page.

A page in a browser reaches every port of the user's machine. Its requests carry an Origin, or
through rebinding of names (CWE-350) the Host of a stranger. Where a token is asked for, other
programs and users of the machine are kept out, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.problems import Problem
from sidecar.process.credentials import Lock
from sidecar.process.listener import host_name
from sidecar.web import errors

NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY = "*"
OPEN_PATH = "/health"  # without the token it tells little, but a launcher has to wait for it
IS_TRUSTED = "sidecar.is_trusted"  # in the scope of a request: whether the token was shown
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
    """Refuses requests by their Host, Origin and token before anything else looks at them."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], token: bytes | None = None) -> None:
        """Pass on to `app` what calls the service by one of `hosts` and shows the `token`."""
        self._app = app
        self._hosts = hosts
        self._lock = Lock(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400, 401, 403 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope["headers"])
        if problem is None:
            # Of the path as it was sent: a Host may make another of the URL that it is part of.
            scope[IS_TRUSTED] = self._lock.opens(scope["headers"])
            if scope[IS_TRUSTED] or scope["path"] == OPEN_PATH:
                await self._app(scope, receive, send)
                return
            problem = _unauthorised()
        await errors.response(problem)(scope, receive, send)

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
        if any(_is_of_page(name, value) for name, value in headers):
            what = "requests of web pages are refused"
            step = "call the service from the app's own process, not from a page"
            return _refusal(HTTPStatus.FORBIDDEN, "web-page", what, step)
        return None


def _is_of_page(name: bytes, value: bytes) -> bool:
    """Return whether a browser sets this header, and a user's own navigation does not."""
    if name == b"sec-fetch-site":
        return value.strip().lower() in (b"cross-site", b"same-site")
    return name == b"origin"


_REASONS = {
    HTTPStatus.BAD_REQUEST: "without exactly one, it is not certain who was called",
    HTTPStatus.MISDIRECTED_REQUEST: "a page can give any name of its own this machine's address",
    HTTPStatus.FORBIDDEN: "pages of any origin can reach the ports of this machine",
}


def _refusal(status: HTTPStatus, kind: str, what: str, step: str) -> Problem:
    headers = {"Connection": "close"}
    return Problem(status, kind, what, why=_REASONS[status], next_step=step, headers=headers)


def _unauthorised() -> Problem:
    """Return the one answer to a token that is missing, wrong, or not in its header."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "no-token",
        "the request does not show the service's token",
        why="the service was started with one",
        next_step="send the header Authorization: Bearer TOKEN",
        headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
    )
