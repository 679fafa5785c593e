from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar.web.middleware import AccessMiddleware

TOKEN = "0123456789abcdef" * 2


def opens(token: bytes | None, *headers: tuple[bytes, bytes]) -> bool:
    """Return whether a request with these headers reaches the application."""
    reached: list[dict[str, Any]] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope)

    async def nothing(*_: Any) -> Any:
        return None

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/embed"}
    scope["headers"] = [(b"host", b"localhost"), *headers]
    layer = AccessMiddleware(
        app, lambda _: pytest.fail("health"), hosts=frozenset({"localhost"}), token=token
    )
    asyncio.run(layer(scope, nothing, nothing))
    return bool(reached)


def test_without_a_token_it_is_open() -> None:
    assert opens(None)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_the_token_opens(scheme: bytes) -> None:
    assert opens(TOKEN.encode(), (b"authorization", scheme + TOKEN.encode()))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        TOKEN.encode(),
        b"Basic " + TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"0",
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.upper().encode(),
        b"Bearer x " + TOKEN.encode(),
        b"Bearer \xff",
    ],
)
def test_nothing_else_does(value: bytes) -> None:
    good = (b"authorization", b"Bearer " + TOKEN.encode())
    for headers in (
        [(b"authorization", value)],
        [good, (b"authorization", value)],
        [(b"x-authorization", good[1])],
    ):
        assert not opens(TOKEN.encode(), *headers)
