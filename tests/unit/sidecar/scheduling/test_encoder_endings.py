"""The encoder when clients leave, and when the service ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.problems import CLIENT_CLOSED, Problem
from sidecar.settings import Limits
from tests.unit.sidecar.scheduling.conftest import Bench, status_of, until_entered, until_queued

if TYPE_CHECKING:
    from sidecar.scheduling.encoder import Embedded
    from tests.support.stub_engine import Served


ONES = Limits(max_batch_rows=1)


def test_a_client_that_leaves_gives_up_its_place_and_costs_no_batch(bench: Bench) -> None:
    async def work() -> tuple[int, int]:
        bench.engine.gate.clear()
        first = asyncio.create_task(bench.encoder.embed(["x"]))
        await until_entered(bench.engine)
        disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leaving = asyncio.create_task(
            status_of(bench.encoder.embed(["y"], disconnected=disconnected))
        )
        await asyncio.sleep(0.01)
        disconnected.set_result(None)
        status = await leaving  # while the first batch still computes
        bench.engine.gate.set()
        await first
        return status, len(bench.engine.batches)

    assert bench.run(work) == (CLIENT_CLOSED, 1)


def test_a_client_that_leaves_in_its_own_batch_is_let_go_at_once() -> None:
    bench = Bench(ONES)

    async def work() -> tuple[int, Embedded]:
        bench.engine.gate.clear()
        disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request = bench.encoder.embed(["y"] * 40, disconnected=disconnected)
        leaving = asyncio.create_task(status_of(request))
        await until_entered(bench.engine)
        disconnected.set_result(None)
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


def test_a_request_that_was_let_in_is_served_while_the_service_stops() -> None:
    bench = Bench(ONES)

    async def work() -> tuple[Embedded, int]:
        bench.engine.gate.clear()
        request = asyncio.create_task(bench.encoder.embed(["x"] * 20))
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


def test_the_status_follows_loading_serving_and_stopping(bench: Bench) -> None:
    async def work() -> list[str]:
        serving = bench.encoder.status
        bench.encoder.refuse_new()
        return [serving, bench.encoder.status]

    assert bench.encoder.status == "loading"
    assert bench.run(work) == ["ok", "stopping"]


def test_closing_answers_what_waits_with_503(bench: Bench) -> None:
    async def work() -> list[int]:
        bench.engine.gate.clear()
        running = asyncio.create_task(status_of(bench.encoder.embed(["x"])))
        await until_entered(bench.engine)
        queued = asyncio.create_task(status_of(bench.encoder.embed(["y"])))
        await until_queued(bench.encoder, 3)
        bench.encoder.close(wait=False)
        late = await queued
        bench.engine.gate.set()
        return [await running, late]

    assert bench.run(work) == [200, 503]


def test_work_that_nobody_wants_any_more_is_cancelled(served: Served) -> None:
    async def work() -> list[bool]:
        ends: list[bool] = []

        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ends.append(True)
                raise

        disconnected = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, disconnected.set_result, None)
        with pytest.raises(Problem) as caught:
            await served.encoder.while_wanted(wait(), disconnected=disconnected)
        assert caught.value.status == 499
        await asyncio.sleep(0)
        return ends

    assert served.run(work()) == [True]


def test_work_that_is_wanted_gives_what_it_gives(served: Served) -> None:
    async def work() -> int:
        async def give() -> int:
            return 7

        return await served.encoder.while_wanted(give(), disconnected=asyncio.Future())

    assert served.run(work()) == 7
