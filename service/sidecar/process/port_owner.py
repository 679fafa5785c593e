"""Who holds a port that is taken: another Sidecar, by its instance, or a stranger."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import time
from dataclasses import dataclass

from sidecar.errors import AddressInUseError
from sidecar.process.listener import other_ports

INSTANCE = re.compile(r"[A-Za-z0-9._-]{8,64}")
ASK_S = 0.3
MAX_BYTES = 1 << 16
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
_PROBLEM = "urn:sidecar:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOwner:
    """What listens on a port; a Sidecar that does not tell them has no instance and no version."""

    is_sidecar: bool
    instance: str | None = None
    version: str | None = None


def named(error: AddressInUseError, host: str, port: int) -> AddressInUseError:
    """Return `error` with what is known of who holds the port."""
    found = ask(host, port)
    if not found.is_sidecar:
        why = f"{error.why}; what listens there does not answer as a Sidecar"
        facts: dict[str, str | int] = {"holder": "stranger"}
        return AddressInUseError(error.what, why=why, next_step=error.next_step, facts=facts)
    told = {"instance": found.instance, "version": found.version}
    facts = {"holder": "sidecar", **{f"holder_{k}": v for k, v in told.items() if v is not None}}
    what = f"port {port} on {host} is taken by another Sidecar"
    why = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
    step = f"stop that one with POST /shutdown, or choose another port: {other_ports(port)}"
    return AddressInUseError(
        what, why=why or "its instance is unknown", next_step=step, facts=facts
    )


def ask(host: str, port: int, *, within_s: float = ASK_S) -> PortOwner:
    """Ask whoever listens on `port` of this machine for its health, without any token.

    An address that means all of them is asked on loopback, one that is not this machine's only, not
    at all. What it answers is believed no further than that it has the right form.
    """
    address = _loopback(host)
    if address is None:
        return PortOwner(is_sidecar=False)
    answer = b""
    with contextlib.suppress(OSError):
        answer = _fetch(address, port, deadline=time.monotonic() + within_s)
    return _understood(answer)


def _loopback(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return "127.0.0.1"  # a name such as localhost, which was listened on first there
    if address.is_loopback:
        return str(address)
    if address.is_unspecified:
        return "::1" if address.version == 6 else "127.0.0.1"  # noqa: PLR2004
    return None


def _fetch(address: str, port: int, *, deadline: float) -> bytes:
    """Return what is answered until the other side closes, or until the deadline."""
    name = f"[{address}]" if ":" in address else address
    request = f"GET /health HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection((address, port), timeout=_left(deadline)) as client:
        client.sendall(request.encode("ascii"))
        with contextlib.suppress(OSError):
            while len(answer) < MAX_BYTES:
                client.settimeout(_left(deadline))
                part = client.recv(MAX_BYTES)
                if not part:
                    break
                answer += part
    return answer


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _understood(answer: bytes) -> PortOwner:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return PortOwner(is_sidecar=False)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return PortOwner(is_sidecar=False)
    if not isinstance(said, dict):
        return PortOwner(is_sidecar=False)
    if isinstance(said.get("type"), str) and said["type"].startswith(_PROBLEM):
        return PortOwner(is_sidecar=True)  # one that asks for a token even here
    instance, version = said.get("instance"), said.get("version")
    if not isinstance(instance, str) or not INSTANCE.fullmatch(instance) or "status" not in said:
        return PortOwner(is_sidecar=False)
    is_version = isinstance(version, str) and _VERSION.fullmatch(version)
    return PortOwner(is_sidecar=True, instance=instance, version=version if is_version else None)
