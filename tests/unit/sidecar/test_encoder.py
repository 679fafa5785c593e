from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar import encoder as encoders
from sidecar.encoder import Encoder
from sidecar.errors import ModelError
from sidecar.loader import Loaded
from sidecar.problems import CLIENT_CLOSED, Problem
from sidecar.settings import Limits
from tests.support.stub_engine import SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from sidecar.encoder import Embedded


class Bench:
    """An encoder around a stub engine, and one event loop to use it on."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.engine = StubEngine()
        self.encoder = Encoder(
            lambda _report: Loaded(engine=self.engine, snapshot=SNAPSHOT),
            limits=limits or Limits(),
        )

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def all_of_it() -> Any:
            await self.encoder.start()
            try:
                return await work()
            finally:
                self.engine.gate.set()
                self.encoder.close()

        return asyncio.run(all_of_it())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.engine.gate.set()


async def until_entered(engine: StubEngine) -> None:
    assert await asyncio.to_thread(engine.entered.wait, 30)


async def status_of(work: Awaitable[object]) -> int:
    try:
        await work
    except Problem as problem:
        return problem.status
    return 200


def test_a_batch_equals_one_by_one_and_keeps_the_order(bench: Bench) -> None:
    texts = ["long " * length + str(length) for length in (5, 1, 7, 3, 0, 2, 6, 4)]

    async def work() -> tuple[Embedded, list[Embedded]]:
        together = await bench.encoder.embed(texts, batch_size=3)
        return together, [await bench.encoder.embed([text]) for text in texts]

    together, alone = bench.run(work)
    assert (together.rows == np.concatenate([one.rows for one in alone])).all()
    assert together.tokens == [length + 3 for length in (5, 1, 7, 3, 0, 2, 6, 4)]
    assert bench.engine.batches[:3] == [3, 3, 2]


def test_no_texts_give_no_rows_of_the_right_width(bench: Bench) -> None:
    found = bench.run(lambda: bench.encoder.embed([]))
    assert found.rows.shape == (0, bench.engine.dim)
    assert bench.engine.batches == []


def test_batches_stay_within_the_budget_of_tokens() -> None:
    bench = Bench(Limits(max_batch_tokens=12))
    bench.run(lambda: bench.encoder.embed(["a b"] * 7, batch_size=100))
    assert bench.engine.batches == [3, 3, 1]


def test_long_texts_are_read_in_more_than_one_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "TOKENIZE_CHARS", 10)
    turns: list[int] = []
    tokenize = bench.engine.tokenize

    def counted(texts: Any) -> Any:
        turns.append(len(texts))
        return tokenize(texts)

    bench.engine.tokenize = counted  # type: ignore[method-assign]
    texts = ["a" * 5, "b" * 5, "c" * 50, "d"]
    found = bench.run(lambda: bench.encoder.embed(texts))
    assert turns == [2, 1, 1]
    assert len(found.rows) == 4


def test_all_of_many_requests_compute_on_one_thread_and_get_their_own_vectors(
    bench: Bench,
) -> None:
    async def work() -> list[Embedded]:
        asked = (bench.encoder.embed([f"text {n}", "shared"], batch_size=1) for n in range(60))
        return await asyncio.gather(*asked)

    found = bench.run(work)
    assert len(bench.engine.threads) == 1
    assert threading.get_ident() not in bench.engine.threads
    assert len({one.rows[0].tobytes() for one in found}) == 60
    assert len({one.rows[1].tobytes() for one in found}) == 1


def test_a_long_request_and_a_short_one_take_turns(bench: Bench) -> None:
    async def work() -> int:
        bench.engine.gate.clear()
        long = asyncio.create_task(bench.encoder.embed(["x"] * 50, batch_size=1))
        await until_entered(bench.engine)
        short = asyncio.create_task(bench.encoder.embed(["y"]))
        await asyncio.sleep(0.01)
        bench.engine.gate.set()
        await short
        computed = len(bench.engine.batches)
        await long
        return computed

    assert bench.run(work) < 25


def test_the_event_loop_runs_on_while_a_batch_is_computed(bench: Bench) -> None:
    async def work() -> int:
        bench.engine.gate.clear()
        request = asyncio.create_task(bench.encoder.embed(["x"]))
        await until_entered(bench.engine)
        ticks = 0
        for _ in range(100):
            await asyncio.sleep(0)
            ticks += 1
        bench.engine.gate.set()
        await request
        return ticks

    assert bench.run(work) == 100


def test_a_client_that_leaves_gives_up_its_place_and_costs_no_batch(bench: Bench) -> None:
    async def work() -> tuple[int, int]:
        bench.engine.gate.clear()
        first = asyncio.create_task(bench.encoder.embed(["x"]))
        await until_entered(bench.engine)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leaving = asyncio.create_task(status_of(bench.encoder.embed(["y"], gone=gone)))
        await asyncio.sleep(0.01)
        gone.set_result(None)
        status = await leaving  # while the first batch still computes
        bench.engine.gate.set()
        await first
        return status, len(bench.engine.batches)

    assert bench.run(work) == (CLIENT_CLOSED, 1)


def test_a_client_that_leaves_in_its_own_batch_is_let_go_at_once(bench: Bench) -> None:
    async def work() -> tuple[int, Embedded]:
        bench.engine.gate.clear()
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request = bench.encoder.embed(["y"] * 40, batch_size=1, gone=gone)
        leaving = asyncio.create_task(status_of(request))
        await until_entered(bench.engine)
        gone.set_result(None)
        status = await leaving
        bench.engine.gate.set()
        return status, await bench.encoder.embed(["next"])

    status, found = bench.run(work)
    assert status == CLIENT_CLOSED
    assert len(found.rows) == 1
    assert len(bench.engine.batches) == 2


def test_a_cancelled_request_leaves_the_queue(bench: Bench) -> None:
    async def work() -> int:
        bench.engine.gate.clear()
        first = asyncio.create_task(bench.encoder.embed(["x"]))
        await until_entered(bench.engine)
        second = asyncio.create_task(bench.encoder.embed(["y"]))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        bench.engine.gate.set()
        await first
        return len(bench.engine.batches)

    assert bench.run(work) == 1


def test_a_request_that_was_let_in_is_served_while_the_service_stops(bench: Bench) -> None:
    async def work() -> tuple[Embedded, int]:
        bench.engine.gate.clear()
        request = asyncio.create_task(bench.encoder.embed(["x"] * 20, batch_size=1))
        await until_entered(bench.engine)
        bench.encoder.refuse_new()
        with pytest.raises(Problem) as refused:
            bench.encoder.ready()
        bench.engine.gate.set()
        return await request, refused.value.status

    found, refused = bench.run(work)
    assert len(found.rows) == 20
    assert refused == 503
    assert bench.encoder.is_stopping
    assert bench.encoder.phase == "stopping"


def test_abandoned_requests_are_answered_503_though_their_batch_hangs(bench: Bench) -> None:
    async def work() -> list[int]:
        bench.engine.gate.clear()
        running = asyncio.create_task(status_of(bench.encoder.embed(["x"])))
        await until_entered(bench.engine)
        queued = asyncio.create_task(status_of(bench.encoder.embed(["y"])))
        await asyncio.sleep(0.01)
        bench.encoder.abandon()
        bench.encoder.abandon()  # does no harm
        late = await status_of(bench.encoder.embed(["z"]))
        return [await running, await queued, late]

    assert bench.run(work) == [503, 503, 503]


def test_nothing_is_served_before_the_model_is_loaded() -> None:
    entered, go_on = threading.Event(), threading.Event()
    engine = StubEngine()

    def load(report: Callable[[Any], None]) -> Loaded:
        report("verifying")
        entered.set()
        go_on.wait(30)
        return Loaded(engine=engine, snapshot=SNAPSHOT)

    made = Encoder(load, limits=Limits())

    async def work() -> tuple[str, int, str, Loaded | None]:
        starting = asyncio.create_task(made.start())
        await asyncio.to_thread(entered.wait, 30)
        phase, status = made.phase, await status_of(made.embed(["x"]))
        with pytest.raises(Problem, match="loading") as refused:
            made.ready()
        assert made.loaded is None
        go_on.set()
        await starting
        return phase, status, refused.value.why, made.loaded

    phase, status, why, loaded = asyncio.run(work())
    made.close()
    assert (phase, status, why) == ("verifying", 503, "phase: verifying")
    assert loaded is not None
    assert made.phase == "stopping"


def test_what_keeps_the_model_from_loading_is_raised() -> None:
    def load(_report: object) -> Loaded:
        raise ModelError("no such model")

    made = Encoder(load, limits=Limits())
    with pytest.raises(ModelError, match="no such model"):
        asyncio.run(made.start())
    made.close()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_vector_that_is_not_finite_is_a_bug_and_never_an_answer(
    bench: Bench, value: float
) -> None:
    bench.engine.bad_value = value
    request = functools.partial(bench.encoder.embed, ["x"], normalize=False)
    assert bench.run(lambda: status_of(request())) == 500


def test_an_engine_that_fails_fails_one_request_and_no_other(bench: Bench) -> None:
    encode = bench.engine.encode

    def once(*_: Any, **__: Any) -> Any:
        bench.engine.encode = encode  # type: ignore[method-assign]
        raise MemoryError

    bench.engine.encode = once  # type: ignore[method-assign]

    async def work() -> Embedded:
        with pytest.raises(MemoryError):
            await bench.encoder.embed(["x"])
        return await bench.encoder.embed(["x"])

    assert len(bench.run(work).rows) == 1
