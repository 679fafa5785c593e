"""The lines on stdout that a parent process reads, and nothing else there."""

from __future__ import annotations

import json
import os
from typing import Literal, Protocol

from sidecar.process import descriptors

Event = Literal[
    "model_cached",
    "download_started",
    "download_progress",
    "model_loaded",
    "ready",
]
PREFIX = "PROGRESS:"


class Announcer(Protocol):
    """Tells the parent process what happens."""

    def announce(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when nobody reads."""
        ...


class LineAnnouncer:
    """Writes `PROGRESS:{"type":…,"data":{…}}` lines to a file descriptor.

    A line is dropped when the reader is gone, or when its pipe is full.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`."""
        self._descriptor = descriptor

    def announce(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when nobody reads."""
        line = json.dumps({"type": event, "data": data}, separators=(",", ":"))
        descriptors.offer(self._descriptor, f"{PREFIX}{line}\n".encode())


def claim_stdout() -> LineAnnouncer:
    """Return the announcer on the real stdout, and lead everything else written there to stderr.

    Libraries that print, in Python or in C, would break the parent's parser otherwise.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    return LineAnnouncer(private)
