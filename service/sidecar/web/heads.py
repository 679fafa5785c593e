"""What a request may begin with: h11's parser, stricter about the size and the framing."""

from __future__ import annotations

from http import HTTPStatus

import h11

from sidecar.problems import Problem
from sidecar.settings import Bounds

TOO_LARGE_HINT = 431


class Reader(h11.Connection):
    """The parser of one connection; `refusal` says what was wrong with what it raised for."""

    def __init__(self, bounds: Bounds) -> None:
        """Begin before the first request."""
        super().__init__(h11.SERVER, bounds.max_head_bytes)
        self.refusal: Problem | None = None
        self.is_head = False  # a request whose answer has no body
        self._bounds = bounds

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Return what came next. Raises RemoteProtocolError for what is refused."""
        if self.their_state is h11.IDLE:
            self.is_head = False
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.is_head = event.method == b"HEAD"
                self._check(event)
        except h11.RemoteProtocolError as error:
            is_large = error.error_status_hint == TOO_LARGE_HINT
            self.refusal = _too_large(self._bounds) if is_large else malformed()
            raise
        return event

    def _check(self, event: h11.Request) -> None:
        # What arrives in one piece h11 parses however large it is.
        size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
        if size > self._bounds.max_head_bytes or len(event.headers) > self._bounds.max_headers:
            raise h11.RemoteProtocolError("head too large", error_status_hint=TOO_LARGE_HINT)
        names = {name for name, _ in event.headers}
        if b"content-length" in names and b"transfer-encoding" in names:
            raise h11.RemoteProtocolError("a body of two lengths")


def malformed() -> Problem:
    """Return the problem of what is no request of HTTP."""
    return Problem(
        HTTPStatus.BAD_REQUEST,
        "bad-request",
        "this is not a request of HTTP/1.1",
        why="its first line, a header or the framing of its body is malformed",
        next_step="use an HTTP client, and declare the body's length once",
    )


def _too_large(bounds: Bounds) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "large-head",
        "the request's head is too large",
        why=f"it may have {bounds.max_headers} headers and {bounds.max_head_bytes} bytes",
        next_step="send fewer or shorter headers; what is to be embedded belongs in the body",
    )
