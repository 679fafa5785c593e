"""The way to a file by the standard library alone, into the builder's own store."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bundler.artifacts.download import (
    CUT,
    AgainError,
    Downloader,
    Patience,
    PlaceError,
    Response,
    content_length,
    file_answer,
)
from bundler.artifacts.store import Store, WrongBytesError, not_locked
from bundler.bootstrap import connection
from bundler.bootstrap.connection import proxies, proxy_between, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundler.console import Progress
    from bundler.digests import Artifact

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
# An address that is none.
FINAL = (ValueError, http.client.InvalidURL)


@dataclass(frozen=True)
class Route:
    """What opens addresses, and the proxy that it goes through, as HOST:PORT, if there is one."""

    opener: urllib.request.OpenerDirector
    proxy: str = ""

    @contextlib.contextmanager
    def answer(self, url: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Give what `url` answers. Raises AgainError and PlaceError."""
        if urlsplit(url).scheme == "file":
            with file_answer(url) as answer:
                yield answer
            return
        with self._open(url, headers) as response:
            yield Response(response.status, response.headers, _chunks(response))

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - urllib's own
        try:
            return self.opener.open(_request(url, headers), timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            return error
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = self._reason(error)
            if isinstance(getattr(error, "reason", error), FINAL) or connection.lasts(text):
                raise PlaceError(text) from error
            raise AgainError(text, is_answer=False) from error

    def _reason(self, error: Exception) -> str:
        """Return why nothing came, in words that hold no credentials."""
        inner = getattr(error, "reason", error)
        text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
        if isinstance(inner, TimeoutError):
            text = f"silent for {TIMEOUT_S:g} s"
        if isinstance(inner, ssl.SSLError) or not self.proxy:
            return f"no connection ({text})"
        # Whatever fails before there is an answer fails on the way to the proxy, or inside it.
        return f"ProxyError: no connection through {self.proxy} ({text})"


def _chunks(response: Any) -> Iterator[bytes]:  # noqa: ANN401
    length, count = content_length(response.headers), 0
    try:
        while chunk := response.read(CHUNK_BYTES):
            count += len(chunk)
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise AgainError(CUT) from error
    if length is not None and count < length:
        raise AgainError(CUT)


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
    artifact: Artifact, url: str, store: Store, way: Route, progress: Progress, patience: Patience
) -> Path:
    """Return the store's entry for `artifact` after fetching it from `url`.

    Killed at any point, it leaves bytes that the next run goes on with. Raises UnreachableError,
    with the setting that helps where one does, IntegrityError and DiskError.
    """
    downloader = Downloader(patience, progress)
    try:
        with store.writer(artifact.digest, artifact.name) as writer:
            path = downloader.bring(writer, lambda headers: way.answer(url, headers))
    except PlaceError as error:
        raise connection.out_of_reach(artifact.name, f"{shown(url)}: {error}") from error
    except WrongBytesError as error:
        raise not_locked(
            artifact.name,
            actual=error.sha256,
            locked=artifact.digest,
            next_step=f"check the source (asked: {shown(url)})",
        ) from error
    progress.finish(artifact.name)
    return path


def _request(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    """Return a request that names its user and password to this address alone."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(  # noqa: S310 - what comes is hashed, wherever it is from
        urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "sidecar-build", **headers}
    )
    if at:
        token = base64.b64encode(unquote(userinfo).encode()).decode()
        # Not repeated to where a redirect leads.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request
