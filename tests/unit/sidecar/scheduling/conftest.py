"""An encoder around the stub engine, what to wait for while it works, and jobs of lengths alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.models.loader import Loaded
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.scheduler import BatchKey, Job
from sidecar.settings import Limits
from tests.support.stub_engine import SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from sidecar.scheduling.scheduler import Batch, Reservation

KEY = BatchKey("mean", normalize=True)


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


async def status_of(work: Awaitable[object]) -> int:
    try:
        await work
    except Problem as problem:
        return problem.status
    return 200


async def until_entered(engine: StubEngine) -> None:
    assert await asyncio.to_thread(engine.entered.wait, 30)


async def until_queued(encoder: Encoder, tokens: int) -> None:
    """Wait until so many tokens wait to be computed, those in work left out."""
    async with asyncio.timeout(30):
        while sum(encoder.queued.values()) < tokens:  # noqa: ASYNC110 (other threads change it)
            await asyncio.sleep(0.001)


def job(
    lengths: Iterable[int],
    *,
    key: BatchKey = KEY,
    is_interactive: bool = False,
    reservation: Reservation | None = None,
) -> Job:
    """Return a job with one text of each length."""
    ids = [[7] * length for length in lengths]
    return Job(ids, dim=2, key=key, is_interactive=is_interactive, reservation=reservation)


def lengths(batch: Batch | None) -> list[int]:
    """Return the lengths of the batch's texts, in its order."""
    assert batch is not None
    return [len(item.ids) for item in batch.items]
