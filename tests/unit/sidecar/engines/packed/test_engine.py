from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import (
    GRAPH,
    HALF_WEIGHTS,
    WEIGHTS,
    UnpackableError,
    weights_file,
)
from tests.support.clients import cosines
from tests.support.twins import ODD, WORDS, edit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.twins import Twin

SERVICE = Path(__file__).parents[5] / "service"
HEAVY = ("torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas")
TEXTS = (*WORDS, *ODD)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_texts_of_every_kind_get_the_vectors_of_sentence_transformers(
    twin: Twin, pooling: str
) -> None:
    ids = [found.ids for found in twin.packed.tokenize(TEXTS)]
    ours = twin.packed.encode(ids, pooling=pooling, normalize=True)
    theirs = twin.reference.encode(ids, pooling=pooling, normalize=True)
    assert cosines(ours, theirs).min() >= 0.99999


@pytest.mark.parametrize(
    "text",
    ["", "\0", " \n\t", "🙂🙂", "שלום עולם", "\u200f\u202e", "x" * 1_000_000, "\ufffd" * 300],
    ids=lambda text: repr(text[:12]),
)
def test_the_strangest_text_has_a_finite_unit_vector(twin: Twin, text: str) -> None:
    (found,) = twin.packed.tokenize([text])
    (row,) = twin.packed.encode([found.ids], pooling="mean", normalize=True)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_a_model_that_pools_otherwise_says_so(bert: Path, pooling: str) -> None:
    edit(bert, "1_Pooling/config.json", lambda c: c.update(pooling_mode=pooling))
    assert packed.load(bert, device="cpu", threads=1).pooling == pooling


def test_more_threads_give_the_same_vectors(twin: Twin) -> None:
    ids = [found.ids for found in twin.packed.tokenize(TEXTS)]
    two = packed.load(twin.folder, device="cpu", threads=2)
    np.testing.assert_allclose(
        two.encode(ids, pooling="mean", normalize=True),
        twin.packed.encode(ids, pooling="mean", normalize=True),
        atol=2e-6,
    )


def test_rows_belong_to_the_caller(twin: Twin) -> None:
    first = twin.packed.encode([(0, 9, 2)], pooling="mean", normalize=True)
    kept = first.copy()
    twin.packed.encode([(0, 8, 7, 2)], pooling="mean", normalize=True)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable
    assert first.flags.c_contiguous


def test_the_weights_are_the_whole_ones_where_both_are(tmp_path: Path) -> None:
    assert weights_file(tmp_path).name == HALF_WEIGHTS
    (tmp_path / WEIGHTS).write_bytes(b"")
    assert weights_file(tmp_path).name == WEIGHTS


@pytest.mark.parametrize("device", ["mps", "cuda"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: edit(f, "config.json", lambda c: c.update(hidden_size=64)), "has the shape"),
        (lambda f: edit(f, "config.json", lambda c: c.update(num_hidden_layers=3)), "has no"),
        (lambda f: (f / WEIGHTS).unlink(), "not in one"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "not a safetensors file"),
        (lambda f: (f / "tokenizer.json").unlink(), "it has no tokenizer.json"),
    ],
)
def test_an_accelerator_that_needs_no_graph_still_looks_at_the_weights(
    bert: Path, device: str, spoil: Callable[[Path], object], reason: str
) -> None:
    (bert / GRAPH).unlink()
    spoil(bert)
    with pytest.raises(UnpackableError, match=reason):
        packed.load(bert, device=device, threads=1)


def test_on_the_cpu_none_of_the_heavy_libraries_is_imported(bert: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sidecar.engines.packed import engine\n"
        "made = engine.load(Path(sys.argv[1]), device='cpu', threads=1)\n"
        "made.encode([made.tokenize(['a'])[0].ids], pooling='mean', normalize=True)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, bert],
        env={"PYTHONPATH": str(SERVICE)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "onnxruntime" in done.stdout.split()
    assert not set(HEAVY) & set(done.stdout.split())
