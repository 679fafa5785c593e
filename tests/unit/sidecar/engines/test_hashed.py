"""The engine of hashed words: no model, but vectors that behave like some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.engines import hashed
from sidecar.engines.hashed import HashEngine
from sidecar.errors import ModelError
from sidecar.models import golden, loader
from sidecar.settings import Settings
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.engines import Vectors


def rows(*texts: str, pooling: str = "mean", normalize: bool = True) -> Vectors:
    engine = HashEngine()
    ids = [found.ids for found in engine.tokenize(texts)]
    return engine.encode(ids, pooling=pooling, normalize=normalize)


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "a", "hello world", "\0", "🙂🙂", "שלום עולם", "x" * 100_000, "\ud800", "!?" * 9],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_every_text_has_a_finite_unit_vector(text: str, pooling: str) -> None:
    (row,) = rows(text, pooling=pooling)
    assert row.shape == (384,)
    assert row.dtype == np.float32
    assert np.isclose(np.linalg.norm(row), 1)


def test_texts_that_share_words_are_nearer_than_texts_that_do_not() -> None:
    query, near, part, far = rows(
        "How do I bake bread?",
        "baking bread at home: how to bake a loaf",
        "a bakery",
        "quarterly tax filing",
    )
    assert query @ near > query @ part > query @ far
    assert query @ near > 0.3
    assert abs(query @ far) < 0.15


def test_a_long_text_keeps_its_beginning_or_its_end() -> None:
    first, last = "first " * 600, "last " * 600
    [right], [left] = (
        HashEngine().tokenize([first + last], keeps_end=one) for one in (False, True)
    )
    [only_first], [only_last] = HashEngine().tokenize([first]), HashEngine().tokenize([last])
    assert (right.ids, left.ids) == (only_first.ids, only_last.ids)
    assert right.length == left.length == 1_202


def test_case_and_order_do_not_matter_and_words_do() -> None:
    one, other, third = rows("The Cat sat", "sat the cat", "the dog sat")
    assert np.allclose(one, other, atol=1e-6)
    assert one @ third < 0.95


def test_a_vector_does_not_depend_on_the_texts_beside_it_nor_on_the_process() -> None:
    alone = rows("a harbour at dawn")
    assert np.array_equal(alone[0], rows("boats", "a harbour at dawn")[1])
    program = (
        "from sidecar.engines.hashed import HashEngine\n"
        "engine = HashEngine()\n"
        "ids = [t.ids for t in engine.tokenize(['a harbour at dawn'])]\n"
        "print(engine.encode(ids, pooling='mean', normalize=True).tobytes().hex())\n"
    )
    service = str(Path(loader.__file__).parents[2])
    for seed in ("0", "1"):
        environment = {"PYTHONPATH": service, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == alone.tobytes().hex()


def test_unnormalised_vectors_have_the_length_they_have() -> None:
    (row,) = rows("one two three four", normalize=False)
    assert not np.isclose(np.linalg.norm(row), 1)


def test_words_that_cancel_each_other_out_have_a_vector_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = hashed._features(hashed.START)
    made: list[Vectors] = [np.ones(384, dtype=np.float32), -np.ones(384, dtype=np.float32)]

    def features(number: int) -> Vectors:
        return nothing if number == hashed.START else made[number % 2]

    monkeypatch.setattr(hashed, "_features", features)
    assert np.array_equal(hashed._row([0, 4, 5, 1], "mean"), nothing)


def test_long_texts_are_cut_and_said_to_be() -> None:
    short, long = HashEngine().tokenize(["a b", "w " * 600])
    assert (len(short.ids), short.length, short.is_truncated) == (4, 4, False)
    assert (len(long.ids), long.length, long.is_truncated) == (512, 602, True)


def test_spans_are_the_words_and_signs() -> None:
    text = "Well, yes"
    assert [text[a:b] for a, b in HashEngine().spans(text)] == ["Well", ",", "yes"]
    assert HashEngine().unknown(text) == (0, 3)


def test_no_word_is_a_special_token() -> None:
    ids = HashEngine().tokenize(["\0 \x01 a", ""])
    assert ids[1].ids == (hashed.START, hashed.END)
    assert min(ids[0].ids[1:-1]) > hashed.END


def test_it_is_never_taken_for_a_models_engine() -> None:
    engine: Any = HashEngine()
    with pytest.raises(ModelError, match="does not give any model's vectors"):
        golden.check(engine, None)


class _Silent:
    def write_event(self, event: object, data: object) -> None:
        """Say nothing."""


@pytest.fixture
def hashing() -> Iterator[Served]:
    settings = Settings(engine="hash")
    made = Served(settings, load=lambda report: loader.load(settings, _Silent(), report))
    yield made
    made.close()


def test_whoever_asks_is_told_that_it_is_no_model(
    hashing: Served, caplog: pytest.LogCaptureFixture
) -> None:
    health, info = hashing.get("/health").json(), hashing.get("/info").json()
    assert health["status"] == "ok"
    assert health["model"] == info["model_id"] == "sidecar/hash"
    assert health["degraded"] == info["degraded"] == "hash"
    assert info["engine"] == "hash"
    assert "--engine hash is for tests alone" in info["degraded_because"]
    assert info["unpacked_because"] == "--engine hash was given"
    loader.load(hashing.settings, _Silent(), lambda _: None)
    assert "--engine hash is for tests alone" in caplog.text


def test_its_vectors_go_over_the_wire_in_a_space_of_their_own(hashing: Served) -> None:
    answer = hashing.post("/embed", {"texts": ["hello world", "w " * 600]}).json()
    assert np.allclose(answer["vectors"][0], rows("hello world")[0])
    assert (answer["dim"], answer["tokens"], answer["truncated"]) == (384, [4, 602], [1])
    assert answer["fingerprint"] == hashing.get("/info").json()["fingerprint"]
