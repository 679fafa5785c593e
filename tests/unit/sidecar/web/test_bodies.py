from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from sidecar.problems import Problem
from sidecar.web import bodies

if TYPE_CHECKING:
    from collections.abc import Sequence


def read(
    chunks: Sequence[bytes],
    *,
    declared: str | None = None,
    leaves: bool = False,
    max_bytes: int = 10,
) -> bytes:
    headers = [(b"content-type", b"application/json")]
    if declared is not None:
        headers.append((b"content-length", declared.encode()))
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": leaves or index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    if leaves:
        messages.append({"type": "http.disconnect"})
    pulled = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(pulled)

    request = Request({"type": "http", "headers": headers, "method": "POST"}, receive)
    return asyncio.run(bodies.read(request, max_bytes=max_bytes))


def test_a_body_at_the_cap_is_read_whole() -> None:
    assert read([b"12345", b"67890"]) == b"1234567890"


@pytest.mark.parametrize(("megabytes", "is_advised"), [(32, True), (1024, False)])
def test_no_larger_limit_is_advised_than_there_is(megabytes: int, *, is_advised: bool) -> None:
    with pytest.raises(Problem) as caught:
        read([], declared="9" * 20, max_bytes=megabytes << 20)
    assert "fewer texts" in caught.value.next_step
    assert ("--max-body-mb" in caught.value.next_step) is is_advised


@pytest.mark.parametrize("declared", ["11", "9" * 400])
def test_a_declared_length_over_the_cap_is_refused_unread(declared: str) -> None:
    with pytest.raises(Problem) as caught:
        read([], declared=declared)
    assert caught.value.status == 413


def test_an_undeclared_length_over_the_cap_is_refused_before_the_end() -> None:
    with pytest.raises(Problem) as caught:
        read([b"123456", b"789012", b"never asked for"])
    assert caught.value.status == 413


def test_a_client_that_leaves_in_the_middle_is_no_error_of_ours() -> None:
    with pytest.raises(Problem) as caught:
        read([b"1"], leaves=True)
    assert caught.value.status == 499


def test_numbers_and_pairs_of_surrogates_come_through() -> None:
    assert bodies.parse(b'{"a": 1.5, "b": -7, "c": "\\ud83d\\ude00"}') == {
        "a": 1.5,
        "b": -7,
        "c": "\U0001f600",
    }


def test_a_float_with_too_many_digits_is_out_of_range() -> None:
    with pytest.raises(Problem) as caught:
        bodies.parse(b'{"a": 0.' + b"1" * 5_000 + b"}")
    assert caught.value.status == 422


def test_a_word_that_looks_like_a_surrogate_is_text() -> None:
    assert bodies.parse(rb'{"a": "\\ud800"}') == {"a": r"\ud800"}


def test_every_depth_is_read_or_refused_and_none_fails() -> None:
    for depth in range(1, 1_100, 7):
        body = b'{"\\ud83d\\ude00":' * depth + b"1" + b"}" * depth
        try:
            assert isinstance(bodies.parse(body), dict)
        except Problem as problem:
            assert (problem.status, depth > 100) == (400, True)  # noqa: PT017


@pytest.mark.parametrize("depth", [1, 900])
@pytest.mark.parametrize("half", [rb'"\udfff": 1', rb'"": "\ud800"', rb'"": ["\ude00\ud83d"]'])
def test_half_a_pair_is_found_at_every_depth(depth: int, half: bytes) -> None:
    with pytest.raises(Problem) as caught:
        bodies.parse(b'{"a":' * depth + b"{" + half + b"}" + b"}" * depth)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (rb'{"texts": ["ok one", "cut \ud83d", "\ud800"], "x": 1.5}', "texts.1"),
        (rb'{"texts": ["\udc00"]}', "texts.0"),
        (rb'{"texts": ["a", ["\ud800"]]}', "texts.1"),
        (rb'{"path": "/a/\ud800.txt"}', "path"),
        (rb'{"secret": ["a", "\ud800"]}', "the body.1"),
        (rb'{"\ud800": "a"}', "the body"),
        (rb'{"a": {"b": ["\ud800"]}}', "the body"),
    ],
    ids=range(7),
)
def test_half_a_pair_is_told_by_field_and_index_of_the_text(body: bytes, place: str) -> None:
    with pytest.raises(Problem) as caught:
        bodies.parse(body, fields=("texts", "path"))
    assert (caught.value.status, caught.value.kind) == (422, "bad-value")
    assert caught.value.what.startswith(f"{place}: ")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        rb'{"texts": ["a \"quoted\" word", "back\\slash\\", "\u0022"], "normalize": true}',
        rb'{"a": "", "b": [], "c": null, "d": 18446744073709551615}',
        '{"texts": ["é😀"]}'.encode(),
    ],
    ids=range(4),
)
def test_a_body_is_read_as_json_says(body: bytes) -> None:
    assert bodies.parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": ["x", "y"], "a": "z"}',
        rb'{"a\"": 1, "a\u0022": 2}',
        b'{"b": {"a": 1, "a": 2}}',
        b"\xef\xbb\xbf{}",
    ],
    ids=range(5),
)
def test_a_key_twice_and_a_mark_of_byte_order_are_refused(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        bodies.parse(body)
    assert (caught.value.status, caught.value.kind) == (400, "bad-json")


MANY = bodies.MAX_VALUES


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b'{"texts": [' + b"0," * MANY + b"0]}", 422, "too-many-values"),
        (b'{"texts": ["", ' + b'"a",' * MANY + b'""]}', 422, "too-many-texts"),
        (b'{"a": [' + b"[]," * MANY + b"0]}", 422, "too-many-values"),
        (b"{" + b'"a":0,' * MANY + b'"b":0}', 422, "too-many-values"),
        (b" [" + b"0," * MANY + b"0]", 422, "bad-value"),
        (b'{"a":' * MANY + b"1" + b"}" * MANY, 400, "bad-json"),
        (b'{"a":' + b"[" * MANY + b"]" * MANY + b"}", 400, "bad-json"),
        (b"\xef\xbb\xbf{" + b"," * MANY, 400, "bad-json"),
        (b"one,two," * MANY, 400, "bad-json"),
    ],
    ids=range(9),
)
def test_more_values_than_a_request_has_are_refused_unread(
    body: bytes, status: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parser in ("orjson.loads", "json.loads"):
        monkeypatch.setattr(f"sidecar.web.bodies.{parser}", None)
    with pytest.raises(Problem) as caught:
        bodies.parse(body)
    assert (caught.value.status, caught.value.kind) == (status, kind)


def test_marks_in_texts_and_as_many_texts_as_are_served_are_read() -> None:
    assert bodies.parse(b'{"a": "' + b'{[,:\\"' * MANY + b'"}')["a"] == '{[,:"' * MANY
    texts = b",".join([b'"a"'] * (MANY // 2))
    assert len(bodies.parse(b'{"texts": [' + texts + b"]}")["texts"]) == MANY // 2
