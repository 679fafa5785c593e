"""The program in its own process; the model behind it is the slow part and is made up here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bundler.bench import baseline_program
from bundler.bench.baseline import PROGRAM, Baseline
from bundler.bench.flops import Work
from bundler.bench.served import thread_settings

if TYPE_CHECKING:
    import pytest


class Model:
    max_seq_length = 8

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts], np.float32)


class Answers:
    """A worker that gives the same answer to everything."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def ask(self, **_: object) -> dict[str, Any]:
        return self.answer


def bench() -> baseline_program.Bench:
    made = baseline_program.Bench()
    made.model = Model()
    return made


def test_every_request_is_timed_by_itself() -> None:
    assert len(bench().requests([["a"], ["b", "c"]])["seconds"]) == 2
    assert bench().encode(["a", "b"])["seconds"] >= 0


def test_vectors_come_as_little_endian_floats() -> None:
    found = bench().vectors(["ab", "abc"])
    raw = base64.b64decode(found["rows"])
    assert np.frombuffer(raw, "<f4").reshape(-1, found["dim"]).tolist() == [[2, 1], [3, 1]]


def test_a_bad_question_is_answered_and_does_not_end_the_program() -> None:
    lines = [{"do": "encode", "texts": ["a"]}, {"do": "nothing"}]
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(PROGRAM)],
        input="".join(f"{json.dumps(line)}\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line)["error"] for line in done.stdout.splitlines()]
    assert "NoneType" in found[0]
    assert "AttributeError" in found[1]


def test_the_ceiling_is_known_without_any_model_and_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    products = Work(layers=1, width=16, inner=32).products(8)
    found = bench().gemm([[list(shape), count] for shape, count in products], threads=1)
    assert list(found["rates"]) == ["numpy"]
    assert found["rates"]["numpy"] > 0
    assert "numpy" in found["versions"]


def test_a_load_is_told_from_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Baseline.__new__(Baseline)
    process.threads, process.facts, process._started = 1, {}, 0.0
    process.worker = cast("Any", Answers({"import_s": 6.0, "load_s": 1.5}))
    monkeypatch.setattr(time, "perf_counter", lambda: 8.0)
    found = process.load(Path("model"), "first")
    assert (found.import_s, found.load_s, found.vector_s) == (6.0, 1.5, 8.0)


def test_every_library_is_held_to_the_same_threads() -> None:
    settings = thread_settings(3)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        assert settings[name] == "3"
