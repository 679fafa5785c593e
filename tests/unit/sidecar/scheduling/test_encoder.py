from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.errors import ModelError
from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling import encoder
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Limits
from tests.support.stub_engine import SNAPSHOT, StubEngine
from tests.unit.sidecar.scheduling.conftest import Bench, status_of, until_entered, until_queued

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.scheduling.encoder import Embedded
    from sidecar.scheduling.scheduler import Priority
    from tests.support.stub_engine import Served


ONES = Limits(max_batch_rows=1)
THREES = Limits(max_batch_rows=3)


def test_a_batch_equals_one_by_one_and_keeps_the_order() -> None:
    bench = Bench(THREES)
    texts = ["long " * length + str(length) for length in (5, 1, 7, 3, 0, 2, 6, 4)]

    async def work() -> tuple[Embedded, list[Embedded]]:
        together = await bench.encoder.embed(texts)
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
    bench.run(lambda: bench.encoder.embed(["a b"] * 7))
    assert bench.engine.batches == [3, 3, 1]


def test_long_texts_are_read_in_more_than_one_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "TOKENIZE_CHARS", 10)
    turns: list[int] = []
    tokenize = bench.engine.tokenize

    def counted(texts: Any, **named: Any) -> Any:
        turns.append(len(texts))
        return tokenize(texts, **named)

    bench.engine.tokenize = counted  # type: ignore[method-assign]
    texts = ["a" * 5, "b" * 5, "c" * 50, "d"]
    found = bench.run(lambda: bench.encoder.embed(texts, priority="bulk"))
    assert turns[1:] == [2, 1, 1]  # the first is the empty text that every engine is tried on
    assert len(found.rows) == 4


@pytest.mark.parametrize(
    ("texts", "priority", "is_here"),
    [
        (["short"], "auto", True),
        (["short"], "bulk", False),
        (["a" * 2_001], "auto", False),
        ([""] * 64, "auto", True),
        ([""] * 65, "auto", False),
    ],
)
def test_a_short_text_is_read_where_it_arrives_while_nothing_else_is_read(
    bench: Bench, texts: list[str], priority: Priority, is_here: bool
) -> None:
    threads: list[str] = []
    tokenize = bench.engine.tokenize

    def watched(texts: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        return tokenize(texts, **named)

    bench.engine.tokenize = watched  # type: ignore[method-assign]
    bench.run(lambda: bench.encoder.embed(texts, priority=priority))
    assert threads[-1] == ("MainThread" if is_here else "reader")


def test_many_requests_compute_on_one_thread(
    bench: Bench,
) -> None:
    async def work() -> list[Embedded]:
        asked = (bench.encoder.embed([f"text {n}", "shared"]) for n in range(60))
        return await asyncio.gather(*asked)

    found = bench.run(work)
    assert len(bench.engine.threads) == 1
    assert threading.get_ident() not in bench.engine.threads
    assert len({one.rows[0].tobytes() for one in found}) == 60
    assert len({one.rows[1].tobytes() for one in found}) == 1


def test_a_long_request_and_a_short_one_take_turns() -> None:
    bench = Bench(ONES)

    async def work() -> None:
        bench.engine.gate.clear()
        long = asyncio.create_task(bench.encoder.embed(["x"] * 50))
        await until_entered(bench.engine)
        short = asyncio.create_task(bench.encoder.embed(["y"]))
        await until_queued(bench.encoder, 50 * 3)
        bench.engine.gate.set()
        await asyncio.gather(long, short)

    bench.run(work)
    assert bench.engine.calls.index([(1, bench.engine.token("y"), 2)]) <= 2


def test_an_interactive_request_goes_ahead_of_bulk_work() -> None:
    bench = Bench(ONES)

    async def work() -> None:
        bench.engine.gate.clear()
        bulk = asyncio.create_task(bench.encoder.embed(["x"] * 50, priority="bulk"))
        await until_entered(bench.engine)
        more = asyncio.create_task(bench.encoder.embed(["z"], priority="bulk"))
        short = asyncio.create_task(bench.encoder.embed(["y"] * 4, priority="interactive"))
        await until_queued(bench.encoder, 49 * 3 + 3 + 4 * 3)
        bench.engine.gate.set()
        await asyncio.gather(bulk, more, short)

    bench.run(work)
    assert bench.engine.calls[1:5] == [[(1, bench.engine.token("y"), 2)]] * 4


def test_texts_of_many_clients_share_a_batch(bench: Bench) -> None:
    async def work() -> list[Embedded]:
        bench.engine.gate.clear()
        first = asyncio.create_task(bench.encoder.embed(["first"]))
        await until_entered(bench.engine)
        asked = [asyncio.create_task(bench.encoder.embed([f"text {n}"])) for n in range(16)]
        await until_queued(bench.encoder, 16 * 4)
        bench.engine.gate.set()
        await first
        return await asyncio.gather(*asked)

    found = bench.run(work)
    assert bench.engine.batches == [1, 16]
    assert len({one.rows.tobytes() for one in found}) == 16


def test_texts_with_other_options_never_share_a_batch(bench: Bench) -> None:
    async def work() -> None:
        bench.engine.gate.clear()
        first = asyncio.create_task(bench.encoder.embed(["first"]))
        await until_entered(bench.engine)
        asked = [
            asyncio.create_task(bench.encoder.embed(["a"], Space(pooling, normalize)))
            for pooling in ("mean", "cls")
            for normalize in (True, False)
            for _ in range(2)
        ]
        await until_queued(bench.encoder, 8 * 3)
        bench.engine.gate.set()
        await first
        await asyncio.gather(*asked)

    bench.run(work)
    assert bench.engine.batches == [1, 2, 2, 2, 2]


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
def test_an_engine_that_gives_no_finite_vector_is_told_and_never_an_answer(
    bench: Bench, value: float
) -> None:
    bench.engine.bad_value = value
    request = functools.partial(bench.encoder.embed, ["x"], Space(normalize=False))
    assert bench.run(lambda: status_of(request())) == 503


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ValueError("secret"), 422),
        (MemoryError(), 507),
        (RuntimeError("[enforce fail] not enough memory: you tried to allocate 1 bytes"), 507),
        (SystemExit(3), 503),
    ],
    ids=str,
)
def test_a_text_that_the_engine_fails_on_fails_its_request_and_no_other(
    bench: Bench, failure: BaseException, status: int
) -> None:
    async def work() -> tuple[list[int], Embedded]:
        bench.engine.poison, bench.engine.failure = bench.engine.token("poison"), failure
        asked = [status_of(bench.encoder.embed(texts)) for texts in (["a", "poison"], ["b"])]
        first = await asked[0]
        return [first, await asked[1]], await bench.encoder.embed(["x"])

    found, after = bench.run(work)
    assert found == [status, 200]
    assert len(after.rows) == 1


def test_a_long_text_is_tokenised_in_turns_and_its_tokens_keep_their_places(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(f"word{number}" for number in range(500))
    whole = served.engine.spans(text)
    monkeypatch.setattr(encoder, "TOKENIZE_CHARS", 100)
    starts, ends = served.run(served.encoder.spans(text))
    assert list(zip(starts, ends, strict=True)) == whole
    assert served.run(served.encoder.unknown(text)) == served.engine.unknown(text)


def test_a_request_that_would_be_refused_is_so_before_it_is_tokenised() -> None:
    bench = Bench(Limits(max_batch_rows=1, max_queued_tokens=20))
    bench.engine.gate.clear()

    async def work() -> tuple[list[int], int]:
        embed = bench.encoder.embed
        held = [asyncio.create_task(status_of(embed(["a"] * 6, priority="bulk")))]
        await until_queued(bench.encoder, 15)
        held.append(asyncio.create_task(status_of(embed(["a"] * 6, priority="interactive"))))
        await until_queued(bench.encoder, 33)
        read = list(bench.engine.reads)
        refused = [
            await status_of(embed(["a"] * 10, priority="bulk")),
            await status_of(embed(["a"] * 10, priority="interactive")),
            await status_of(embed(["a"] * 10)),
        ]
        assert bench.engine.reads == read
        refused.append(await status_of(embed(["a a a a a a"], priority="interactive")))
        assert bench.engine.reads != read
        assert await status_of(embed([])) == 200
        bench.engine.gate.set()
        return refused, sum([await one for one in held])

    assert bench.run(work) == ([429] * 4, 400)
