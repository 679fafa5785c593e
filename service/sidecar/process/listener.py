"""The listening socket, taken before anything heavy is imported, or who holds its port."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import re
import socket
import sys
import threading

from sidecar.errors import AddressInUseError, UsageError

BACKLOG = 1024
MAX_DESCRIPTORS = 8192
# Below it a port is the system's; above it there is none.
FREE_FOR_ALL, LAST_PORT = 1024, 65_535
_WINDOWS_ACCESS = 10013
_NAME = re.compile(r"[a-z0-9._-]+")


def is_loopback(address: str) -> bool:
    """Return whether a numeric address can be reached from this machine only."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def host_name(text: str) -> str:
    """Return a host's name or address as a Host header spells it, without a port.

    Raises ValueError for what is none.
    """
    name = text.lower()
    try:
        address = ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        if not _NAME.fullmatch(name):
            raise
        return name
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)


def other_ports(port: int) -> str:
    """Return the options that name another port than `port`."""
    return f"--port {port + 1}, or --port 0" if port < LAST_PORT else "--port 0"


def claim(sock: socket.socket) -> None:
    """Have `bind` fail where another program has the port, but not for connections that ended."""
    if sys.platform == "win32":
        # Address reuse there would let two programs listen on one port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def is_taken(error: OSError) -> bool:
    """Return whether `bind` failed because another program has the port, or Windows keeps it."""
    return error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == _WINDOWS_ACCESS


def listen(host: str, port: int, *, allow_remote: bool, has_token: bool = False) -> socket.socket:
    """Return a socket that listens on `host` and `port`; port 0 takes a free one.

    Where other machines can reach it, it is to be allowed, or clients are to show a token.

    Connections wait in the backlog until the event loop runs, so none is refused in between.
    Raises AddressInUseError and UsageError.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        what = f"the host {host!r} has no address on this machine"
        raise UsageError(what, why=str(error), next_step="--host 127.0.0.1") from error
    # A name such as localhost may mean both; clients that were told 127.0.0.1 want the first.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, kind, number, _, address = found[0]
    if not (allow_remote or has_token or is_loopback(str(address[0]))):
        what = f"refused to listen on {host}: other machines could reach it"
        why = "without a token, any program that reaches the port may use the service"
        step = (
            "--host 127.0.0.1, or a token by --token-file or --token-stdin, or --allow-remote "
            "where a firewall or a container guards the port"
        )
        raise UsageError(what, why=why, next_step=step)
    sock = socket.socket(family, kind, number)
    try:
        claim(sock)
        if family == socket.AF_INET6:
            # Of both families where it is every address.
            is_one = address[0] != "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, is_one)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if is_taken(error):
            what = f"port {port} on {host} is taken by another program"
            step = f"stop that program, or choose another port: {other_ports(port)}"
            raise AddressInUseError(what, why=error.strerror or "", next_step=step) from error
        what = f"cannot listen on {host} port {port}"
        step = f"choose a --host of this machine: {host} is none"
        if error.errno in (errno.EACCES, errno.EPERM):
            step = "choose a --port above 1023" if port < FREE_FOR_ALL else "choose another --port"
        raise UsageError(what, why=error.strerror or str(error), next_step=step) from error
    sock.setblocking(False)
    return sock


def raise_limit(*, wanted: int = MAX_DESCRIPTORS) -> None:
    """Let this process have `wanted` open files and sockets, as far as the system allows it to.

    A shell of macOS gives its programs 256, which some hundred clients use up. Windows has no such
    limit.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (there is none on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_bounded = hard != resource.RLIM_INFINITY
    limit = min(wanted, hard) if is_bounded else wanted
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return
    with contextlib.suppress(OSError, ValueError):  # what there is must do
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


INSTANCE = re.compile(r"[A-Za-z0-9._-]{8,64}")
ASK_S = 0.3
MAX_BYTES = 1 << 16
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
_PROBLEM = "urn:sidecar:problem:"


def named(error: AddressInUseError, host: str, port: int) -> AddressInUseError:
    """Return `error` with what is known of who holds the port."""
    found = ask(host, port)
    if found is None:
        why = f"{error.why}; what listens there does not answer as a Sidecar"
        return AddressInUseError(error.what, why, error.next_step, {"holder": "stranger"})
    facts = {"holder": "sidecar", **{f"holder_{name}": value for name, value in found.items()}}
    what = f"port {port} on {host} is taken by another Sidecar"
    why = ", ".join(f"{name} {value}" for name, value in found.items())
    step = f"stop that one with POST /shutdown, or choose another port: {other_ports(port)}"
    return AddressInUseError(what, why or "its instance is unknown", step, facts)


def ask(host: str, port: int, *, within_s: float = ASK_S) -> dict[str, str] | None:
    """Return the instance and version of the Sidecar on `port` of this machine, if it tells them.

    None for any other program. It is asked for its health, without any token. An address that means
    all of them is asked on loopback, one that is not this machine's only, not at all. An answer is
    believed no further than that it has the right form.
    """
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 (where it is needed)

    address = _loopback(host)
    if address is None:
        return None
    answers: list[bytes] = []

    def fetch() -> None:
        asked = contextlib.closing(HTTPConnection(address, port, timeout=within_s))
        with contextlib.suppress(OSError, HTTPException), asked as client:
            client.request("GET", "/health", headers={"Connection": "close"})
            with client.getresponse() as answer:
                answers.append(answer.read(MAX_BYTES))

    # A thread, as its time is for each part of an answer, of which a stranger may send many.
    thread = threading.Thread(target=fetch, name="port owner", daemon=True)
    thread.start()
    thread.join(within_s)
    return _understood(answers[0]) if answers else None


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


def _understood(answer: bytes) -> dict[str, str] | None:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    if str(said.get("type")).startswith(_PROBLEM):
        return {}  # one that asks for a token even here
    forms = {"instance": INSTANCE, "version": _VERSION}
    found = {
        name: str(said[name])
        for name, form in forms.items()
        if isinstance(said.get(name), str) and form.fullmatch(said[name])
    }
    return found if "instance" in found and "status" in said else None
