from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.errors import IntegrityError, ModelError
from sidecar.models import golden
from tests.support.stub_engine import StubEngine

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["one", "two words", "three words here", "four", "five", "a b c d e f g h i j"]


def write(path: Path, rows: Any, **changes: object) -> Path:
    raw = {
        "model": "stub",
        "repository": "stub/words",
        "revision": "0" * 40,
        "pooling": "mean",
        "normalize": True,
        "dim": 8,
        "made_with": {},
        "texts": TEXTS,
        "vectors": [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows],
        **changes,
    }
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def right() -> Any:
    engine = StubEngine()
    ids = [found.ids for found in engine.tokenize(TEXTS)]
    return engine.encode(ids, pooling="mean", normalize=True)


def test_an_engine_that_gives_the_reference_vectors_may_serve(tmp_path: Path) -> None:
    path = write(tmp_path / "g.json", right())
    engine = StubEngine()
    golden.check(engine, path)
    assert engine.batches == [golden.CANARIES]
    assert golden.cosines(golden.read(path), engine) == pytest.approx([1] * len(TEXTS))


def test_an_engine_that_is_a_little_off_refuses_to_serve_and_says_how_far(tmp_path: Path) -> None:
    rows = right()
    rows[0] += np.float32(0.02) * np.array([1, -1] * 4, dtype=np.float32)
    with pytest.raises(ModelError) as caught:
        golden.check(StubEngine(), write(tmp_path / "g.json", rows))
    assert caught.value.exit_code == 11
    assert "0.99" in caught.value.why


def test_a_space_of_its_own_is_held_to_its_own_limit(tmp_path: Path) -> None:
    rows = right()
    rows[0] += np.float32(0.02) * np.array([1, -1] * 4, dtype=np.float32)
    path = write(tmp_path / "g.json", rows)
    (found,) = set(golden.cosines(golden.read(path), StubEngine()).round(3)) - {1.0}
    golden.check(StubEngine(), path, least=found - 0.001)
    with pytest.raises(ModelError, match="does not give"):
        golden.check(StubEngine(), path, least=found + 0.001)


def test_only_the_shortest_texts_are_held_to_it_at_the_start(tmp_path: Path) -> None:
    rows = right()
    rows[5] = -rows[5]  # of the longest text
    path = write(tmp_path / "g.json", rows)
    golden.check(StubEngine(), path)
    found = golden.cosines(golden.read(path), StubEngine())
    assert found.argmin() == len(TEXTS) - 1
    assert found.min() == pytest.approx(-1)


def test_off_the_cpu_all_texts_are_held_to_it(tmp_path: Path) -> None:
    rows, engine = right(), StubEngine()
    engine.device = "mps"
    golden.check(engine, write(tmp_path / "g.json", rows))
    assert engine.batches == [len(TEXTS), *[1] * len(TEXTS)]
    rows[5] = -rows[5]
    with pytest.raises(ModelError, match="does not give"):
        golden.check(engine, write(tmp_path / "g.json", rows))


@pytest.mark.parametrize("size", [1, len(TEXTS)])
def test_off_the_cpu_no_size_of_batch_may_be_wrong(tmp_path: Path, size: int) -> None:
    class Wrong(StubEngine):
        def encode(self, batch: Any, *, pooling: str, normalize: bool) -> Any:
            rows = super().encode(batch, pooling=pooling, normalize=normalize)
            return -rows if len(batch) == size else rows

    engine = Wrong()
    engine.device = "cuda"
    with pytest.raises(ModelError) as caught:
        golden.check(engine, write(tmp_path / "g.json", right()))
    assert "is -1.0" in caught.value.why


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_refuse_to_serve(tmp_path: Path, value: float) -> None:
    engine = StubEngine()
    engine.bad_value = value
    with np.errstate(all="ignore"):
        with pytest.raises(ModelError):
            golden.check(engine, write(tmp_path / "g.json", right()))
        with pytest.raises(ModelError):
            golden.check(engine, None)


@pytest.mark.parametrize(
    ("device", "name", "precision", "has_reference", "advised"),
    [
        ("mps", "packed", "exact", True, ["--device cpu", "--engine reference"]),
        ("mps", "packed", "float32", False, ["--device cpu"]),
        ("cpu", "packed", "float32", True, ["--engine reference"]),
        ("cpu", "packed", "float32", False, []),
        ("cuda", "reference", "float32", True, ["--device cpu"]),
        ("cpu", "reference", "float32", True, []),
        ("cpu", "packed", "int8", True, ["leave out --precision"]),
    ],
)
def test_nothing_is_advised_that_is_in_use_already(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    name: str,
    precision: str,
    *,
    has_reference: bool,
    advised: list[str],
) -> None:
    monkeypatch.setattr(golden, "has_reference", lambda: has_reference)
    engine = StubEngine()
    monkeypatch.setattr(engine, "device", device, raising=False)
    monkeypatch.setattr(engine, "name", name, raising=False)
    monkeypatch.setattr(engine, "precision", precision, raising=False)
    engine.bad_value = float("nan")
    for path in (write(tmp_path / "g.json", right()), None):
        with np.errstate(all="ignore"), pytest.raises(ModelError) as caught:
            golden.check(engine, path)
        options = [step for step in caught.value.next_step.split(", or ") if "--" in step]
        assert options == advised
        assert caught.value.next_step


def test_without_reference_vectors_finite_ones_do() -> None:
    golden.check(StubEngine(), None)


def test_another_width_is_no_match(tmp_path: Path) -> None:
    path = write(tmp_path / "g.json", right()[:, :4], dim=4)
    with pytest.raises(ModelError):
        golden.check(StubEngine(), path)


@pytest.mark.parametrize(
    "changes",
    [{"texts": ["a"]}, {"vectors": []}, {"vectors": ["AAAA"] * 6}, {"dim": 9}, {"pooling": None}],
    ids=str,
)
def test_a_broken_file_of_references_is_damage(tmp_path: Path, changes: dict[str, object]) -> None:
    path = write(tmp_path / "g.json", right(), **changes)
    if changes == {"pooling": None}:
        del changes["pooling"]
        raw = json.loads(path.read_bytes())
        del raw["pooling"]
        path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(IntegrityError):
        golden.read(path)


def test_a_missing_file_of_references_is_damage(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        golden.read(tmp_path / "none.json")


ROWS = np.array([[1, 0], [0, 1]], dtype=np.float32)
PAIR = golden.Golden(texts=("a", "b"), vectors=ROWS, pooling="mean", normalize=True)


def test_the_cosine_is_that_of_the_angle() -> None:
    assert PAIR.cosines([[2, 0], [1, 1]]) == pytest.approx([1, 0.5**0.5])
    assert PAIR.cosines([[0, 5], [0, -2]]) == pytest.approx([0, -1])
    assert PAIR.cosines(ROWS).min() >= golden.MIN_COSINE


@pytest.mark.parametrize(
    "row", [[0, 0], [np.nan, 1], [np.inf, 1], [np.inf, -np.inf], [1], [1, 0, 0], [], [None, 1]]
)
@pytest.mark.parametrize("place", [0, 1])
def test_what_cannot_be_compared_proves_nothing(row: Any, place: int) -> None:
    rows: Any = [[1.0, 0.0], [0.0, 1.0]]
    rows[place] = row
    assert not PAIR.cosines(rows).min() > 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_vectors_prove_nothing(count: int) -> None:
    assert PAIR.cosines([[1.0, 0.0]] * count).max() == -1


def test_the_shortest_texts_come_with_their_vectors() -> None:
    texts = ("three", "one", "two")
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = golden.Golden(texts=texts, vectors=rows, pooling="mean", normalize=True).shortest(2)
    assert found.texts == ("one", "two")
    assert found.vectors.tolist() == [[2, 3], [4, 5]]
