"""Bodies whose long strings stay in them until they are read."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.problems import Problem
from sidecar.scheduling.tokenizing import DeferredTexts
from sidecar.web import bodies, responses, schemas
from sidecar.web.routes import ollama, openai, tei
from tests.support.stub_engine import SNAPSHOT

if TYPE_CHECKING:
    from tests.support.stub_engine import Served

LETTERS = 'abc\\"\n é語\U0001f600[]{},:'


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LONG_BYTES", 6)
    monkeypatch.setattr(bodies, "SLICE_BYTES", 5)
    monkeypatch.setattr(bodies, "MAX_CHARS", 40)


def outcome(read: Any, body: bytes) -> Any:
    try:
        return read(body)
    except Problem as problem:
        return problem.status, problem.kind


def read_apart(body: bytes) -> dict[str, Any]:
    value, texts = bodies.parse_texts(body, ["texts"])
    return {"texts": list(texts(value["texts"]))}


@pytest.mark.parametrize("is_ascii", [True, False])
def test_texts_read_one_by_one_are_those_of_the_whole_body(*, is_ascii: bool) -> None:
    chance = random.Random(11)
    for _ in range(300):
        texts = ["".join(chance.choices(LETTERS, k=chance.randrange(20))) for _ in range(5)]
        body = json.dumps({"texts": texts}, ensure_ascii=is_ascii).encode()
        value, made = bodies.parse_texts(body, ["texts"])
        found = made(value["texts"])
        assert isinstance(found, DeferredTexts)
        assert list(found) == found[:] == texts
        assert list(found.lengths) == [len(text) for text in texts]


def test_other_fields_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LONG_BYTES", 20)
    body = b'{"normalize": false, "texts": ["a long text of many letters"], "batch_size": 2.0}'
    value, texts = bodies.parse_texts(body, ["texts"])
    assert value == {"normalize": False, "texts": value["texts"], "batch_size": 2.0}
    assert texts(value["texts"])[0] == "a long text of many letters"


def test_long_strings_of_other_fields_are_read_at_once() -> None:
    asked = {"texts": ["a long text"], "how": 'a long "prompt" é', "note": "a long note"}
    for order in (asked, dict(reversed(asked.items()))):
        value, _ = bodies.parse_texts(json.dumps(order).encode(), ["texts"], fields=asked)
        assert {**value, "texts": asked["texts"]} == asked
    value, _ = bodies.parse_texts(json.dumps(asked).encode(), ["texts"], fields=["how"])
    assert value["note"] != asked["note"]  # unknown, and left where it is


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (rb'{"texts": ["one that is fine", "short", "a lone half \ud800 of a pair"]}', "texts.2"),
        (rb'{"texts": ["one that is fine", "\ud800"]}', "texts.1"),
        (rb'{"other": ["a lone half \ud800 of a pair"], "texts": []}', "the body"),
        (rb'{"texts": {"a": "a lone half \ud800 of a pair"}}', "texts"),
        (rb'{"how": "a lone half \ud800 of a pair", "texts": []}', "how"),
    ],
    ids=range(5),
)
def test_half_a_pair_in_a_large_body_is_told_by_the_index_of_its_text(
    body: bytes, place: str
) -> None:
    with pytest.raises(Problem) as caught:
        bodies.parse_texts(body, ["texts"], fields=["how"])
    assert caught.value.what.startswith(f"{place}: ")


@pytest.mark.parametrize(
    "body",
    [
        rb'{"texts": ["a lone half \ud800 of a pair"]}',
        b'{"texts": ["not UTF-8 \xff anywhere"]}',
        b'{"texts": ["a line feed\n as it is"]}',
        rb'{"texts": ["an escape of \x none"]}',
        b'{"texts": ["a long text without an end',
        b'{"texts": ["a long text", ] }',
        b'{"texts": ["a long text"], "texts": []}',
        b'{"texts": ["a long text", \xc3\xa9]}',
    ],
    ids=range(8),
)
def test_what_is_refused_whole_is_refused_in_parts(body: bytes) -> None:
    assert outcome(read_apart, body) == outcome(bodies.parse, body)
    assert outcome(read_apart, body)[0] in (400, 422)


def test_a_text_that_is_too_long_is_not_decoded_and_keeps_its_place() -> None:
    texts = ["short", "\U0001f600" * 41, "b" * 40]
    value, made = bodies.parse_texts(
        json.dumps({"texts": texts}, ensure_ascii=False).encode(), ["texts"]
    )
    found = made(value["texts"])
    assert isinstance(found, DeferredTexts)
    assert list(found.lengths) == [5, 41, 40]


def test_another_string_that_no_text_may_be_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        read_apart(b'{"texts": [], "note": "' + b"a" * 41 + b'"}')
    assert (refused.value.status, refused.value.kind) == (422, "text-too-long")
    assert read_apart(b'{"texts": [], "note": "' + b"a" * 40 + b'"}') == {"texts": []}


def test_escapes_never_make_a_text_seem_longer_than_it_is() -> None:
    chance = random.Random(7)
    for _ in range(300):
        text = "".join(chance.choices('a\\"\nu\u20ac\U0001f600', k=chance.randrange(8, 40)))
        for is_ascii in (True, False):
            body = json.dumps(text, ensure_ascii=is_ascii).encode()
            assert bodies.LongStrings(body, max_strings=9).least_chars(0) <= len(text)


def test_more_quotes_than_json_has_are_not_followed() -> None:
    assert len(bodies.LongStrings(b'"a long text" ' * 99, max_strings=3)) == 3


def test_a_large_body_is_answered_like_the_same_texts_in_small_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["one two three \U0001f600", "four", "five six seven eight"]
    small = served.post("/embed", {"texts": texts}).json()
    monkeypatch.setattr("sidecar.web.responses.LARGE_BODY", 1)
    assert served.post("/embed", {"texts": texts}).json() == small
    assert served.post("/embed", {"texts": "a long text"}).status_code == 422
    assert served.post("/embed", {"texts": ["a long text", 7]}).status_code == 422


@pytest.mark.parametrize(
    ("path", "texts"), [("/embed", "texts"), ("/embed", "inputs"), ("/v1/embeddings", "input")]
)
def test_a_long_prompt_and_name_are_read_in_a_large_body(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str, texts: str
) -> None:
    monkeypatch.setattr(bodies, "LONG_BYTES", 10)
    asked = {texts: ["one two three"], "prompt": "a long prompt: ", "model": SNAPSHOT.repository}
    small = served.post(path, asked)
    monkeypatch.setattr("sidecar.web.responses.LARGE_BODY", 1)
    assert served.post(path, asked).json() == small.json()
    unlike = served.post(path, {**asked, "prompt": "a long prompt, and another: "})
    assert unlike.json() != small.json()
    monkeypatch.setattr(bodies, "MAX_CHARS", 4_000)
    for size in (2_001, 4_001):  # more than a prompt may have, and more than any text
        refused = served.post(path, {**asked, "prompt": "a" * size})
        assert refused.status_code in (400, 422)


KINDS = (
    *(schemas.EmbedRequest, openai.EmbeddingsRequest, ollama.OllamaRequest, ollama.PromptRequest),
    *(tei.InputsRequest, tei.SimilarityRequest, tei.TokenizeRequest),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_read_in_a_large_body_as_in_a_small_one(
    kind: type[schemas.Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: bytes) -> Any:
        try:
            asked: Any = asyncio.run(responses.validated(body, kind))
        except Problem as problem:
            return problem.kind, problem.what
        return asked.model_dump(exclude={"texts"}), list(asked.texts)

    monkeypatch.setattr(bodies, "LONG_BYTES", 40)
    monkeypatch.setattr(bodies, "MAX_CHARS", 4_000)
    one = "a text of more than so many bytes, and of one word more"
    texts: object = {"source_sentence": one, "sentences": [one]}
    if kind is not tei.SimilarityRequest:
        texts = one if kind is ollama.PromptRequest else [one]
    required = {schemas.wire_name(kind, "texts"): texts}
    for name in kind.model_fields:
        asked = {schemas.wire_name(kind, name): one, **required}
        monkeypatch.setattr(responses, "LARGE_BODY", 1 << 16)
        small = read(json.dumps(asked).encode())
        monkeypatch.setattr(responses, "LARGE_BODY", 1)
        assert read(json.dumps(asked).encode()) == small
