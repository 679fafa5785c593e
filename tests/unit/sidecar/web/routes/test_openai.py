"""OpenAI's API: what its clients send, and what they read of vectors and errors."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.answered import rows

if TYPE_CHECKING:
    from httpx2 import Response

    from tests.support.stub_engine import Served

PATHS = ["/v1/embeddings", "/embeddings", "/v1//embeddings", "/v1/embeddings/"]
LONG = "w " * 20


def vectors(answer: Response) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "list"
    assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
    assert {one["object"] for one in body["data"]} <= {"embedding"}
    return np.asarray([one["embedding"] for one in body["data"]], dtype=np.float32)


def refused(answer: Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("texts", ["one text", ["one text", "two"]])
def test_vectors_are_those_of_embed(served: Served, path: str, texts: str | list[str]) -> None:
    answer = served.post(path, {"model": "Words", "input": texts, "user": "someone"})
    listed = [texts] if isinstance(texts, str) else texts
    ours = served.post("/embed", {"texts": listed})
    assert np.array_equal(vectors(answer), rows(ours))
    assert answer.json()["model"] == "Words"
    total = sum(ours.json()["tokens"])
    assert answer.json()["usage"] == {"prompt_tokens": total, "total_tokens": total}
    assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]
    assert answer.headers["x-sidecar-model"] == ours.json()["model"]
    assert "x-sidecar-truncated" not in answer.headers


def test_base64_carries_the_very_same_floats(served: Served) -> None:
    asked = {"input": ["a", "b c"]}
    plain = vectors(served.post("/v1/embeddings", asked))
    coded = served.post("/v1/embeddings", {**asked, "encoding_format": "base64"}).json()["data"]
    found = b"".join(base64.b64decode(one["embedding"]) for one in coded)
    assert found == plain.astype("<f4").tobytes()


def test_a_null_is_a_field_that_is_left_out(served: Served) -> None:
    left_out = {"encoding_format": None, "dimensions": None, "model": None, "user": None}
    found = served.post("/v1/embeddings", {"input": "a", **left_out})
    assert np.array_equal(vectors(found), vectors(served.post("/v1/embeddings", {"input": "a"})))


def test_a_large_body_gives_the_same_vectors(served: Served) -> None:
    texts = [f"text {number} {'x' * 90}" for number in range(1_000)]
    found = vectors(served.post("/v1/embeddings", {"input": texts}))
    assert np.array_equal(found, rows(served.post("/embed", {"texts": texts})))


def test_texts_that_were_cut_are_in_a_header(served: Served) -> None:
    answer = served.post("/v1/embeddings", {"input": ["a", LONG, LONG]})
    assert answer.headers["x-sidecar-truncated"] == "1,2"


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]], [[]]])
def test_token_ids_are_refused_by_the_setting_that_sends_texts(
    served: Served, given: list[Any]
) -> None:
    error = refused(served.post("/v1/embeddings", {"input": given}), 400)
    assert "check_embedding_ctx_length=False" in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("given", [[], 3.5, None, True, ["a", 3], ["a", ["b"]], {"text": "a"}])
def test_what_is_no_text_is_refused(served: Served, given: object) -> None:
    answer = served.post("/v1/embeddings", {"input": given})
    assert "input" in refused(answer, 400)["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_a_model_that_is_not_served_is_not_found(served: Served) -> None:
    answer = served.post("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"})
    error = refused(answer, 404)
    assert error["code"] == "model_not_found"
    assert "text-embedding-3-small" not in error["message"]


@pytest.mark.parametrize(("given", "status"), [(4, 200), (3, 400), (5, 400), (0, 400)])
def test_only_the_models_own_width_can_be_had(served: Served, given: int, status: int) -> None:
    width = served.post("/embed", {"texts": ["a"]}).json()["dim"]
    answer = served.post("/v1/embeddings", {"input": "a", "dimensions": given + width - 4})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "asked", [{"prompt_name": "query"}, {"input_type": "query"}, {"prompt": "find "}], ids=str
)
def test_a_prompt_is_read_where_one_is_asked_for(served: Served, asked: dict[str, str]) -> None:
    answer = served.post("/v1/embeddings", {"input": ["one text"], **asked})
    ours = served.post("/embed", {"texts": ["one text"], **asked})
    assert np.array_equal(vectors(answer), rows(ours))
    assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]
    assert not np.array_equal(rows(ours), rows(served.post("/embed", {"texts": ["one text"]})))


@pytest.mark.parametrize(
    "asked", [{"prompt_name": "other"}, {"prompt": "a", "input_type": "query"}], ids=str
)
def test_a_prompt_that_cannot_be_had_is_refused(served: Served, asked: dict[str, str]) -> None:
    answer = served.post("/v1/embeddings", {"input": "a", **asked})
    assert refused(answer, 400)["code"] == "bad_value"


def test_models_are_listed_and_described(served: Served) -> None:
    listed = served.get("/v1/models").json()
    (model,) = listed["data"]
    assert listed["object"] == "list"
    assert model.keys() == {"id", "object", "created", "owned_by"}
    assert served.get(f"/v1/models/{model['id']}").json() == model
    assert refused(served.get("/v1/models/other"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "why"),
    [
        ("GET", "/v1/embeddings", 405, "the path has other methods"),
        ("GET", "/v1/other", 404, "no route has this path"),
        ("POST", "/v1/models", 405, "the path has other methods"),
    ],
)
def test_other_paths_and_methods_are_refused_in_the_same_form(
    served: Served, method: str, path: str, status: int, why: str
) -> None:
    message = refused(served.request(method, path), status)["message"]
    assert f"; {why}; GET /openapi.json" in message


def test_a_body_of_another_type_is_refused_in_the_same_form(served: Served) -> None:
    headers = {"content-type": "text/plain"}
    answer = served.request("POST", "/v1/embeddings", content=b"{}", headers=headers)
    assert "application/json" in refused(answer, 415)["message"]
