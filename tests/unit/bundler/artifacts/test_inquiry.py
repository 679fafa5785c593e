"""Whether a file can be had is known soon, whatever the network does."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.fetch import Inquiry, Reachability, Request
from bundler.artifacts.sources import UrlSource
from bundler.digests import Artifact
from bundler.errors import UsageError
from tests.support.badserver import BadServer, redirect, stall_at, status
from tests.support.fetching import DATA, DIGEST, QUICK, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bundler.artifacts.network import Network
    from tests.support.badserver import Handler

SOON_S = 10.0


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as found:
        yield found


def silent(handler: Handler, _: bytes) -> None:
    handler.bad.released.wait()


def asked(url: str, within_s: float = SOON_S) -> Reachability:
    return Inquiry(request(url), lambda: QUICK).answer(within_s)


def test_a_file_that_is_there_is_asked_for_once_and_not_read(server: BadServer) -> None:
    url = server.add("a.whl", DATA)
    assert asked(url) == Reachability(is_connected=True, refusal="")
    assert len(server.seen) == 1


def test_a_redirect_is_followed(server: BadServer) -> None:
    url = server.add("a.whl", b"", redirect(server.add("blob", DATA)))
    assert asked(url) == Reachability(is_connected=True, refusal="")


@pytest.mark.parametrize("code", [403, 404, 429, 503])
def test_a_refusal_is_told_at_once_with_its_place(server: BadServer, code: int) -> None:
    url = server.add("a.whl", DATA, forever=status(code, Retry_After="60"))
    assert asked(url) == Reachability(is_connected=True, refusal=f"{url}: HTTP {code}")
    assert len(server.seen) == 1


def test_where_nothing_listens_there_is_no_connection() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a"
    answer = asked(url)
    assert not answer.is_connected
    assert answer.refusal.startswith(f"{url}: no connection (")


def test_a_server_that_stays_silent_is_connected(server: BadServer) -> None:
    url = server.add("a.whl", DATA, forever=silent)
    inquiry = Inquiry(request(url), lambda: QUICK)
    while not server.seen:
        time.sleep(0.01)
    assert inquiry.answer(0.01) == Reachability(
        is_connected=True, refusal="no answer within 0.01 s"
    )


def test_a_resolver_that_never_answers_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def hang(*_: object) -> None:
        released.wait()
        raise socket.gaierror(-3, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    answer = asked("http://runtime.invalid/a", within_s=0.05)
    released.set()
    assert answer == Reachability(is_connected=False, refusal="no answer within 0.05 s")


def test_the_time_it_takes_to_read_the_configuration_does_not_count(server: BadServer) -> None:
    read = threading.Event()

    def network() -> Network:
        read.wait()
        return QUICK

    inquiry = Inquiry(request(server.add("a.whl", DATA)), network)
    threading.Timer(0.2, read.set).start()
    assert inquiry.answer(SOON_S).refusal == ""


def test_a_configuration_that_cannot_be_read_is_the_reason(server: BadServer) -> None:
    def network() -> Network:
        raise UsageError("pip's configuration cannot be read")

    answer = Inquiry(request(server.add("a.whl", DATA)), network).answer(SOON_S)
    assert answer == Reachability(is_connected=False, refusal="pip's configuration cannot be read")


def test_a_local_mirror_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "b c").write_bytes(DATA)
    assert asked((tmp_path / "b c").as_uri()) == Reachability(is_connected=True, refusal="")
    assert asked((tmp_path / "d").as_uri()).refusal.endswith("/d: No such file or directory")


def test_every_place_is_asked_until_one_would_give_it(server: BadServer) -> None:
    urls = [server.add("a", DATA, forever=status(404)), server.add("b", DATA)]
    wanted = Request(
        artifact=Artifact(name="a", digest=DIGEST),
        sources=tuple(UrlSource(url=url) for url in urls),
    )
    assert Inquiry(wanted, lambda: QUICK).answer(SOON_S).refusal == ""


def test_a_body_that_stalls_does_not_matter(server: BadServer) -> None:
    url = server.add("a.whl", DATA, forever=stall_at(1000))
    assert asked(url).refusal == ""
