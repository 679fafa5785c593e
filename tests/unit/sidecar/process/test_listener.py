from __future__ import annotations

import errno
import socket
import sys
from typing import Any

import pytest

from sidecar.errors import AddressInUseError, UsageError
from sidecar.process import listener

ALL = "0.0.0.0"


def test_port_0_takes_a_free_port_and_connections_wait_before_anyone_accepts() -> None:
    with listener.listen("127.0.0.1", 0, allow_remote=False) as sock:
        address = sock.getsockname()
        assert address[1] > 0
        assert sock.getblocking() is False
        with socket.create_connection(address, timeout=5) as client:
            assert client.getpeername() == address


def test_a_taken_port_names_it_and_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUseError) as caught:
            listener.listen("127.0.0.1", port, allow_remote=False)
    assert caught.value.exit_code == 3
    assert str(port) in caught.value.what
    assert "--port 0" in caught.value.next_step


def test_a_port_is_free_again_at_once() -> None:
    with listener.listen("127.0.0.1", 0, allow_remote=False) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            first.setblocking(True)
            accepted = first.accept()[0]
            accepted.close()
    listener.listen("127.0.0.1", port, allow_remote=False).close()


@pytest.mark.parametrize("host", [ALL, "::", "192.0.2.1"])
def test_an_address_that_others_reach_must_be_allowed(host: str) -> None:
    with pytest.raises(UsageError, match="other machines") as caught:
        listener.listen(host, 0, allow_remote=False)
    assert "--allow-remote" in caught.value.next_step
    assert "--token-file" in caught.value.next_step


def test_an_address_that_is_allowed_or_guarded_by_a_token_is_taken() -> None:
    listener.listen(ALL, 0, allow_remote=True).close()
    listener.listen(ALL, 0, allow_remote=False, has_token=True).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    ("had", "gets"),
    [
        ((256, 10_000), (8192, 10_000)),
        ((256, 512), (512, 512)),
        ((256, -1), (8192, -1)),
        ((9000, 10_000), None),
        ((-1, -1), None),
    ],
)
def test_limit_on_open_files_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, had: tuple[int, int], gets: tuple[int, int] | None
) -> None:
    import resource  # noqa: PLC0415 (there is none on Windows)

    made: list[tuple[int, int]] = []

    def set_limit(_kind: int, limits: tuple[int, int]) -> None:
        made.append(limits)
        raise ValueError  # a system that refuses is lived with

    monkeypatch.setattr(resource, "getrlimit", lambda _: had)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    listener.raise_limit()
    assert made == ([] if gets is None else [gets])


def test_an_address_of_another_machine_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot listen") as caught:
        listener.listen("192.0.2.1", 0, allow_remote=True)
    assert "--host" in caught.value.next_step
    assert "--port" not in caught.value.next_step


@pytest.mark.parametrize(("port", "step"), [(80, "above 1023"), (50_000, "another --port")])
def test_a_port_that_is_refused_leads_to_another_port_alone(
    monkeypatch: pytest.MonkeyPatch, port: int, step: str
) -> None:
    class Refused(socket.socket):
        def bind(self, _address: Any) -> None:
            raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(UsageError, match="cannot listen") as caught:
        listener.listen("127.0.0.1", port, allow_remote=False)
    assert step in caught.value.next_step
    assert "--host" not in caught.value.next_step


@pytest.mark.parametrize(
    ("port", "options"), [(8421, "--port 8422, or --port 0"), (65_535, "--port 0")]
)
def test_another_port_is_one_that_there_is(port: int, options: str) -> None:
    assert listener.other_ports(port) == options


@pytest.mark.parametrize("host", ["no host", "x" * 300, "."])
def test_a_host_without_an_address_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        listener.listen(host, 0, allow_remote=False)


def test_a_name_that_means_both_families_is_taken_as_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(found))
    with listener.listen("localhost", 0, allow_remote=False) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_ipv6_is_listened_on_alone() -> None:
    try:
        sock = listener.listen("::1", 0, allow_remote=False)
    except UsageError:
        pytest.skip("this machine has no IPv6")
    with sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_every_address_of_ipv6_is_every_address_of_ipv4_too() -> None:
    try:
        sock = listener.listen("::", 0, allow_remote=True)
    except UsageError:
        pytest.skip("this machine has no IPv6")
    with sock:
        port = sock.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=30).close()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EADDRINUSE, AddressInUseError), (errno.EACCES, UsageError)]
)
def test_a_bind_that_fails_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    made: list[socket.socket] = []

    class Refusing(socket.socket):
        def bind(self, _address: Any) -> None:
            made.append(self)
            raise OSError(number, "refused")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(kind):
        listener.listen("127.0.0.1", 80, allow_remote=False)
    assert made[0].fileno() == -1


def test_on_windows_the_port_is_taken_for_us_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []

    class Recording(socket.socket):
        def setsockopt(self, *arguments: Any) -> None:
            options.append(arguments[1])

    monkeypatch.setattr(socket, "socket", Recording)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    listener.listen("127.0.0.1", 0, allow_remote=False).close()
    assert options == [-5]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LocalHost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("fe80::1%eth0", "[fe80::1]"),
        ("my-box_1.local", "my-box_1.local"),
    ],
)
def test_a_host_is_spelled_as_its_header_spells_it(text: str, name: str) -> None:
    assert listener.host_name(text) == name


@pytest.mark.parametrize("text", ["", "a b", "host:80", "http://a", "bücher", "*"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        listener.host_name(text)


@pytest.mark.parametrize(
    ("address", "is_ours"), [("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("::", False)]
)
def test_the_loopback_is_known(address: str, *, is_ours: bool) -> None:
    assert listener.is_loopback(address) is is_ours
