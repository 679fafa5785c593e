"""Answers on their way out: what clients have yet to take of them, and who takes too little."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from sidecar.metrics import Counts
from sidecar.process.clock import Clock
from sidecar.settings import Bounds

# struct linger: on, with no time for what was not sent.
_AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
log = logging.getLogger("sidecar.slow_readers")


class ResponseWriter:
    """Writes to one connection, and knows how much of it the client takes in a window of time.

    The window begins anew whenever the client has taken all: then it waits for us. To the server it
    is the connection's transport, whose other parts it passes on; `close` may be set.
    """

    close: Callable[[], None]

    def __init__(
        self, senders: SlowReaders, transport: asyncio.Transport, unwritten: Callable[[], int]
    ) -> None:
        """Write nothing yet; `unwritten` tells how much of the answer is still to be written."""
        self._senders = senders
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
            self._senders.watched.add(self)

    def abort(self) -> None:
        """Reset the connection: what the system has of the answer is given up, too."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def is_slow(self) -> bool:
        """Return whether a window ended in which too little was taken."""
        bounds = self._senders.bounds
        if self._senders.clock.time() - self._since < bounds.window_s:
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
        self._taken, self._since = self._written - self.buffered, self._senders.clock.time()


class SlowReaders:
    """Ends the connections of clients that take too little of their answers.

    Time is that of `clock`: in a suspension nobody was slow.
    """

    def __init__(self, bounds: Bounds, counts: Counts, clock: Clock) -> None:
        """Begin with no connection; those that are ended are counted in `counts`."""
        self.bounds = bounds
        self.clock = clock
        self.watched: set[ResponseWriter] = set()  # those whose clients have not taken everything
        self._counts = counts

    def unsent(self) -> int:
        """Return the bytes of all answers that were written and not yet taken."""
        return sum(sender.buffered for sender in self.watched)

    def look(self) -> None:
        """End those that are slow."""
        self.watched = {sender for sender in self.watched if sender.unsent}
        slow = [sender for sender in self.watched if sender.is_slow()]
        if slow:
            unsent = sum(sender.unsent for sender in slow)
            self.watched.difference_update(slow)
            for sender in slow:
                sender.abort()
            self._counts.slow_readers += len(slow)
            what = "connections closed because the client read too slowly: %d, with %d bytes left"
            log.info(what, len(slow), unsent)
