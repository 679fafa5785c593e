"""Requests that are longer than their share of the queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.problems import CLIENT_CLOSED, Problem
from sidecar.scheduling import encoder
from sidecar.scheduling.tokenizing import DeferredTexts
from sidecar.settings import Limits
from tests.unit.sidecar.scheduling.conftest import Bench, status_of, until_entered, until_queued

if TYPE_CHECKING:
    from sidecar.scheduling.encoder import Embedded

# The stub engine reads ten tokens of a text; a part has three texts of three tokens.
PART, SHARE = 10, 20
BUDGET = 80
LONG = ["w" + str(number) for number in range(60)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(encoder, "PART_TOKENS", PART)
    return Bench(Limits(max_batch_rows=2, max_queued_tokens=BUDGET))


class Counted(DeferredTexts):
    """Texts that count how many of them were made."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__([len(text) for text in texts])
        self._texts = texts
        self.made = 0

    def text(self, index: int) -> str:
        self.made += 1
        return self._texts[index]


def watch(bench: Bench) -> list[int]:
    """Return a list that gets how many tokens wait, each time the engine is called."""
    seen: list[int] = []
    encode = bench.engine.encode

    def watched(batch: Any, **options: Any) -> Any:
        seen.append(sum(bench.encoder.queued.values()))
        return encode(batch, **options)

    bench.engine.encode = watched  # type: ignore[method-assign]
    return seen


def test_a_long_request_equals_one_by_one_and_keeps_the_order(bench: Bench) -> None:
    async def work() -> tuple[Embedded, list[Embedded]]:
        alone = [await bench.encoder.embed([text]) for text in LONG]
        return await bench.encoder.embed(LONG), alone

    together, alone = bench.run(work)
    assert (together.rows == np.concatenate([one.rows for one in alone])).all()
    assert together.tokens == [3] * len(LONG)
    assert together.fingerprint == alone[0].fingerprint


def test_no_more_of_a_long_request_waits_than_its_share(bench: Bench) -> None:
    seen = watch(bench)
    bench.run(lambda: bench.encoder.embed(LONG))
    assert max(seen) <= SHARE
    assert sum(bench.encoder.queued.values()) == bench.encoder.long_requests == 0


def test_many_long_requests_stay_within_the_budget_and_all_are_served(bench: Bench) -> None:
    seen = watch(bench)

    async def work() -> list[int]:
        asked = (status_of(bench.encoder.embed(LONG)) for _ in range(2))
        return await asyncio.gather(*asked)

    assert bench.run(work) == [200, 200]
    assert max(seen) <= BUDGET / 2


def test_texts_of_a_long_request_are_made_when_they_are_tokenised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "TOKENIZE_ROWS", 3)
    texts = Counted(LONG)

    async def work() -> int:
        bench.engine.gate.clear()
        asked = asyncio.create_task(bench.encoder.embed(texts))
        await until_entered(bench.engine)
        await asyncio.sleep(0.05)  # more would be made by now
        made = texts.made
        bench.engine.gate.set()
        await asked
        return made

    assert bench.run(work) <= 12
    assert texts.made == len(LONG)


def test_bulk_requests_have_a_turn_for_each_of_a_long_one(bench: Bench) -> None:
    async def work() -> None:
        bench.engine.gate.clear()
        long = asyncio.create_task(bench.encoder.embed(LONG, priority="bulk"))
        await until_entered(bench.engine)
        await until_queued(bench.encoder, 9)
        queued = sum(bench.encoder.queued.values())
        short = asyncio.create_task(bench.encoder.embed(["b b", "b b c"], priority="bulk"))
        await until_queued(bench.encoder, queued + 9)
        bench.engine.gate.set()
        await asyncio.gather(long, short)

    bench.run(work)
    token = bench.engine.token("b")
    (at,) = (at for at, call in enumerate(bench.engine.calls) if any(token in ids for ids in call))
    assert at <= 2


def test_a_long_request_of_short_texts_does_not_go_ahead_of_bulk_work(bench: Bench) -> None:
    seen: list[dict[str, int]] = []
    encode = bench.engine.encode

    def watched(batch: Any, **options: Any) -> Any:
        seen.append(bench.encoder.queued)
        return encode(batch, **options)

    bench.engine.encode = watched  # type: ignore[method-assign]
    bench.run(lambda: bench.encoder.embed(LONG))
    assert {queued["interactive"] for queued in seen} == {0}


def test_long_requests_alone_are_refused_over_their_part(
    bench: Bench,
) -> None:
    async def work() -> tuple[int, int, int]:
        bench.engine.gate.clear()
        held = [asyncio.create_task(bench.encoder.embed(LONG)) for _ in range(2)]
        while bench.encoder.long_requests < len(held):  # noqa: ASYNC110 (other tasks change it)
            await asyncio.sleep(0.001)
        with pytest.raises(Problem) as refused:
            await bench.encoder.embed(LONG)
        assert (refused.value.retry_s or 0) >= 1
        short = asyncio.create_task(status_of(bench.encoder.embed(["b"] * 6, priority="bulk")))
        await until_queued(bench.encoder, 18)
        bench.engine.gate.set()
        await asyncio.gather(*held)
        return refused.value.status, await short, await status_of(bench.encoder.embed(LONG))

    assert bench.run(work) == (429, 200, 200)


def test_patient_requests_wait_until_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "ROOM_S", 0.01)
    short = ["b"] * (BUDGET // 3)

    async def patient(texts: list[str]) -> int:
        parts = bench.encoder.parts(texts, priority="bulk", is_patient=True)
        return sum([len(part.rows) async for part in parts])

    async def work() -> list[int]:
        bench.engine.gate.clear()
        held = [asyncio.create_task(bench.encoder.embed(LONG)) for _ in range(2)]
        while bench.encoder.long_requests < len(held):  # noqa: ASYNC110 (other tasks change it)
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(patient(texts)) for texts in (LONG, short)]
        await asyncio.sleep(0.05)
        assert bench.encoder.long_requests == len(held)
        bench.engine.gate.set()
        await asyncio.gather(*held)
        return await asyncio.gather(*waiting)

    assert bench.run(work) == [len(LONG), len(short)]


def test_a_client_that_leaves_a_long_request_ends_its_work_at_once(bench: Bench) -> None:
    async def work() -> tuple[int, int, int]:
        bench.engine.gate.clear()
        disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leaving = asyncio.create_task(
            status_of(bench.encoder.embed(LONG, disconnected=disconnected))
        )
        await until_entered(bench.engine)
        disconnected.set_result(None)
        status = await leaving
        left = sum(bench.encoder.queued.values()) + bench.encoder.long_requests
        bench.engine.gate.set()
        await bench.encoder.embed(["next"])
        return status, left, len(bench.engine.calls)

    assert bench.run(work) == (CLIENT_CLOSED, 0, 2)


def test_whoever_stops_asking_for_parts_ends_the_work(bench: Bench) -> None:
    async def work() -> tuple[int, int]:
        parts = bench.encoder.parts(LONG)
        first = await anext(parts)
        await parts.aclose()
        return len(first.rows), sum(bench.encoder.queued.values()) + bench.encoder.long_requests

    assert bench.run(work) == (3, 0)


def test_a_text_that_fails_is_named_by_its_place_in_the_request(bench: Bench) -> None:
    bench.engine.poison = bench.engine.token(LONG[40])

    async def work() -> tuple[str, int]:
        with pytest.raises(Problem) as failed:
            await bench.encoder.embed(LONG)
        return failed.value.what, sum(bench.encoder.queued.values()) + bench.encoder.long_requests

    what, left = bench.run(work)
    assert what.startswith("texts.40: ")
    assert left == 0


def test_uncut_long_text_is_refused_before_computing(
    bench: Bench,
) -> None:
    texts = [*LONG, "a " * 9]

    async def work() -> tuple[str, int, Embedded]:
        with pytest.raises(Problem) as refused:
            await bench.encoder.embed(texts, truncate="never")
        return refused.value.what, len(bench.engine.calls), await bench.encoder.embed(texts)

    what, calls, found = bench.run(work)
    assert what.startswith(f"texts.{len(LONG)}: 11 tokens")
    assert calls == 0
    assert found.truncated == [len(LONG)]


def test_a_long_request_that_may_not_be_cut_is_served_whole(bench: Bench) -> None:
    assert len(bench.run(lambda: bench.encoder.embed(LONG, truncate="never")).tokens) == len(LONG)
