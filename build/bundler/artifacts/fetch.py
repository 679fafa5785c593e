"""Getting locked artifacts into the store, a few at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx2

from bundler.artifacts.download import Downloader, PlaceError, StoppedError
from bundler.artifacts.network import reason, shown
from bundler.artifacts.sources import Miss
from bundler.artifacts.store import WrongBytesError, not_locked
from bundler.bootstrap import connection
from bundler.console import Progress
from bundler.errors import BundlerError, DiskError, IntegrityError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import Location, Source
    from bundler.artifacts.store import Store, Writer
    from bundler.digests import Artifact

AT_ONCE = 3
NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An artifact, and the sources to ask for it, in that order."""

    artifact: Artifact
    sources: tuple[Source, ...]


def fetch(
    requests: Sequence[Request],
    store: Store,
    *,
    network: Network,
    offline: bool = False,
    progress: Progress | None = None,
    at_once: int = AT_ONCE,
) -> Mapping[Artifact, Path]:
    """Return a verified store entry for every request, fetching only what the store lacks.

    `offline` opens no socket and no other file. What was finished stays finished whatever happens
    to the rest; after a success nothing unfinished is left but what living processes write.
    Raises IntegrityError, UnreachableError, DiskError.
    """
    task = _Fetch(store, network, progress or Progress())
    unique = {request.artifact.digest.sha256: request for request in requests}
    if offline:
        held = task.held_offline(unique)
    else:
        held = task.run(unique, at_once)
        store.sweep()
    return {request.artifact: held[request.artifact.digest.sha256] for request in requests}


class _Fetch:
    """One call of `fetch`."""

    def __init__(self, store: Store, network: Network, progress: Progress) -> None:
        self.store = store
        self.network = network
        self.progress = progress

    def held_offline(self, requests: Mapping[str, Request]) -> dict[str, Path]:
        """Return the entries. Raises UnreachableError naming what is missing, IntegrityError."""
        held, missing = {}, []
        for sha256, request in requests.items():
            try:
                held[sha256] = self._held(request.artifact)
            except UnreachableError:
                missing.append(request.artifact.name)
        if missing:
            more = len(missing) - NAMED_AT_MOST
            raise UnreachableError(
                f"not in the store: {', '.join(missing[:NAMED_AT_MOST])}"
                + (f" and {more} more" if more > 0 else ""),
                why=f"this run is offline, and {self.store.root} does not have them",
                next_step="run the fetch command once with a network, without --offline",
            )
        return held

    def run(self, requests: Mapping[str, Request], at_once: int) -> dict[str, Path]:
        """Return the entries, fetching what is missing; the first failure stops the others."""
        self._make_sure_of_room([request.artifact for request in requests.values()])
        stopped = threading.Event()
        held: dict[str, Path] = {}
        with self.network.client() as client, ThreadPoolExecutor(at_once) as pool:
            downloader = Downloader(
                client=client, network=self.network, progress=self.progress, stopped=stopped
            )
            futures = {
                pool.submit(self._one, request, downloader): sha256
                for sha256, request in requests.items()
            }
            try:
                for future in as_completed(futures):
                    with suppress(StoppedError):
                        held[futures[future]] = future.result()
            finally:
                # After a success nothing is left to stop.
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return held

    def _held(self, artifact: Artifact) -> Path:
        return self.store.verified(artifact.digest, artifact.name)

    def _make_sure_of_room(self, artifacts: Sequence[Artifact]) -> None:
        """Raise DiskError before anything is fetched if what has a known size cannot fit."""
        missing = [a.digest.size or 0 for a in artifacts if self.store.path(a.digest) is None]
        needed = sum(missing)
        if needed > self.store.free_bytes():
            self.store.sweep()
        free = self.store.free_bytes()
        if needed > free:
            raise DiskError(
                f"the disk is full: no room for {len(missing)} artifacts",
                why=f"{needed} bytes are needed, {free} bytes are free at {self.store.root}",
                next_step="free some space there and run the same command again",
            )

    def _one(self, request: Request, downloader: Downloader) -> Path:
        if downloader.stopped.is_set():
            raise StoppedError
        try:
            return self._ensure(request, downloader)
        except Exception:
            downloader.stopped.set()
            raise

    def _ensure(self, request: Request, downloader: Downloader) -> Path:
        """Return the entry for `request`, from the store if it is there and right."""
        artifact = request.artifact
        try:
            return self._held(artifact)
        except UnreachableError:
            pass
        except IntegrityError:
            self.progress.note(artifact.name, "its stored copy was damaged; fetching it again")
        with self.store.writer(artifact.digest, artifact.name) as writer:
            if writer.is_complete:
                path = writer.commit()
            else:
                path = self._bring(request, downloader, writer)
        self.progress.finish(artifact.name)
        return path

    def _bring(self, request: Request, downloader: Downloader, writer: Writer) -> Path:
        """Return the entry, from the first place that has it."""
        artifact = request.artifact
        tried: list[str] = []
        wrong: str | None = None
        for place in chain.from_iterable(
            source.locate(artifact, downloader.pause) for source in request.sources
        ):
            if isinstance(place, Miss):
                tried.append(f"{place.place}: {place.reason}")
                wrong = wrong or place.sha256
                continue
            with suppress(UnreachableError, IntegrityError):
                # Another builder may have been faster.
                return self._held(artifact)
            try:
                return downloader.bring(artifact, place, writer)
            except PlaceError as error:
                tried.append(f"{shown(place.url)}: {error}")
            except WrongBytesError as error:
                tried.append(f"{shown(place.url)}: other bytes under that name")
                wrong = wrong or error.sha256
                writer.restart()
        asked = "; ".join(tried) or "no source is configured for it"
        if wrong is not None:
            raise not_locked(
                artifact.name,
                actual=wrong,
                locked=artifact.digest,
                next_step=f"check the source, or lock it again (asked: {asked})",
            )
        raise out_of_reach(artifact, asked)


def out_of_reach(artifact: Artifact, why: str) -> UnreachableError:
    """Return the error for an artifact that no place gives, with the obstacle if it is known."""
    obstacle = connection.recognise(why)
    return UnreachableError(
        f"{artifact.name} is out of reach" + (f": {obstacle.name}" if obstacle else ""),
        why=why,
        next_step=connection.next_step(
            why, "check the network, the proxy and the mirrors, then run the same command"
        ),
    )


# How long a run that need not have a file waits to hear whether it can be had.
ANSWER_S = 3.0
SENDS = "send_request_headers.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
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

    def answer(self, within_s: float = ANSWER_S) -> Reachability:
        """Return what is known `within_s` after the network was asked, at the latest."""
        self._asked.wait()
        if self._done.wait(within_s):
            return Reachability(is_connected=self._connected.is_set(), refusal=self._refusal)
        return Reachability(
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
