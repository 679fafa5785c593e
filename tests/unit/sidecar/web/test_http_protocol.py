from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import server
from sidecar.process import clock
from sidecar.settings import Bounds, Limits, Settings
from sidecar.web.http_protocol import AcceptPacing
from tests.support.doorstep import (
    CLOSE,
    HOST,
    JSON,
    Doorstep,
    header,
    kind,
    post,
    problem,
    rest,
    status,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = Bounds(idle_s=0.3, head_s=0.3, body_s=0.4, linger_s=0.3)
GET = b"GET /info HTTP/1.1\r\n"


@pytest.fixture
def open_door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Doorstep]]:
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Doorstep:
            return stack.enter_context(
                contextlib.closing(Doorstep(Settings(port=0, **settings), monkeypatch))
            )

        yield start


@pytest.fixture
def door(open_door: Callable[..., Doorstep]) -> Doorstep:
    return open_door()


def test_a_request_that_is_in_order_is_served_and_named(door: Doorstep) -> None:
    answer = door.embed(["a"])
    assert status(answer) == 200
    assert len(header(answer, "x-request-id")) == 16
    assert header(door.embed(["a"], b"X-Request-Id: my.id-1"), "x-request-id") == "my.id-1"
    strange = header(door.embed(["a"], b"X-Request-Id: <script>"), "x-request-id")
    assert "script" not in strange


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET  /info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (GET + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (GET + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (GET + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (GET + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (GET + HOST + b"bad header\r\n\r\n", 400),
        (GET + HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
        (GET + HOST + b"X: " + b"y" * 16_384 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 16_384 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"HEAD /info HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
    ],
)
def test_bad_head_is_refused_and_its_connection_closed(
    door: Doorstep, head: bytes, expected: int
) -> None:
    answer = door.say(head)
    assert status(answer) == expected
    assert header(answer, "connection") == "close"
    if not head.startswith(b"HEAD"):
        problem(answer)
    assert status(door.embed(["a"])) == 200


@pytest.mark.parametrize("path", [b"/health", b"/info", b"/metrics", b"/openapi.json"])
def test_head_gets_the_answer_of_get_without_its_body(door: Doorstep, path: bytes) -> None:
    answer = door.say(
        b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n", GET + HOST + CLOSE + b"\r\n"
    )
    first, _, rest_of_it = answer.partition(b"\r\n\r\n")
    assert status(first) == 200
    assert int(header(first, "content-length")) > 0
    assert status(rest_of_it) == 200
    assert rest_of_it.startswith(b"HTTP/1.1 ")


def test_a_target_in_absolute_form_is_served_by_its_own_host(door: Doorstep) -> None:
    other = b"Host: evil.example\r\n"
    assert (
        status(door.say(b"GET http://localhost/info HTTP/1.1\r\n" + other + CLOSE + b"\r\n")) == 200
    )
    refused = door.say(b"GET http://evil.example/info HTTP/1.1\r\n" + HOST + b"\r\n")
    assert kind(refused) == "unknown-host"


def test_an_empty_line_after_a_body_is_skipped(door: Doorstep) -> None:
    one = post({"texts": ["a"]}).replace(CLOSE, b"")
    answers = door.say(b"\r\n" + one + b"\r\n" + one + b"\r\n" + GET + HOST + CLOSE + b"\r\n")
    assert answers.count(b"HTTP/1.1 200") == 3


def test_an_old_connection_is_closed_after_one_more_answer(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=Bounds(max_age_s=0.5))
    with door.connect() as client:
        client.sendall(GET + HOST + b"\r\n")
        young = client.recv(1 << 16)
        time.sleep(0.6)
        client.sendall(post({"texts": ["a"]}).replace(CLOSE, b""))
        old = rest(client)
    assert (status(young), header(young, "connection")) == (200, "")
    assert (status(old), header(old, "connection")) == (200, "close")


def test_a_hundred_headers_are_not_too_many(door: Doorstep) -> None:
    assert status(door.say(GET + HOST + CLOSE + b"X: y\r\n" * 98 + b"\r\n")) == 200


def test_whoever_still_sends_when_refused_hears_the_answer(door: Doorstep) -> None:
    head = b"POST /embed HTTP/1.1\r\n" + HOST + JSON
    declared = head + b"Content-Length: 90000000\r\n\r\n"
    assert status(door.say(declared, b"x" * 40_000_000)) == 413
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    answer = door.say(head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 40)
    assert kind(answer) == "too-large"
    large = door.say(GET + HOST + b"X: ", b"y" * 8_000_000, b"\r\n\r\n")
    assert kind(large) == "large-head"


def test_a_body_that_breaks_off_its_framing_is_a_bad_request(
    door: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /embed HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    with door.connect() as client:
        client.sendall(head + b"1\r\n{\r\n")
        time.sleep(0.1)
        client.sendall(b"nonsense\r\n")
        assert kind(rest(client)) == "bad-request"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", 0),
        (b"G", 408),
        (GET + HOST, 408),
        (b"POST /embed HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 9\r\n\r\n{", 408),
    ],
)
def test_what_does_not_arrive_is_not_waited_for(
    open_door: Callable[..., Doorstep], sent: bytes, expected: int
) -> None:
    door = open_door(bounds=QUICK)
    answer = door.say(sent)
    assert status(answer) == expected
    if expected:
        assert kind(answer) == "too-slow"


@pytest.mark.parametrize(("sent", "code"), [(b"GET\r\n\r\n", 400), (GET + HOST, 408)])
def test_a_head_that_no_route_hears_of_is_counted(
    open_door: Callable[..., Doorstep], sent: bytes, code: int
) -> None:
    door = open_door(bounds=QUICK)
    assert status(door.say(sent)) == code
    assert door.encoder.counts.requests == {("other", code): 1}


def test_a_body_that_does_not_arrive_is_counted_once_as_what_was_answered(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=QUICK)
    head = b"POST /embed HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 9\r\n\r\n{"
    assert status(door.say(head)) == 408
    until(lambda: bool(door.encoder.counts.requests))
    assert door.encoder.counts.requests == {("/embed", 408): 1}


def test_a_body_that_has_arrived_is_read_before_its_deadline_is_believed(
    open_door: Callable[..., Doorstep], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STEP_S", "AWAY_S"):
        monkeypatch.setattr(clock, name, 1e6)  # as if every moment counted
    door = open_door(bounds=QUICK)
    request = post({"texts": ["x" * 100_000] * 20})  # several turns of the loop
    with door.connect() as client:
        client.settimeout(30)
        client.sendall(request[:1000])
        until(lambda: door.stages() == {"body"})
        loop = door.encoder._loop
        assert loop is not None
        loop.call_soon_threadsafe(time.sleep, 1)
        client.sendall(request[1000:])
        assert status(rest(client)) == 200


def test_a_connection_that_is_kept_is_closed_when_no_other_request_comes(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=QUICK)
    answers = door.say(GET + HOST + b"\r\n")
    assert answers.count(b"HTTP/1.1 200") == 1


def test_what_was_waited_for_long_does_not_keep_an_idle_connection_open(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=Bounds(idle_s=0.2, body_s=60))
    request = post({"texts": ["a"]}).replace(CLOSE, b"")
    with door.connect() as client:
        client.settimeout(5)
        client.sendall(request[:-1])
        time.sleep(0.4)
        client.sendall(request[-1:])
        assert status(rest(client)) == 200


@pytest.mark.parametrize("is_slow", [True, False])
def test_client_that_takes_too_little_is_ended(
    open_door: Callable[..., Doorstep], *, is_slow: bool
) -> None:
    door = open_door(bounds=Bounds(idle_s=0.1, window_s=1.0))
    door.engine.dim = 32
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.settimeout(30)
        client.connect(("127.0.0.1", door.port))
        client.sendall(post({"texts": ["a"] * 12_000}))
        answer = bytearray(client.recv(500))
        if is_slow:
            until(lambda: door.encoder.counts.slow_readers == 1)
            with pytest.raises(ConnectionResetError):
                rest_of(client)
            return
        answer += rest_of(client)
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    assert len(body) == int(header(head, "content-length"))
    assert door.encoder.counts.slow_readers == 0


def rest_of(client: socket.socket) -> bytes:
    """Return what comes until the service closes, taken slowly. Raises ConnectionResetError."""
    found = b""
    while chunk := client.recv(1 << 18):
        found += chunk
        time.sleep(0.02)
    return found


def test_answers_that_are_not_taken_leave_room_for_small_requests_alone(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(limits=Limits(max_held_bytes=16 << 20))
    door.engine.dim = 32
    large = {"texts": ["a"] * 36_000}  # 13 MB of answer
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.connect(("127.0.0.1", door.port))
        client.sendall(post(large))
        assert client.recv(500)
        refused = door.say(post(large))
        assert kind(refused) == "busy"
        assert header(refused, "retry-after")
        assert status(door.embed(["a"])) == 200
    until(lambda: status(door.say(post(large))) == 200)


@pytest.mark.parametrize("ending", [b"{", b"7\r\n{"])
def test_a_stop_answers_who_has_not_sent_all_of_a_body(door: Doorstep, ending: bytes) -> None:
    length = b"Content-Length: 99\r\n" if ending == b"{" else b"Transfer-Encoding: chunked\r\n"
    head = b"POST /embed HTTP/1.1\r\n" + HOST + JSON + length + b"X-Request-Id: my.id-1\r\n\r\n"
    with door.connect() as client:
        client.sendall(head + ending)
        until(lambda: door.stages() == {"body"})
        door.stop()
        answer = rest(client)
    assert status(answer) == 503
    assert kind(answer) == "stopping"
    assert header(answer, "x-request-id") == "my.id-1"


def test_a_stop_answers_a_request_that_waits_for_its_turn(
    open_door: Callable[..., Doorstep], monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(_turns: AcceptPacing, begin: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(0.5, begin)

    monkeypatch.setattr(AcceptPacing, "give", give)
    door = open_door()
    with door.connect() as client:
        client.sendall(post({"texts": ["a"]}).replace(CLOSE, b""))
        until(lambda: door.stages() == {"held"})
        door.stop()
        assert kind(rest(client)) == "stopping"


def test_a_drop_at_a_time_does_not_hold_a_head_open(open_door: Callable[..., Doorstep]) -> None:
    door = open_door(bounds=QUICK)
    with door.connect() as client:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in (GET + HOST) * 20:
                client.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - started < 15


def test_a_request_that_computes_for_longer_than_every_bound_is_answered(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=QUICK)
    door.engine.gate.clear()
    threading.Timer(1.0, door.engine.gate.set).start()
    assert status(door.embed(["a"])) == 200


def test_requests_in_one_piece_are_answered_one_after_the_other(door: Doorstep) -> None:
    one = post({"texts": ["a"]}).replace(CLOSE, b"")
    answers = door.say(one + one + GET + HOST + b"\r\n" + post({"texts": ["a"]}))
    assert answers.count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize("verb", ["TRACE", "CONNECT", "PROPFIND", "OPTIONS", "PUT", "X"])
def test_a_verb_that_no_route_takes_is_refused_in_the_common_shape(
    door: Doorstep, verb: str
) -> None:
    answer = door.say(f"{verb} /embed HTTP/1.1\r\n".encode() + HOST + CLOSE + b"\r\n")
    assert kind(answer) == "wrong-method"
    unknown = door.say(f"{verb} /nothing HTTP/1.1\r\n".encode() + HOST + CLOSE + b"\r\n")
    assert kind(unknown) == "unknown-path"


def test_an_upgrade_is_not_done_and_not_complained_about(
    door: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    answer = door.get("/info", b"Upgrade: websocket", b"Connection: upgrade")
    assert status(answer) == 200
    assert caplog.records == []


def test_idle_connections_leave_room_and_the_oldest_go(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=Bounds(grace_s=0.2))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(door.connect()) for _ in range(200)]
        assert status(door.embed(["a"])) == 200
        assert status(door.get("/health")) == 200
        assert [client.recv(1) for client in clients[:70]] == [b""] * 70
        clients[-1].sendall(post({"texts": ["a"]}))
        assert status(rest(clients[-1])) == 200


def test_connections_at_work_are_never_dropped_for_others(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(bounds=Bounds(max_idle=2, grace_s=0.1, max_connections=8))
    door.engine.gate.clear()
    with contextlib.ExitStack() as stack:
        working: list[socket.socket] = []
        for count in range(1, 13):
            working.append(stack.enter_context(door.connect()))
            working[-1].sendall(post({"texts": ["a"]}))
            until(lambda: len(door.encoder._waiting) == count)  # noqa: B023 (called at once)
        idle = [stack.enter_context(door.connect()) for _ in range(20)]
        assert [client.recv(1) for client in idle[:18]] == [b""] * 18
        door.engine.gate.set()
        assert [status(rest(client)) for client in working] == [200] * 12


def test_a_client_that_leaves_frees_its_place_within_a_second(
    door: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    door.engine.gate.clear()
    stays = threading.Thread(target=door.embed, args=(["a"],))
    stays.start()
    assert door.engine.entered.wait(30)
    for _ in range(20):
        with door.connect() as client:
            client.sendall(post({"texts": ["b c d"]}))
            until(lambda: len(door.encoder._waiting) == 2)
        until(lambda: len(door.encoder._waiting) == 1, wait_s=1)
    assert sum(door.encoder.queued.values()) == 0
    door.engine.gate.set()
    stays.join()
    assert [record.getMessage() for record in caplog.records if record.levelno > 10] == []


def test_a_flood_of_requests_is_answered_whole_and_health_in_between(
    open_door: Callable[..., Doorstep],
) -> None:
    door = open_door(limits=Limits(max_queued_tokens=40))
    door.engine.gate.clear()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(door.connect()) for _ in range(100)]
        for client in clients:
            client.sendall(post({"texts": ["a b c d e f"]}))
        assert status(door.get("/health")) == 200
        refused = [answer for answer in map(peeked, clients[20:]) if answer]
        door.engine.gate.set()
        answers = [rest(client) for client in clients[:20]] + refused
    assert {status(answer) for answer in answers} == {200, 429}
    assert all(header(answer, "retry-after") for answer in answers if status(answer) == 429)


def peeked(client: socket.socket) -> bytes:
    client.settimeout(5)
    try:
        return rest(client)
    except TimeoutError:
        return b""


def test_failures_to_accept_are_told_in_a_few_lines(
    door: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    loop = door.encoder._loop
    assert loop is not None
    failed = {"message": server.NOT_ACCEPTED, "exception": OSError(errno.EMFILE, "too many")}
    for _ in range(200):
        loop.call_soon_threadsafe(loop.call_exception_handler, failed)
    assert status(door.get("/health")) == 200
    told = [record.getMessage() for record in caplog.records]
    assert 1 <= len(told) < 20
    assert told[0].startswith("connections wait to be accepted: the limit of open files")


def test_one_line_is_logged_for_what_is_refused_and_none_for_what_is_served(
    door: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sidecar"):
        caplog.clear()
        door.embed(["a"])
        assert caplog.records == []
        door.get("/a-secret?token=a-secret", b"X-Other: a-secret")
        until(lambda: caplog.records)
        (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("404 unknown-path after ")
    assert json.dumps(record.__dict__, default=str).count("a-secret") == 0
