"""Bringing one artifact from one place: resumed, tried again, and stopped when told to."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
from unearth import Link

from bundler.artifacts.network import CUT, asked_to_wait, is_worth_another_try, may_pass, reason
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import Location
    from bundler.artifacts.store import Writer
    from bundler.console import Progress
    from bundler.digests import Artifact

CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class PlaceError(Exception):
    """A place cannot give the bytes; the text says why and holds no credentials."""


class StoppedError(Exception):
    """Something else failed, so this is no longer wanted."""


class _AgainError(Exception):
    """The try failed in a way the next one may not; `retry_after` is what the server asked for.

    `is_resumable=False`: the place gives no part of the file, so the next try asks for the whole.
    """

    def __init__(
        self, text: str, retry_after: str | None = None, *, is_resumable: bool = True
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.is_resumable = is_resumable


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    """Fills writers from locations; safe to use from several threads."""

    client: httpx2.Client
    network: Network
    progress: Progress
    stopped: threading.Event

    def pause(self, seconds: float) -> None:
        """Wait. Raises StoppedError as soon as everything is to stop."""
        if self.stopped.wait(seconds):
            raise StoppedError

    def bring(self, artifact: Artifact, location: Location, writer: Writer) -> Path:
        """Fill `writer` from `location` and return the new entry.

        Whole but wrong bytes are fetched once more from the first. Raises PlaceError,
        WrongBytesError, DiskError, StoppedError.
        """
        self._fill(artifact, location, writer)
        if not writer.is_complete:
            note = f"came with the sha256 {writer.partial.sha256}; fetching it again"
            self.progress.note(artifact.name, note)
            writer.restart()
            self._fill(artifact, location, writer)
        return writer.commit()

    def _fill(self, artifact: Artifact, location: Location, writer: Writer) -> None:
        if urlsplit(location.url).scheme == "file":
            self._copy(artifact, location, writer)
            return
        failures, furthest, resumes = 0, writer.offset, True
        while not writer.is_complete:
            try:
                self._try(artifact, location, writer, resumes=resumes)
            except _AgainError as error:
                resumes = error.is_resumable
                if writer.offset - furthest >= self.network.fair_bytes:
                    failures = 0
                furthest = max(furthest, writer.offset)
                failures += 1
                if failures >= self.network.tries:
                    raise PlaceError(f"{error}, {failures} times") from error
                self.pause(self.network.wait_s(failures, error.retry_after))
            else:
                return

    def _try(
        self, artifact: Artifact, location: Location, writer: Writer, *, resumes: bool
    ) -> None:
        """Do `_stream`, with its failures sorted into those worth another try and the others."""
        try:
            self._stream(artifact, location, writer, resumes=resumes)
        except httpx2.HTTPStatusError as error:
            text = reason(error, self.network)
            if is_worth_another_try(error):
                raise _AgainError(text, asked_to_wait(error)) from error
            raise PlaceError(text) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            text = reason(error, self.network)
            if may_pass(error, text):
                raise _AgainError(text) from error
            raise PlaceError(text) from error

    def _stream(
        self, artifact: Artifact, location: Location, writer: Writer, *, resumes: bool
    ) -> None:
        """Append what one response brings. Bytes beyond a known size are left unread."""
        headers = {**location.headers, "Accept-Encoding": "identity"}
        if writer.offset and resumes:
            headers["Range"] = f"bytes={writer.offset}-"
        with self.client.stream("GET", location.url, headers=headers) as response:
            encoded = response.headers.get("Content-Encoding", "identity") != "identity"
            _place_writer(response, writer, artifact.digest.size)
            length = response.headers.get("Content-Length", "")
            size = artifact.digest.size
            if size is None and length.isdecimal() and not encoded:
                size = writer.offset + int(length)
            self._begin(artifact, writer, size)
            for chunk in response.iter_bytes() if encoded else response.iter_raw():
                self._append(artifact, writer, chunk, size)
                if writer.offset == size:
                    return
            if size is not None and not length and "Transfer-Encoding" not in response.headers:
                # The end of the connection is the only end such an answer has.
                raise _AgainError(CUT)

    def _copy(self, artifact: Artifact, location: Location, writer: Writer) -> None:
        writer.restart()
        try:
            with Link(location.url).file_path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                self._begin(artifact, writer, size)
                while chunk := stream.read(CHUNK_BYTES):
                    self._append(artifact, writer, chunk, None)
        except (OSError, ValueError) as error:
            raise PlaceError(reason(error, self.network)) from error

    def _begin(self, artifact: Artifact, writer: Writer, size: int | None) -> None:
        if size is not None:
            writer.expect(size)
        self.progress.start(artifact.name, size)
        self.progress.advance(artifact.name, writer.offset)

    def _append(self, artifact: Artifact, writer: Writer, chunk: bytes, size: int | None) -> None:
        if self.stopped.is_set():
            raise StoppedError
        wanted = chunk if size is None else chunk[: size - writer.offset]
        writer.write(wanted)
        self.progress.advance(artifact.name, len(wanted))


def _place_writer(response: httpx2.Response, writer: Writer, size: int | None) -> None:
    """Put `writer` where the body begins. Raises HTTPStatusError, or _AgainError if it cannot."""
    match response.status_code:
        case HTTPStatus.OK:
            if writer.offset:
                writer.restart()
        case HTTPStatus.PARTIAL_CONTENT:
            found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if (
                found is None
                or int(found[1]) != writer.offset
                or (size is not None and found[2] not in {"*", str(size)})
                or response.headers.get("Content-Encoding", "identity") != "identity"
            ):
                writer.restart()
                raise _AgainError("answered with a range that was not requested")
        case (HTTPStatus.FORBIDDEN | HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE) as status if (
            "Range" in response.request.headers
        ):
            # Some stores of files refuse any range, others a range that they hold no more.
            raise _AgainError(f"HTTP {status} for a part of the file", is_resumable=False)
        case status if response.is_success:
            raise PlaceError(f"HTTP {status}")
        case _:
            response.raise_for_status()
