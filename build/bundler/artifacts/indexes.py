"""Which indexes and find-links pip and pdm are configured to use on this machine."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from unearth import PackageFinder

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bundler.artifacts.network import Network

PDM_CONFIGURATION = "pdm.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """Where wheels may be looked for, best first. Addresses may carry credentials."""

    index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)

    def and_also(self, other: Indexes) -> Indexes:
        """Return these and then those of `other`, each once."""
        return Indexes(
            index_urls=tuple(dict.fromkeys(self.index_urls + other.index_urls)),
            find_links=tuple(dict.fromkeys(self.find_links + other.find_links)),
        )


def default_index() -> str:
    """Return the index that is asked where nobody configured one."""
    return str(PackageFinder().sources[0]["url"])


def configured_indexes(options: Mapping[str, str], project: Path) -> Indexes:
    """Return where pip's `options`, and pdm.toml in `project`, say that wheels are.

    Raises UsageError if pdm.toml cannot be read.
    """
    pdm = _pdm_indexes(project / PDM_CONFIGURATION)
    find_links = Indexes(find_links=tuple(options.get("find-links", "").split()))
    if options.get("no-index", "") in {"1", "true", "yes", "on"}:
        return find_links.and_also(replace(pdm, index_urls=()))
    main = options.get("index-url", "") or ("" if pdm.index_urls else default_index())
    extra = options.get("extra-index-url", "").split()
    pip = Indexes(index_urls=tuple(url for url in (main, *extra) if url))
    return find_links.and_also(pip).and_also(pdm)


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


def _pdm_indexes(path: Path) -> Indexes:
    """Return the sources in a pdm.toml; none if there is no such file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("pypi", {})
        own = [table, *(value for value in table.values() if isinstance(value, dict))]
        listed = [(_with_credentials(source), source.get("type")) for source in own]
    except FileNotFoundError:
        return Indexes()
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path.name} cannot be read",
            why=f"{type(error).__name__}: {error}",
            next_step=f"correct or remove {path}",
        ) from error
    return Indexes(
        index_urls=_urls(listed, find_links=False), find_links=_urls(listed, find_links=True)
    )


def _urls(listed: Sequence[tuple[str, str | None]], *, find_links: bool) -> tuple[str, ...]:
    return tuple(url for url, kind in listed if url and (kind == "find_links") == find_links)


def _with_credentials(source: Mapping[str, Any]) -> str:
    """Return a source's address with the user and password that stand beside it."""
    parts = urlsplit(str(source.get("url", "")))
    if "username" not in source or not parts.netloc:
        return parts.geturl()
    user, password = (quote(str(source.get(key, "")), safe="") for key in ("username", "password"))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
