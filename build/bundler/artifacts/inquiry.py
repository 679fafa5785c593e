"""Asking quickly whether a file can be had now, before anything waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx2

from bundler.artifacts.network import reason, shown
from bundler.artifacts.sources import Miss
from bundler.errors import BundlerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundler.artifacts.fetch import Request
    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import Location

# How long a run that need not have a file waits to hear whether it can be had.
ANSWER_S = 3.0
SENDS = "send_request_headers.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether a connection came about, and why the file cannot be had; empty if it can."""

    is_connected: bool
    refusal: str


@dataclass(slots=True)
class Inquiry:
    """A request for a file whose bytes are not taken, made in a thread of its own.

    The thread is left behind where nothing answers: no time limit reaches a resolver of names.
    """

    request: Request
    network: Callable[[], Network]
    _refusal: str = ""
    _asked: threading.Event = field(default_factory=threading.Event)
    _connected: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def begin(cls, request: Request, network: Callable[[], Network]) -> Inquiry:
        """Ask for `request`; what `network` returns is made in the thread, too."""
        inquiry = cls(request, network)
        threading.Thread(target=inquiry._run, daemon=True).start()
        return inquiry

    def answer(self, within_s: float = ANSWER_S) -> Answer:
        """Return what is known `within_s` after the network was asked, at the latest."""
        self._asked.wait()
        if self._done.wait(within_s):
            return Answer(is_connected=self._connected.is_set(), refusal=self._refusal)
        return Answer(
            is_connected=self._connected.is_set(), refusal=f"no answer within {within_s:g} s"
        )

    def _run(self) -> None:
        try:
            self._refusal = self._ask()
        except BundlerError as error:
            self._refusal = error.what
        except OSError as error:  # certificates that cannot be read
            self._refusal = str(error)
        finally:
            self._done.set()
            self._asked.set()

    def _ask(self) -> str:
        """Return why no place gives the file, or nothing once one would."""
        network, refusals = self.network(), []
        with network.client() as client:
            self._asked.set()
            for source in self.request.sources:
                for place in source.locate(self.request.artifact):
                    if isinstance(place, Miss):
                        refusals.append(f"{place.place}: {place.reason}")
                        continue
                    refusal = self._ask_place(place, client, network)
                    if not refusal:
                        return ""
                    refusals.append(f"{shown(place.url)}: {refusal}")
        return "; ".join(refusals)

    def _ask_place(self, place: Location, client: httpx2.Client, network: Network) -> str:
        """Return why `place` does not give the file, or nothing."""
        parts = urlsplit(place.url)
        if parts.scheme == "file":
            self._connected.set()
            return "" if Path(url2pathname(parts.path)).is_file() else "no such file"
        extensions = {"trace": self._trace}
        try:
            with client.stream(
                "GET", place.url, headers=place.headers, extensions=extensions
            ) as response:
                response.raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            return reason(error, network)
        return ""

    def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event.endswith(SENDS):
            self._connected.set()
