"""How the network is used: trust, patience, credentials, and addresses fit to be shown."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
from unearth.auth import get_keyring_auth
from unearth.fetchers import PyPIClient
from unearth.utils import get_netrc_auth, split_auth_from_url

from bundler.artifacts.download import (
    CUT,
    AgainError,
    Patience,
    PlaceError,
    Response,
    file_answer,
    refuse_status,
)
from bundler.bootstrap import connection
from bundler.bootstrap.connection import proxy_between
from bundler.errors import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Patience):
    """Settings for everything that opens a socket."""

    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    trusted_hosts: tuple[str, ...] = ()
    asks_keyring: bool = False
    connect_s: float = 10.0
    read_s: float = 60.0

    def verify(self) -> ssl.SSLContext:
        """Return the context that decides which servers are trusted. Raises UsageError."""
        # The variables that it would read are in `ca_bundle`, where they add to the system's store.
        made = httpx2.create_ssl_context(trust_env=self.ca_bundle is None)
        connection.add_trust(made, self.ca_bundle, self.client_certificate)
        return made

    def client(
        self,
        trust: ssl.SSLContext | None = None,
        **options: Any,  # noqa: ANN401 - as httpx2 has them
    ) -> PyPIClient:
        """Return a client for downloads; across a redirect to another host no credentials go.

        `trust` is what `verify` gave, where that is known; `options` are httpx2's own. Raises
        UsageError for a proxy that cannot be used.
        """
        try:
            insecure = {
                f"all://{host}": httpx2.HTTPTransport(verify=False, proxy=self.proxy)
                for host in self.trusted_hosts
            }
            return PyPIClient(
                verify=trust or self.verify(),
                proxy=self.proxy,
                mounts=insecure,
                timeout=httpx2.Timeout(self.read_s, connect=self.connect_s),
                follow_redirects=True,
                **options,
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            # SOCKS takes a package that is not installed; desktops set it as ALL_PROXY.
            is_socks = isinstance(error, ImportError) or "socks" in str(error)
            raise UsageError(
                "the proxy of this machine cannot be used",
                why="it is a SOCKS proxy, and the builder goes through HTTP proxies alone"
                if is_socks
                else "its address, or that of a trusted host, is none",
                next_step="name another: HTTPS_PROXY=http://HOST:PORT, or pip config set "
                "global.proxy; and unset ALL_PROXY, or correct it",
            ) from error

    @contextlib.contextmanager
    def sorting_failures(self) -> Iterator[None]:
        """Raise AgainError for a failure that may be gone in a moment, PlaceError for any other."""
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            response = getattr(error, "response", None)
            if response is not None:
                refuse_status(response.status_code, response.headers)
            text = reason(error, self)
            if may_pass(error, text):
                raise AgainError(text) from error
            raise PlaceError(text) from error

    @contextlib.contextmanager
    def answer(
        self,
        client: httpx2.Client,
        url: str,
        headers: Mapping[str, str],
        trace: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> Iterator[Response]:
        """Give what `url` answers. Raises AgainError and PlaceError, also for what cuts it short.

        `trace` is called with what httpx2 does, by name.
        """
        if urlsplit(url).scheme == "file":
            with file_answer(url) as answer:
                yield answer
            return
        extensions = {"trace": trace} if trace else {}
        with (
            self.sorting_failures(),
            client.stream("GET", url, headers=headers, extensions=extensions) as response,
        ):
            is_encoded = "Content-Encoding" in response.headers
            body = response.iter_bytes() if is_encoded else response.iter_raw()
            yield Response(response.status_code, response.headers, body)


def may_pass(error: Exception, text: str) -> bool:
    """Return whether a failure without an answer, `text` in words, may be gone in a moment."""
    return (
        isinstance(error, httpx2.TransportError)
        and not isinstance(error, httpx2.UnsupportedProtocol)
        and not connection.lasts(text)
    )


def without_credentials(url: str) -> str:
    """Return `url` without the user and password in it."""
    return str(split_auth_from_url(url)[1])


def reason(error: Exception, network: Network) -> str:
    """Return why a request failed, in words that cannot hold a credential."""
    match error:
        case httpx2.HTTPStatusError():
            text = f"HTTP {error.response.status_code}"
        case httpx2.ConnectTimeout():
            text = f"no connection within {network.connect_s:g} s"
        case httpx2.TimeoutException():
            text = f"silent for {network.read_s:g} s"
        case httpx2.ProxyError():
            text = f"ProxyError: {error}"
        case httpx2.ConnectError():
            proxy = _proxy_before(error, network)
            # The certificate is the server's; whatever else fails, fails on the way to the proxy.
            is_proxys = proxy and "[SSL" not in str(error)
            way = f"ProxyError: no connection through {proxy}" if is_proxys else "no connection"
            text = f"{way} ({error})"
        case httpx2.ReadError() | httpx2.RemoteProtocolError():
            text = CUT
        case OSError() if error.strerror:
            text = error.strerror
        case _:
            text = type(error).__name__
    return text


def _proxy_before(error: httpx2.RequestError, network: Network) -> str:
    """Return the proxy, as HOST:PORT, that the request went to, if it went to one."""
    try:
        url = str(error.request.url)
    except RuntimeError:
        return ""
    return proxy_between(url, network.proxy or "")


class Credentials:
    """The users and passwords that addresses of indexes carry, and those of the netrc file.

    With `asks_keyring`, as pip does with `keyring-provider = subprocess`, the program `keyring` is
    asked for the others, once for each host of an index.
    """

    def __init__(self, urls: Collection[str] = (), *, asks_keyring: bool = False) -> None:
        """Collect what stands in `urls`."""
        split = [split_auth_from_url(url) for url in urls]
        self._by_host = {urlsplit(plain).netloc: auth for auth, plain in split if auth}
        self._indexes = {urlsplit(plain).netloc: plain for _, plain in split if asks_keyring}
        self._asked: dict[str, tuple[str, str] | None] = {}

    def header(self, url: str) -> dict[str, str]:
        """Return the Authorization header for `url`, or nothing."""
        auth, plain = split_auth_from_url(url)
        host = urlsplit(plain).netloc
        user, password = auth or self._by_host.get(host) or (None, None)
        pair = None if user is None else (user, password or "")
        if password is None:
            pair = self._from_keyring(host, user) or pair or get_netrc_auth(plain)
        if pair is None:
            return {}
        token = base64.b64encode(":".join(pair).encode()).decode()
        return {"Authorization": f"Basic {token}"}

    def _from_keyring(self, host: str, user: str | None) -> tuple[str, str] | None:
        if host in self._indexes and host not in self._asked:
            self._asked[host] = get_keyring_auth(self._indexes[host], user or None)
        return self._asked.get(host)
