"""How the network is reached: certificates, proxies, and what is known to stand in the way."""

from __future__ import annotations

import os
import re
import ssl
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from bundler.bootstrap.platforms import output
from bundler.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Those of requests, which pip is made of, then those of OpenSSL.
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where systems keep their store; an OpenSSL may have been built for another system than this one.
SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
KEYCHAINS = (
    "/System/Library/Keychains/SystemRootCertificates.keychain",
    "/Library/Keychains/System.keychain",
)
HASHED = re.compile(r"[0-9a-fA-F]{8}\.\d")
# The first pip that asks the system's store by itself.
PIP_WITH_SYSTEM_STORE = (24, 2)


def configured_certificates(environ: Mapping[str, str]) -> str:
    """Return the file or folder of certificates that a variable names, or nothing."""
    return next((environ[name] for name in VARIABLES if environ.get(name)), "")


def trusting(certificates: Path | None, client: Path | None = None) -> ssl.SSLContext:
    """Return what decides which servers are trusted: the system's store, and what `add` adds.

    Raises UsageError for a file that cannot be used.
    """
    made = _system_context()
    # From 3.13 on Python refuses CA certificates of proxies that pip and browsers accept.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    add_trust(made, certificates, client)
    return made


def add_trust(made: ssl.SSLContext, certificates: Path | None, client: Path | None) -> None:
    """Let `made` trust what the file or folder of `certificates` vouches for, too.

    `client` holds this machine's own certificate and key. Raises UsageError for one that cannot be
    used.
    """
    if certificates is not None:
        is_folder = certificates.is_dir()
        try:
            made.load_verify_locations(
                cafile=None if is_folder else certificates,
                capath=certificates if is_folder else None,
            )
        except OSError as error:  # ssl.SSLError is one
            raise _unfit(certificates, error, ("PIP_CERT", *VARIABLES)) from error
    if client is not None:
        try:
            made.load_cert_chain(client)
        except OSError as error:
            raise _unfit(client, error, ("PIP_CLIENT_CERT",)) from error


def for_pip(site_packages: Path, folder: Path, certificates: Path | None) -> Path | None:
    """Return the file or folder of certificates to give to the pip in `site_packages`, if any.

    What it is given replaces pip's own, and before 24.2 it does not ask the system's store. So the
    file, made in `folder` each time, holds pip's own, the system's and those in `certificates`.
    Raises UsageError.
    """
    if certificates is not None:
        add_trust(ssl.create_default_context(), certificates, None)
        if certificates.is_dir():
            return certificates
    system = system_certificates()
    if certificates is None and (not system or _asks_the_system(site_packages)):
        return None
    own = site_packages / "pip" / "_vendor" / "certifi" / "cacert.pem"
    files = [path for path in (own, certificates) if path is not None and path.is_file()]
    parts = [system, *(path.read_text(encoding="utf-8", errors="replace") for path in files)]
    made = folder / "certificates.pem"
    made.write_text("\n".join(parts), encoding="utf-8")
    return made


def _asks_the_system(site_packages: Path) -> bool:
    """Return whether the pip there is one that does, or none that we know."""
    found = sorted(site_packages.glob("pip-*.dist-info"))
    version = re.match(r"pip-(\d+)\.(\d+)", found[-1].name) if found else None
    return version is None or (int(version[1]), int(version[2])) >= PIP_WITH_SYSTEM_STORE


def system_certificates() -> str:
    """Return the certificates of the system's store as PEM, nothing where it cannot be read."""
    if sys.platform == "win32":
        held = ssl.create_default_context().get_ca_certs(binary_form=True)
        return "".join(map(ssl.DER_cert_to_PEM_cert, held))
    if sys.platform == "darwin":
        return output("/usr/bin/security", "find-certificate", "-a", "-p", *KEYCHAINS)
    files = (Path(name) for name in SYSTEM_FILES)
    found = next((file for file in files if file.is_file()), None)
    return found.read_text(encoding="utf-8", errors="replace") if found else ""


def _system_context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    # It reads a folder only when it meets a server.
    folder = Path(ssl.get_default_verify_paths().capath or os.devnull)
    is_filled = folder.is_dir() and any(HASHED.fullmatch(path.name) for path in folder.iterdir())
    if not made.cert_store_stats()["x509_ca"] and not is_filled:
        # python.org's Python for macOS has none until a command of its own was run.
        system = system_certificates()
        if system:
            made.load_verify_locations(cadata=system)
    return made


def _unfit(path: Path, error: OSError, settings: tuple[str, ...]) -> UsageError:
    return UsageError(
        f"the certificates in {path} cannot be used",
        why=error.strerror or str(error) or type(error).__name__,
        next_step=f"correct or unset what names it: pip's configuration, {', '.join(settings)}",
    )


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
    "if a proxy or a scanner signs connections again, name the file with its CA certificate: "
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
    "it requires a user and a password",
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


def shown(url: str) -> str:
    """Return `url` without credentials, query and fragment, any of which may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def out_of_reach(name: str, why: str, otherwise: str = "") -> UnreachableError:
    """Return the error for a file that no place gives, with the obstacle if it is known."""
    obstacle = recognise(why)
    return UnreachableError(
        f"{name} is out of reach" + (f": {obstacle.name}" if obstacle else ""),
        why=why,
        next_step=next_step(why, otherwise),
    )
