from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar.problems import Problem
from sidecar.web import admission
from sidecar.web.admission import Bodies


class Application:
    """Reads bodies, and answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.refusals: list[Problem] = []

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except Problem as problem:
            self.refusals.append(problem)
            return
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def ask(bodies: Bodies, *chunks: bytes, declared: bytes = b"") -> int:
    """Return the status of a request with these chunks; 0 if nothing was sent."""
    sent: list[Any] = []
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", declared)] if declared else []
    await bodies({"type": "http", "headers": headers}, receive, send)
    return int(sent[0]["status"]) if sent else 0


def test_bodies_are_let_in_until_they_are_too_much_together_and_again_when_some_are_done() -> None:
    async def work() -> None:
        app = Application()
        bodies = Bodies(app, max_bytes=10)
        first = asyncio.create_task(ask(bodies, b"123", b"456"))
        await asyncio.sleep(0.01)
        assert await ask(bodies, b"", declared=b"5") == 429
        assert await ask(bodies, b"12", b"345") == 0
        assert app.refusals[0].status == 429
        second = asyncio.create_task(ask(bodies, b"1234", declared=b"4"))
        await asyncio.sleep(0.01)
        app.go_on.set()
        assert [await first, await second] == [200, 200]
        assert await ask(bodies, b"1234567890", declared=b"10") == 200

    asyncio.run(work())


def test_a_body_that_is_alone_is_let_in_whatever_its_size() -> None:
    async def work() -> int:
        app = Application()
        app.go_on.set()
        return await ask(Bodies(app, max_bytes=1), b"12", b"345", declared=b"5")

    assert asyncio.run(work()) == 200


@pytest.mark.parametrize("declared", [b"-5", b"x", b"9" * 400])
def test_a_length_that_is_none_hurts_nobody(declared: bytes) -> None:
    async def work() -> int:
        app = Application()
        app.go_on.set()
        return await ask(Bodies(app, max_bytes=1), b"", declared=declared)

    assert asyncio.run(work()) == 200


@pytest.mark.parametrize(("wait_s", "said"), [(0.01, "1"), (7.4, "7"), (1e9, "60")])
def test_whoever_is_refused_is_told_when_to_come_again(wait_s: float, said: str) -> None:
    assert admission.busy("what", "why", retry_s=wait_s).headers["Retry-After"] == said


def test_other_protocols_pass_by() -> None:
    seen: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    asyncio.run(Bodies(app, max_bytes=1)({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]
