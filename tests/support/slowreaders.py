"""Clients that ask for large answers and take a few bytes of them now and then.

python -m tests.support.slowreaders BUNDLE [READERS [WAVES]] (200 5) starts the bundle's service,
lets so many clients come in waves of equal size, and prints after each what memory the service has
and how the clients fared, and at the end how long it took until all were ended.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import storm
from tests.support.doorstep import post, status
from tests.support.running import program, running
from tests.support.vitals import MIB, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEXTS = 8_192  # empty ones, which make an answer of 39 MB
SIP_BYTES = 500
SIP_S = 10.0
WAVE_S = 14.0
PATIENCE_S = 180.0
# As small as a system lets it be: what it holds for a client is not held by the service.
BUFFER_BYTES = 2304


@dataclass(kw_only=True)
class Reader:
    """A client; `status` is 0 until its answer begins, `ended` once the service closed."""

    client: socket.socket
    status: int = 0
    taken: int = 0
    next_sip: float = 0.0
    ended: bool = False


@dataclass(kw_only=True)
class Readers:
    """Clients of one service, each taking `sip_bytes` every `sip_s`; refusals are taken whole."""

    port: int
    body: object = field(default_factory=lambda: {"texts": [""] * TEXTS})
    sip_bytes: int = SIP_BYTES
    sip_s: float = SIP_S
    every: list[Reader] = field(default_factory=list)

    def come(self, count: int) -> None:
        """Let `count` more ask."""
        request = post(self.body)
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            client.connect(("127.0.0.1", self.port))
            client.sendall(request)
            client.setblocking(False)
            self.every.append(Reader(client=client))

    def sip_for(self, goes_on: Callable[[], bool]) -> None:
        """Take what is due while it `goes_on`."""
        with selectors.DefaultSelector() as selector:
            while goes_on():
                now = time.monotonic()
                for reader in self.every:
                    if reader.ended or now < reader.next_sip:
                        if reader.client.fileno() in selector.get_map():
                            selector.unregister(reader.client)
                    elif reader.client.fileno() not in selector.get_map():
                        selector.register(reader.client, selectors.EVENT_READ, reader)
                for key, _ in selector.select(0.05):
                    self._sip(key.data)

    def _sip(self, reader: Reader) -> None:
        try:
            data = reader.client.recv(self.sip_bytes)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            reader.ended = True
            return
        reader.status = reader.status or status(data)
        reader.taken += len(data)
        if reader.status == storm.SERVED:
            reader.next_sip = time.monotonic() + self.sip_s

    @property
    def waiting(self) -> int:
        """How many are not ended."""
        return sum(not reader.ended for reader in self.every)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was answered; 0 stands for none yet."""
        return Counter(reader.status for reader in self.every)

    def leave(self) -> None:
        """Close every connection."""
        for reader in self.every:
            with contextlib.suppress(OSError):
                reader.client.close()


def main(arguments: Sequence[str]) -> int:
    """Start, let them come, wait until they are ended; 0 if they all are."""
    parser = argparse.ArgumentParser(prog="slowreaders", description="Take answers slowly.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("readers", type=int, nargs="?", default=200)
    parser.add_argument("waves", type=int, nargs="?", default=5)
    options = parser.parse_args(arguments)
    command = [*program(options.bundle), "--port", "0"]
    with running(command, max_seconds=900) as service:
        port, pid = service.wait_ready(), service.process.pid
        readers = Readers(port=port)

        def tell(when: str) -> None:
            now, peak = (memory(pid, name) / MIB for name in ("VmRSS", "VmHWM"))
            said = dict(sorted(readers.statuses.items()))
            line = f"{when:<8} RSS {now:6.0f} MiB, at most {peak:6.0f}; {readers.waiting} hang"
            sys.stdout.write(f"{line}, {said}\n")
            sys.stdout.flush()

        tell("start")
        began = time.monotonic()
        for wave in range(1, options.waves + 1):
            ends = began + wave * WAVE_S
            readers.come(options.readers // options.waves)
            readers.sip_for(lambda: time.monotonic() < ends)  # noqa: B023 (called at once)
            tell(f"wave {wave}")
        ends = time.monotonic() + PATIENCE_S
        readers.sip_for(lambda: readers.waiting > 0 and time.monotonic() < ends)
        tell(f"{time.monotonic() - began:.0f} s")
        readers.leave()
        return 1 if service.stop() or readers.waiting else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
