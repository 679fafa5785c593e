from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lance
import pyarrow as pa
import pytest

from sidecar.batch import job, shards
from sidecar.batch.inputs import Rows
from sidecar.errors import IntegrityError, UsageError
from tests.support.batches import files, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Ended(BaseException):
    """The end of a run: nothing of ours catches it."""


@pytest.fixture
def source(tmp_path: Path) -> Rows:
    table = pa.table({"text": ["a b " * (n % 4) for n in range(35)]})
    return Rows(files(tmp_path, {"in.parquet": table}), text_column="text", id_column=None)


def ending(own: Callable[..., Any], nth: int) -> Callable[..., Any]:
    calls = 0

    def call(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Ended
        return own(*given)

    return call


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(("module", "name"), [(shards, "sync"), (job, "_line")])
def test_a_dataset_has_every_row_once_wherever_a_run_ended(
    source: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    nth: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, ending(getattr(module, name), nth))
        with pytest.raises(Ended):
            write(tmp_path / "out", source, form="lance")
    write(tmp_path / "out", source, form="lance")
    made = lance.dataset(tmp_path / "out" / shards.DATASET).to_table()
    assert made.column("position").to_pylist() == list(range(35))
    lines = (tmp_path / "out" / job.MANIFEST).read_bytes().splitlines()[1:]
    assert [json.loads(line)["rows"] for line in lines] == [10, 10, 10, 5]


def test_a_finished_dataset_keeps_what_others_add_to_it(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "out", source, form="lance")
    place = tmp_path / "out" / shards.DATASET
    lance.dataset(place).create_scalar_index("position", "BTREE")
    version = lance.dataset(place).version
    write(tmp_path / "out", source, form="lance")
    assert lance.dataset(place).version == version
    assert len(lance.dataset(place).describe_indices()) == 1


def test_a_dataset_that_is_not_as_it_was_ends_the_run(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "out", source, form="lance")
    place = tmp_path / "out" / shards.DATASET
    lance.dataset(place).delete("position < 3")
    lance.dataset(place).cleanup_old_versions(retain_versions=1)
    with pytest.raises(IntegrityError, match="not as it was"):
        write(tmp_path / "out", source, form="lance")


def test_without_its_library_a_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="needs pylance"), job.begin(tmp_path / "out", {}, "lance"):
        pass
    assert not (tmp_path / "out").exists()
