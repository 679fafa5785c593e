"""What shards are written as: files of Parquet, or versions of a Lance dataset."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from sidecar.batch.inputs import digest_of
from sidecar.batch.options import Format
from sidecar.errors import IntegrityError, UsageError

DATASET = "vectors.lance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A finished shard: how much of the job it holds, and what it is known by.

    That is its sha256 for a file of its own, and its `version` in a dataset.
    """

    file: str
    items: int
    rows: int
    errors: int
    tokens: int
    bytes: int = 0
    sha256: str = ""
    version: int | None = None


class Shards(Protocol):
    """Writes tables into a folder, one after the other, so that none is there in part."""

    def resume(self, finished: Sequence[Shard]) -> None:
        """Leave what `finished` names and nothing of later ones. Raises IntegrityError."""

    def write(self, table: pa.Table, number: int) -> dict[str, Any]:
        """Write the shard `number` to the disk; return the fields that it is known by."""


class ParquetShards:
    """Files that are written under a temporary name, synced, and renamed."""

    def __init__(self, output: Path) -> None:
        """Write into `output`."""
        self._output = output

    def resume(self, finished: Sequence[Shard]) -> None:
        """Leave what `finished` names: a file more is written again, under the same name."""
        for shard in finished:
            self._require(shard)
        for left in self._output.glob(".part-*.tmp"):
            left.unlink()

    def write(self, table: pa.Table, number: int) -> dict[str, Any]:
        """Write the shard `number`."""
        name = f"part-{number:05d}.parquet"
        place, temporary = self._output / name, self._output / f".{name}.tmp"
        with temporary.open("wb") as written:
            _write(table, written)
            written.flush()
            os.fsync(written.fileno())
        digest, size = digest_of(temporary), temporary.stat().st_size
        temporary.replace(place)
        sync(self._output)
        return {"file": name, "bytes": size, "sha256": digest}

    def _require(self, shard: Shard) -> None:
        place = self._output / shard.file
        is_there = place.is_file()
        if is_there and place.stat().st_size == shard.bytes and digest_of(place) == shard.sha256:
            return
        what = f"{place.name} of the output is {'not as it was' if is_there else 'gone'}"
        why = "the job's manifest has its sha256, and later rows stand in later files"
        raise IntegrityError(what, why=why, next_step="bring it back, or name a new --output")


def _write(table: pa.Table, written: IO[bytes]) -> None:
    """Write a shard: what repeats as a dictionary, and vectors, which do not pack, as they are.

    Vectors are lists without a fixed size, which Parquet does not have: Arrow's library before 26
    reads no file in which one of a fixed size is null (https://github.com/apache/arrow/issues/35692).
    """
    names = table.column_names
    place = names.index("vector")
    vectors = table.column(place)
    table = table.set_column(place, "vector", vectors.cast(pa.list_(vectors.type.value_type)))
    packed = {name: "zstd" for name in names if name != "vector"}
    pq.write_table(
        table,
        written,
        use_dictionary=[n for n in ("error", "model", "fingerprint", "losses") if n in names],
        compression={**packed, "vector.list.element": "none"},
        write_statistics=["position"],
    )


class LanceShards:
    """Versions of one dataset, each with the rows of one shard more; lance commits them."""

    def __init__(self, output: Path) -> None:
        """Write into a dataset in `output`."""
        self._place = output / DATASET
        self._known: int | None = None  # the version to go back to, 0 for none

    def resume(self, finished: Sequence[Shard]) -> None:
        """Go back to the version of the last of `finished`, once there is more to write.

        A job that is done leaves what others have done to its dataset, as building an index.
        """
        import lance  # noqa: PLC0415 (where it was asked for)

        version = self._known = finished[-1].version if finished else 0
        if not finished:
            return
        try:
            last = lance.dataset(self._place, version=version)
            is_whole = last.count_rows() == sum(shard.rows for shard in finished)
        except (OSError, ValueError) as error:
            raise self._damaged(str(error).partition("\n")[0]) from error
        if not is_whole:
            raise self._damaged("it has other rows than the job's manifest says")

    def write(self, table: pa.Table, number: int) -> dict[str, Any]:
        """Add the rows of the shard `number`."""
        del number
        import lance  # noqa: PLC0415 (as above)

        version, self._known = self._known, None
        if version == 0 and self._place.is_dir():  # of a run that ended before its first line
            shutil.rmtree(self._place)
        if version and lance.dataset(self._place).version != version:
            lance.dataset(self._place, version=version).restore()
        before = set(self._place.rglob("*")) if self._place.is_dir() else set()
        made = lance.write_dataset(table, self._place, mode="append")
        for path in (set(self._place.rglob("*")) - before) | {self._place, self._place.parent}:
            sync(path)
        for folder in self._place.iterdir():
            sync(folder)
        return {"file": DATASET, "version": made.version}

    def _damaged(self, why: str) -> IntegrityError:
        what = f"{DATASET} of the output is not as it was"
        return IntegrityError(what, why=why, next_step="bring it back, or name a new --output")


def shards_of(form: Format, output: Path) -> Shards:
    """Return what writes shards in this form. Raises UsageError where its library is missing."""
    if form == "parquet":
        return ParquetShards(output)
    if importlib.util.find_spec("lance") is None:
        what = "--format lance needs pylance, which is not here"
        step = "run the service's folder by a CPython 3.11 that has it, or leave out --format"
        raise UsageError(what, why="no bundle brings it", next_step=step)
    return LanceShards(output)


def sync(path: Path) -> None:
    """Have a file or folder written to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
