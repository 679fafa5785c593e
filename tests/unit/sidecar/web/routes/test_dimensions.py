"""Vectors of a model that is declared Matryoshka, cut and then normalised, on every route."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench import TINY_BERT
from bench.synthetic import write_model
from sidecar.engines.packed import engine as packed
from sidecar.models import snapshot
from sidecar.models.loader import Loaded
from tests.support.answered import problem, rows
from tests.support.stub_engine import Served
from tests.support.twins import WORDS, write_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = 4
TEXTS = [*WORDS, "", "cat"]
PLAIN = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def matryoshka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield an app around a seeded model, which is declared to have been trained for fewer."""
    folder = tmp_path_factory.mktemp("matryoshka") / "model"
    write_graph(write_model(folder, TINY_BERT, TEXTS, seed=7))
    engine = packed.load(folder, device="cpu", threads=1)
    found = replace(snapshot.from_folder(folder), least_dim=LEAST)
    made = Served(load=lambda _report: Loaded(engine=engine, snapshot=found))
    yield made
    made.close()
    shutil.rmtree(folder)


def cut(full: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    kept = full[:, :width]
    found: np.ndarray[Any, Any] = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return found


def embedded(served: Served, **asked: Any) -> Any:
    return served.post("/embed", {"texts": TEXTS, "pooling": "mean", **asked})


@pytest.mark.parametrize("width", [LEAST, 5, TINY_BERT.width - 1])
@pytest.mark.parametrize("many", [1, 900])
def test_vectors_are_the_slice_brought_to_length_1(
    matryoshka: Served, width: int, many: int
) -> None:
    asked = {"texts": TEXTS * many}
    full = rows(embedded(matryoshka, **asked))
    raw = rows(embedded(matryoshka, **asked, normalize=False))
    answer = embedded(matryoshka, **asked, dimensions=width)
    assert answer.json()["dim"] == width
    assert np.allclose(rows(answer), cut(full, width), atol=1e-6)
    assert np.allclose(rows(answer), cut(raw, width), atol=1e-6)
    unscaled = embedded(matryoshka, **asked, dimensions=width, normalize=False)
    assert np.allclose(rows(unscaled), raw[:, :width], atol=1e-6)


def test_every_width_is_a_space_of_its_own(matryoshka: Served) -> None:
    widths = [None, TINY_BERT.width, *range(LEAST, TINY_BERT.width)]
    prints = [embedded(matryoshka, dimensions=one).json()["fingerprint"] for one in widths]
    assert prints[0] == prints[1] == matryoshka.get("/info").json()["fingerprint"]
    assert len(set(prints)) == len(widths) - 1
    assert matryoshka.get("/info").json()["least_dim"] == LEAST


@pytest.mark.parametrize("width", [LEAST, TINY_BERT.width])
def test_other_apis_have_the_same_vectors(matryoshka: Served, width: int) -> None:
    ours = embedded(matryoshka, dimensions=width)
    answers = {
        "openai": matryoshka.post("/v1/embeddings", {"input": TEXTS, "dimensions": width}),
        "ollama": matryoshka.post("/api/embed", {"input": TEXTS, "dimensions": width}),
        "tei": matryoshka.post("/embed", {"inputs": TEXTS, "dimensions": width}),
    }
    found = {name: answer.json() for name, answer in answers.items()}
    vectors = {
        "openai": [one["embedding"] for one in found["openai"]["data"]],
        "ollama": found["ollama"]["embeddings"],
        "tei": found["tei"],
    }
    for name, answer in answers.items():
        assert np.array_equal(np.asarray(vectors[name], dtype=np.float32), rows(ours)), name
        assert answer.headers["x-sidecar-fingerprint"] == ours.json()["fingerprint"]


def test_raw_rows_and_documents_are_cut_too(matryoshka: Served) -> None:
    binary = {"accept": "application/octet-stream"}
    asked = {"texts": TEXTS, "dimensions": LEAST}
    answer = matryoshka.post("/embed", asked, headers=binary)
    assert answer.headers["x-sidecar-dim"] == str(LEAST)
    assert answer.content == rows(embedded(matryoshka, dimensions=LEAST)).tobytes()
    query = f"/embed-file/upload?dimensions={LEAST}&chunk_size=30&chunk_overlap=0"
    text = " ".join(TEXTS).encode()
    file = matryoshka.request("POST", query, content=text, headers=PLAIN)
    alike = embedded(matryoshka, texts=file.json()["chunks"], dimensions=LEAST)
    assert np.array_equal(rows(file), rows(alike))
    assert file.json()["dim"] == LEAST
    assert file.json()["fingerprint"] == alike.json()["fingerprint"]


@pytest.mark.parametrize("width", [1, LEAST - 1, TINY_BERT.width + 1])
def test_what_the_model_was_not_trained_for_is_refused(matryoshka: Served, width: int) -> None:
    said = problem(embedded(matryoshka, dimensions=width), 422)["detail"]
    assert f"down to {LEAST}" in said
    asked = {"input": "a", "dimensions": width}
    assert matryoshka.post("/v1/embeddings", asked).status_code == 400
    assert matryoshka.post("/embed", {"inputs": "a", "dimensions": width}).status_code == 422
    # Ollama takes more for all.
    status = 200 if width > TINY_BERT.width else 400
    assert matryoshka.post("/api/embed", asked).status_code == status


@pytest.mark.parametrize("width", [7, 9])
def test_other_models_are_never_cut(served: Served, width: int) -> None:
    problem(served.post("/embed", {"texts": ["a"], "dimensions": width}), 422)
    query = f"/embed-file/upload?dimensions={width}"
    problem(served.request("POST", query, content=b"a", headers=PLAIN), 422)
    assert served.get("/info").json()["least_dim"] is None
