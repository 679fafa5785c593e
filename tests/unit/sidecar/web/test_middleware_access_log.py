from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import request_id
from sidecar.metrics import BUCKETS_S, Counts, Histogram
from sidecar.process.logs import FIELDS
from sidecar.web.errors import KIND
from sidecar.web.middleware import AccessLog, AccessLogMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = [(b"x-request-id", b"my-id")]


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="sidecar.requests"):
        yield


def run(
    app: Any, receive: Any, send: Any, *, counts: Counts | None = None, path: str = "/known"
) -> None:
    layer = AccessLogMiddleware(
        app, access_log=AccessLog(), counts=counts or Counts(), routes=frozenset({"/known"})
    )
    asyncio.run(layer({"type": "http", "headers": HEADERS, "path": path}, receive, send))


def pass_through(status: int, kind: str | None = "any", **options: Any) -> list[Any]:
    """Return what is sent for a request that the application answers with `status`."""
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert request_id.current() == "my-id"
        if kind is not None:
            scope[KIND] = kind
        await send({"type": "http.response.start", "status": status, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        pytest.fail("nobody asked for the body")

    run(app, receive, send, **options)
    return sent


def test_the_id_is_added_to_the_answers_own_headers() -> None:
    start, body = pass_through(200)
    assert start["headers"] == [(b"a", b"b"), (b"x-request-id", b"my-id")]
    assert body == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(("status", "level"), [(404, "INFO"), (503, "INFO"), (499, "DEBUG")])
def test_what_is_not_served_is_told_with_its_kind_and_id(
    caplog: pytest.LogCaptureFixture, status: int, level: str
) -> None:
    ids: list[str | None] = []

    def noted(_record: logging.LogRecord) -> bool:
        ids.append(request_id.current())
        return True

    caplog.handler.addFilter(noted)
    pass_through(status, "some-kind")
    assert ids == ["my-id"]
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(f"{status} some-kind after ")
    fields = vars(record)[FIELDS]
    assert (fields["status"], fields["kind"]) == (status, "some-kind")
    assert fields["milliseconds"] >= 0


def test_what_is_served_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    pass_through(200)
    assert caplog.records == []


def test_a_request_that_is_cancelled_before_its_answer_is_answered_503() -> None:
    sent: list[Any] = []

    async def app(*_: Any) -> None:
        raise asyncio.CancelledError

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        pytest.fail("nobody asked for the body")

    run(app, receive, send)
    assert sent[0]["status"] == 503
    assert (b"x-request-id", b"my-id") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["type"].endswith(":stopping")


def test_an_answer_that_is_no_problem_is_not_told_whatever_its_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pass_through(503, kind=None)
    assert caplog.records == []


def test_a_flood_of_refusals_is_told_in_a_few_lines_and_a_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [7.0]
    monkeypatch.setattr("sidecar.web.middleware.time.monotonic", lambda: now[0])
    monkeypatch.setattr("sidecar.web.middleware.LINES_PER_S", 3)
    access_log = AccessLog()
    for _ in range(10):
        access_log.tell(429, "busy", 0.001)
    assert len(caplog.records) == 3
    now[0] = 8.5
    access_log.tell(429, "busy", 0.001)
    assert [record.getMessage() for record in caplog.records[3:]] == [
        "7 more requests were not served",
        "429 busy after 1 ms",
    ]


def test_a_request_that_nobody_answered_is_not_told_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    async def nothing(*_: Any) -> Any:
        return None

    with pytest.raises(ZeroDivisionError):
        run(app, nothing, nothing)
    assert caplog.records == []
    assert request_id.current() is None


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
    sent = pass_through(201, counts=counts, path=path)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert counts.requests == {(route, 201): 1}
    assert sum(counts.seconds[route].counts) == 1


def test_an_application_that_raises_is_counted_as_500() -> None:
    counts = Counts()

    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(app, None, None, counts=counts)
    assert counts.requests == {("/known", 500): 1}
