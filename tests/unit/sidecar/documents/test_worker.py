from __future__ import annotations

import ctypes
import faulthandler
import io
import json
import os
import resource
import struct
import sys
import threading
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents import worker
from tests.support.tinypdf import (
    circular_xref,
    cyclic_outline,
    cyclic_pages,
    encrypted,
    large_stream,
    pdf,
    scanned,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int]]]:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: asked.append(given))
    return asked


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


def test_pages_come_in_order_and_say_whether_they_are_all() -> None:
    data = pdf(["one", "two", "three"])
    assert worker.extract(data, max_pages=9, max_chars=99) == {
        "pages": ["one", "two", "three"],
        "losses": [],
        "notes": [],
    }
    assert worker.extract(data, max_pages=2, max_chars=99) == {
        "pages": ["one", "two"],
        "losses": [{"kind": "limit", "count": 1, "pages": [3]}],
        "notes": [],
    }
    assert worker.extract(data, max_pages=9, max_chars=4) == {
        "pages": ["one", "t"],
        "losses": [{"kind": "limit", "count": 2, "pages": [2, 3]}],
        "notes": [],
    }
    assert worker.extract(data, max_pages=9, max_chars=11)["losses"] == []


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not-pdf"),
        (b"MZ", "not-pdf"),
        (b"%PDF-1.4", "unreadable"),
        (pdf([]), "no-pages"),
        (pdf(["x"])[:-200], "unreadable"),
        (cyclic_pages(), "unreadable"),
        (encrypted(), "encrypted"),
        (scanned(), "scanned"),
        (pdf([" ", ""]), "scanned"),
        (large_stream(20 << 20), "too-complex"),
    ],
    ids=range(10),
)
def test_what_cannot_be_read_has_a_word(data: bytes, word: str) -> None:
    assert worker.extract(data, max_pages=9, max_chars=10) == {"error": word}


@pytest.mark.parametrize(
    "data", [cyclic_outline(), circular_xref(), b"\n\n junk " + pdf(["Some text."])]
)
def test_faults_beside_the_pages_do_not_keep_the_text(data: bytes) -> None:
    assert worker.extract(data, max_pages=9, max_chars=99)["pages"] == ["Some text."]


def test_memory_that_is_used_up_has_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(_data: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pypdf.PdfReader", burst)
    assert worker.extract(b"%PDF-", max_pages=1, max_chars=10) == {"error": "too-complex"}


def test_half_of_a_pair_never_leaves_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    page = SimpleNamespace(extract_text=lambda: "a\ud800b")
    reader = SimpleNamespace(is_encrypted=False, pages=[page])
    monkeypatch.setattr("pypdf.PdfReader", lambda _data: reader)
    assert worker.extract(b"%PDF-", max_pages=1, max_chars=10)["pages"] == ["a?b"]


def test_time_memory_and_dumps_are_limited(
    limits: list[tuple[int, tuple[int, int]]],
) -> None:
    worker.confine(10)
    assert dict(limits) == {
        resource.RLIMIT_CPU: (10, 11),
        resource.RLIMIT_AS: (worker.MEMORY_BYTES, worker.MEMORY_BYTES),
        resource.RLIMIT_CORE: (0, 0),
    }


def test_where_there_are_no_such_limits_a_job_object_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []
    kernel = SimpleNamespace(
        CreateJobObjectW=lambda *_: 7,
        GetCurrentProcess=lambda: -1,
        SetInformationJobObject=lambda *given: asked.append(given),
        AssignProcessToJobObject=lambda *given: asked.append(given),
    )
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: kernel)
    worker.confine(10)
    (job, kind, given, size), (other, _) = asked
    assert job.value == other.value == 7
    assert kind == 9
    assert size == len(given) == 144  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits
    assert struct.unpack_from("<q", given, 0) == (10 * 10_000_000,)
    assert struct.unpack_from("<I", given, 16) == (0x10A,)
    assert struct.unpack_from("<I", given, 40) == (1,)
    assert struct.unpack_from("<Q", given, 112) == (worker.MEMORY_BYTES,)
    assert worker.peak_bytes() == 0


def test_a_system_without_any_limits_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    worker.confine(10)


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


def test_the_watch_ends_the_process_with_stdin(ended: list[int], stdin: Callable[..., int]) -> None:
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
def test_the_program_reads_a_document_and_writes_one_object(
    monkeypatch: pytest.MonkeyPatch, limits: list[Any], is_wanted: bool
) -> None:
    out = SimpleNamespace(buffer=io.BytesIO(), flush=lambda: None)
    begun: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["worker.py", "5", "100", "3", str(os.getppid())])
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(worker, "die_with", begun.append)
    monkeypatch.setattr(worker, "receive", lambda: pdf(["hello"]) if is_wanted else None)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread.daemon))
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda *given, **_: begun.append(given)
    )
    with warnings.catch_warnings():
        assert worker.main() == 0
    if is_wanted:
        written = out.buffer.getvalue()
        assert worker.LENGTH.unpack(written[:8]) == (len(written) - 8,)
        assert json.loads(written[8:]) == {"pages": ["hello"], "losses": [], "notes": []}
        assert begun == [os.getppid(), (4,), True]
    else:
        assert begun == [os.getppid()]
    assert len(limits) == 3
