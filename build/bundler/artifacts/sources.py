"""Where a locked artifact may be had; its digest makes any place safe.

`pip download` does not take the place of this: a wheel that is cut, or comes wrong once, ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
from packaging.utils import parse_wheel_filename
from unearth import PackageFinder

from bundler.artifacts.download import PlaceError
from bundler.artifacts.network import Credentials, without_credentials
from bundler.bootstrap.connection import shown
from bundler.errors import UsageError
from bundler.project import parse_toml, read_text, require_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from unearth import Package
    from unearth.fetchers import Fetcher, PyPIClient
    from unearth.link import Link

    from bundler.artifacts.network import Network
    from bundler.digests import Artifact

# It warns about every index that lacks a package. We report those ourselves, once all are asked.
logging.getLogger("unearth").addHandler(logging.NullHandler())

Pause = Callable[[float], None]
NO_PAGE = "its page is none of an index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """An address (http, https or file) the bytes may come from, and the headers it wants.

    The headers may be secret; the address holds no credentials.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def locate(self, artifact: Artifact, pause: Pause = time.sleep) -> Iterator[Location]:
        """Yield itself: the one place of what it was made for."""
        del artifact, pause
        yield self


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A place that was asked in vain; `sha256` if it has other bytes under that name."""

    place: str
    reason: str
    sha256: str | None = None


class Source(Protocol):
    """A way to find an artifact."""

    def locate(self, artifact: Artifact, pause: Pause = time.sleep) -> Iterator[Location | Miss]:
        """Yield, best first, where `artifact` may be and where it is not, asking as late as may be.

        `pause` waits the given seconds between tries; what it raises ends the search.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """One fixed address. `tokens` are for origins (`https://host`); each stays with its own."""

    url: str
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    def locate(self, artifact: Artifact, pause: Pause = time.sleep) -> Iterator[Location | Miss]:
        """Yield the address: with a token for it, then without, in case that is not accepted."""
        del artifact, pause
        plain = without_credentials(self.url)
        parts = urlsplit(plain)
        token = self.tokens.get(f"{parts.scheme}://{parts.netloc}", "").strip()
        if token:
            yield Location(url=plain, headers={"Authorization": f"Bearer {token}"})
        yield Location(url=plain, headers=Credentials([self.url]).header(self.url))


def hub_file(
    endpoint: str, repository: str, revision: str, path: str, token: str | None
) -> Location:
    """Return where a file of a Hugging Face repository is; the token stays with the hub's host."""
    token = token.strip() if token else ""
    return Location(
        url=f"{endpoint.rstrip('/')}/{repository}/resolve/{revision}/{quote(path)}",
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


class IndexSource:
    """Finds a locked wheel by its exact file name, whatever platform it is for.

    Local folders and indexes are asked first, then the others in their order. A place that could
    not be reached for one wheel is not asked for the next.
    """

    def __init__(self, indexes: Indexes, network: Network) -> None:
        """Remember where to look; nothing is opened yet."""
        self._network = network
        places = [(url, "find_links") for url in indexes.find_links]
        places += [(url, "index") for url in indexes.index_urls]
        self._places = sorted(places, key=lambda place: _is_remote(place[0]))
        self._credentials = Credentials(
            [url for url, _ in places], asks_keyring=network.asks_keyring
        )
        self._given_up: dict[str, str] = {}

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return self._network.verify()

    def locate(self, artifact: Artifact, pause: Pause = time.sleep) -> Iterator[Location | Miss]:
        """Yield the file on each place that has it. Raises UsageError if it is no wheel."""
        try:
            project = parse_wheel_filename(artifact.name)[0]
        except ValueError as error:
            raise UsageError(
                f"{artifact.name} is not the name of a wheel",
                why=str(error),
                next_step="lock the project again, with wheels only",
            ) from error
        for place, problem, packages in self.offers(project, pause):
            links = [package.link for package in packages]
            found = [link for link in links if link.filename == artifact.name]
            if not found:
                yield Miss(place=place, reason=problem or "has no such file")
            for link in found:
                yield self._place(link, artifact)

    def offers(
        self, project: str, pause: Pause = time.sleep
    ) -> Iterator[tuple[str, str, list[Package]]]:
        """Yield each place, fit to be shown, why it could not be asked, and what it has."""
        hooks = {"response": [_refuse]}
        with self._network.client(self._trust, auth=self._authorize, event_hooks=hooks) as client:
            for url, kind in self._places:
                problem, packages = self._ask(client, url, kind, project, pause)
                yield shown(url), problem, packages

    def _authorize(self, request: httpx2.Request) -> httpx2.Request:
        request.headers.update(self._credentials.header(str(request.url)))
        return request

    def _ask(
        self, client: PyPIClient, url: str, kind: str, project: str, pause: Pause
    ) -> tuple[str, list[Package]]:
        """Return why `url` could not be asked, or what it has for `project`."""

        def attempt() -> list[Package]:
            with self._network.sorting_failures():
                return _packages(client, without_credentials(url), kind, project)

        if url in self._given_up:
            return self._given_up[url], []
        try:
            return "", self._network.persist(attempt, pause)
        except PlaceError as error:
            # What one page says is not said of the next.
            is_of_page = isinstance(error.__cause__, (httpx2.HTTPStatusError, ValueError))
            if not is_of_page and str(error) != NO_PAGE:
                self._given_up[url] = str(error)
            return str(error), []

    def _place(self, link: Link, artifact: Artifact) -> Location | Miss:
        url = link.url_without_fragment
        try:
            declared = (link.hash_option or {}).get("sha256", [artifact.digest.sha256])[0]
        except AttributeError:  # hashes that are no table
            return Miss(place=shown(url), reason=NO_PAGE)
        if declared != artifact.digest.sha256:
            return Miss(place=shown(url), reason="has other bytes under that name", sha256=declared)
        headers = self._credentials.header(url) if _is_remote(url) else {}
        return Location(url=without_credentials(url), headers=headers)


def _packages(client: PyPIClient, url: str, kind: str, project: str) -> list[Package]:
    """Return every file of `project` at `url`; none if there is no such page or folder.

    Raises PlaceError for a page that is none of an index.
    """
    if "://" not in url:
        if not Path(url).exists():
            return []
        url = Path(url).absolute().as_uri()
    finder = PackageFinder(
        cast("Fetcher", client),
        index_urls=[url] if kind == "index" else [],
        find_links=[url] if kind == "find_links" else [],
        ignore_compatibility=True,
    )
    try:
        return list(finder.find_all_packages(project, allow_yanked=True))
    except (AttributeError, TypeError, LookupError, RecursionError) as error:
        # It takes what is JSON to have the types of an index, and any codec for a charset.
        raise PlaceError(NO_PAGE) from error


def _refuse(response: httpx2.Response) -> None:
    """Raise on a failure that unearth would take for an index without the package."""
    if response.is_error and response.status_code != HTTPStatus.NOT_FOUND:
        response.raise_for_status()


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme not in {"", "file"}


PDM_CONFIGURATION = "pdm.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """Where wheels may be looked for, best first. Addresses may carry credentials."""

    index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)


def default_index() -> str:
    """Return the default index."""
    return str(PackageFinder().sources[0]["url"])


def configured_indexes(options: Mapping[str, str], project: Path) -> Indexes:
    """Return where pip's `options`, and pdm.toml in `project`, say that wheels are.

    Raises UsageError if pdm.toml cannot be read, or an address is none.
    """
    listed = _pdm_sources(project / PDM_CONFIGURATION)
    links = options.get("find-links", "").split()
    links += [url for url, kind in listed if kind == "find_links"]
    urls = [url for url, kind in listed if url and kind != "find_links"]
    main = options.get("index-url", "") or ("" if urls else default_index())
    urls = [main, *options.get("extra-index-url", "").split(), *urls]
    if options.get("no-index", "") in {"1", "true", "yes", "on"}:
        urls = []
    for url in (*urls, *links):
        require_address(url, "pip's configuration")
    return Indexes(index_urls=_each_once(urls), find_links=_each_once(links))


def _each_once(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, urls)))


def configured_network(options: Mapping[str, str], network: Network) -> Network:
    """Return `network` with the certificates, proxy and trusted hosts of pip's `options`."""
    cert, client = options.get("cert", ""), options.get("client-cert", "")
    return replace(
        network,
        ca_bundle=Path(cert) if cert else network.ca_bundle,
        client_certificate=Path(client) if client else network.client_certificate,
        proxy=options.get("proxy") or network.proxy,
        asks_keyring=options.get("keyring-provider") == "subprocess",
        trusted_hosts=(*network.trusted_hosts, *options.get("trusted-host", "").split()),
    )


def _pdm_sources(path: Path) -> list[tuple[str, str | None]]:
    """Return the addresses in a pdm.toml, each with its type; none if there is no such file."""
    if not path.exists():
        return []
    try:
        table = parse_toml(read_text(path), path.name).get("pypi", {})
        own = [table, *(value for value in table.values() if isinstance(value, dict))]
        return [(_with_credentials(source), source.get("type")) for source in own]
    except (UsageError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{path.name} cannot be read",
            why=getattr(error, "why", str(error)),
            next_step=f"correct or remove {path}",
        ) from error


def _with_credentials(source: Mapping[str, Any]) -> str:
    """Return a source's address with the user and password that stand beside it."""
    parts = urlsplit(str(source.get("url", "")))
    if "username" not in source or not parts.netloc:
        return parts.geturl()
    user, password = (quote(str(source.get(key, "")), safe="") for key in ("username", "password"))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
