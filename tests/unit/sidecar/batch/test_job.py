from __future__ import annotations

import errno
import json
import shutil
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pytest

from sidecar.batch import job
from sidecar.batch import shards as shards_of
from sidecar.batch.inputs import Block, Rows
from sidecar.errors import DiskError, IntegrityError, UsageError
from tests.support.batches import files, read, shards, write
from tests.support.stub_engine import StubEngine

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

COUNT = 35


class Ended(BaseException):
    """The end of a run, at any place: nothing of ours catches it."""


@pytest.fixture
def source(tmp_path: Path) -> Rows:
    table = pa.table(
        {"id": [f"r{n}" for n in range(COUNT)], "text": ["a b " * (n % 4) for n in range(COUNT)]}
    )
    return Rows(files(tmp_path, {"in.parquet": table}), text_column="text", id_column="id")


def lines(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / job.MANIFEST).read_bytes().splitlines()]


def test_shards_hold_every_row_in_order(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "out", source)
    made = read(tmp_path / "out")
    assert made.column("id").to_pylist() == [f"r{n}" for n in range(COUNT)]
    assert made.column("position").to_pylist() == list(range(COUNT))
    assert list(shards(tmp_path / "out")) == [f"part-{n:05d}.parquet" for n in range(4)]
    assert [line.get("rows") for line in lines(tmp_path / "out")] == [10, 10, 10, 10, 5]


# Before pyarrow 26 a file with a list of a fixed size that is null cannot be read.
def test_the_vectors_of_a_shard_are_lists_that_may_be_null(tmp_path: Path) -> None:
    table = pa.table({"text": ["a b", None, "c"]})
    made = Rows(files(tmp_path, {"in.parquet": table}), text_column="text", id_column=None)
    write(tmp_path / "out", made)
    found = read(tmp_path / "out").column("vector")
    assert found.type == pa.list_(pa.float32())
    assert [one and len(one) for one in found.to_pylist()] == [StubEngine.dim, None, StubEngine.dim]


def crash_points(count: int = 3) -> list[tuple[ModuleType, str, int]]:
    """Return where a run may end: at the how manieth call of what."""
    calls = [(shards_of, name) for name in ("_write", "digest_of", "sync")] + [(job, "_line")]
    return [(module, name, nth) for module, name in calls for nth in range(1, count)]


@pytest.mark.parametrize(("module", "name", "nth"), crash_points())
def test_a_run_that_ends_anywhere_goes_on(
    source: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    nth: int,
) -> None:
    write(tmp_path / "whole", source)
    own, calls = getattr(module, name), 0

    def ending(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Ended
        return own(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, ending)
        with pytest.raises(Ended):
            write(tmp_path / "out", source)
    finished = [str(line["file"]) for line in lines(tmp_path / "out")[1:]]
    before = {file: (tmp_path / "out" / file).stat() for file in finished}
    write(tmp_path / "out", source)
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    for file, stat in before.items():
        after = (tmp_path / "out" / file).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("key", ["id", None])
def test_an_input_without_rows_gives_their_columns(tmp_path: Path, key: str | None) -> None:
    paths = files(tmp_path, {"in.csv": "id,text\n", "one.csv": "id,text\na,b\n"})
    for path in paths:
        made = Rows([path], text_column="text", id_column=key)
        write(tmp_path / path.stem, made)
        write(tmp_path / path.stem, made)
    found = read(tmp_path / "in")
    assert (found.num_rows, list(shards(tmp_path / "in"))) == (0, ["part-00000.parquet"])
    assert found.schema == read(tmp_path / "one").schema


def test_half_a_line_of_the_manifest_is_cut_off(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "whole", source)
    data = (tmp_path / "whole" / job.MANIFEST).read_bytes()
    for at in range(0, len(data), 37):
        shutil.copytree(tmp_path / "whole", tmp_path / "out", dirs_exist_ok=True)
        (tmp_path / "out" / job.MANIFEST).write_bytes(data[:at])
        write(tmp_path / "out", source)
        assert (tmp_path / "out" / job.MANIFEST).read_bytes() == data
        assert shards(tmp_path / "out") == shards(tmp_path / "whole")


def test_a_finished_job_is_left_as_it_is(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "out", source)
    engine = StubEngine()
    write(tmp_path / "out", source, engine=engine)
    assert engine.calls == []


def test_another_job_is_refused_with_the_difference(source: Rows, tmp_path: Path) -> None:
    about = {"inputs": source.facts, "options": {"dtype": "float32"}, "fingerprint": "a"}
    with job.begin(tmp_path / "out", about):
        pass
    other = {
        "inputs": [{**source.facts[0], "path": "elsewhere", "sha256": "f00"}],
        "options": {"dtype": "float16"},
        "fingerprint": "a",
    }
    with (
        pytest.raises(UsageError, match="of another job") as caught,
        job.begin(tmp_path / "out", other),
    ):
        pass
    inputs, options = caught.value.why.split("; ")
    assert inputs.startswith("inputs.0.sha256 was ")
    assert options == 'options.dtype was "float32", and is "float16"'


def test_an_input_may_be_called_otherwise(source: Rows, tmp_path: Path) -> None:
    with job.begin(tmp_path / "out", {"inputs": source.facts, "made_by": {"version": "1"}}):
        pass
    moved = [{**source.facts[0], "path": "elsewhere"}]
    with job.begin(tmp_path / "out", {"inputs": moved, "made_by": {"version": "2"}}) as work:
        assert work.rows == 0


def test_one_input_more_is_told_by_their_number(tmp_path: Path) -> None:
    with job.begin(tmp_path / "out", {"inputs": [{"sha256": "a"}]}):
        pass
    two = {"inputs": [{"sha256": "a"}, {"sha256": "b"}]}
    with pytest.raises(UsageError) as caught, job.begin(tmp_path / "out", two):
        pass
    assert caught.value.why == "inputs was 1, and is 2"


def test_of_many_differences_some_are_told(tmp_path: Path) -> None:
    with job.begin(tmp_path / "out", {"inputs": [{"sha256": f"a{n}"} for n in range(1000)]}):
        pass
    other = {"inputs": [{"sha256": f"b{n}"} for n in range(1000)]}
    with pytest.raises(UsageError) as caught, job.begin(tmp_path / "out", other):
        pass
    assert caught.value.why.startswith('inputs.0.sha256 was "a0", and is "b0"; ')
    assert caught.value.why.endswith("; and 992 more")


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (
        job.begin(tmp_path / "out", {}),
        pytest.raises(UsageError, match="another run"),
        job.begin(tmp_path / "out", {}),
    ):
        pass
    with job.begin(tmp_path / "out", {}):
        pass


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not empty"), job.begin(tmp_path, {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["file", "file/out", "link", "link/out"])
def test_an_output_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="cannot be a folder"), job.begin(tmp_path / name, {}):
        pass


@pytest.mark.parametrize("damage", ["gone", "shorter", "other"])
def test_a_shard_that_is_not_as_it_was_ends_the_run(
    source: Rows, tmp_path: Path, damage: str
) -> None:
    write(tmp_path / "out", source)
    shard = tmp_path / "out/part-00001.parquet"
    data = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(data[:-1] if damage == "shorter" else data[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"part-00001\.parquet"):
        write(tmp_path / "out", source)


def test_a_manifest_that_is_none_ends_the_run(source: Rows, tmp_path: Path) -> None:
    write(tmp_path / "out", source)
    with (tmp_path / "out" / job.MANIFEST).open("ab") as manifest:
        manifest.write(b"nonsense\n")
    with pytest.raises(IntegrityError, match="cannot be read"):
        write(tmp_path / "out", source)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be written"), job.begin(tmp_path / ("a" * 300), {}):
        pass


def test_a_place_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(DiskError, match="out cannot be locked"), job.begin(tmp_path / "out", {}):
        pass


def block(*sizes: int, is_divisible: bool = True) -> Block:
    table = pa.table({"text": pa.array(["x" * size for size in sizes], pa.large_string())})
    return Block(items=len(sizes) if is_divisible else 1, table=table, is_divisible=is_divisible)


def counts(*blocks: Block, rows: int = 100, max_bytes: int = 100) -> list[tuple[int, int]]:
    found = job.cut(blocks, rows=rows, max_bytes=max_bytes)
    return [(one.items, one.table.num_rows) for one in found]


def test_shards_end_with_their_rows_whatever_blocks_there_are() -> None:
    assert counts(block(*[1] * 25), rows=10) == [(10, 10), (10, 10), (5, 5)]
    assert counts(*[block(*[1] * 4)] * 5, rows=10) == [(10, 10), (10, 10)]
    assert counts() == []


def test_shards_end_with_the_text_that_is_too_much() -> None:
    assert counts(block(60, 50, 99, 1, 300, 5)) == [(2, 2), (2, 2), (1, 1), (1, 1)]


def test_a_document_is_in_one_shard() -> None:
    some = [block(*[1] * 6, is_divisible=False)] * 3
    assert counts(*some, rows=10) == [(2, 12), (1, 6)]
    assert counts(*some, rows=100, max_bytes=7) == [(2, 12), (1, 6)]
