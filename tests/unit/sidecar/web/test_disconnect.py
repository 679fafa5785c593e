from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.web.app import create_app
from sidecar.web.budget import Budget
from sidecar.web.middleware import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stub_engine import Served

HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]


async def ask(
    served: Served,
    body: bytes,
    left: asyncio.Event,
    *,
    path: str = "/embed",
    is_cut: bool = False,
) -> list[Any]:
    """Post to `path` as a server would, and say that the client left once `left` is set."""
    app, _ = create_app(
        served.settings,
        served.encoder,
        instance="x",
        request_stop=lambda: None,
        access_log=AccessLog(),
        budget=Budget(served.settings.limits.max_held_bytes),
    )
    sent: list[Any] = []
    pending = [{"type": "http.request", "body": body, "more_body": is_cut}]

    async def receive() -> dict[str, Any]:
        if pending:
            return pending.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": HEADERS,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8421),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/embed", {"texts": ["a"]}),
        ("/embed", {"inputs": "a"}),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
        ("/v1/embeddings", {"input": "a"}),
        ("/api/embed", {"input": "a"}),
        ("/api/embeddings", {"prompt": "a"}),
    ],
    ids=str,
)
def test_a_client_that_leaves_in_the_queue_frees_its_slot(
    served: Served, path: str, asked: dict[str, Any]
) -> None:
    async def work() -> tuple[int, int]:
        served.engine.gate.clear()
        stays, leaves = asyncio.Event(), asyncio.Event()
        body = json.dumps(asked).encode()
        first = asyncio.create_task(ask(served, body, stays, path=path))
        await asyncio.to_thread(served.engine.entered.wait, 30)
        second = asyncio.create_task(ask(served, body, leaves, path=path))
        await asyncio.sleep(0.02)
        leaves.set()
        answer = await second
        served.engine.gate.set()
        kept = await first
        assert kept[0]["status"] == 200
        return answer[0]["status"], len(served.engine.batches)

    assert served.run(work()) == (499, 1)


def test_a_client_that_leaves_is_not_kept_by_a_drive(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, answers = threading.Event(), threading.Event()

    def read(*_: object, **__: object) -> None:
        entered.set()
        answers.wait()

    async def work() -> list[Any]:
        left = asyncio.Event()
        asked = asyncio.create_task(ask(served, b'{"path": "/a.txt"}', left, path="/embed-file"))
        await asyncio.to_thread(entered.wait, 30)
        left.set()
        async with asyncio.timeout(20):
            return await asked

    monkeypatch.setattr("sidecar.documents.allowed_dirs.AllowedDirs.read", read)
    try:
        assert served.run(work())[0]["status"] == 499
    finally:
        answers.set()


@pytest.mark.parametrize("body", [b"", b'{"texts": ["a'])
@pytest.mark.parametrize(
    "path", ["/embed", "/similarity", "/tokenize", "/v1/embeddings", "/api/embed"]
)
def test_a_client_that_leaves_in_the_middle_of_its_body_costs_nothing(
    served: Served, path: str, body: bytes
) -> None:
    async def work() -> list[Any]:
        left = asyncio.Event()
        left.set()
        return await ask(served, body, left, path=path, is_cut=True)

    assert served.run(work())[0]["status"] == 499
    assert served.engine.batches == []


def test_the_watch_on_the_client_ends_with_the_request(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncio.Task[Any]] = []
    create: Callable[..., asyncio.Task[Any]] = asyncio.create_task

    def record(*arguments: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(create(*arguments, **options))
        return made[-1]

    async def work() -> list[Any]:
        monkeypatch.setattr(asyncio, "create_task", record)
        answer = await ask(served, b'{"texts": ["a"]}', asyncio.Event())
        await asyncio.sleep(0)
        return answer

    assert served.run(work())[0]["status"] == 200
    assert made
    assert all(task.done() for task in made)
