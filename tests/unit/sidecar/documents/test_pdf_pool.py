from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents import pdf_pool, pdf_process, worker
from sidecar.documents.losses import Loss, LossKind
from sidecar.documents.pdf_pool import PdfPool
from sidecar.documents.pdf_process import MAX_SKIPPED, PdfText
from sidecar.problems import Problem
from sidecar.process import clock
from sidecar.settings import Limits
from tests.support.tinypdf import pdf, slow

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = f"import json, os, signal, struct, sys, time\nos.write(1, {worker.READY!r})\n"
GREET = "size, = struct.unpack('>Q', os.read(0, 8))\n"
DATA = b"%PDF- a document"
UNCAUGHT = ("SIGSTOP", "SIGKILL")


@pytest.fixture
def run() -> Callable[..., Any]:
    """Return what runs a coroutine of workers, which are closed when it ends."""

    def within(work: Callable[[PdfPool], Any], **options: Any) -> Any:
        async def begin() -> Any:
            made = PdfPool(options.pop("limits", Limits()), **options)
            try:
                return await work(made)
            finally:
                made.close()

        return asyncio.run(begin())

    return within


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts another program in the worker's place."""

    def replace(source: str) -> None:
        path = tmp_path / "other.py"
        path.write_text(HEAD + source, encoding="utf-8")
        monkeypatch.setattr(worker, "__file__", str(path))

    return replace


async def refused(made: PdfPool, data: bytes = DATA) -> Problem:
    with pytest.raises(Problem) as caught:
        await made.read(data)
    return caught.value


def test_pages_come_in_order_and_a_process_waits_for_the_next_document(
    run: Callable[..., Any],
) -> None:
    async def work(made: PdfPool) -> None:
        assert made.processes == 0
        first = await made.read(pdf(["one", "two"]))
        assert first == PdfText(pages=["one", "two"])
        spare = made._spare
        assert spare is not None
        assert (await made.read(pdf(["three"]))).pages == ["three"]
        assert made._spare is not spare  # a document has a process of its own
        assert spare.poll() is not None
        assert made.processes == 1
        assert made.counts == {"read": 2}
        assert made.sandbox == worker.possible_sandbox()  # as the worker said

    run(work)


@pytest.mark.skipif(worker.possible_sandbox() != "seccomp", reason="the kernel has no filters")
def test_a_process_that_reads_is_held_by_the_filter_in_all_its_threads(
    run: Callable[..., Any],
) -> None:
    async def work(made: PdfPool) -> None:
        reading = asyncio.create_task(made.read(slow()))
        held: list[str] = []

        def is_held() -> bool:
            for running in made._running:
                tasks = Path(f"/proc/{running.pid}/task").glob("*/status")
                found = [path.read_text(encoding="ascii") for path in tasks]
                held[:] = [text for text in found if "\nSeccomp:\t2\n" in text]
                return len(held) == len(found) > 1
            return False

        await until(is_held)
        assert all("\nNoNewPrivs:\t1\n" in text for text in held)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    run(work)


@pytest.mark.parametrize(
    "word",
    [
        "encrypted",
        "password",
        "scanned",
        "no-pages",
        "unreadable",
        "not-pdf",
        "too-complex",
        "surprise",
    ],
)
def test_every_fault_has_a_kind_of_its_own_and_says_what_helps(
    run: Callable[..., Any], program: Callable[[str], None], word: str
) -> None:
    program(GREET + f"b = b'{{\"error\": \"{word}\"}}'\nos.write(1, struct.pack('>Q', len(b)) + b)")

    async def work(made: PdfPool) -> None:
        problem = await refused(made)
        kind = "unreadable" if word == "surprise" else word
        assert (problem.status, problem.kind) == (422, f"document-{kind}")
        assert problem.what
        assert problem.next_step
        assert made.counts == {"refused": 1}

    run(work)


def test_what_is_no_pdf_starts_no_process(run: Callable[..., Any]) -> None:
    async def work(made: PdfPool) -> None:
        await refused(made, b"text")
        assert made.processes == 0

    run(work)


def test_a_process_that_takes_too_long_is_killed(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program("time.sleep(60)")

    async def work(made: PdfPool) -> None:
        began = time.monotonic()
        pdf_process = made._spare = made._take()
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "document-busy")  # it did not compute
        assert time.monotonic() - began < 30
        await until(lambda: pdf_process.returncode is not None)
        assert made.counts == {"timeout": 1}

    run(work, limits=Limits(document_wall_s=0.3))


@pytest.mark.parametrize(
    ("source", "kind", "count"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "document-crash", "crash"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "document-crash", "crash"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "document-timeout", "timeout"),
        (f"os._exit({worker.ENDED_SLOW})", "document-timeout", "timeout"),
        (f"os._exit({worker.ENDED_FULL})", "document-too-complex", "full"),
        ("sys.exit(0)", "document-crash", "crash"),
        (GREET + "os.write(1, b'abc')", "document-crash", "crash"),
        (GREET + "os.write(1, struct.pack('>Q', 1 << 40) + b'x' * 100)", "document-crash", "crash"),
        (GREET + "os.write(1, struct.pack('>Q', 5) + b'[1,2]')", "document-crash", "crash"),
        (GREET + "os.write(1, struct.pack('>Q', 5) + b'nonsense')", "document-crash", "crash"),
        (
            GREET + 'b = b\'{"pages": [1], "losses": [], "notes": []}\'\n'
            "os.write(1, struct.pack('>Q', len(b)) + b)",
            "document-crash",
            "crash",
        ),
    ],
    ids=range(11),
)
def test_a_process_that_ends_without_an_answer_is_a_422_and_is_counted(
    run: Callable[..., Any], program: Callable[[str], None], source: str, kind: str, count: str
) -> None:
    program(source)

    async def work(made: PdfPool) -> None:
        problem = await refused(made, DATA * 100_000)
        assert (problem.status, problem.kind) == (422, kind)
        assert made.counts == {count: 1}

    run(work)


SAY = "os.write(1, struct.pack('>Q', len(b)) + b)"
ANSWER = 'b = b\'{"pages": ["a"], "losses": [], "notes": []}\'; ' + SAY
# Each page is a message; the end that the test wants comes after so many of four.
PAGES = f"""
head = json.loads(os.read(0, size))
for page in range(head["first"], 5):
    if page == END_AT:
        END
    b = json.dumps({{"pages": [f"page {{page}}"], "losses": [], "notes": [], "of": 4, "cpu": 0.01,
                    "sandbox": "seccomp", "more": page < 4}}).encode()
    {SAY}
time.sleep(60)
"""
FROM_OUTSIDE = ["SIGSTOP", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]


@pytest.mark.parametrize("name", FROM_OUTSIDE)
@pytest.mark.parametrize("before", ["pass\n", GREET])
def test_a_process_stopped_from_outside_is_replaced(
    run: Callable[..., Any],
    program: Callable[[str], None],
    tmp_path: Path,
    name: str,
    before: str,
) -> None:
    mark = tmp_path / "first"
    signalled = f"signal.signal(signal.{name}, signal.SIG_DFL)\n" * (name not in UNCAUGHT)
    program(
        f"if not os.path.exists({str(mark)!r}):\n"
        f"    open({str(mark)!r}, 'w').close()\n    {before}    {signalled or 'pass'}\n"
        f"    os.kill(os.getpid(), signal.{name})\n    time.sleep(60)\n{GREET}{ANSWER}"
    )

    async def work(made: PdfPool) -> None:
        assert (await made.read(DATA * 100_000)).pages == ["a"]
        assert made.counts == {"stopped": 1, "read": 1}

    run(work)


@pytest.mark.parametrize("name", ["SIGSTOP", "SIGKILL"])
def test_what_stops_every_process_is_a_503_and_blames_no_file(
    run: Callable[..., Any], program: Callable[[str], None], name: str
) -> None:
    program(f"os.kill(os.getpid(), signal.{name})\ntime.sleep(60)")

    async def work(made: PdfPool) -> None:
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "no-process")
        assert problem.retry_s
        assert made.counts == {"stopped": pdf_pool.TRIES}

    run(work)


def test_a_spare_process_that_was_stopped_is_not_used(run: Callable[..., Any]) -> None:
    async def work(made: PdfPool) -> None:
        spare = made._spare = made._take()
        os.kill(spare.pid, signal.SIGSTOP)
        await until(lambda: spare.is_stopped)
        assert (await made.read(pdf(["one"]))).pages == ["one"]
        assert made.counts == {"read": 1}
        assert spare.poll() is not None

    run(work)


@pytest.mark.parametrize("end", ["os._exit(1)", "time.sleep(60)"])
def test_the_time_of_a_stopped_service_is_not_the_documents(
    run: Callable[..., Any],
    program: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: str,
) -> None:
    mark, away = tmp_path / "first", tmp_path / "away"
    program(
        f"if not os.path.exists({str(mark)!r}):\n"
        f"    open({str(mark)!r}, 'w').close()\n"
        f"    while not os.path.exists({str(away)!r}): time.sleep(0.01)\n"
        f"    {end}\n{GREET}{ANSWER}"
    )
    monkeypatch.setattr(clock, "AWAY_S", 0.5)

    async def work(made: PdfPool) -> None:
        reading = asyncio.create_task(made.read(DATA))
        await until(mark.exists)
        away.touch()
        time.sleep(1.0)  # noqa: ASYNC251 - as a stop of the whole process does
        assert (await reading).pages == ["a"]
        assert made.counts == {"stopped": 1, "read": 1}

    run(work, limits=Limits(document_wall_s=2.0))


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "page"),
        (f"os._exit({worker.ENDED_FULL})", "page"),
        (f"os._exit({worker.ENDED_SLOW})", "time"),
    ],
)
@pytest.mark.parametrize("page", [1, 2, 4])
def test_a_page_that_ends_its_process_costs_that_page(
    run: Callable[..., Any], program: Callable[[str], None], end: str, kind: LossKind, page: int
) -> None:
    # Page 1 ends it before there is any: how many there are is said, and no more.
    of = 'b = b\'{"pages": [], "losses": [], "notes": [], "of": 4, "more": true}\'; ' + SAY
    program(GREET + of + PAGES.replace("END_AT", str(page)).replace("END", end))

    async def work(made: PdfPool) -> None:
        pages = [f"page {number}" * (number != page) for number in range(1, 5)]
        lost = Loss(kind=kind, count=1, pages=(page,))
        assert await made.read(DATA) == PdfText(pages=pages, losses=(lost,))
        assert made.counts["read"] == 1

    run(work)


def test_a_machine_without_time_gives_the_pages_that_were_read(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program(GREET + PAGES.replace("END_AT", "3").replace("END", "time.sleep(60)"))

    async def work(made: PdfPool) -> None:
        found = await made.read(DATA)
        assert found.pages == ["page 1", "page 2"]
        assert found.losses == (Loss(kind="busy", count=2, pages=(3, 4)),)

    run(work, limits=Limits(document_wall_s=3.0))


def test_pages_that_all_end_their_process_are_given_up(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    of = 'b = b\'{"pages": [], "losses": [], "notes": [], "of": 500, "more": true}\'; ' + SAY
    program(f"{GREET}{of}\nos._exit({worker.ENDED_SLOW})")

    async def work(made: PdfPool) -> None:
        assert (await refused(made)).kind == "document-timeout"
        assert made.counts["timeout"] <= MAX_SKIPPED + 1

    run(work)


def test_a_process_that_nothing_but_limits_holds_is_told_once(
    run: Callable[..., Any], program: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    program(GREET + ANSWER.replace('"losses"', '"sandbox": "rlimits", "losses"'))

    async def work(made: PdfPool) -> None:
        for _ in range(2):
            await made.read(DATA)
        assert made.sandbox == "rlimits"

    run(work)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_process_that_goes_on_after_the_service_is_not_replaced(
    run: Callable[..., Any],
    program: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    mark, on = tmp_path / "first", tmp_path / "on"
    program(
        f"{GREET}open({str(mark)!r}, 'w').close()\n"
        f"while not os.path.exists({str(on)!r}): time.sleep(0.01)\n{ANSWER}"
    )
    monkeypatch.setattr(clock, "AWAY_S", 0.5)

    async def work(made: PdfPool) -> None:
        reading = asyncio.create_task(made.read(DATA))
        await until(mark.exists)
        pdf_process = next(iter(made._running))
        os.kill(pdf_process.pid, signal.SIGSTOP)
        await until(lambda: pdf_process.is_stopped)
        asyncio.get_running_loop().call_later(0.1, os.kill, pdf_process.pid, signal.SIGCONT)
        time.sleep(0.7)  # noqa: ASYNC251 - as a stop of both does
        on.touch()
        assert (await reading).pages == ["a"]
        assert made.counts == {"read": 1}

    monkeypatch.setattr(pdf_pool, "LOOK_S", 0.5)
    run(work)


def test_a_client_that_leaves_ends_the_process(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program("time.sleep(60)")

    async def work(made: PdfPool) -> None:
        reading = asyncio.create_task(made.read(DATA))
        await until(lambda: made.processes == 1)
        pdf_process = next(iter(made._running))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await until(lambda: pdf_process.returncode is not None)
        assert made.counts == {"left": 1}

    run(work)


def test_who_leaves_before_the_thread_begins_does_not_end_it_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[threading.Thread] = []

    def begin_later(thread: threading.Thread) -> None:
        begun.append(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_later)
    waited = pdf_process.on_thread(lambda: 1)
    waited.cancel()
    begun[0].run()
    assert waited.result(timeout=0) == 1


def test_closing_answers_503_and_leaves_no_process(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program("time.sleep(60)")

    async def work(made: PdfPool) -> None:
        tasks = [asyncio.create_task(refused(made)) for _ in range(4)]
        await until(lambda: made.processes == 3)
        made.close()
        assert [(await task).status for task in tasks] == [503] * 4
        assert made.processes == 0
        assert (await refused(made)).kind == "stopping"

    run(work)


def test_no_more_are_read_at_once_than_two_and_one_in_its_turn(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program("time.sleep(0.1)")

    async def work(made: PdfPool) -> None:
        most = 0
        tasks = [asyncio.create_task(refused(made)) for _ in range(5)]
        while not all(task.done() for task in tasks):
            most = max(most, len(made._running))
            await asyncio.sleep(0.01)
        assert most == 3

    run(work)


# Documents that end with a letter take for ever, those that end with a full stop no time.
BY_KIND = (
    GREET + f"data = os.read(0, 1 << 16)\nif not data.endswith(b'.'): time.sleep(600)\n{ANSWER}"
)


def test_quick_document_behind_ten_slow_ones_is_read(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program(BY_KIND)

    async def work(made: PdfPool) -> None:
        slow = [asyncio.create_task(made.read(DATA)) for _ in range(10)]
        await until(lambda: len(made._running) == 3)
        assert (await made.read(DATA + b".")).pages == ["a"]
        assert not any(task.done() for task in slow)
        assert made.counts["again"] >= 1
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert len(made._queue._waiting) == 0
        assert made.counts["left"] == 10
        assert (await made.read(DATA + b".")).pages == ["a"]

    run(work, limits=Limits(document_cpu_s=600, document_wall_s=600), turn_s=0.1)


def test_documents_whose_turn_is_over_go_on_where_they_were(run: Callable[..., Any]) -> None:
    texts = [f"{number} " + "many words " * 3_000 for number in range(30)]

    async def work(made: PdfPool) -> None:
        found = await asyncio.gather(*(made.read(pdf(texts)) for _ in range(4)))
        numbers = [[page.split()[0] for page in one.pages] for one in found]
        assert numbers == [[str(number) for number in range(30)]] * 4
        assert not any(one.losses for one in found)
        assert made.counts["again"] >= 1

    run(work, turn_s=0.02)


def test_the_memory_of_the_service_is_not_the_documents(run: Callable[..., Any]) -> None:
    large = b"x" * (worker.MEMORY_BYTES + (64 << 20))
    # It takes longer than the worker waits until it looks at its memory.
    texts = ["many words " * 4_000] * 100

    async def work(made: PdfPool) -> PdfText:
        return await made.read(pdf(texts))

    assert run(work).losses == ()
    del large


def test_a_document_whose_last_page_comes_as_its_turn_ends_is_whole(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = PdfPool._ask

    async def over(self: PdfPool, *given: Any) -> None:
        await ask(self, *given)
        raise pdf_pool._OverError

    monkeypatch.setattr(PdfPool, "_ask", over)

    async def work(made: PdfPool) -> PdfText:
        return await made.read(pdf(["a", "b"]))

    found = run(work)
    assert [page.strip() for page in found.pages] == ["a", "b"]
    assert found.losses == ()


def test_more_pdfs_than_may_wait_are_refused_and_one_that_leaves_makes_room(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program(BY_KIND)

    async def work(made: PdfPool) -> None:
        slow = [asyncio.create_task(made.read(DATA)) for _ in range(5)]
        await until(lambda: len(made._queue._waiting) == 2)
        with pytest.raises(Problem):
            made.require_room()
        problem = await refused(made)
        assert (problem.status, problem.kind) == (429, "busy")
        assert (problem.retry_s or 0) >= 1
        slow.pop().cancel()
        await until(lambda: len(made._queue._waiting) == 1)
        made.require_room()
        assert (await made.read(DATA + b".")).pages == ["a"]

    run(
        work, limits=Limits(document_cpu_s=600, document_wall_s=600, max_waiting_pdfs=2), turn_s=0.1
    )


def test_a_spare_process_that_died_is_not_used(run: Callable[..., Any]) -> None:
    async def work(made: PdfPool) -> None:
        await made.start_ahead()
        spare = made._spare
        assert spare is not None
        spare.kill()
        spare.wait()
        assert (await made.read(pdf(["two"]))).pages == ["two"]

    run(work)


class Bundle:
    """Says whether it is gone, as often as it was told to."""

    is_gone = False

    def __call__(self) -> bool:
        return self.is_gone


def test_without_the_bundle_the_spare_process_reads_and_the_next_is_503(
    run: Callable[..., Any],
) -> None:
    bundle = Bundle()

    async def work(made: PdfPool) -> None:
        await made.start_ahead()
        bundle.is_gone = True
        assert (await made.read(pdf(["one"]))).pages == ["one"]
        assert made.processes == 0
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "bundle-gone")
        assert "restart" in problem.next_step
        assert made.counts == {"read": 1}

    run(work, is_gone=bundle)


@pytest.mark.parametrize(
    "source",
    [
        "os._exit(1)",
        "os.kill(os.getpid(), signal.SIGBUS)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "b = b'{\"error\": \"unreadable\"}'\nos.write(1, struct.pack('>Q', len(b)) + b)",
    ],
    ids=range(4),
)
def test_a_process_that_fails_once_the_bundle_is_gone_blames_no_file(
    run: Callable[..., Any], program: Callable[[str], None], source: str
) -> None:
    program(GREET + source)
    bundle = Bundle()

    async def work(made: PdfPool) -> None:
        await made.start_ahead()
        bundle.is_gone = True
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "bundle-gone")

    run(work, is_gone=bundle)


def test_process_of_a_replaced_bundle_reads_nothing(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    program(f"{GREET}{ANSWER}")
    asked: list[bool] = []

    def is_gone() -> bool:
        asked.append(True)
        return len(asked) > 1  # there before the process is started, and not after

    async def work(made: PdfPool) -> None:
        assert (await refused(made)).kind == "bundle-gone"
        assert "read" not in made.counts

    run(work, is_gone=is_gone)


def test_a_process_that_misses_a_library_names_no_limit(
    run: Callable[..., Any], program: Callable[[str], None]
) -> None:
    # Loaded at the moment in which the bundle goes: there to be started from, and not to load.
    program(f"import os; os._exit({worker.ENDED_POOR})")
    asked: list[bool] = []

    def is_gone() -> bool:
        asked.append(True)
        return len(asked) > 1

    async def work(made: PdfPool) -> None:
        assert (await refused(made)).kind == "bundle-gone"

    run(work, is_gone=is_gone)


def test_a_library_that_is_gone_is_not_short_memory(tmp_path: Path) -> None:
    gone = tmp_path / "library.so"
    with pytest.raises(OSError, match="library") as missing:
        ctypes.CDLL(str(gone))
    assert not worker.is_poor(missing.value)
    assert worker.is_poor(MemoryError())
    words = "libpdfium.so: failed to map segment from shared object"
    assert worker.is_poor(OSError(words))


def test_a_process_that_never_gets_ready_blames_no_file(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "gone.py"))

    async def work(made: PdfPool) -> None:
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "no-process")

    run(work)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "system-limit"),
        (OSError(errno.EMFILE, "Too many open files"), "system-limit"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "system-limit"),
        (PermissionError(errno.EACCES, "Permission denied"), "no-process"),
    ],
    ids=repr,
)
def test_where_no_process_can_be_started_the_answer_is_503(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: OSError, kind: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess.Popen, "_execute_child", refuse)

    async def work(made: PdfPool) -> None:
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, kind)

    run(work)


@pytest.mark.parametrize(
    ("code", "word"), [(worker.ENDED_THREADLESS, "threads"), (worker.ENDED_POOR, "memory")]
)
def test_a_process_that_could_not_get_ready_names_the_limit_not_the_file(
    run: Callable[..., Any], program: Callable[[str], None], code: int, word: str
) -> None:
    program(f"import os; os._exit({code})")

    async def work(made: PdfPool) -> None:
        problem = await refused(made)
        assert (problem.status, problem.kind) == (503, "system-limit")
        assert word in problem.why

    run(work)


def test_process_gets_no_environment_or_descriptors(
    run: Callable[..., Any],
    program: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SIDECAR_TOKEN", "secret")
    program(
        GREET
        + "said = [sys.argv[1:], sorted(os.environ), os.getcwd(), os.listdir('/proc/self/fd')]\n"
        "b = json.dumps({'pages': [json.dumps(said)], 'losses': [], 'notes': []}).encode()\n"
        "os.write(1, struct.pack('>Q', len(b)) + b)"
    )
    held = (tmp_path / "held").open("w")
    with held:

        async def work(made: PdfPool) -> Any:
            return await made.read(DATA)

        answer = run(work)
    arguments, names, cwd, descriptors = json.loads(answer.pages[0])
    assert all(argument.isdecimal() for argument in arguments)
    assert set(names) <= {"LC_CTYPE"}  # which Python sets itself
    assert cwd == "/"
    assert len(descriptors) == 4  # and the folder that was listed


def test_the_interpreter_is_ours_and_isolated(run: Callable[..., Any]) -> None:
    seen: list[str] = []
    start = subprocess.Popen.__init__

    async def work(made: PdfPool) -> None:
        with pytest.MonkeyPatch.context() as patch:

            def record(self: Any, command: list[str], **options: Any) -> None:
                seen.extend(command)
                start(self, command, **options)

            patch.setattr(subprocess.Popen, "__init__", record)
            made._spare = made._take()

    run(work)
    assert seen[:4] == [sys.executable, "-I", "-B", worker.__file__]


async def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
