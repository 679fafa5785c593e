from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents import pdfium, worker
from sidecar.documents.losses import Loss
from sidecar.documents.pdf_process import PdfText
from tests.support.pdfparts import read, said
from tests.support.tinypdf import (
    circular_xref,
    cyclic_outline,
    encrypted,
    pdf,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return codes


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Return what makes a pipe stdin, with bytes in it, and returns its other end."""
    kept = os.dup(0)
    opened: list[int] = []

    def put(data: bytes = b"", *, is_closed: bool = False) -> int:
        reading, writing = os.pipe()
        os.write(writing, data)
        os.dup2(reading, 0)
        os.close(reading)
        if is_closed:
            os.close(writing)
        else:
            opened.append(writing)
        return writing

    monkeypatch.setattr(worker, "POLL_S", 0.01)
    yield put
    os.dup2(kept, 0)
    os.close(kept)
    for descriptor in opened:
        os.close(descriptor)


def limit(*pages: int) -> tuple[Loss, ...]:
    return (Loss(kind="limit", count=len(pages), pages=pages),)


def test_pages_come_in_order_and_say_whether_they_are_all() -> None:
    data = pdf(["one", "two", "three"])
    assert read(data) == PdfText(pages=["one", "two", "three"])
    assert read(data, max_pages=2) == PdfText(pages=["one", "two"], losses=limit(3))
    assert read(data, room=4) == PdfText(pages=["one", "t"], losses=limit(2, 3))
    assert read(data, room=11).losses == ()
    assert read(data, first=3).pages == ["three"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not-pdf"),
        (b"MZ", "not-pdf"),
        (b"%PDF-1.4", "unreadable"),
        (pdf([]), "no-pages"),
        (encrypted(), "encrypted"),
    ],
    ids=range(5),
)
def test_what_cannot_be_opened_has_a_word(data: bytes, expected: str) -> None:
    assert said(data) == expected


@pytest.mark.parametrize(
    "data", [cyclic_outline(), circular_xref(), b"\n\n junk " + pdf(["Some text."])]
)
def test_faults_beside_the_pages_do_not_keep_the_text(data: bytes) -> None:
    assert read(data) == PdfText(pages=["Some text."])


def test_a_page_that_is_not_there_costs_that_page() -> None:
    data = pdf(["one", "two", "three"]).replace(
        b"6 0 obj\n<< /Type /Page ", b"6 0 obj\n<< /Type /Rage "
    )
    found = read(data)
    assert found.pages == ["one", "", "three"]
    assert found.losses == (Loss(kind="page", count=1, pages=(2,)),)


def test_memory_that_is_used_up_has_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(_data: object, **_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pdfium, "PdfDocument", burst)
    assert said(b"%PDF-") == "too-complex"


def test_pages_that_come_after_the_time_are_said() -> None:
    pace = worker.Pace(0)
    found = read(pdf(["one", "two", "three"]), pace=pace, first=2)
    assert found == PdfText(pages=[], losses=(Loss(kind="time", count=2, pages=(2, 3)),))


def test_a_page_may_take_its_share_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    pace = worker.Pace(8)
    assert pace.begin_page(1)
    assert pace.until == 108
    assert pace.begin_page(9)
    assert pace.until == 102
    clock[0] = 107.0
    assert pace.taken == 7
    assert pace.begin_page(9)
    assert pace.until == 107.5
    clock[0] = 108.0
    assert not pace.begin_page(9)
    clock[0] = 109.0
    with pytest.raises(Ended):
        pace.keep()
    assert ended == [worker.ENDED_SLOW]


def test_a_process_whose_service_is_gone_ends(
    monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    asked: list[tuple[int, int]] = []
    library = SimpleNamespace(prctl=lambda *given: asked.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    worker.die_with(os.getppid())
    assert asked == [(1, 9)]
    with pytest.raises(Ended):
        worker.die_with(os.getppid() + 1)
    assert ended == [worker.ENDED_ALONE]


def test_the_watch_ends_the_process_with_stdin(
    ended: list[int], stdin: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process may have had any amount of memory in other tests.
    monkeypatch.setattr(worker, "peak_bytes", lambda _status: 0)
    stdin(b"a byte too many is passed over", is_closed=True)
    with pytest.raises(Ended):
        worker.watch(os.getppid())
    assert ended == [worker.ENDED_ALONE]


def test_the_watch_ends_the_process_with_the_service(
    ended: list[int], stdin: Callable[..., int]
) -> None:
    stdin()
    with pytest.raises(Ended):
        worker.watch(os.getppid() + 1)
    assert ended == [worker.ENDED_ALONE]


def test_the_watch_ends_a_process_with_too_much_memory(
    ended: list[int], stdin: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin()
    assert worker.peak_bytes() > 1 << 20
    monkeypatch.setattr(worker, "MEMORY_BYTES", 1 << 20)
    with pytest.raises(Ended):
        worker.watch(os.getppid())
    assert ended == [worker.ENDED_FULL]


def test_peak_memory_is_bytes_on_macos_and_kilobytes_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrusage", lambda _who: SimpleNamespace(ru_maxrss=5))
    assert worker.peak_bytes() == 5 * 1024
    monkeypatch.setattr(sys, "platform", "darwin")
    assert worker.peak_bytes() == 5


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", worker.LENGTH.pack(5) + b"abc"])
def test_a_document_that_does_not_come_whole_is_none(
    stdin: Callable[..., int], sent: bytes
) -> None:
    stdin(sent, is_closed=True)
    assert worker.receive() is None


def test_a_document_is_read_to_the_byte(stdin: Callable[..., int]) -> None:
    stdin(worker.LENGTH.pack(3) + b"abcd")
    assert worker.receive() == b"abc"
    assert os.read(0, 9) == b"d"


@pytest.mark.parametrize("is_wanted", [True, False])
def test_the_program_reads_a_document_and_writes_a_message_a_page(
    monkeypatch: pytest.MonkeyPatch, is_wanted: bool
) -> None:
    begun: list[Any] = []
    messages = iter([b'{"first": 2, "seconds": 3.5, "room": 4}', pdf(["one", "hello"])])
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "argv", ["worker.py", "5", "100", "3", str(os.getppid())])
    monkeypatch.setattr(worker, "confine", begun.append)
    monkeypatch.setattr(worker, "seal", lambda: "seccomp")
    monkeypatch.setattr(worker, "die_with", begun.append)
    monkeypatch.setattr(worker, "receive", lambda: next(messages) if is_wanted else None)
    monkeypatch.setattr(worker, "send", sent.append)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread.daemon))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match=r"^0$"):
        sys.exit(worker.main())
    assert begun == [3, os.getppid(), *[True, True] * is_wanted]
    if is_wanted:
        (_, message) = sent
        assert message.pop("cpu") < 3
        assert message == {
            "pages": ["hell"],
            "losses": [{"kind": "limit", "count": 1, "pages": [2]}],
            "notes": [],
            "of": 2,
            "more": False,
            "sandbox": "seccomp",
        }


def test_a_message_is_its_length_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def write(descriptor: int, data: memoryview) -> int:
        assert descriptor == 1
        written.append(bytes(data[:5]))  # a pipe takes what it has room for
        return len(written[-1])

    monkeypatch.setattr(os, "write", write)
    worker.send({"pages": ["é"]})
    body = b"".join(written)
    assert worker.LENGTH.unpack(body[:8]) == (len(body) - 8,)
    assert json.loads(body[8:]) == {"pages": ["é"]}
