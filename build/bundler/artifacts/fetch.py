"""Getting locked artifacts into the store, a few at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bundler.artifacts.download import AgainError, Downloader, PlaceError, StoppedError
from bundler.artifacts.sources import Miss
from bundler.artifacts.store import WrongBytesError, not_locked
from bundler.atomic import require_space
from bundler.bootstrap.connection import out_of_reach, shown
from bundler.console import Progress
from bundler.errors import BundlerError, IntegrityError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import httpx2

    from bundler.artifacts.download import Response
    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import Location, Pause, Source
    from bundler.artifacts.store import Store, Writer
    from bundler.digests import Artifact

AT_ONCE = 3
NAMED_AT_MOST = 5
OUT_OF_REACH = "check the network, the proxy and the mirrors, then run the same command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An artifact, and the sources to ask for it, in that order."""

    artifact: Artifact
    sources: tuple[Source, ...]

    def places(self, pause: Pause = time.sleep) -> Iterator[Location | Miss]:
        """Yield where it may be and where it is not, source after source."""
        for source in self.sources:
            yield from source.locate(self.artifact, pause)


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
    unique = {request.artifact.digest.sha256: request for request in requests}
    if offline:
        held = _held_offline(unique, store)
    else:
        _make_sure_of_room([request.artifact for request in unique.values()], store)
        with network.client() as client:
            downloader = Downloader(network, progress or Progress())
            held = _Fetch(store, network, client, downloader).run(unique, at_once)
        store.sweep()
    return {request.artifact: held[request.artifact.digest.sha256] for request in requests}


def _held_offline(requests: Mapping[str, Request], store: Store) -> dict[str, Path]:
    """Return the entries. Raises UnreachableError naming what is missing, IntegrityError."""
    held, missing = {}, []
    for sha256, request in requests.items():
        try:
            held[sha256] = store.verified(request.artifact.digest, request.artifact.name)
        except UnreachableError:
            missing.append(request.artifact.name)
    if missing:
        more = len(missing) - NAMED_AT_MOST
        raise UnreachableError(
            f"not in the store: {', '.join(missing[:NAMED_AT_MOST])}"
            + (f" and {more} more" if more > 0 else ""),
            why=f"this run is offline, and {store.root} does not have them",
            next_step="run the fetch command once with a network, without --offline",
        )
    return held


def _make_sure_of_room(artifacts: Sequence[Artifact], store: Store) -> None:
    """Raise DiskError before anything is fetched if what has a known size cannot fit."""
    missing = [a.digest.size or 0 for a in artifacts if store.path(a.digest) is None]
    needed = sum(missing)
    if needed > store.free_bytes():
        store.sweep()
    require_space(store.root, needed, purpose=f"{len(missing)} artifacts")


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One call of `fetch` with a network."""

    store: Store
    network: Network
    client: httpx2.Client
    downloader: Downloader

    def run(self, requests: Mapping[str, Request], at_once: int) -> dict[str, Path]:
        """Return the entries, fetching what is missing; the first failure stops the others."""
        held: dict[str, Path] = {}
        with ThreadPoolExecutor(at_once) as pool:
            futures = {pool.submit(self._one, one): sha256 for sha256, one in requests.items()}
            try:
                for future in as_completed(futures):
                    with suppress(StoppedError):
                        held[futures[future]] = future.result()
            finally:
                # After a success nothing is left to stop.
                self.downloader.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return held

    def _one(self, request: Request) -> Path:
        """Return the entry for `request`, from the store if it is there and right."""
        artifact = request.artifact
        self.downloader.pause(0)
        if (held := self.store.held(artifact, self.downloader.progress)) is not None:
            return held
        try:
            with self.store.writer(artifact.digest, artifact.name) as writer:
                path = writer.commit() if writer.is_complete else self._bring(request, writer)
        except Exception:
            self.downloader.stopped.set()
            raise
        self.downloader.progress.finish(artifact.name)
        return path

    def _bring(self, request: Request, writer: Writer) -> Path:
        """Return the entry, from the first place that has it."""
        artifact = request.artifact
        tried: list[str] = []
        wrong: str | None = None
        for place in request.places(self.downloader.pause):
            if isinstance(place, Miss):
                tried.append(f"{place.place}: {place.reason}")
                wrong = wrong or place.sha256
                continue
            with suppress(UnreachableError, IntegrityError):
                # Another builder may have been faster.
                return self.store.verified(artifact.digest, artifact.name)
            try:
                return self.downloader.bring(writer, partial(self._answer, place))
            except PlaceError as error:
                tried.append(f"{shown(place.url)}: {error}")
            except WrongBytesError as error:
                tried.append(f"{shown(place.url)}: other bytes under that name")
                wrong = wrong or error.sha256
        asked = "; ".join(tried) or "no source is configured for it"
        if wrong is not None:
            raise not_locked(
                artifact.name,
                actual=wrong,
                locked=artifact.digest,
                next_step=f"check the source, or lock it again (asked: {asked})",
            )
        raise out_of_reach(artifact.name, asked, OUT_OF_REACH)

    def _answer(
        self, place: Location, headers: Mapping[str, str]
    ) -> AbstractContextManager[Response]:
        return self.network.answer(self.client, place.url, {**place.headers, **headers})


# How long a run that need not have a file waits to hear whether it can be had.
ANSWER_S = 3.0
SENDS = "send_request_headers.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """Whether a connection came about, and why the file cannot be had; empty if it can."""

    is_connected: bool
    refusal: str


class Inquiry:
    """A request for a file whose bytes are not taken, made in a thread of its own.

    What `network` returns is made in the thread, too. The thread is left behind where nothing
    answers: no time limit reaches a resolver of names.
    """

    def __init__(self, request: Request, network: Callable[[], Network]) -> None:
        """Begin to ask for `request`."""
        self._asked, self._connected = threading.Event(), threading.Event()
        self._refusal: Future[str] = Future()
        threading.Thread(target=self._run, args=(request, network), daemon=True).start()

    def answer(self, within_s: float = ANSWER_S) -> Reachability:
        """Return what is known `within_s` after the network was asked, at the latest."""
        self._asked.wait()
        try:
            refusal = self._refusal.result(within_s)
        except TimeoutError:
            refusal = f"no answer within {within_s:g} s"
        return Reachability(is_connected=self._connected.is_set(), refusal=refusal)

    def _run(self, request: Request, network: Callable[[], Network]) -> None:
        try:
            self._refusal.set_result(self._ask(request, network()))
        except (BundlerError, OSError) as error:  # certificates that cannot be read are OSErrors
            self._refusal.set_result(str(error))
        finally:
            self._asked.set()

    def _ask(self, request: Request, network: Network) -> str:
        """Return why no place gives the file, or nothing once one would."""
        refusals = []
        with network.client() as client:
            self._asked.set()
            for place in request.places():
                if isinstance(place, Miss):
                    refusals.append(f"{place.place}: {place.reason}")
                    continue
                if urlsplit(place.url).scheme == "file":
                    self._connected.set()
                try:
                    with network.answer(client, place.url, place.headers, self._trace) as answer:
                        if answer.status == HTTPStatus.OK:
                            return ""
                        refusals.append(f"{shown(place.url)}: HTTP {answer.status}")
                except (AgainError, PlaceError) as error:
                    refusals.append(f"{shown(place.url)}: {error}")
        return "; ".join(refusals)

    def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event.endswith(SENDS):
            self._connected.set()
