"""The API of text-embeddings-inference, on the path of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.answered import problem, rows

if TYPE_CHECKING:
    from httpx2 import Response

    from tests.support.stub_engine import Served

LONG = "w " * 20


def refused(answer: Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error", "error_type"}
    assert body["error_type"] == "Validation"
    return str(body["error"])


@pytest.mark.parametrize("texts", ["one text", ["one text", "two"]])
def test_inputs_get_a_bare_list_of_the_same_vectors(served: Served, texts: str | list[str]) -> None:
    answer = served.post("/embed", {"inputs": texts, "truncate": True, "parameters": {}})
    ours = served.post("/embed", {"texts": [texts] if isinstance(texts, str) else texts})
    found = np.asarray(answer.json(), dtype=np.float32)
    assert np.array_equal(found, rows(ours))
    assert answer.headers["x-compute-tokens"] == str(sum(ours.json()["tokens"]))
    assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]


def test_vectors_may_be_left_as_they_are_pooled(served: Served) -> None:
    found = served.post("/embed", {"inputs": "a b", "normalize": False}).json()
    raw = rows(served.post("/embed", {"texts": ["a b"], "normalize": False}))
    assert np.array_equal(np.asarray(found, dtype=np.float32), raw)


def test_a_large_body_gives_the_same_vectors(served: Served) -> None:
    texts = [f"text {number} {'x' * 90}" for number in range(1_000)]
    found = np.asarray(served.post("/embed", {"inputs": texts}).json(), dtype=np.float32)
    assert np.array_equal(found, rows(served.post("/embed", {"texts": texts})))


def test_texts_and_inputs_are_never_guessed_between(served: Served) -> None:
    assert (
        "one of them"
        in problem(served.post("/embed", {"texts": ["a"], "inputs": ["a"]}), 422)["detail"]
    )
    assert "texts" in problem(served.post("/embed", {"other": ["a"]}), 422)["detail"]


@pytest.mark.parametrize(
    "asked",
    [
        {"inputs": [1, 2]},
        {"inputs": [[1, 2]]},
        {"inputs": 7},
        {"inputs": None},
        {"inputs": ["a", 1]},
        {"inputs": "a", "normalize": "yes"},
        {"inputs": "a", "truncation_direction": "Middle"},
        {"inputs": "a", "truncation_direction": None},
        {"inputs": "a", "prompt_name": "other"},
        {"inputs": "a", "prompt_name": "query", "input_type": "query"},
        {"inputs": "a", "dimensions": 2},
        {"inputs": LONG, "truncate": False},
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused_in_its_form(served: Served, asked: dict[str, Any]) -> None:
    refused(served.post("/embed", asked), 422)


@pytest.mark.parametrize("asked", [{"prompt_name": "query"}, {"input_type": "query"}])
def test_texts_are_read_behind_a_prompt(served: Served, asked: dict[str, str]) -> None:
    answer = served.post("/embed", {"inputs": "one text", **asked})
    ours = served.post("/embed", {"texts": ["one text"], **asked})
    assert np.array_equal(np.asarray(answer.json(), dtype=np.float32), rows(ours))
    assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]


def test_no_text_at_all_has_a_kind_of_its_own(served: Served) -> None:
    answer = served.post("/embed", {"inputs": []})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "Empty")
    assert len(served.post("/embed", {"inputs": ""}).json()) == 1


def test_a_long_text_is_cut_and_said_so(served: Served) -> None:
    assert served.post("/embed", {"inputs": LONG}).headers["x-sidecar-truncated"] == "0"


@pytest.mark.parametrize("many", [1, 2_000])
@pytest.mark.parametrize("direction", ["Left", "left", "Right", "right"])
def test_a_long_text_keeps_the_end_that_is_asked_for(
    served: Served, direction: str, many: int
) -> None:
    first, last = (
        [f"first{number}" for number in range(8)],
        [f"last{number}" for number in range(8)],
    )
    asked = {"inputs": [" ".join(first + last)] * many, "truncation_direction": direction}
    answer = served.post("/embed", asked)
    kept = last if direction.lower() == "left" else first
    ours = rows(served.post("/embed", {"texts": [" ".join(kept)]}))
    found = np.asarray(answer.json(), dtype=np.float32)
    assert np.allclose(found, ours.repeat(many, axis=0), atol=1e-6)
    assert answer.headers["x-sidecar-truncated"].startswith("0" if many == 1 else "count=")
    refused(served.post("/embed", {**asked, "truncate": False}), 422)


def test_texts_are_compared_with_one(served: Served) -> None:
    asked = {"source_sentence": "one text", "sentences": ["one text", "two", ""]}
    found = served.post("/similarity", {"inputs": asked}).json()
    ours = rows(served.post("/embed", {"texts": ["one text", "two", ""]}))
    assert found == pytest.approx(list(ours @ ours[0]), abs=1e-6)
    assert served.post("/similarity", {"inputs": {**asked, "sentences": []}}).json() == []


def test_compared_texts_are_read_as_the_parameters_say(served: Served) -> None:
    texts = {"source_sentence": "one text", "sentences": ["two"]}
    asked = {"inputs": texts, "parameters": {"prompt_name": "query"}}
    found = served.post("/similarity", asked)
    ours = rows(served.post("/embed", {"texts": ["find one text", "find two"]}))
    assert found.json() == pytest.approx([float(ours[1] @ ours[0])], abs=1e-6)
    assert served.post("/similarity", {"inputs": texts, "parameters": None}).is_success
    wrongs: list[object] = [{"prompt_name": "other"}, {"truncate": "no"}, []]
    for wrong in wrongs:
        refused(served.post("/similarity", {"inputs": texts, "parameters": wrong}), 422)
    first, last = "one " * 8, "two " * 8
    long = {"source_sentence": last, "sentences": [first + last]}
    left = served.post(
        "/similarity", {"inputs": long, "parameters": {"truncation_direction": "Left"}}
    )
    assert left.json() == pytest.approx([1.0], abs=1e-6)
    refused(served.post("/similarity", {"inputs": long, "parameters": {"truncate": False}}), 422)


@pytest.mark.parametrize("asked", [{}, {"inputs": "a"}, {"inputs": {"source_sentence": "a"}}])
def test_what_is_no_comparison_is_refused(served: Served, asked: dict[str, Any]) -> None:
    refused(served.post("/similarity", asked), 422)


def test_info_has_the_keys_of_both(served: Served) -> None:
    info = served.get("/info").json()
    assert info["model_id"] == "stub/words"
    assert info["max_client_batch_size"] == info["limits"]["max_texts"]
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == info["max_tokens"]
