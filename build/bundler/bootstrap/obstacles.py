"""What stands between this machine and a server, told by the texts of pip, OpenSSL and servers."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """A kind of failure that a setting of this machine removes, and the setting."""

    name: str
    signs: re.Pattern[str]
    next_step: str


CERTIFICATE = Obstacle(
    "its certificate is not trusted here",
    re.compile(
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerification", re.IGNORECASE
    ),
    "where a proxy or a scanner signs connections anew, name the file with its CA certificate: "
    "SSL_CERT_FILE=FILE, or pip config set global.cert FILE; either serves every download here",
)
TLS = Obstacle(
    "a secure connection to it fails",
    re.compile(r"SSLError|\[SSL[:\]]"),
    "check the proxy (one that speaks http is written http://HOST:PORT, for https addresses, too) "
    "and the certificates: SSL_CERT_FILE, or pip config get global.cert",
)
PROXY = Obstacle(
    "the proxy does not let it through",
    re.compile(r"ProxyError|Tunnel connection failed|Cannot connect to proxy|\b407\b"),
    "correct the proxy: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or pip config set global.proxy "
    "with that address; NO_PROXY names the hosts that need none",
)
AUTHENTICATION = Obstacle(
    "it wants a user that it knows",
    re.compile(
        r"\bHTTP(?: error)? 40[13]\b|\b40[13] (?:Client )?Error\b"
        r"|\b401 Unauthorized|\b403 Forbidden"
    ),
    "put user and password into the address (pip config set global.index-url "
    "https://USER:PASSWORD@HOST/PATH, or --mirror) or into ~/.netrc; where a firewall forbids the "
    "address, name a mirror that it allows",
)
# The most particular first.
OBSTACLES = (CERTIFICATE, PROXY, AUTHENTICATION, TLS)


def recognise(text: str) -> Obstacle | None:
    """Return the obstacle that `text`, a tool's own words, speaks of."""
    return next((one for one in OBSTACLES if one.signs.search(text)), None)


def next_step(text: str, otherwise: str) -> str:
    """Return what removes the obstacle that `text` speaks of, or `otherwise` if there is none."""
    found = recognise(text)
    return found.next_step if found else otherwise


def lasts(text: str) -> bool:
    """Return whether what `text` speaks of will be the same at the next try."""
    return recognise(text) in {CERTIFICATE, AUTHENTICATION} or "407" in text
