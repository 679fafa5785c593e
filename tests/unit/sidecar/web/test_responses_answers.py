from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from sidecar.web import responses
from sidecar.web.schemas import EmbedRequest


def test_large_bodies_are_read_one_after_the_other_and_not_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = threading.get_ident()
    active: set[int] = set()
    together: list[int] = []

    def parse(_body: bytes, **_: object) -> dict[str, Any]:
        assert threading.get_ident() != loop
        active.add(threading.get_ident())
        together.append(len(active))
        time.sleep(0.02)
        active.clear()
        return {"texts": []}

    async def work() -> None:
        body = bytes(responses.LARGE_BODY)
        await asyncio.gather(*(responses.validated(EmbedRequest, body) for _ in range(3)))

    monkeypatch.setattr("sidecar.web.bodies.parse", parse)
    asyncio.run(work())
    assert together == [1, 1, 1]


def test_a_small_body_is_read_at_once() -> None:
    read = responses.validated(EmbedRequest, b'{"texts": ["a"]}')
    with pytest.raises(StopIteration) as ended:
        read.send(None)
    assert ended.value.value.texts == ["a"]
