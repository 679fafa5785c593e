"""One locked file into the store, by the standard library alone: resumed, tried again, hashed.

The store's layout and its unfinished files are those of `bundler.artifacts.store`, so that either
goes on where the other was killed, and any number of both may run at once.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bundler.artifacts.locations import UNFINISHED, entry_path, tag_cache
from bundler.atomic import Partial, abandoned, disk_error
from bundler.bootstrap import connection
from bundler.bootstrap.connection import proxies, proxy_between
from bundler.errors import IntegrityError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bundler.console import Progress

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
BUSY = frozenset({408, 425, 429})
PART, NO_SUCH_RANGE, SERVER_ERROR = 206, 416, 500
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
CUT = "the connection was cut"
# Addresses that are none, and files of a mirror on a disk that are not there.
FINAL = (ValueError, http.client.InvalidURL, FileNotFoundError)


@dataclass(frozen=True)
class Patience:
    """How often a server is asked: `tries` failures in a row, with growing waits between them.

    A try that brings `fair_bytes` more than any before it starts the count anew. A server that has
    never answered is given up after `unheard_tries`.
    """

    tries: int = 6
    unheard_tries: int = 3
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    fair_bytes: int = 1 << 20

    def wait_s(self, failures: int, asked: str) -> float:
        """Return how long to wait; `asked` is what the server's Retry-After says."""
        wait = float(asked) if asked.isdecimal() else self.first_wait_s * 2 ** (failures - 1)
        return min(wait, self.longest_wait_s)


@dataclass(frozen=True)
class Wanted:
    """A file: its name, its address, which may carry a user and password, and its sha256."""

    name: str
    url: str
    sha256: str


class _AgainError(Exception):
    """The try failed in a way that the next one may not; `asked` is the server's Retry-After.

    `is_answer` says whether there was a server at all.
    """

    def __init__(self, text: str, asked: str = "", *, is_answer: bool = True) -> None:
        super().__init__(text)
        self.asked = asked
        self.is_answer = is_answer


class _RefusedError(Exception):
    """The server cannot give the bytes."""


@dataclass(frozen=True)
class Route:
    """What opens addresses, and the proxy that it goes through, as HOST:PORT, if there is one."""

    opener: urllib.request.OpenerDirector
    proxy: str = ""


def route(options: Mapping[str, str], url: str) -> Route:
    """Return how to come to `url` as pip's `options` say: through a proxy, trusting certificates.

    Without a proxy there, the environment's and the system's are used. Raises UsageError.
    """
    paths = {name: Path(options[name]) for name in ("cert", "client-cert") if options.get(name)}
    context = connection.trusting(paths.get("cert"), paths.get("client-cert"))
    if urlsplit(url).hostname in options.get("trusted-host", "").split():
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    own = options.get("proxy", "")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(dict(proxies(own))),
        urllib.request.HTTPSHandler(context=context),
    )
    return Route(opener, proxy_between(url, own))


def fetch(
    wanted: Wanted,
    store: Path,
    way: Route,
    progress: Progress,
    patience: Patience,
) -> Path:
    """Return the store's entry for `wanted` after fetching it.

    Killed at any point, it leaves bytes that the next run goes on with. Raises UnreachableError,
    with the setting that helps where one does, IntegrityError and DiskError.
    """
    partial = Partial(store / UNFINISHED, wanted.sha256)
    tag_cache(store)
    keep = False
    try:
        for leftover in abandoned(store / UNFINISHED, f"{wanted.sha256}.*"):
            if leftover != partial.path:
                if not partial.offset:
                    partial.adopt(leftover)
                leftover.unlink(missing_ok=True)
        download = _Download(wanted, partial, way, progress, patience)
        download.fill()
        if partial.sha256 != wanted.sha256:
            progress.note(wanted.name, "came with another sha256; fetching it again")
            partial.restart()
            download.fill()
        _require_same(wanted, partial)
        entry = entry_path(store, wanted.sha256)
        partial.publish(entry)
    except _RefusedError as error:
        keep = partial.offset > 0
        raise _unreachable(wanted, str(error)) from error
    except KeyboardInterrupt:
        keep = partial.offset > 0
        raise
    except OSError as error:
        raise disk_error(error, store, purpose=wanted.name) from error
    finally:
        partial.close(keep=keep)
    progress.finish(wanted.name)
    return entry


@dataclass(frozen=True)
class _Download:
    """One call of `fetch`."""

    wanted: Wanted
    partial: Partial
    way: Route
    progress: Progress
    patience: Patience

    def fill(self) -> None:
        """Append what is missing. Raises _RefusedError, and OSError for the disk alone."""
        failures, furthest, is_heard = 0, self.partial.offset, False
        while self.partial.sha256 != self.wanted.sha256:
            try:
                self._try()
            except _AgainError as error:
                if self.partial.offset - furthest >= self.patience.fair_bytes:
                    failures = 0
                furthest = max(furthest, self.partial.offset)
                failures += 1
                is_heard = is_heard or error.is_answer
                tries = self.patience.tries if is_heard else self.patience.unheard_tries
                if failures >= tries:
                    raise _RefusedError(f"{error}, {failures} times") from error
                time.sleep(self.patience.wait_s(failures, error.asked))
            else:
                return

    def _try(self) -> None:
        """Append what one answer brings."""
        response = self._open()
        with response:
            size = self._begin(response)
            self.progress.start(self.wanted.name, size)
            self.progress.advance(self.wanted.name, self.partial.offset)
            while size is None or self.partial.offset < size:
                chunk = _read(response)
                if not chunk:
                    break
                self.partial.write(chunk if size is None else chunk[: size - self.partial.offset])
                self.progress.advance(self.wanted.name, len(chunk))
            if size is not None and self.partial.offset < size:
                raise _AgainError(CUT)

    def _open(self) -> Any:  # noqa: ANN401 - urllib's own answer differs between schemes
        try:
            request = _request(self.wanted.url)
            if self.partial.offset:
                request.add_header("Range", f"bytes={self.partial.offset}-")
            return self.way.opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                text = f"HTTP {error.code}"
                if error.code == NO_SUCH_RANGE and self.partial.offset:
                    self.partial.restart()
                    raise _AgainError("has no such range") from error
                if error.code in BUSY or error.code >= SERVER_ERROR:
                    raise _AgainError(text, error.headers.get("Retry-After", "")) from error
                raise _RefusedError(text) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            text, inner = self._reason(error), getattr(error, "reason", error)
            if isinstance(inner, FINAL) or connection.lasts(text):
                raise _RefusedError(text) from error
            raise _AgainError(text, is_answer=False) from error

    def _reason(self, error: Exception) -> str:
        """Return why nothing came, in words that hold no credentials."""
        inner = getattr(error, "reason", error)
        text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
        if isinstance(inner, TimeoutError):
            text = f"silent for {TIMEOUT_S:g} s"
        if isinstance(inner, ssl.SSLError) or not self.way.proxy:
            return f"no connection ({text})"
        # Whatever fails before there is an answer fails on the way to the proxy, or inside it.
        return f"ProxyError: no connection through {self.way.proxy} ({text})"

    def _begin(self, response: Any) -> int | None:  # noqa: ANN401
        """Put the file where the body begins; return how many bytes there will be, if known."""
        start = 0
        if response.status == PART:
            found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start = int(found[1]) if found else -1
        if start not in (0, self.partial.offset) or start < 0:
            self.partial.restart()
            raise _AgainError("answered with a range that was not requested")
        if start != self.partial.offset:
            self.partial.restart()
        length = response.headers.get("Content-Length", "")
        return start + int(length) if length.isdecimal() else None


def _read(response: Any) -> bytes:  # noqa: ANN401
    try:
        chunk: bytes = response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _AgainError(CUT) from error
    return chunk


def _request(url: str) -> urllib.request.Request:
    """Return a request that names its user and password to this address alone."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(  # noqa: S310 - what comes is hashed, wherever it is from
        urlunsplit(parts._replace(netloc=host)),
        headers={"User-Agent": "sidecar-build", "Accept-Encoding": "identity"},
    )
    if at:
        token = base64.b64encode(unquote(userinfo).encode()).decode()
        # Not repeated to where a redirect leads.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def shown(url: str) -> str:
    """Return `url` without credentials, query and fragment, any of which may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _require_same(wanted: Wanted, partial: Partial) -> None:
    if partial.sha256 != wanted.sha256:
        raise IntegrityError(
            f"{wanted.name} is not the file that was locked",
            why=f"its sha256 is {partial.sha256}, the lock says {wanted.sha256}",
            next_step=f"check the source (asked: {shown(wanted.url)})",
        )


def _unreachable(wanted: Wanted, why: str) -> UnreachableError:
    obstacle = connection.recognise(why)
    return UnreachableError(
        f"{wanted.name} is out of reach",
        why=f"{shown(wanted.url)}: {obstacle.name + ': ' if obstacle else ''}{why}",
        next_step=connection.next_step(why, ""),
    )
