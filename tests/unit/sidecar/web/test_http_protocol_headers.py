from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest

from sidecar.process.clock import Clock
from sidecar.settings import Bounds
from sidecar.web.http_protocol import StrictConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

START = b"POST / HTTP/1.1\r\nHost: x\r\n"


def read(*pieces: bytes, bounds: Bounds | None = None) -> tuple[StrictConnection, list[object]]:
    """Return the reader and what it found in `pieces`."""
    reader = StrictConnection(bounds or Bounds(), Clock())
    return reader, drain(reader, pieces)


def drain(reader: StrictConnection, pieces: Sequence[bytes]) -> list[object]:
    """Return what the reader finds in `pieces`."""
    found: list[object] = []
    for piece in pieces:
        reader.receive_data(piece)
        while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            found.append(event)
    return found


def refused(*pieces: bytes, bounds: Bounds | None = None) -> int:
    """Return the status that the pieces are refused with."""
    reader = StrictConnection(bounds or Bounds(), Clock())
    with pytest.raises(h11.RemoteProtocolError):
        drain(reader, pieces)
    assert reader.refusal is not None
    return reader.refusal.status


def test_a_request_is_read_however_it_is_cut() -> None:
    whole = START + b"Content-Length: 2\r\n\r\nab"
    for pieces in ([whole], [whole[:9], whole[9:]], [whole[:-1], whole[-1:]]):
        reader, found = read(*pieces)
        assert isinstance(found[0], h11.Request)
        assert isinstance(found[-1], h11.EndOfMessage)
        assert reader.refusal is None


def test_the_bounds_are_the_last_that_pass() -> None:
    bounds = Bounds(max_headers=3, max_head_bytes=64)
    read(START + b"A: b\r\nC: d\r\n\r\n", bounds=bounds)
    assert refused(START + b"A: b\r\nC: d\r\nE: f\r\n\r\n", bounds=bounds) == 431
    assert refused(START + b"A: " + b"b" * 60 + b"\r\n\r\n", bounds=bounds) == 431
    assert refused(START + b"A: ", b"b" * 60, bounds=bounds) == 431


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length : 3\r\n",
        b" Content-Length: 3\r\n",
    ],
)
def test_a_body_whose_length_is_not_certain_is_refused(framing: bytes) -> None:
    assert refused(b"POST / HTTP/1.1\r\n" + framing + b"Host: x\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://h:1/a?b=/c", (b"/a?b=/c", b"h:1")),
        (b"HTTP://h", (b"/", b"h")),
        (b"https://h?b", (b"/?b", b"h")),
        (b"/a", (b"/a", b"x")),
        (b"/http://h/a", (b"/http://h/a", b"x")),
    ],
)
def test_the_host_of_an_absolute_target_counts(
    target: bytes, expected: tuple[bytes, bytes]
) -> None:
    event = read(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")[1][0]
    assert isinstance(event, h11.Request)
    headers = list(event.headers)
    assert (event.target, *(value for name, value in headers if name == b"host")) == expected
    assert (b"a", b"b") in headers


def test_one_empty_line_before_a_request_is_skipped() -> None:
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in ([b"\r\n" + get], [b"\r\n", get], [b"\r\n", get[:5], get[5:]]):
        assert isinstance(read(*pieces)[1][0], h11.Request)
    assert refused(b"\r\n\r\n" + get) == 400
    assert refused(b"\r\n", b"\r\n", get) == 400


def test_a_request_without_a_body_in_its_answer_is_known() -> None:
    assert read(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")[0].is_head
    assert not read(START + b"\r\n")[0].is_head


def test_the_head_of_an_answer_goes_with_the_first_of_its_body() -> None:
    reader, _ = read(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = h11.Response(status_code=200, headers=[("Content-Length", "4")])
    assert reader.send(head) == b""
    sent = reader.send(h11.Data(data=b"ab"))
    assert sent is not None
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert sent.endswith(b"\r\n\r\nab")
    assert reader.send(h11.Data(data=b"cd")) == b"cd"
    assert reader.send(h11.EndOfMessage()) == b""


def test_an_answer_without_a_body_has_its_head_sent() -> None:
    reader, _ = read(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reader.send(h11.Response(status_code=200, headers=[("Content-Length", "4")])) == b""
    sent = reader.send(h11.EndOfMessage())
    assert sent is not None
    assert sent.startswith(b"HTTP/1.1 200 ")
