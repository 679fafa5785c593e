"""The program's functions with a made-up model: the real one takes seconds to import."""

from __future__ import annotations

import json
import sys
import time
import timeit
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import library_server
from bench.systems import decoded

if TYPE_CHECKING:
    import pytest


class Model:
    def encode(self, texts: list[str], **options: object) -> np.ndarray[Any, Any]:
        assert options["normalize_embeddings"] is True
        return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_all_texts_are_encoded_in_one_timed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_server, "model", Model)
    answer, seconds = library_server.embed(["ab", "abc"])
    assert decoded(json.loads(json.dumps(answer))).tolist() == [[2.0, 1.0], [3.0, 1.0]]
    assert seconds >= 0


def test_the_time_to_write_a_response_is_not_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Rows(np.ndarray[Any, Any]):
        def astype(self, *_: Any, **__: Any) -> Any:
            clock[0] += 5.0
            return self

    class Slow:
        def encode(self, *_: object, **__: object) -> Rows:
            clock[0] += 2.0
            return np.zeros((1, 2), np.float32).view(Rows)

    monkeypatch.setattr(library_server, "model", Slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert library_server.embed(["a"])[1] == 2.0


def test_matrices_are_multiplied_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer, _ = library_server.gemm([[8, 16, 16, 4], [8, 16, 32, 1]])
    assert list(answer["rates"]) == ["numpy"]
    assert answer["rates"]["numpy"] > 0
    assert answer["versions"]["numpy"] == np.__version__


def test_products_are_weighted_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(timeit, "repeat", lambda *_, **__: [1.0])
    answer, _ = library_server.gemm([[2, 3, 5, 4], [1, 1, 1, 1]])
    assert answer["rates"]["numpy"] == (2 * 2 * 3 * 5 * 4 + 2) / 5


def test_no_products_give_the_versions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer, _ = library_server.gemm([])
    assert answer["rates"] == {"numpy": 0.0}
