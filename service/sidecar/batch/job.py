"""A job and its output: shards, each whole or not there, and a manifest that says which there are.

A shard is written under a temporary name, synced and renamed, the folder synced, and then a line
added to the manifest. A run that is killed, or a machine that goes down, leaves whole shards, at
most one of which the manifest does not know, and perhaps a temporary file and half a line. The next
run cuts the line off and goes on after the last shard of the manifest: it writes the one after that
again, under the same name. The manifest is locked while a run lasts, so there is one at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from sidecar.batch.inputs import Block
from sidecar.batch.options import Format
from sidecar.batch.shards import Shard, Shards, shards_of, sync
from sidecar.errors import DiskError, IntegrityError, UsageError

MANIFEST = "_job.jsonl"  # readers of folders of Parquet pass over names that begin so
SCHEMA = 1
SHARD_BYTES = 1 << 26  # of texts: a shard with more ends, however few rows it has
MOST_TOLD = 8  # differences of a run
# What a later run may differ in: the same vectors come of it.
FREE = {"links", "made_by", "other_files", "path", "schema", "type"}


class BatchJob:
    """The output of one job, held by one run. `shards` are those that are finished."""

    def __init__(self, manifest: IO[bytes], shards: list[Shard], writer: Shards) -> None:
        """Hold what `begin` opened."""
        self.shards = shards
        self._manifest = manifest
        self._writer = writer

    @property
    def items(self) -> int:
        """How many items are done."""
        return sum(shard.items for shard in self.shards)

    @property
    def rows(self) -> int:
        """How many rows are written."""
        return sum(shard.rows for shard in self.shards)

    def add(self, table: pa.Table, *, items: int) -> Shard:
        """Write the next shard. Raises OSError."""
        shard = Shard(
            items=items,
            rows=table.num_rows,
            errors=table.num_rows - table.column("error").null_count,
            tokens=pc.sum(table.column("tokens")).as_py() or 0,
            **self._writer.write(table, len(self.shards)),
        )
        self._append({"type": "shard", **_fields(shard)})
        self.shards.append(shard)
        return shard

    def _append(self, entry: Mapping[str, object]) -> None:
        self._manifest.write(_line(entry))
        self._manifest.flush()
        os.fsync(self._manifest.fileno())


@contextlib.contextmanager
def begin(output: Path, about: Mapping[str, Any], form: Format = "parquet") -> Iterator[BatchJob]:
    """Yield the job `about` in the folder `output`, new or as far as earlier runs came.

    Raises UsageError for a folder that holds something else, or that another run holds,
    IntegrityError for a finished shard that is not as it was, DiskError.
    """
    about = json.loads(json.dumps(about))  # as it is read again
    writer = shards_of(form, output)
    try:
        _make(output)
        strange = [path.name for path in output.iterdir() if not path.name.startswith((".", "_"))]
        if strange and not (output / MANIFEST).is_file():
            what = f"{output} is not empty, and no job's"
            why = f"it has {strange[0]}, and no {MANIFEST}"
            raise UsageError(what, why=why, next_step="name a new folder: --output DIR")
        with (output / MANIFEST).open("a+b") as manifest:
            _lock(manifest, output)
            shards = _resume(manifest, about)
            if shards is None:
                manifest.write(_line({"type": "job", "schema": SCHEMA, **about}))
                manifest.flush()
                os.fsync(manifest.fileno())
                sync(output)
            writer.resume(shards or [])
            yield BatchJob(manifest, shards or [], writer)
    except OSError as error:
        what = f"{output} cannot be written"
        why = error.strerror or str(error)
        step = "make room or name another folder, and run the command again: it goes on"
        raise DiskError(what, why=why, next_step=step) from error


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        what = f"{output} cannot be a folder"
        why = "it or a part of its path is a file, or a link to no folder"
        raise UsageError(what, why=why, next_step="name a new folder: --output DIR") from error


def _lock(manifest: IO[bytes], output: Path) -> None:
    import fcntl  # noqa: PLC0415 (not on Windows, where no bundle has pyarrow)

    try:
        fcntl.flock(manifest.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            what = f"{output} cannot be locked"
            why = f"its file system refuses it: {error.strerror}"
            raise DiskError(what, why=why, next_step="name a folder on another one") from error
    else:
        return
    # Not as what came of that error, which at the end of a start means a limit of threads.
    what = f"another run writes to {output} now"
    raise UsageError(what, next_step="wait for it, or name another --output")


def _resume(manifest: IO[bytes], about: Mapping[str, Any]) -> list[Shard] | None:
    """Return the finished shards, None for a job without a whole first line.

    Half a line at the end, on which nothing relies yet, is cut off. Raises UsageError.
    """
    manifest.seek(0)
    data = manifest.read()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        manifest.truncate(len(whole))
    try:
        head, *lines = [json.loads(line) for line in whole.splitlines()] or [None]
        if head is None:
            return None
        before = {key: value for key, value in head.items() if key not in FREE}
        shards = [Shard(**{k: v for k, v in line.items() if k != "type"}) for line in lines]
    except (ValueError, TypeError, AttributeError) as error:
        what = f"{MANIFEST} of the output cannot be read"
        raise IntegrityError(what, why=str(error), next_step="name a new --output") from error
    if told := list(_differences(before, {k: v for k, v in about.items() if k not in FREE})):
        what = "the output is that of another job"
        more = [f"and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
        step = "run the command as it was, or name a new --output"
        raise UsageError(what, why="; ".join([*told[:MOST_TOLD], *more]), next_step=step)
    return shards


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Yield what differs between two documents, by its place in them."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        before, now = dict(enumerate(before)), dict(enumerate(now))
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            if key not in FREE:
                inner = f"{place}.{key}" if place else str(key)
                yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        was, has = (len(one) if isinstance(one, list) else one for one in (before, now))
        yield f"{place} was {json.dumps(was)}, and is {json.dumps(has)}"


def _line(entry: Mapping[str, object]) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _fields(shard: Shard) -> dict[str, object]:
    """Return what a line of the manifest says of a shard."""
    return {name: value for name, value in dataclasses.asdict(shard).items() if value is not None}


def cut(blocks: Iterable[Block], *, rows: int, max_bytes: int = SHARD_BYTES) -> Iterator[Block]:
    """Yield `blocks` put together into what shards hold.

    A shard ends with its `rows`, or with the text with which it has `max_bytes`. Where a block is
    not divisible it ends with a block. So what is in one depends on where it begins alone.
    """
    held: list[pa.Table] = []
    items = count = size = 0
    for block in blocks:
        left = block.table
        while left.num_rows:
            lengths = pc.fill_null(pc.binary_length(left.column("text")), 0)
            sizes = pc.cumulative_sum(lengths.cast(pa.int64())).to_numpy()
            taken = left.num_rows
            if block.is_divisible:
                fits = int(sizes.searchsorted(max_bytes - size)) + 1
                taken = min(taken, rows - count, fits)
            held.append(left.slice(0, taken))
            items += taken if block.is_divisible else block.items
            count, size = count + taken, size + int(sizes[taken - 1])
            left = left.slice(taken)
            if count >= rows or size >= max_bytes:
                yield Block(items=items, table=pa.concat_tables(held), is_divisible=False)
                held, items, count, size = [], 0, 0, 0
    if held:
        yield Block(items=items, table=pa.concat_tables(held), is_divisible=False)
