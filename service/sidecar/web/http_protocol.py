"""HTTP on the connection: uvicorn's h11 protocol, with bounds on what may come and how long.

uvicorn itself waits for ever for the rest of a request, and takes heads of any size that arrive in
one piece. Whatever is refused here is answered in the common shape, and then the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, cast
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sidecar import request_id
from sidecar.metrics import OTHER, Counts
from sidecar.problems import Problem, stopping
from sidecar.process.clock import Clock
from sidecar.process.stdio import is_readable
from sidecar.settings import Bounds
from sidecar.web import callers, errors
from sidecar.web.budget import SHARE, Share
from sidecar.web.callers import Headers
from sidecar.web.errors import Form
from sidecar.web.middleware import AccessLog

# So /health, which is begun at once, waits for no more than these.
REQUESTS_PER_TURN = 2
# Connections are taken in small lots, so that a thousand of them at once do not hold up the loop;
# the others wait in the system's queue.
ACCEPTS_PER_TURN = 32
TOO_LARGE_HINT = 431
LOOK_S = 0.1  # between looks at what is over
URGENT = b"GET /health "
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)
# struct linger: on, with no time for what was not sent.
_AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
Stage = Literal["idle", "head", "body", "held", "active", "lingering"]
log = logging.getLogger("sidecar.http_protocol")
# What uvicorn has to say below an error we say ourselves.
_quiet = log.getChild("uvicorn")
_quiet.setLevel(logging.ERROR)


class AcceptPacing:
    """Spreads the beginnings of requests over turns of the event loop.

    While connections come in, their requests wait: to accept is cheap, and a connection that is not
    accepted yet cannot be recognised as a health check. Without it, of 1,000 requests at once, half
    of the checks took more than 2 s; with it, less than 0.1 s.
    """

    def __init__(self) -> None:
        """Begin with none that wait."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0
        self._is_scheduled = False
        self._is_crowded = False

    def arrive(self) -> None:
        """Note that a connection was made in this turn."""
        self._is_crowded = True

    def give(self, begin: Callable[[], None]) -> None:
        """Call `begin` now, or in a later turn if enough was begun in this one."""
        self._schedule()
        if self._waiting or self._begun >= REQUESTS_PER_TURN:
            self._waiting.append(begin)
        else:
            self._begun += 1
            begin()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        room = 1 if self._is_crowded else REQUESTS_PER_TURN
        self._is_scheduled = self._is_crowded = False
        self._begun = min(room, len(self._waiting))
        if self._begun:
            self._schedule()
        for _ in range(self._begun):
            self._waiting.popleft()()


class Connections:
    """What the connections of one server share, and the look at all of them.

    Time is that of `clock`: a suspension makes no client slow.
    """

    def __init__(
        self,
        bounds: Bounds,
        access_log: AccessLog,
        counts: Counts,
        clock: Clock,
        *,
        form_of: Callable[[str], Form | None] = lambda _: None,
        allowed: frozenset[bytes] = frozenset(),
    ) -> None:
        """Begin without connections; those that are ended as slow are counted in `counts`.

        What is refused of a request is written in the form that `form_of` has for its path, and
        pages of `allowed` origins may read it.
        """
        self.form_of = form_of
        self.allowed = allowed
        self.bounds = bounds
        self.access_log = access_log
        self.counts = counts
        self.clock = clock
        self.pacing = AcceptPacing()
        self.unread: set[ResponseWriter] = set()  # whose clients have not taken everything
        self._is_looking = False

    def protocol(self) -> type[BoundedProtocol]:
        """Return what makes a connection of the server."""
        return cast("type[BoundedProtocol]", functools.partial(BoundedProtocol, self))

    def unsent(self) -> int:
        """Return the bytes of all answers that were written and not yet taken."""
        return sum(writer.buffered for writer in self.unread)

    def watch(self, connections: set[BoundedProtocol]) -> None:
        """Look every LOOK_S at what is over, for as long as there are connections."""
        if connections and not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._watch, connections)

    def _watch(self, connections: set[BoundedProtocol]) -> None:
        self.clock.tick()
        try:
            for connection in list(connections):
                connection.look()
            self._thin_out(connections)
            self.end_slow()
        finally:
            self._is_looking = False
            self.watch(connections)

    def _thin_out(self, connections: set[BoundedProtocol]) -> None:
        """Drop those that have waited longest for a request where there are too many.

        If too many wait, they are kept for a grace period: a burst has not had time to send yet.
        """
        patient = self.clock.time() - self.bounds.grace_s
        waiting = sorted((one for one in connections if one.is_waiting), key=lambda one: one.since)
        excess = len(connections) - self.bounds.max_connections
        surplus = len(waiting) - self.bounds.max_idle
        for one in waiting:
            if excess <= 0 and (surplus <= 0 or one.since > patient):
                break
            surplus -= 1
            excess -= one.drop()

    def end_slow(self) -> None:
        """End the connections of clients that take too little of their answers."""
        self.unread = {writer for writer in self.unread if writer.unsent}
        slow = [writer for writer in self.unread if writer.is_slow()]
        if slow:
            unsent = sum(writer.unsent for writer in slow)
            self.unread.difference_update(slow)
            for writer in slow:
                writer.abort()
            self.counts.slow_readers += len(slow)
            what = "connections closed because the client read too slowly: %d, with %d bytes left"
            log.info(what, len(slow), unsent)


class ResponseWriter:
    """Writes to one connection, and knows how much of it the client takes in a window of time.

    The window begins anew whenever the client has taken all: then it waits for us. To the server it
    is the connection's transport, whose other parts it passes on; `close` may be set.
    """

    close: Callable[[], None]

    def __init__(
        self, connections: Connections, transport: asyncio.Transport, unwritten: Callable[[], int]
    ) -> None:
        """Write nothing yet; `unwritten` tells how much of the answer is still to be written."""
        self._connections = connections
        self._transport = transport
        self._unwritten = unwritten
        self._start = self._most = self._written = self._taken = self._rest = 0
        self._since = 0.0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (as a transport has it)
        """Return another part of the transport."""
        return getattr(self._transport, name)

    @property
    def buffered(self) -> int:
        """The bytes that were written and that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def unsent(self) -> int:
        """The bytes that the system has not taken yet, written or not."""
        return self.buffered + self._unwritten()

    def write(self, data: bytes) -> None:
        """Write `data`, or let it wait for the client."""
        if not data:
            return
        has_taken_all = not self._rest and not self.buffered
        self._transport.write(data)
        self._written += len(data)
        self._rest = self._unwritten()
        if has_taken_all and (self._rest or self.buffered):
            self._most = 0
            self._begin()
            self._connections.unread.add(self)

    def abort(self) -> None:
        """Reset the connection: what the system has of the answer is given up, too."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def is_slow(self) -> bool:
        """Return whether a window ended in which too little was taken."""
        bounds = self._connections.bounds
        if self._connections.clock.time() - self._since < bounds.window_s:
            return False
        taken = self._written - self.buffered - self._taken
        wanted = max(bounds.min_window_bytes, self._most // bounds.max_windows)
        if taken < min(wanted, self._start):
            return True
        self._begin()
        return False

    def _begin(self) -> None:
        self._start = self.unsent
        self._most = max(self._most, self._start)
        self._taken, self._since = self._written - self.buffered, self._connections.clock.time()


class StrictConnection(h11.Connection):
    """The parser of one connection; `refusal` says what was wrong with what it raised for.

    `refused` is the request that this was, if it could be read.
    """

    def __init__(self, bounds: Bounds, clock: Clock) -> None:
        """Begin before the first request."""
        super().__init__(h11.SERVER, bounds.max_head_bytes)
        self.refusal: Problem | None = None
        self.refused: h11.Request | None = None
        self.is_head = False  # a request whose answer has no body
        self._bounds = bounds
        self._clock = clock
        self._last = clock.time() + bounds.max_age_s
        self._has_skipped = False
        self._held: list[bytes] = []  # the head of the answer

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Return what came next. Raises RemoteProtocolError for what is refused."""
        if self.their_state is h11.IDLE:
            self.is_head = False
            # One empty line before a request is none of it (RFC 9112, 2.2).
            if not self._has_skipped and self.trailing_data[0].startswith(b"\r\n"):
                self._receive_buffer.maybe_extract_at_most(2)
                self._has_skipped = True
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.is_head = event.method == b"HEAD"
                self._has_skipped = False
                self.refused = event
                self._check(event)
                self.refused = None
                return self._as_served(event)
        except h11.RemoteProtocolError as error:
            is_large = error.error_status_hint == TOO_LARGE_HINT
            self.refusal = _too_large(self._bounds) if is_large else malformed()
            raise
        return event

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """Return what is to be sent for `event`; an answer's head goes with what follows it.

        The first of the body is there when the head is, and two pieces would wake the client twice.
        """
        made = super().send_with_data_passthrough(event)
        if type(event) is h11.Response:
            self._held = made or []
            return []
        if self._held and made is not None:
            made, self._held = self._held + made, []
        return made

    def _check(self, event: h11.Request) -> None:
        # What arrives in one piece h11 parses however large it is.
        size = len(event.target)
        lengths = set()
        for name, value in event.headers:
            size += len(name) + len(value) + 4
            if name in (b"content-length", b"transfer-encoding"):
                lengths.add(name)
        if size > self._bounds.max_head_bytes or len(event.headers) > self._bounds.max_headers:
            raise h11.RemoteProtocolError("head too large", error_status_hint=TOO_LARGE_HINT)
        if len(lengths) > 1:
            raise h11.RemoteProtocolError("a body of two lengths")

    def _as_served(self, event: h11.Request) -> h11.Request:
        """Return `event` with a path as its target, and the last of its connection if that is old.

        The host of a target in absolute form counts, whatever the header says (RFC 9112, 3.2.2).
        """
        absolute = _ABSOLUTE.fullmatch(event.target)
        is_last = self._clock.time() >= self._last
        if absolute is None and not is_last:
            return event
        target, headers = event.target, list(event.headers)
        if absolute is not None:
            target = b"/" + absolute[2].removeprefix(b"/")
            headers = [(name, value) for name, value in headers if name != b"host"]
            headers.append((b"host", absolute[1]))
        if is_last:
            headers.append((b"connection", b"close"))
        return h11.Request(
            method=event.method, headers=headers, target=target, http_version=event.http_version
        )


def malformed() -> Problem:
    """Return the problem of what is no request of HTTP."""
    why = "its first line, a header or the framing of its body is malformed"
    step = "use an HTTP client, and declare the body's length once"
    return Problem("bad-request", "this is not a request of HTTP/1.1", why, step)


def _too_large(bounds: Bounds) -> Problem:
    why = f"it may have {bounds.max_headers} headers and {bounds.max_head_bytes} bytes"
    step = "send fewer or shorter headers; texts belong in the body"
    return Problem("large-head", "the request's head is too large", why, step)


class BoundedProtocol(H11Protocol):
    """One connection."""

    def __init__(self, shared: Connections, **given: Any) -> None:  # noqa: ANN401 (as uvicorn gives it)
        """Take what uvicorn gives every protocol."""
        super().__init__(**given)
        self.conn: StrictConnection = StrictConnection(shared.bounds, shared.clock)
        self.logger = _quiet
        self.access_log = False
        self._shared = shared
        self._bounds = shared.bounds
        self._clock = shared.clock
        self._stage: Stage = "idle"
        self._request: object = None
        self.since = self._deadline = 0.0
        self._held = bytearray()
        self._is_ending = False
        self._socket: asyncio.Transport
        self._writer: ResponseWriter

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self._socket = transport
        self._shared.pacing.arrive()
        self._writer = ResponseWriter(self._shared, transport, self._unwritten)
        self._writer.close = self._close  # a client that still sends hears the answer first
        super().connection_made(cast("asyncio.Transport", self._writer))
        self._enter("idle")
        self._shared.watch(cast("set[BoundedProtocol]", self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._held.clear()
        super().connection_lost(exc)
        del self._writer.close

    def data_received(self, data: bytes) -> None:
        """Take what came; the beginning of a request may have to wait for its turn."""
        if self._stage == "lingering":
            return
        if self._stage == "held":
            self._held += data
            self.flow.pause_reading()
        elif self._stage == "idle" and not data.startswith(URGENT):
            self._held += data
            self._enter("held")
            self._shared.pacing.give(self._begin)
        else:
            self._take(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 or we refused, if nothing was answered yet, and end the connection."""
        del msg  # uvicorn's, which says less than ours
        self._refuse(self.conn.refusal or malformed())

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's; the deadline here is ours
        self._look()

    def shutdown(self) -> None:
        """Close now, or after the answer that is being made, without lingering for more."""
        if self._stage == "body":
            self._refuse(stopping())
        elif self._stage in ("lingering", "head"):
            self._socket.abort()
        elif self._stage != "held":  # it has its turn soon, and is answered
            super().shutdown()
        self._is_ending = True

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a request, since `since`."""
        return self._stage in ("idle", "head") and not self._socket.is_closing()

    def drop(self) -> bool:
        """Close a connection that waits for a request; others need its place.

        Return whether it was closed: one whose request is there, and was not read yet, is not.
        """
        if self._has_arrived():
            return False
        self._socket.close()
        return True

    def _begin(self) -> None:
        if self._socket.is_closing():
            return
        data = bytes(self._held)
        self._held.clear()
        self._stage = "idle"
        self.flow.resume_reading()
        self._take(data)
        if self._is_ending:
            self.shutdown()

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def _look(self) -> None:
        """See what the connection waits for now."""
        if self._stage in ("held", "lingering"):
            return
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            self._enter("body")
        elif theirs is h11.IDLE:
            self._enter("head" if self.conn.trailing_data[0] else "idle")
        else:
            self._enter("active")

    def _enter(self, stage: Stage) -> None:
        request = self.cycle if stage == "body" else None
        if stage == self._stage and request is self._request and self._deadline > self.since:
            return
        self._stage, self._request = stage, request
        self.since = self._clock.time()
        waits_s = {
            "head": self._bounds.head_s,
            "body": self._bounds.body_s,
            "lingering": self._bounds.linger_s,
        }
        self._deadline = self.since + waits_s.get(stage, self._bounds.idle_s)

    def look(self) -> None:
        """End what is over, unless there is something to read first, or the wait is for us."""
        now = self._clock.time()
        if now < self._deadline:
            return
        is_ours = self._stage in ("held", "active") or self.flow.read_paused
        is_answer_left = self._writer.buffered > 0 or self._socket.is_closing()
        if self._stage == "lingering":
            self._socket.abort()
        elif is_ours or is_answer_left:
            self._deadline = now + self._bounds.idle_s
        elif self._has_arrived():
            return
        elif self._stage == "idle":
            self._socket.close()
        else:
            what = f"the {self._stage} of the request did not arrive in time"
            why = f"timed out after {now - self.since:.0f} s"
            step = "send it without pauses, in parts if it is large"
            self._refuse(Problem("too-slow", what, why, step))

    def _unwritten(self) -> int:
        cycle: Any = self.cycle
        share: Share | None = None if cycle is None else cycle.scope.get(SHARE)
        return 0 if share is None else share.unwritten

    def _has_arrived(self) -> bool:
        """Return whether there is something to read, which comes before any deadline."""
        descriptor = self._socket.get_extra_info("socket").fileno()
        return descriptor >= 0 and is_readable(descriptor)

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            # One that the application has, or will have in the next turn.
            cycle: Any = self.cycle
            is_known = cycle is not None and not cycle.response_complete
            path, headers = self._asked(is_known=is_known)
            form = self._shared.form_of(path)
            with request_id.using(request_id.chosen(headers)):
                told = errors.ProblemResponse(problem)
                answer = told if form is None else told.written(form)
                sent = [*answer.raw_headers, (b"connection", b"close")]
                sent.append((request_id.HEADER, str(request_id.current()).encode()))
                sent += callers.readable(headers, self._shared.allowed)
                seconds = self._clock.time() - self.since
                self._shared.access_log.tell(answer.status_code, problem.kind, seconds)
            if is_known:  # it is counted where it ends
                cast("dict[str, Any]", self.scope)[errors.REFUSED] = answer.status_code
            else:
                self._shared.counts.answer(OTHER, answer.status_code, seconds)
            for event in (
                h11.Response(status_code=answer.status_code, headers=sent),
                h11.Data(data=b"" if self.conn.is_head else bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
            self._linger()
        else:
            self._socket.close()
        if self.cycle is not None:  # its handler learns that the client left
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _asked(self, *, is_known: bool) -> tuple[str, Headers]:
        """Return the path and the headers of the request that is refused, as far as they came."""
        if is_known:
            return self.scope["path"], self.headers
        refused = self.conn.refused
        if refused is None:
            return "", ()
        path = unquote(refused.target.partition(b"?")[0].decode("ascii"))
        return path, [(name.lower(), value) for name, value in refused.headers]

    def _close(self) -> None:
        if self.conn.their_state is h11.SEND_BODY and not self._socket.is_closing():
            self._linger()
        else:
            self._socket.close()

    def _linger(self) -> None:
        """Send no more, and throw away what comes until the client ends or its time is over.

        To close at once would reset the connection, and the answer with it.
        """
        if self._is_ending:
            self._socket.close()
            return
        self._enter("lingering")
        self._held.clear()
        self._socket.write_eof()
        self.flow.resume_reading()
