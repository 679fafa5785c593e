"""Which proxy an address is reached through: pip's own setting, the environment's, the system's."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxies(own: str) -> Mapping[str, str]:
    """Return the proxy for each scheme; `own`, pip's option, is for all where it is set."""
    return {"http": own, "https": own} if own else urllib.request.getproxies()


def proxy_between(url: str, own: str) -> str:
    """Return the proxy that `url` is reached through as HOST:PORT, nothing if there is none."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    address = proxies(own).get(parts.scheme, "")
    # Without the user and password that it may carry.
    return address.rpartition("@")[2].rpartition("//")[2].rstrip("/")
