from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import request_id
from sidecar.engines import Unloaded
from sidecar.errors import IntegrityError
from sidecar.models.loader import USUAL, Candidate, Loaded
from sidecar.models.snapshot import NOWHERE
from sidecar.problems import Problem
from sidecar.process import limits
from sidecar.process.limits import LimitError
from sidecar.scheduling import served
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.served import Residence, ServedModel
from sidecar.settings import Limits
from tests.support.stub_engine import SNAPSHOT, StubEngine
from tests.unit.sidecar.scheduling.conftest import status_of, until_entered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from sidecar.engines import Vectors
    from sidecar.scheduling.encoder import Embedded

NAMES = ("first", "second", "third")


class NumberedEngine(StubEngine):
    """Its vectors say which model they are of."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def _row(self, ids: Sequence[int], pooling: str) -> Vectors:
        row = super()._row(ids, pooling)
        row[:] += 1000 * self.number
        return row


class Models:
    """Three models, what loads them, and a clock that is set by hand.

    `failures` are raised by the next loads of a model. While `gate` is clear, loads but the first
    wait.
    """

    def __init__(self, **residence: Any) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.engines: dict[str, list[weakref.ref[NumberedEngine]]] = {name: [] for name in NAMES}
        self.failures: dict[str, list[Exception]] = {name: [] for name in NAMES}
        self.revision = SNAPSHOT.revision
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.encoder = Encoder(
            functools.partial(self.load, "first"),
            limits=Limits(),
            now=lambda: self.now,
            after=self.after,
            residence=Residence(models=tuple(map(self.candidate, NAMES)), **residence),
        )
        self.models = self.encoder.models

    def candidate(self, name: str) -> Candidate:
        snapshot = replace(SNAPSHOT, repository=f"stub/{name}", path=Path(name))
        known = Loaded(engine=Unloaded(dim=8, max_tokens=10, space="exact"), snapshot=snapshot)
        return Candidate(known=known, load=functools.partial(self.load, name))

    def load(self, name: str, report: Callable[[Any], None]) -> Loaded:
        report("loading")
        if name != "first":
            self.entered.set()
            assert self.gate.wait(30)
        if self.failures[name]:
            raise self.failures[name].pop()
        engine = NumberedEngine(NAMES.index(name))
        self.engines[name].append(weakref.ref(engine))
        known = self.candidate(name).known.snapshot
        return Loaded(engine=engine, snapshot=replace(known, revision=self.revision))

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it later, in the context of now, as a loop does."""
        again = functools.partial(contextvars.copy_context().run, call)
        self.timers.append((self.now + seconds, again))

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def all_of_it() -> Any:
            await self.encoder.start()
            try:
                return await work()
            finally:
                self.gate.set()
                self.encoder.close()

        return asyncio.run(all_of_it())

    def model(self, name: str) -> ServedModel:
        return self.encoder.named(name)

    async def embed(self, name: str, *texts: str, keep_s: float | None = None) -> Embedded:
        model = self.model(name)
        async with self.encoder.using(model, keep_s=keep_s):
            return await self.encoder.embed(texts or ["a"], model=model)

    async def passes(self, seconds: float) -> None:
        """Let so many seconds pass, and do what was to be done then."""
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [(at, call) for at, call in self.timers if at > self.now]
        for call in due:
            call()
        await self.settled()

    async def settled(self) -> None:
        """Wait until no model comes or goes."""
        async with asyncio.timeout(30):
            while any(one.coming or one.going for one in self.models.all):  # noqa: ASYNC110 (threads)
                await asyncio.sleep(0.001)

    def here(self) -> list[str]:
        return [NAMES[one.number] for one in self.models.all if one.is_here]

    def living(self) -> int:
        """Return how many engines are in memory."""
        return sum(ref() is not None for refs in self.engines.values() for ref in refs)


@pytest.fixture
def make() -> Iterator[Callable[..., Models]]:
    made: list[Models] = []

    def one(**residence: Any) -> Models:
        made.append(Models(**residence))
        return made[-1]

    yield one
    for models in made:
        models.gate.set()


class RequestIds(logging.Handler):
    """Keeps each message with the id of the request that the formatters would write beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append((record.getMessage(), request_id.current()))


@pytest.fixture
def ids() -> Iterator[RequestIds]:
    made, level = RequestIds(), served.log.level
    served.log.addHandler(made)
    served.log.setLevel("INFO")
    yield made
    served.log.setLevel(level)
    served.log.removeHandler(made)


def test_the_first_is_loaded_at_the_start_and_others_when_asked_for(
    make: Callable[..., Models],
) -> None:
    models = make()

    async def work() -> tuple[list[str], list[Embedded], list[str]]:
        before = models.here()
        found = [await models.embed(name) for name in ("second", "first", "second")]
        return before, found, models.here()

    before, (second, first, again), after = models.run(work)
    assert (before, after) == (["first"], ["first", "second"])
    assert second.fingerprint == again.fingerprint != first.fingerprint
    assert (second.rows == again.rows).all()
    assert second.rows.min() > 0.3
    assert [one.loads for one in models.models.all] == [1, 1, 0]


def test_requests_that_come_while_a_model_is_loaded_wait_for_it_together(
    make: Callable[..., Models],
) -> None:
    models = make()

    async def work() -> tuple[str, Embedded]:
        models.gate.clear()
        waiting = [asyncio.create_task(models.embed("second", f"text {n}")) for n in range(9)]
        assert await asyncio.to_thread(models.entered.wait, 30)
        phase = models.model("second").phase
        meanwhile = await models.embed("first")
        assert models.encoder.status == "ok"
        models.gate.set()
        assert len({one.rows.tobytes() for one in await asyncio.gather(*waiting)}) == 9
        return phase, meanwhile

    phase, meanwhile = models.run(work)
    assert phase == "loading"
    assert len(meanwhile.rows) == 1
    assert models.models.all[1].loads == 1
    assert models.models.all[1].uses == 0


@pytest.mark.parametrize(
    ("failure", "kind", "status", "retry_s"),
    [
        (IntegrityError("model.safetensors is not what was locked"), "model-fails", 503, None),
        (limits.too_little(), "out-of-memory", 507, 5),
        (LimitError("too few threads", facts={"limit": "threads"}), "system-limit", 503, 5),
        (RuntimeError("can't start new thread"), "system-limit", 503, 5),
        (ZeroDivisionError("secret"), "model-fails", 503, None),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_loaded_is_told_and_tried_again(
    make: Callable[..., Models],
    ids: RequestIds,
    failure: Exception,
    kind: str,
    status: int,
    retry_s: int | None,
) -> None:
    models = make()
    models.failures["second"] = [failure] * 3

    async def work() -> Problem:
        with pytest.raises(Problem) as caught:
            await models.embed("second")
        second = models.model("second")
        assert (second.phase, second.failure) == ("failed", kind)
        models.failures["second"] = []
        await models.embed("first")
        await models.embed("second")
        assert (second.phase, second.failure) == ("ready", None)
        return caught.value

    problem = models.run(work)
    assert (problem.kind, problem.status, problem.retry_s) == (kind, status, retry_s)
    told = [message.partition(": ")[0] for message, _ in ids.told]
    assert told.count("stub/second cannot be loaded") == 1
    assert "secret" not in f"{problem.what} {problem.why} {problem.next_step}"


def test_a_load_that_fails_where_the_bundle_is_gone_says_that(
    make: Callable[..., Models],
) -> None:
    models = make()
    models.failures["second"] = [IntegrityError("a file is missing")]
    models.models.is_gone = lambda: True

    async def work() -> str:
        with pytest.raises(Problem) as caught:
            await models.embed("second")
        return caught.value.kind

    assert models.run(work) == "bundle-gone"
    assert models.models.all[1].failure == "bundle-gone"


def test_nothing_is_loaded_of_a_bundle_that_was_replaced(make: Callable[..., Models]) -> None:
    """Another version's files may be in its place: vectors would be of another model."""
    models = make()
    answers = [False, True]
    models.models.is_gone = lambda: answers.pop(0) if answers else True

    async def work() -> list[str]:
        kinds = []
        for _ in range(2):
            with pytest.raises(Problem) as caught:
                await models.embed("second")
            kinds.append(caught.value.kind)
        return kinds

    assert models.run(work) == ["bundle-gone"] * 2
    assert len(models.engines["second"]) == 1  # the first time it was replaced meanwhile
    assert models.living() == 1


def test_a_model_that_is_used_while_another_is_loaded_is_not_unloaded_after_it(
    make: Callable[..., Models],
) -> None:
    models = make(idle_s=60)

    async def work() -> None:
        models.gate.clear()
        other = asyncio.create_task(models.embed("second"))
        assert await asyncio.to_thread(models.entered.wait, 30)
        models.now += 60
        models.models._look(models.model("first"))
        await models.embed("first")
        models.gate.set()
        await other
        await models.settled()
        assert models.here() == ["first", "second"]
        await models.passes(60)
        assert models.here() == []

    models.run(work)


def test_a_client_that_leaves_while_it_waits_does_not_keep_the_model(
    make: Callable[..., Models],
) -> None:
    models = make()

    async def work() -> int:
        models.gate.clear()
        disconnected = asyncio.get_running_loop().create_future()
        use = models.encoder.using(models.model("second"), disconnected=disconnected)
        entering = asyncio.create_task(status_of(use.__aenter__()))
        stays = asyncio.create_task(models.embed("second"))
        assert await asyncio.to_thread(models.entered.wait, 30)
        disconnected.set_result(None)
        status = await entering
        models.gate.set()
        await stays
        return status

    assert models.run(work) == 499
    assert models.models.all[1].uses == 0


@pytest.mark.parametrize("steps", range(6))
def test_a_request_that_is_cancelled_at_any_moment_gives_its_use_back(
    make: Callable[..., Models], steps: int
) -> None:
    models = make()

    async def work() -> None:
        waiting = asyncio.create_task(models.embed("second"))
        while not models.model("second").waiters:  # noqa: ASYNC110 (it is one turn)
            await asyncio.sleep(0)
        (waiter,) = models.model("second").waiters
        async with asyncio.timeout(30):
            while not waiter.done():  # noqa: ASYNC110 (the load is on a thread)
                await asyncio.sleep(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    models.run(work)
    assert models.models.all[1].uses == 0


def test_a_load_that_everyone_has_left_is_not_begun(make: Callable[..., Models]) -> None:
    models = make()

    async def work() -> None:
        models.gate.clear()
        first = asyncio.create_task(models.embed("second"))
        assert await asyncio.to_thread(models.entered.wait, 30)
        left = asyncio.create_task(models.embed("third"))
        await asyncio.sleep(0.01)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        models.gate.set()
        await first
        await models.settled()

    models.run(work)
    assert [one.loads for one in models.models.all] == [1, 1, 0]


def test_the_end_of_the_service_does_not_wait_for_a_load(make: Callable[..., Models]) -> None:
    models = make()

    async def work() -> int:
        models.gate.clear()
        waiting = asyncio.create_task(status_of(models.embed("second")))
        assert await asyncio.to_thread(models.entered.wait, 30)
        models.encoder.refuse_new()
        models.encoder.abandon()
        return await waiting

    assert models.run(work) == 503


def test_an_idle_model_is_unloaded_and_freed_and_comes_again(make: Callable[..., Models]) -> None:
    models = make(idle_s=60)

    async def work() -> None:
        before = await models.embed("second")
        await models.passes(59)
        await models.embed("first")
        assert models.here() == ["first", "second"]
        await models.passes(1)
        assert (models.here(), models.living()) == (["first"], 1)
        await models.passes(59)
        assert (models.here(), models.living()) == ([], 0)
        assert models.encoder.status == "ok"
        assert models.encoder.ready().engine.dim == 8
        after = await models.embed("second")
        assert (before.rows == after.rows).all()
        assert before.fingerprint == after.fingerprint
        assert models.here() == ["second"]

    models.run(work)
    assert [one.loads for one in models.models.all] == [1, 2, 0]
    assert [one.unloads for one in models.models.all] == [1, 1, 0]


def test_files_that_changed_meanwhile_give_another_fingerprint(
    make: Callable[..., Models],
) -> None:
    models = make(idle_s=60)

    async def work() -> list[str]:
        prints = [(await models.embed("second")).fingerprint]
        models.revision = "1" * 40
        await models.passes(60)
        return [*prints, (await models.embed("second")).fingerprint]

    before, after = models.run(work)
    assert before != after


def test_a_model_in_use_is_not_idle_however_long_it_takes(make: Callable[..., Models]) -> None:
    models = make(idle_s=60)

    async def work() -> None:
        async with models.encoder.using(models.model("first")):
            await models.passes(600)
            assert models.here() == ["first"]
        await models.passes(59)
        assert models.here() == ["first"]
        await models.passes(1)
        assert models.here() == []

    models.run(work)


@pytest.mark.parametrize(
    ("keep_s", "idle_s", "stays_s"),
    [(0, 60, 0), (5, 60, 5), (300, 60, 60), (-1, 60, 60), (0, None, None), (5, None, None)],
)
def test_how_long_a_request_keeps_a_model_is_within_the_idle_time(
    make: Callable[..., Models], keep_s: float, idle_s: float | None, stays_s: float | None
) -> None:
    models = make(idle_s=idle_s)

    async def work() -> None:
        await models.embed("second", keep_s=keep_s)
        if stays_s is None:
            await models.passes(10_000)
            assert "second" in models.here()
        else:
            if stays_s:
                await models.passes(stays_s - 1)
                assert "second" in models.here()
                await models.passes(1)
            else:
                await models.passes(0)
            assert "second" not in models.here()
            await models.embed("second")  # and it is kept as usual
            await models.passes(59)
            assert "second" in models.here()

    models.run(work)


def test_a_shorter_time_takes_the_place_of_a_longer_one(make: Callable[..., Models]) -> None:
    models = make(idle_s=60)

    async def work() -> int:
        for keep_s in range(60, 30, -1):
            await models.embed("second", keep_s=keep_s)
        await models.embed("second", keep_s=60)
        await models.passes(59)
        assert "second" in models.here()
        looks = len(models.timers)
        await models.passes(1)
        assert models.here() == []
        return looks

    assert models.run(work) <= 3  # for two models, and one that was due later


def test_a_model_is_unloaded_without_a_thread_too(
    make: Callable[..., Models], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models = make(idle_s=60)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        await models.embed("second")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            await models.passes(60)
        assert (models.here(), models.living()) == ([], 0)
        await models.embed("second")
        await models.passes(60)
        assert models.here() == []

    models.run(work)
    assert "its memory is given back later" in caplog.text


def test_what_asks_for_a_model_while_it_is_unloaded_is_answered(
    make: Callable[..., Models], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make(idle_s=60)
    going, go_on = threading.Event(), threading.Event()

    def trim() -> None:
        going.set()
        go_on.wait(30)

    async def work() -> Embedded:
        await models.embed("second")
        monkeypatch.setattr(models.encoder._inference, "trim", trim)
        models.now += 60
        models.models._look(models.model("second"))
        assert await asyncio.to_thread(going.wait, 30)
        asked = asyncio.create_task(models.embed("second"))
        await asyncio.sleep(0.01)
        assert not asked.done()
        go_on.set()
        return await asked

    assert len(models.run(work).rows) == 1
    assert models.models.all[1].loads == 2


def test_an_idle_unload_is_logged_without_a_request(
    make: Callable[..., Models], ids: RequestIds
) -> None:
    models = make(idle_s=60)

    async def work() -> None:
        with request_id.using("used-it"):
            await models.embed("second", keep_s=5)
        await models.passes(5)

    models.run(work)
    assert ("stub/second: unloaded", None) in ids.told


def test_a_load_and_what_leaves_for_it_are_logged_with_the_request(
    make: Callable[..., Models], ids: RequestIds
) -> None:
    models = make(max_bytes=most(1), needs=needs({}))

    async def work() -> None:
        for name in ("second", "first"):
            with request_id.using(f"asks-for-{name}"):
                await models.embed(name)

    models.run(work)
    assert ids.told == [
        ("stub/first: unloaded", "asks-for-second"),
        ("stub/second: loading", "asks-for-second"),
        ("stub/second: ready", "asks-for-second"),
        ("stub/second: unloaded", "asks-for-first"),
        ("stub/first: loading", "asks-for-first"),
        ("stub/first: ready", "asks-for-first"),
    ]


def needs(bytes_: dict[str, int]) -> Callable[[Path], int]:
    return lambda folder: bytes_.get(folder.name, 100)


def most(count: int) -> int:
    """Return a limit of memory that so many models fit into."""
    return limits.LIBRARIES.private + count * 100


def test_the_least_recently_used_makes_room(make: Callable[..., Models]) -> None:
    models = make(max_bytes=most(2), needs=needs({}))

    async def work() -> list[list[str]]:
        seen = []
        for name in ("second", "first", "third", "second", "third"):
            models.now += 1
            await models.embed(name)
            seen.append(models.here())
        return seen

    assert models.run(work) == [
        ["first", "second"],
        ["first", "second"],
        ["first", "third"],
        ["second", "third"],
        ["second", "third"],
    ]
    assert models.living() == 2


def test_what_cannot_fit_is_507_and_nothing_is_unloaded_for_it(
    make: Callable[..., Models],
) -> None:
    models = make(max_bytes=most(2), needs=needs({"third": 201}))

    async def work() -> Problem:
        await models.embed("second")
        with pytest.raises(Problem) as caught:
            await models.embed("third")
        assert models.here() == ["first", "second"]
        assert models.model("third").phase == "failed"
        await models.embed("second")
        return caught.value

    problem = models.run(work)
    assert (problem.kind, problem.status) == ("out-of-memory", 507)
    assert problem.retry_s is None
    assert "it takes about 1 MiB, and --max-memory leaves 0" in problem.why
    assert "--max-memory" in problem.next_step


def test_a_limit_of_the_system_makes_others_leave_before_it_is_told(
    make: Callable[..., Models],
) -> None:
    models = make()
    models.failures["third"] = [limits.too_little()]

    async def work() -> None:
        await models.embed("second")
        models.now += 1
        await models.embed("first")
        models.now += 1
        await models.embed("third")
        assert models.here() == ["first", "third"]

    models.run(work)


def test_a_model_without_files_yet_is_counted_once_it_has_some(
    make: Callable[..., Models],
) -> None:
    asked: list[Path] = []

    def needed(folder: Path) -> int:
        asked.append(folder)
        return 100

    models = make(max_bytes=most(2), needs=needed)

    async def work() -> list[list[str]]:
        second = models.model("second")
        snapshot = replace(second.loaded.snapshot, path=NOWHERE)
        second.loaded = replace(second.loaded, snapshot=snapshot)
        steps = []
        for name in ("second", "third"):
            await models.embed(name)
            steps.append(models.here())
        return steps

    assert models.run(work) == [["first", "second"], ["second", "third"]]
    assert set(asked) == set(map(Path, NAMES))  # and not the folder that the service runs in


def test_no_model_is_unloaded_for_want_of_threads(make: Callable[..., Models]) -> None:
    models = make()
    models.failures["third"] = [LimitError("too few threads", facts={"limit": "threads"})]

    async def work() -> int:
        await models.embed("second")
        return await status_of(models.embed("third"))

    assert models.run(work) == 503
    assert models.here() == ["first", "second"]


def test_a_load_waits_until_the_model_in_its_place_is_no_longer_used(
    make: Callable[..., Models],
) -> None:
    models = make(max_bytes=most(1), needs=needs({}))

    async def work() -> list[str]:
        order = []

        async def asks(name: str) -> None:
            await models.embed(name)
            order.append(name)

        first = models.model("first").loaded.engine
        assert isinstance(first, StubEngine)
        first.gate.clear()
        running = asyncio.create_task(asks("first"))
        await until_entered(first)
        other = asyncio.create_task(asks("second"))
        while models.model("first").is_open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        later = asyncio.create_task(asks("first"))
        await asyncio.sleep(0.01)
        assert order == []
        first.gate.set()
        await asyncio.gather(running, other, later)
        return order

    assert models.run(work) == ["first", "second", "first"]
    assert [one.loads for one in models.models.all] == [2, 1, 0]


def test_a_load_gives_up_where_the_other_model_stays_in_use(make: Callable[..., Models]) -> None:
    models = make(max_bytes=most(1), needs=needs({}))

    async def work() -> int:
        async with models.encoder.using(models.model("first")):
            other = asyncio.create_task(status_of(models.embed("second")))
            while models.model("first").is_open:  # noqa: ASYNC110
                await asyncio.sleep(0)
            later = asyncio.create_task(models.embed("first"))
            await asyncio.sleep(0)
            await models.passes(served.DRAIN_S)
            assert len((await later).rows) == 1
            return await other

    assert models.run(work) == 429
    assert models.here() == ["first"]
    assert models.models.all[0].uses == 0
    second = models.models.all[1]
    assert (second.phase, second.load_failures) == ("unloaded", 0)


def test_a_model_that_failed_stays_so_where_there_is_no_room_to_try_again(
    make: Callable[..., Models],
) -> None:
    models = make(max_bytes=most(1), needs=needs({}))
    models.failures["second"] = [IntegrityError("a file is missing")]

    async def work() -> list[int]:
        statuses = [await status_of(models.embed("second"))]
        async with models.encoder.using(models.model("first")):
            other = asyncio.create_task(status_of(models.embed("second")))
            while models.model("first").is_open:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await models.passes(served.DRAIN_S)
            statuses.append(await other)
        return statuses

    assert models.run(work) == [503, 429]
    second = models.models.all[1]
    assert (second.phase, second.failure, second.load_failures) == ("failed", "model-fails", 1)


def test_a_first_model_that_fails_to_come_again_is_told_too(make: Callable[..., Models]) -> None:
    models = make(idle_s=60)

    async def work() -> None:
        await models.passes(60)
        models.failures["first"] = [IntegrityError("a file is missing")]
        assert await status_of(models.embed("first")) == 503
        first = models.model("first")
        assert (first.phase, first.failure) == ("failed", "model-fails")
        assert (await models.embed("first")).tokens == [3]
        assert first.phase == "ready"

    models.run(work)


def test_the_last_use_that_ends_just_in_time_makes_room(make: Callable[..., Models]) -> None:
    models = make(max_bytes=most(1), needs=needs({}))

    async def work() -> None:
        use = models.encoder.using(models.model("first"))
        await use.__aenter__()
        other = asyncio.create_task(models.embed("second"))
        while models.model("first").emptied is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        models.now += served.DRAIN_S
        for _, call in models.timers:
            call()
        await use.__aexit__()
        await other
        assert models.here() == ["second"]

    models.run(work)


def test_a_load_waits_for_as_long_as_requests_end_one_after_the_other(
    make: Callable[..., Models],
) -> None:
    models = make(max_bytes=most(1), needs=needs({}))

    async def work() -> None:
        first = models.model("first")
        running = [models.encoder.using(first) for _ in range(4)]
        for use in running:
            await use.__aenter__()
        other = asyncio.create_task(models.embed("second"))
        while first.is_open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for use in running:
            models.now += served.DRAIN_S - 1
            await use.__aexit__()
            models.now += 1
            for at, call in models.timers[:]:
                if at <= models.now:
                    models.timers.remove((at, call))
                    call()
        assert len((await other).rows) == 1

    models.run(work)
    assert models.here() == ["second"]


def test_many_requests_of_more_models_than_fit_are_all_answered_rightly(
    make: Callable[..., Models],
) -> None:
    models = make(max_bytes=most(1), needs=needs({}))
    usual = {name: models.candidate(name).known.fingerprint(USUAL) for name in NAMES}

    async def asks(number: int) -> None:
        name = NAMES[number % 3]
        for turn in range(4):
            found = await models.embed(name, f"text {number}", f"text {turn}")
            assert found.fingerprint == usual[name]

    async def work() -> None:
        await asyncio.gather(*[asks(number) for number in range(48)])

    models.run(work)
    assert models.living() <= 1
    assert all(one.loads for one in models.models.all)
    assert not any(one.uses for one in models.models.all)


def test_names_are_found_in_any_case_and_the_first_answers_to_none(
    make: Callable[..., Models],
) -> None:
    models = make()

    async def work() -> None:
        assert models.encoder.named(None) is models.models.all[0]
        assert models.encoder.named("STUB/Second").number == 1
        with pytest.raises(Problem, match="unknown-model") as caught:
            models.encoder.named("fourth")
        assert caught.value.why == "this service has stub/first, stub/second, stub/third"

    models.run(work)
