from __future__ import annotations

import threading
import time

import pytest

from sidecar.scheduling.tokenizing import TokenizerThread


def test_urgent_work_goes_first_and_the_rest_keeps_its_order() -> None:
    reader, gate, done = TokenizerThread(), threading.Event(), []
    is_busy = threading.Event()

    def hold() -> None:
        is_busy.set()
        gate.wait(30)

    reader.submit(hold, is_urgent=False)
    assert is_busy.wait(30)
    futures = [
        reader.submit(lambda name=name: done.append(name), is_urgent=name == "urgent")  # type: ignore[misc]
        for name in ("first", "second", "urgent")
    ]
    gate.set()
    for future in futures:
        future.result(30)
    reader.close()
    assert done == ["urgent", "first", "second"]


def test_work_that_fails_fails_alone() -> None:
    reader = TokenizerThread()
    with pytest.raises(ZeroDivisionError):
        reader.submit(lambda: 1 // 0, is_urgent=False).result(30)
    assert reader.submit(lambda: 7, is_urgent=True).result(30) == 7
    reader.close()


def test_a_reader_that_got_no_thread_asks_for_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    reader = TokenizerThread()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="thread"):
            reader.submit(lambda: 7, is_urgent=False)
    assert reader.submit(lambda: 7, is_urgent=False).result(30) == 7
    reader.close()


def test_cancelled_work_is_never_done() -> None:
    reader, gate, done = TokenizerThread(), threading.Event(), []
    reader.submit(lambda: gate.wait(30), is_urgent=True)
    dropped = reader.submit(lambda: done.append("dropped"), is_urgent=False)
    kept = reader.submit(lambda: done.append("kept"), is_urgent=False)
    assert dropped.cancel()
    gate.set()
    kept.result(30)
    reader.close()
    assert done == ["kept"]


def test_reader_is_idle_without_submitted_work() -> None:
    reader, gate = TokenizerThread(), threading.Event()
    assert reader.is_idle
    reader.submit(lambda: gate.wait(30), is_urgent=True)
    dropped = reader.submit(lambda: None, is_urgent=False)
    assert not reader.is_idle
    dropped.cancel()
    gate.set()
    deadline = time.monotonic() + 30
    while not reader.is_idle and time.monotonic() < deadline:
        time.sleep(0.005)
    assert reader.is_idle
    reader.close()
