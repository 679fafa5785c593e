from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sidecar.batch.embedder import ADDED, Embedder
from sidecar.errors import IntegrityError, ModelError, UsageError
from sidecar.settings import Limits
from tests.support.batches import embedder, texts
from tests.support.stub_engine import PROMPTS, Served, StubEngine

WORDS = ["one", "two three", "", "four " * 30, "two three"]


def rows_of(table: pa.Table) -> np.ndarray:
    return np.array(table.column("vector").to_pylist(), dtype=np.float32)


def test_columns_are_added_behind_those_of_the_table() -> None:
    made = embedder()(pa.table({"id": [7, 8], "text": ["a b", "c"]}))
    assert made.column_names == ["id", "text", *ADDED]
    assert made.column("id").to_pylist() == [7, 8]
    assert made.schema.field("vector").type == pa.list_(pa.float32(), StubEngine.dim)
    assert made.column("tokens").to_pylist() == [4, 3]
    assert set(made.column("model").to_pylist()) == {"stub/words"}


@pytest.mark.parametrize(
    "asked",
    [{}, {"pooling": "cls"}, {"normalize": False}, {"prompt_name": "query"}, {"prompt": "so "}],
    ids=str,
)
def test_vectors_and_fingerprints_are_those_of_the_service(
    served: Served, asked: dict[str, Any]
) -> None:
    answer = served.post("/embed", {"texts": WORDS, **asked}).json()
    made = embedder(**asked)(texts(*WORDS))
    assert rows_of(made).tolist() == pytest.approx(np.array(answer["vectors"]))
    assert made.column("tokens").to_pylist() == answer["tokens"]
    assert np.flatnonzero(made.column("truncated").to_numpy()).tolist() == answer["truncated"]
    assert set(made.column("fingerprint").to_pylist()) == {answer["fingerprint"]}


def test_a_table_of_no_rows_has_the_columns_too() -> None:
    made = embedder()(texts())
    assert (made.num_rows, made.column_names) == (0, ["text", *ADDED])


def test_a_text_that_fails_is_a_row_with_its_error() -> None:
    engine = StubEngine()
    engine.poison = StubEngine.token("bad")
    made = embedder(engine)(texts("good", "so bad", None, "fine"))
    assert made.column("error").to_pylist() == [None, "text-fails", "no-text", None]
    assert [row is None for row in made.column("vector").to_pylist()] == [False, True, True, False]
    assert rows_of(made.slice(3))[0] == pytest.approx(rows_of(embedder()(texts("fine")))[0])


def test_an_engine_that_fails_on_every_text_ends_the_job() -> None:
    engine = StubEngine()
    engine.bad_value = float("nan")
    with pytest.raises(ModelError, match="fails on every text"):
        embedder(engine)(texts("one", "two"))


def test_memory_that_runs_out_is_no_error_of_a_text() -> None:
    engine = StubEngine()
    engine.poison, engine.failure = StubEngine.token("bad"), MemoryError()
    with pytest.raises(ModelError):
        embedder(engine)(texts("one", "bad"))


def test_texts_over_a_limit_and_bytes_that_are_no_text_cost_themselves() -> None:
    raw = pa.array([b"fine", b"\xff\xfe", b"long text" * 9], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    made = embedder(limits=Limits(max_text_chars=50))(pa.table({"text": broken}))
    assert made.column("error").to_pylist() == [None, "wrong-encoding", "text-too-long"]


def test_a_long_text_is_an_error_where_none_may_be_cut() -> None:
    made = embedder(truncate="never")(texts("w " * 20, "short"))
    assert made.column("error").to_pylist() == ["text-too-long", None]
    assert made.column("tokens").to_pylist() == [22, 3]


def test_the_end_of_a_long_text_is_kept_where_it_is_asked_for() -> None:
    end = " ".join(f"w{n}" for n in range(20))
    kept = embedder(truncate="left")(texts(end))
    own = embedder()(texts(" ".join(f"w{n}" for n in range(12, 20))))
    assert rows_of(kept)[0] == pytest.approx(rows_of(own)[0])


def test_half_as_many_bytes_of_a_vector_are_float16() -> None:
    made = embedder(dtype="float16")(texts("one", "two"))
    assert made.schema.field("vector").type == pa.list_(pa.float16(), StubEngine.dim)
    whole = embedder()(texts("one", "two"))
    assert rows_of(made) == pytest.approx(rows_of(whole), abs=1e-3)


def test_batches_hold_texts_of_about_one_length() -> None:
    engine = StubEngine()
    engine.best_tokens = 12
    embedder(engine)(texts(*("a " * (1 + n % 4) for n in range(40))))
    lengths = [{len(ids) for ids in batch} for batch in engine.calls if len(batch) > 1]
    assert all(max(found) - min(found) <= 1 for found in lengths)
    assert max(sum(map(len, batch)) for batch in engine.calls) <= engine.best_tokens


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (pa.table({"body": ["a"]}), "no column text"),
        (pa.table({"text": [1]}), "has no texts"),
        (pa.table({"text": ["a"], "error": ["b"]}), "has a column error already"),
    ],
    ids=["no column", "numbers", "taken"],
)
def test_a_table_that_will_not_do_is_refused(table: pa.Table, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        embedder()(table)


@pytest.mark.parametrize(
    "asked",
    [{"prompt_name": "none such"}, {"dimensions": 4}, {"pooling": "sum"}, {"prompt": "a" * 3000}],
    ids=str,
)
def test_a_space_that_the_model_does_not_have_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        embedder(**asked)


def test_texts_may_be_a_dictionary_or_large() -> None:
    coded = pa.array(["one", "two", "one"]).dictionary_encode()
    large = pa.array(["one", "two", "one"], pa.large_string())
    found = [rows_of(embedder()(pa.table({"text": column}))) for column in (coded, large)]
    assert found[0].tolist() == found[1].tolist()


def test_the_class_loads_a_bundle_and_says_what_is_wrong(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="colour is no option"):
        Embedder(str(tmp_path), colour="red")
    with pytest.raises(UsageError, match="dtype is 'float64'"):
        Embedder(str(tmp_path), dtype="float64")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="truncate is 'end'"):
        Embedder(str(tmp_path), truncate="end")  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        Embedder(str(tmp_path))


def test_a_prompt_by_its_name_and_by_its_text_is_one_space() -> None:
    named, told = embedder(prompt_name="query"), embedder(prompt=PROMPTS.texts["query"])
    assert named.fingerprint == told.fingerprint != embedder().fingerprint
