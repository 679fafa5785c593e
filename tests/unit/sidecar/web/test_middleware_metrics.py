from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar.metrics import BUCKETS_S, Counts, Histogram
from sidecar.web.middleware import MetricsMiddleware


def run(app: Any, counts: Counts, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    counted = MetricsMiddleware(app, counts=counts, routes=frozenset({"/known"}))
    asyncio.run(counted(scope, receive, send))
    return sent


@pytest.mark.parametrize(("seconds", "at"), [(0.0, 0), (0.005, 0), (0.0051, 1), (10, 9), (11, 10)])
def test_a_time_is_in_the_first_bucket_that_is_not_shorter(seconds: float, at: int) -> None:
    found = Histogram()
    found.observe(seconds)
    assert found.counts.index(1) == at
    assert len(found.counts) == len(BUCKETS_S) + 1
    assert found.total_s == seconds


@pytest.mark.parametrize(("path", "route"), [("/known", "/known"), ("/known/", "other")])
def test_an_answer_is_passed_on_and_counted(path: str, route: str) -> None:
    counts = Counts()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 201})
        await send({"type": "http.response.body"})

    sent = run(app, counts, {"type": "http", "path": path})
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert counts.requests == {(route, 201): 1}
    assert sum(counts.seconds[route].counts) == 1


def test_an_application_that_raises_is_counted_as_500() -> None:
    counts = Counts()

    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(app, counts, {"type": "http", "path": "/known"})
    assert counts.requests == {("/known", 500): 1}


def test_what_is_no_request_is_not_counted() -> None:
    counts = Counts()

    async def app(scope: Any, *_: Any) -> None:
        assert scope["type"] == "lifespan"

    run(app, counts, {"type": "lifespan"})
    assert not counts.requests
