"""Filling an entry of the store from one place: resumed, tried again, stopped when told to.

How a place is opened is its caller's: the builder opens it with httpx2, and the first Python, for
which this keeps to the standard library of 3.9, with urllib.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from bundler.artifacts.store import Writer
    from bundler.console import Progress

Result = TypeVar("Result")

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
LENGTH = re.compile(r"[0-9]{1,18}")
# Of a file whose size no lock tells: no archive may hold a member that is larger.
MOST_BYTES = 4 << 30
CUT = "the connection was cut"
BUSY = frozenset({408, 425, 429})
# Some stores of files refuse any range, others a range that they hold no more.
RANGE_REFUSED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})


class PlaceError(Exception):
    """A place cannot give the bytes; the text says why and holds no credentials."""


class StoppedError(Exception):
    """Something else failed, so this is no longer wanted."""


class AgainError(Exception):
    """The try failed in a way the next one may not; `retry_after` is what the server asked for.

    `is_resumable=False`: the place gives no part of the file, so the next try asks for the whole.
    `is_answer=False`: there was no server at all.
    """

    def __init__(
        self, text: str, retry_after: str = "", *, is_resumable: bool = True, is_answer: bool = True
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.is_resumable = is_resumable
        self.is_answer = is_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a server is asked: `tries` failures in a row, with growing waits between them.

    A try that brings `fair_bytes` more than any before it starts the count anew. A server that has
    never answered is given up after `unheard_tries`.
    """

    tries: int = 6
    unheard_tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    fair_bytes: int = 1 << 20

    def wait_s(self, failures: int, retry_after: str = "") -> float:
        """Return how long to wait after the given number of failures in a row."""
        asked = _retry_after_s(retry_after)
        if asked is None:
            asked = self.first_wait_s * 2 ** (failures - 1)
        return max(0.0, min(asked, self.longest_wait_s))

    def persist(
        self,
        act: Callable[[], Result],
        pause: Callable[[float], object],
        progressed: Callable[[], int] = lambda: 0,
    ) -> Result:
        """Return what `act` returns, called again after each AgainError. Raises PlaceError."""
        failures, furthest, is_heard = 0, progressed(), False
        while True:
            try:
                return act()
            except AgainError as error:
                if progressed() - furthest >= self.fair_bytes:
                    failures = 0
                furthest = max(furthest, progressed())
                failures += 1
                is_heard = is_heard or error.is_answer
                tries = self.tries if is_heard else min(self.tries, self.unheard_tries)
                if failures >= tries:
                    raise PlaceError(f"{error}, {failures} times") from error
                pause(self.wait_s(failures, error.retry_after))


def _retry_after_s(value: str) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value).astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError):  # TypeError before 3.10
        return None
    return (when - datetime.now(timezone.utc)).total_seconds()


def refuse_status(status: int, headers: Mapping[str, str]) -> None:
    """Raise AgainError for a status that may be another in a moment, PlaceError for any other."""
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise AgainError(f"HTTP {status}", headers.get("Retry-After", ""))
    raise PlaceError(f"HTTP {status}")


@dataclass(frozen=True)
class Response:
    """What a place answers; `chunks` is the body, and raises AgainError where it is cut."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterable[bytes]


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return how long a body is said to be, None where that is not said in numbers."""
    length = headers.get("Content-Length", "")
    return int(length) if LENGTH.fullmatch(length) else None


class Opener(Protocol):
    """What asks one place, with the headers given. Raises AgainError and PlaceError."""

    def __call__(self, headers: Mapping[str, str]) -> AbstractContextManager[Response]:
        """Give the answer for as long as the block lasts."""
        ...


@contextlib.contextmanager
def file_answer(url: str) -> Iterator[Response]:
    """Give the file that a file address names, whole, as a server would. Raises PlaceError."""
    try:
        path = Path(url2pathname(urlsplit(url).path))
        with path.open("rb") as stream:
            length = {"Content-Length": str(path.stat().st_size)}
            yield Response(HTTPStatus.OK, length, iter(lambda: stream.read(CHUNK_BYTES), b""))
    except (OSError, ValueError) as error:
        raise PlaceError(getattr(error, "strerror", None) or type(error).__name__) from error


@dataclass(frozen=True)
class Downloader:
    """Fills writers; safe to use from several threads."""

    patience: Patience
    progress: Progress
    stopped: threading.Event = field(default_factory=threading.Event)

    def pause(self, seconds: float) -> None:
        """Wait. Raises StoppedError as soon as everything is to stop."""
        if self.stopped.wait(seconds):
            raise StoppedError

    def bring(self, writer: Writer, opened: Opener) -> Path:
        """Fill `writer` from one place and return the new entry.

        Whole but wrong bytes are fetched once more from the first. Raises PlaceError,
        WrongBytesError, DiskError, StoppedError.
        """
        self._fill(writer, opened)
        if not writer.is_complete:
            note = f"came with the sha256 {writer.partial.sha256}; fetching it again"
            self.progress.note(writer.name, note)
            writer.restart()
            self._fill(writer, opened)
        return writer.commit()

    def _fill(self, writer: Writer, opened: Opener) -> None:
        resumes = True

        def attempt() -> None:
            nonlocal resumes
            try:
                if not writer.is_complete:
                    self._stream(writer, opened, resumes=resumes)
            except AgainError as error:
                resumes = error.is_resumable
                raise

        self.patience.persist(attempt, self.pause, lambda: writer.offset)

    def _stream(self, writer: Writer, opened: Opener, *, resumes: bool) -> None:
        """Append what one answer brings. Bytes beyond a known size are left unread."""
        asked = {"Accept-Encoding": "identity"}
        if writer.offset and resumes:
            asked["Range"] = f"bytes={writer.offset}-"
        with opened(asked) as answer:
            is_encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
            _place_writer(answer, writer, is_part="Range" in asked, is_encoded=is_encoded)
            length = content_length(answer.headers)
            size = writer.digest.size
            if size is None and length is not None and not is_encoded:
                size = writer.offset + length
                if size > MOST_BYTES:
                    raise PlaceError(f"announces {size} bytes, at most {MOST_BYTES} are taken")
            if size is not None:
                writer.expect(size)
            self.progress.start(writer.name, size)
            self.progress.advance(writer.name, writer.offset)
            for chunk in answer.chunks:
                if self.stopped.is_set():
                    raise StoppedError
                wanted = chunk if size is None else chunk[: size - writer.offset]
                writer.write(wanted)
                self.progress.advance(writer.name, len(wanted))
                if writer.offset == size:
                    return
                if size is None and writer.offset > MOST_BYTES:
                    writer.restart()
                    raise PlaceError(f"sends more than {MOST_BYTES} bytes")
            if size is not None and length is None and "Transfer-Encoding" not in answer.headers:
                # The end of the connection is the only end such an answer has.
                raise AgainError(CUT)


def _place_writer(answer: Response, writer: Writer, *, is_part: bool, is_encoded: bool) -> None:
    """Put `writer` where the body begins. Raises AgainError and PlaceError if it cannot."""
    if answer.status == HTTPStatus.OK:
        if writer.offset:
            writer.restart()
    elif answer.status == HTTPStatus.PARTIAL_CONTENT:
        found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        size = writer.digest.size
        if (
            found is None
            or int(found[1]) != writer.offset
            or (size is not None and found[2] not in {"*", str(size)})
            or is_encoded
        ):
            writer.restart()
            raise AgainError("answered with a range that was not requested")
    elif is_part and answer.status in RANGE_REFUSED:
        raise AgainError(f"HTTP {answer.status} for a part of the file", is_resumable=False)
    else:
        refuse_status(answer.status, answer.headers)
