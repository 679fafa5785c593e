"""Ollama's API: what its clients send, and what they read of vectors and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.models.loader import Loaded
from sidecar.models.snapshot import Description
from tests.support.answered import rows
from tests.support.stub_engine import SNAPSHOT, Served, StubEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response

LONG = "w " * 20
ALIASED = replace(SNAPSHOT, name="small", aliases=("all-small", "all-small:22m", "small-embed"))


def loaded(family: str) -> Served:
    engine = StubEngine()
    description = Description(family=family, parameters=22_713_216, size=90_000_000)
    made = Loaded(engine=engine, snapshot=ALIASED, description=description)
    return Served(engine=engine, load=lambda *_: made)


@pytest.fixture
def ollama() -> Iterator[Served]:
    """Return a service with a model that has aliases."""
    served = loaded("bert")
    yield served
    served.close()


def refused(answer: Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    return str(body["error"])


@pytest.mark.parametrize("texts", ["one text", ["one text", "two", ""]])
def test_vectors_are_those_of_embed(ollama: Served, texts: str | list[str]) -> None:
    asked = {"model": "All-Small:latest", "input": texts, "keep_alive": "5m", "options": {"a": 1}}
    answer = ollama.post("/api/embed", asked)
    ours = ollama.post("/embed", {"texts": [texts] if isinstance(texts, str) else texts})
    body = answer.json()
    assert np.array_equal(np.asarray(body["embeddings"], dtype=np.float32), rows(ours))
    assert body["model"] == "All-Small:latest"
    assert body["prompt_eval_count"] == sum(ours.json()["tokens"])
    assert body["total_duration"] > 0
    assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]


@pytest.mark.parametrize("given", [{"input": ""}, {"input": []}, {}, {"input": None}])
def test_no_text_has_no_vectors(ollama: Served, given: dict[str, Any]) -> None:
    assert ollama.post("/api/embed", {"model": "small", **given}).json()["embeddings"] == []


@pytest.mark.parametrize("route", ["embed", "embeddings", "pull", "show"])
def test_a_null_is_a_field_that_is_left_out(ollama: Served, route: str) -> None:
    fields = ("input", "prompt", "model", "name", "truncate", "dimensions", "keep_alive", "stream")
    nulls, none = ollama.post(f"/api/{route}", dict.fromkeys(fields)), {"model": "small"}
    assert nulls.status_code == 200, nulls.text
    assert (
        nulls.headers["content-type"] == ollama.post(f"/api/{route}", none).headers["content-type"]
    )


def test_the_older_route_gives_one_vector(ollama: Served) -> None:
    found = ollama.post("/api/embeddings", {"model": "small", "prompt": "one text"}).json()
    ours = rows(ollama.post("/embed", {"texts": ["one text"]}))
    assert np.array_equal(np.asarray([found["embedding"]], dtype=np.float32), ours)
    assert ollama.post("/api/embeddings", {"model": "small"}).json() == {"embedding": []}


def test_the_older_route_leaves_some_families_as_they_are_pooled() -> None:
    served = loaded("xlm-roberta")
    found = served.post("/api/embeddings", {"prompt": "one text"}).json()["embedding"]
    raw = rows(served.post("/embed", {"texts": ["one text"], "normalize": False}))
    assert np.array_equal(np.asarray([found], dtype=np.float32), raw)
    unit = served.post("/api/embed", {"input": "one text"}).json()["embeddings"]
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    served.close()


@pytest.mark.parametrize("kind", ["application/json", "text/plain;charset=UTF-8", ""])
def test_a_body_may_be_of_any_type(ollama: Served, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    content = json.dumps({"model": "small", "input": "a"}).encode()
    answer = ollama.request("POST", "/api/embed", content=content, headers=headers)
    assert len(answer.json()["embeddings"]) == 1


@pytest.mark.parametrize("origin", ["null", "http://localhost:8421", "app://obsidian.md"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_pages_are_refused_whatever_they_send(ollama: Served, origin: str, kind: str) -> None:
    headers = {"content-type": kind, "origin": origin}
    answer = ollama.request("POST", "/api/embed", content=b'{"input":"a"}', headers=headers)
    refused(answer, 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_that_a_page_caused_are_refused(ollama: Served, site: str) -> None:
    headers = {"content-type": "text/plain", "sec-fetch-site": site}
    refused(ollama.request("POST", "/api/embed", content=b"{}", headers=headers), 403)


def test_a_text_that_is_too_long_is_cut_or_refused(ollama: Served) -> None:
    answer = ollama.post("/api/embed", {"input": ["a", LONG]})
    assert answer.headers["x-sidecar-truncated"] == "1"
    error = refused(ollama.post("/api/embed", {"input": LONG, "truncate": False}), 400)
    assert "the input length exceeds the context length" in error


@pytest.mark.parametrize("given", [3, [3], [["a"]], {"a": 1}, ["a", 3], True])
def test_what_is_no_text_is_refused(ollama: Served, given: object) -> None:
    assert "input" in refused(ollama.post("/api/embed", {"input": given}), 400)


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 200), (-1, 400)])
def test_a_smaller_width_is_refused_and_a_larger_ignored(
    ollama: Served, extra: int, status: int
) -> None:
    width = len(ollama.post("/api/embed", {"input": "a"}).json()["embeddings"][0])
    answer = ollama.post("/api/embed", {"input": "a", "dimensions": width + extra})
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/api/show", "/api/pull"])
def test_a_model_that_is_not_served_is_not_found(ollama: Served, path: str) -> None:
    error = refused(ollama.post(path, {"model": "nomic-embed-text"}), 404)
    assert "small" in error
    assert "nomic" not in error


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/api/show", "/api/pull"])
@pytest.mark.parametrize(("content", "said"), [(b"", "missing request body"), (b"{", "JSON")])
def test_what_is_no_body_is_refused(ollama: Served, path: str, content: bytes, said: str) -> None:
    assert said in refused(ollama.request("POST", path, content=content), 400)


def test_the_models_names_are_listed_with_tags(ollama: Served) -> None:
    models = ollama.get("/api/tags").json()["models"]
    names = [model["name"] for model in models]
    assert names == [
        "small:latest",
        "words:latest",
        "all-small:latest",
        "all-small:22m",
        "small-embed:latest",
    ]
    for model in models:
        assert model["model"] == model["name"]
        assert (model["size"], len(model["digest"])) == (90_000_000, 64)
        assert model["capabilities"] == ["embedding"]
        assert model["details"]["family"] == "bert"
        assert model["details"]["parameter_size"] == "23M"
        assert ollama.post("/api/embed", {"model": model["name"]}).status_code == 200
    (running,) = ollama.get("/api/ps").json()["models"]
    assert running["name"] == "small:latest"
    assert running.keys() > models[0].keys()


@pytest.mark.parametrize("key", ["model", "name"])
def test_a_model_is_shown_by_either_key(ollama: Served, key: str) -> None:
    shown = ollama.post("/api/show", {key: "small"}).json()
    info = shown["model_info"]
    assert info["general.architecture"] == "bert"
    assert info["bert.context_length"] == 10
    assert info["bert.embedding_length"] == shown["details"]["embedding_length"]
    assert shown["capabilities"] == ["embedding"]
    assert {"parameters", "template", "modified_at"} <= shown.keys()


def test_a_model_that_is_served_is_pulled_at_once(ollama: Served) -> None:
    answer = ollama.post("/api/pull", {"model": "small"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == [{"status": "pulling manifest"}, {"status": "success"}]
    answer = ollama.post("/api/pull", {"name": "small", "stream": False})
    assert answer.json() == {"status": "success"}


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/api/ps"])
def test_what_is_got_has_a_head(ollama: Served, path: str) -> None:
    got, head = ollama.get(path), ollama.request("HEAD", path)
    assert got.status_code == head.status_code == 200
    assert got.content
    assert not head.content


def test_it_says_that_it_runs_and_which_version_it_speaks(ollama: Served) -> None:
    assert ollama.get("/").text == "Ollama is running"
    version = ollama.get("/api/version").json()["version"]
    assert [part.isdigit() for part in version.split(".")] == [True] * 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/generate", 400),
        ("POST", "/api/chat", 400),
        ("POST", "/api/create", 405),
        ("POST", "/api/copy", 405),
        ("POST", "/api/push", 405),
        ("DELETE", "/api/delete", 405),
        ("GET", "/api/embed", 405),
        ("GET", "/api/blobs/sha256:0", 404),
    ],
)
def test_what_is_not_answered_is_refused_in_the_same_form(
    ollama: Served, method: str, path: str, status: int
) -> None:
    refused(ollama.request(method, path, json={"model": "small"}), status)
