from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from sidecar.settings import Limits, Settings
from tests.support.answered import problem, rows
from tests.support.stub_engine import Served

JSON = {"content-type": "application/json"}
LONG = "w " * 20


def test_embed_keeps_the_order_and_gives_unit_vectors(served: Served) -> None:
    texts = ["one", "two words", "three short words", "one"]
    answer = served.post("/embed", {"texts": texts})
    found = rows(answer)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert (found[0] == found[3]).all()
    assert not (found[0] == found[1]).all()
    for index, text in enumerate(texts):
        assert (rows(served.post("/embed", {"texts": [text]}))[0] == found[index]).all()
    assert answer.json()["tokens"] == [3, 4, 5, 3]
    assert answer.json()["truncated"] == []


def test_an_empty_list_gives_no_vectors_and_an_empty_text_gives_one(served: Served) -> None:
    assert served.post("/embed", {"texts": []}).json()["vectors"] == []
    found = rows(served.post("/embed", {"texts": ["", " ", "\0"]}))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_ten_thousand_texts_are_split_by_the_server(served: Served) -> None:
    answer = served.post("/embed", {"texts": ["a"] * 10_000, "batch_size": 1_000_000})
    assert len(answer.json()["vectors"]) == 10_000
    assert max(served.engine.batches) == Limits().max_batch_rows


def test_normalize_false_gives_the_pooled_vector_itself(served: Served) -> None:
    raw = rows(served.post("/embed", {"texts": ["a b"], "normalize": False}))[0]
    unit = rows(served.post("/embed", {"texts": ["a b"]}))[0]
    assert np.linalg.norm(raw) > 2
    assert raw / np.linalg.norm(raw) == pytest.approx(unit, abs=1e-6)


def test_the_fingerprint_changes_with_pooling_and_normalising_only(served: Served) -> None:
    prints = [
        served.post("/embed", {"texts": ["a"], **options}).json()["fingerprint"]
        for options in ({}, {"pooling": "mean"}, {"pooling": "cls"}, {"normalize": False})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        ({"prompt_name": "query"}, "find "),
        ({"input_type": "query"}, "find "),
        ({"input_type": "document"}, "keep this "),
        ({"prompt": "any words "}, "any words "),
        ({"prompt": ""}, ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("many", [1, 3_000])
def test_a_prompt_is_read_before_every_text(
    served: Served, asked: dict[str, str], prompt: str, many: int
) -> None:
    texts = [f"text {number}" for number in range(many)]
    answer = served.post("/embed", {"texts": texts, **asked})
    plain = served.post("/embed", {"texts": [prompt + text for text in texts]})
    assert np.array_equal(rows(answer), rows(plain))
    assert answer.json()["tokens"] == plain.json()["tokens"]
    is_same = answer.json()["fingerprint"] == plain.json()["fingerprint"]
    assert is_same == (not prompt)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt_name": "other"},
        {"prompt_name": "query", "prompt": "a "},
        {"prompt_name": "query", "input_type": "query"},
        {"input_type": "passage"},
        {"prompt": "x" * 2_001},
        {"prompt": 1},
    ],
    ids=str,
)
def test_a_prompt_that_cannot_be_had_is_refused(served: Served, asked: dict[str, object]) -> None:
    found = problem(served.post("/embed", {"texts": ["a"], **asked}), 422)
    assert ("each of them" in found["why"]) == (len(asked) > 1)


def test_a_pooling_that_is_left_out_is_the_mean(served: Served) -> None:
    left_out = rows(served.post("/embed", {"texts": ["a"]}))
    assert (left_out == rows(served.post("/embed", {"texts": ["a"], "pooling": "mean"}))).all()
    assert not (left_out == rows(served.post("/embed", {"texts": ["a"], "pooling": "max"}))).all()


def test_a_text_over_the_models_length_is_reported_or_refused(served: Served) -> None:
    answer = served.post("/embed", {"texts": ["a", LONG, "b"]}).json()
    assert answer["truncated"] == [1]
    assert answer["tokens"] == [3, 22, 3]
    refused = served.post("/embed", {"texts": ["a", LONG], "truncate": False})
    assert problem(refused, 422)["detail"] == "texts.1: 22 tokens, the model reads 10"


def test_base64_and_raw_rows_carry_the_very_same_floats(served: Served) -> None:
    texts = ["a", "b c", LONG]
    plain = rows(served.post("/embed", {"texts": texts}))
    coded = served.post("/embed", {"texts": texts, "encoding": "base64"}).json()["vectors"]
    assert b"".join(map(base64.b64decode, coded)) == plain.astype("<f4").tobytes()
    raw = served.post("/embed", {"texts": texts}, headers={"accept": "application/octet-stream"})
    assert raw.content == plain.astype("<f4").tobytes()
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["x-sidecar-count"] == "3"
    assert raw.headers["x-sidecar-dim"] == "8"
    assert raw.headers["x-sidecar-truncated"] == "2"
    assert len(raw.headers["x-sidecar-fingerprint"]) == 16


def test_every_encoding_tells_how_many_tokens_the_texts_have(served: Served) -> None:
    texts = ["a", LONG, "b"]
    plain = served.post("/embed", {"texts": texts})
    coded = served.post("/embed", {"texts": texts, "encoding": "base64"})
    raw = served.post("/embed", {"texts": texts}, headers={"accept": "application/octet-stream"})
    found = {answer.headers["x-sidecar-tokens"] for answer in (plain, coded, raw)}
    assert found == {str(sum(plain.json()["tokens"]))} == {"28"}


def test_an_answer_written_on_another_thread_is_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"texts": ["a", "b c"]}
    inline = served.post("/embed", request).content
    monkeypatch.setattr("sidecar.web.responses.INLINE_VALUES", 0)
    monkeypatch.setattr("sidecar.web.responses.LARGE_BODY", 0)
    assert served.post("/embed", request).content == inline
    problem(served.post("/embed", {"texts": [1]}), 422)


def test_fields_that_v1_did_not_know_do_not_disturb(served: Served) -> None:
    answer = served.post("/embed", {"texts": ["a"], "priority": "bulk", "colour": "red"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": "a"},
        {"texts": [1]},
        {"texts": [None]},
        {"texts": ["a"], "pooling": "median"},
        {"texts": ["a"], "batch_size": 0},
        {"texts": ["a"], "normalize": "perhaps"},
        {"texts": ["a"], "encoding": "hex"},
        {"texts": ["a"], "priority": "now"},
        {"texts": ["a"], "batch_size": 10**300},
    ],
    ids=str,
)
def test_bad_fields_never_make_a_5xx(served: Served, body: dict[str, Any]) -> None:
    answer = served.post("/embed", body)
    assert answer.status_code < 500
    if body.get("batch_size") != 10**300:
        problem(answer, 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"texts": ["secret \\ud800"]}', 422),
        (b'{"texts": ["a"], "secret": NaN}', 422),
        (b'{"texts": ["secret"], "batch_size": Infinity}', 422),
        (b'{"texts": ["secret"], "batch_size": 1e400}', 422),
        (b'{"texts": ["secret \xff"]}', 400),
        ('{"texts": ["secret"]}'.encode("utf-16"), 400),
        (b'\xef\xbb\xbf{"texts": ["secret"]}', 400),
        (b'{"secret":' * 100_000, 400),
        (b'{"texts": [], "secret": ' + b"9" * 5_000 + b"}", 400),
        (b'{"secret": 1, "secret": 2}', 400),
        (b"secret", 400),
        (b"", 400),
        (b'["secret"]', 422),
        (b'{"texts": ["a"], "secret\\udfff": 1}', 422),
        (b'{"texts": {"secret": 1}}', 422),
    ],
    ids=range(15),
)
def test_bad_bodies_are_refused_without_echo(served: Served, body: bytes, status: int) -> None:
    answer = served.request("POST", "/embed", content=body, headers=JSON)
    problem(answer, status)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-encoding": "gzip"},
    ],
    ids=str,
)
def test_other_media_types_and_encodings_are_refused(
    served: Served, headers: dict[str, str]
) -> None:
    body = b'{"texts": []}'
    problem(served.request("POST", "/embed", content=body, headers=headers), 415)


def test_a_charset_beside_the_media_type_is_fine(served: Served) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = served.request("POST", "/embed", content=b'{"texts": []}', headers=headers)
    assert answer.status_code == 200


def test_texts_over_the_limits_name_index_and_limit() -> None:
    limits = Limits(max_texts=2, max_text_chars=5)
    small = Served(Settings(limits=limits))
    try:
        problem(small.post("/embed", {"texts": ["a"] * 3}), 422)
        refused = problem(small.post("/embed", {"texts": ["a", "abcdef"]}), 422)
        assert refused["detail"] == "texts.1: longer than 5 characters"
    finally:
        small.close()


def test_a_vector_that_is_not_finite_is_never_sent(served: Served) -> None:
    served.engine.bad_value = float("nan")
    refused = problem(served.post("/embed", {"texts": ["a"]}), 503)
    assert refused["type"].endswith(":engine-fails")


def test_a_text_that_the_model_fails_on_is_named_by_its_index(served: Served) -> None:
    served.engine.poison = served.engine.token("poison")
    texts = [f"text {number}" for number in range(40)]
    texts[23] = "the poison"
    refused = problem(served.post("/embed", {"texts": texts}), 422)
    assert refused["detail"] == "texts.23: the model gives no vector for this text"
    assert refused["why"] == "ValueError"
    assert "secret" not in str(refused)
    assert served.post("/embed", {"texts": texts[:23]}).status_code == 200


def test_an_unforeseen_exception_is_a_problem_without_its_message(served: Served) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    served.engine.tokenize = explode  # type: ignore[method-assign,assignment]
    answer = served.post("/embed", {"texts": ["a"]})
    assert problem(answer, 500)["why"] == "RuntimeError"
    assert "secret" not in answer.text
