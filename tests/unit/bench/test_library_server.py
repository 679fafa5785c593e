"""The program's functions with a made-up model: the real one takes seconds to import."""

from __future__ import annotations

import copy
import json
import sys
import time
import timeit
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench import TINY_BERT, library_server
from bench.synthetic import write_model
from bench.systems import decoded
from bundler.assembly.derivation import derive
from sidecar.engines.packed import engine
from tests.unit.bench.conftest import server

if TYPE_CHECKING:
    from collections.abc import Iterator


def encode(texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_all_texts_are_encoded_in_one_timed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_server, "encoder", lambda: encode)
    answer, seconds = library_server.embed(["ab", "abc"])
    assert decoded(json.loads(json.dumps(answer))).tolist() == [[2.0, 1.0], [3.0, 1.0]]
    assert seconds >= 0


def test_the_time_to_write_a_response_is_not_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Rows(np.ndarray[Any, Any]):
        def astype(self, *_: Any, **__: Any) -> Any:
            clock[0] += 5.0
            return self

    def slow(_: list[str]) -> Rows:
        clock[0] += 2.0
        return np.zeros((1, 2), np.float32).view(Rows)

    monkeypatch.setattr(library_server, "encoder", lambda: slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert library_server.embed(["a"])[1] == 2.0


def test_matrices_are_multiplied_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer, _ = library_server.gemm([[8, 16, 16, 4], [8, 16, 32, 1]])
    assert list(answer["rates"]) == ["numpy"]
    assert answer["rates"]["numpy"] > 0


def test_products_are_weighted_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(timeit, "repeat", lambda *_, **__: [1.0])
    answer, _ = library_server.gemm([[2, 3, 5, 4], [1, 1, 1, 1]])
    assert answer["rates"]["numpy"] == (2 * 2 * 3 * 5 * 4 + 2) / 5


def test_no_products_have_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer, _ = library_server.gemm([])
    assert answer["rates"] == {"numpy": 0.0}


def test_single_texts_go_by_turns_to_library_and_service(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(texts: list[str]) -> np.ndarray[Any, Any]:
        asked.extend(texts)
        return encode(texts)

    monkeypatch.setattr(library_server, "encoder", lambda: noted)
    with server() as (connect, seen):
        found, _ = library_server.single(["a", "b"], connect().port)
    assert asked == ["a", "b"]
    assert [body["texts"] for _, body in seen.bodies] == [["a"], ["b"]]
    assert [len(seconds) for seconds in found["seconds"]] == [2, 2]
    assert [len(seconds) for seconds in library_server.single(["a"])[0]["seconds"]] == [1]
    with server(answer={"detail": "no"}) as (connect, _), pytest.raises(ValueError, match="200"):
        library_server.single(["a"], connect().port)


def test_versions_are_those_of_loaded_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tokenizers", raising=False)
    found, _ = library_server.versions()
    assert found["numpy"] == np.__version__
    assert "tokenizers" not in found


def test_fastembed_loads_the_model_as_one_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    class TextEmbedding:
        def __init__(self, name: str, **options: Any) -> None:
            assert name == told["model"]
            told.update(options)

        @staticmethod
        def add_custom_model(**options: Any) -> None:
            told.update(options)

        def embed(self, texts: list[str]) -> Iterator[np.ndarray[Any, Any]]:
            yield from encode(texts)

    kinds = SimpleNamespace(ModelSource=lambda hf: hf, PoolingType=SimpleNamespace(MEAN="MEAN"))
    monkeypatch.setitem(sys.modules, "fastembed", SimpleNamespace(TextEmbedding=TextEmbedding))
    monkeypatch.setitem(sys.modules, "fastembed.common", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fastembed.common.model_description", kinds)
    (tmp_path / "config.json").write_text('{"hidden_size": 2}')
    rows = library_server.fastembed(str(tmp_path), 3)(["ab", "abc"])
    assert rows.tolist() == [[2.0, 1.0], [3.0, 1.0]]
    assert (told["threads"], told["specific_model_path"]) == (3, str(tmp_path))
    assert (told["pooling"], told["normalization"], told["dim"]) == ("MEAN", True, 2)


def test_the_packed_engine_gets_batches_as_large_as_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "tiny", TINY_BERT, ["some text"])
    derive("tiny", model, None, weights="whole")
    service = Path(engine.__file__).parents[3]
    monkeypatch.setattr(sys, "argv", ["", "", "packed", str(model), "1", str(service), "float32"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(engine, "BEST_TOKENS", 20)
    loaded = engine.load(model, device="cpu", threads=1)
    sizes: list[int] = []

    def watched(batch: list[Any], **options: Any) -> Any:
        sizes.append(sum(map(len, batch)))
        return loaded.encode(batch, **options)

    made = copy.copy(loaded)
    vars(made)["encode"] = watched
    monkeypatch.setattr(engine, "load", lambda *_, **__: made)
    texts = ["some text", "more", "some text " * 40, "", "text"] * 3
    rows = library_server.packed(str(model), 1)(texts)
    ids = [found.ids for found in loaded.tokenize(texts)]
    whole = loaded.encode(ids, pooling="mean", normalize=True)
    assert float((rows * whole).sum(axis=1).min()) > 0.99999
    assert len(sizes) > 3
    assert all(size <= 20 or size == loaded.max_tokens for size in sizes)
