from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from starlette.requests import Request

from sidecar.problems import Problem
from sidecar.web import responses
from sidecar.web.schemas import EmbedRequest, Wire


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
        await asyncio.gather(*(responses.validated(body, EmbedRequest) for _ in range(3)))

    monkeypatch.setattr("sidecar.web.bodies.parse", parse)
    asyncio.run(work())
    assert together == [1, 1, 1]


def test_a_small_body_is_read_at_once() -> None:
    read = responses.validated(b'{"texts": ["a"]}', EmbedRequest)
    with pytest.raises(StopIteration) as ended:
        read.send(None)
    assert ended.value.value.texts == ["a"]


class Inputs(Wire):
    inputs: list[str]


class Texts(Wire):
    texts: list[str]


@pytest.mark.parametrize("large", [0, 1 << 20])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"texts": ["a"]}', Texts),
        (b'{"inputs": ["a"]}', Inputs),
        (b'{"inputs": ["a"], "texts": ["b"]}', Texts),
    ],
)
def test_the_keys_of_a_body_choose_what_it_is(
    body: bytes, kind: type[Wire], large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "LARGE_BODY", large)
    assert type(asyncio.run(responses.validated(body, Texts, Inputs))) is kind


def test_a_body_with_the_keys_of_none_is_refused_as_the_first() -> None:
    with pytest.raises(Problem) as caught:
        asyncio.run(responses.validated(b"{}", EmbedRequest, Inputs))
    assert caught.value.what.startswith("texts: ")


def test_a_route_of_two_kinds_says_that_it_takes_one_of_them() -> None:
    schema = responses.body_of(EmbedRequest, Inputs)["requestBody"]["content"]["application/json"]
    assert [one["title"] for one in schema["schema"]["oneOf"]] == ["EmbedRequest", "Inputs"]


BINARY = "application/octet-stream"


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json"], False),
        ([BINARY], True),
        (["Application/Octet-Stream"], True),
        (["application/json, " + BINARY], True),
        (["application/json", BINARY], True),
        ([BINARY + ";q=0"], False),
        ([BINARY + ";q=0.0, */*"], False),
        ([BINARY + "; q=0.5, application/json"], False),
        ([BINARY + ";q=0.5, application/json;q=0.4"], True),
        ([BINARY + ";q=0.5, application/json;q=0.4, */*"], True),
        ([BINARY + ";q=0.5, application/*;q=0.6"], False),
        ([BINARY + ";q=0.5;a=b, */*;q=0.501"], False),
        (["text/plain, " + BINARY + "s"], False),
    ],
)
def test_a_type_is_given_that_is_named_and_rated_no_lower_than_json(
    accept: list[str], *, is_preferred: bool
) -> None:
    headers = [(b"accept", value.encode()) for value in accept]
    request = Request({"type": "http", "headers": headers})
    assert responses.prefers(request, BINARY) is is_preferred
