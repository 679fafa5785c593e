"""`embedding_sidecar embed`: a job from its inputs to its last shard."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc

from sidecar import __version__
from sidecar.batch import inputs, job, options, ray_environment
from sidecar.batch.actor import Task, known
from sidecar.batch.embedder import ADDED, TableEmbedder, Unheard, refused, validated
from sidecar.batch.folders import Chunker, Documents, Folders
from sidecar.batch.inputs import Listed, Rows, Source
from sidecar.batch.shards import Shard, shards_of
from sidecar.documents.chunking import Chunking
from sidecar.errors import DiskError, UsageError
from sidecar.models.loader import Loaded, load
from sidecar.problems import Problem
from sidecar.process import limits, stdio
from sidecar.settings import Settings
from sidecar.web.schemas import FileOptions

# What an output of documents has of each chunk, between a row's position and its vector.
OF_CHUNKS = ("chunk", "page", "start", "end", "text", "losses")
# Options that a job is known by beside those of a request.
OWN_OPTIONS = ("format", "text_column", "id_column", "dtype", "truncate", "shard_rows")
LINE_S, REWRITTEN_S = 10.0, 0.5


def run(settings: Settings, told: argparse.Namespace) -> None:
    """Embed what `told` names, or go on with it. Raises ServiceError.

    The last line on stdout is what the output has, as JSON.
    """
    _require_outside(settings.bundle, told.output)
    _end_when_told()
    out = stdio.private_stdout()
    if told.ray is not None:
        _require_ray(told.ray)
    found = inputs.listed(told.inputs)
    shards_of(told.format, told.output)  # which a library may be missing for
    options.refuse_unread(told, is_of_rows=bool(found.files))
    asked = validated(options.asked(told))
    # None is one that was closed at the start, whose descriptor is the null device's by now.
    progress = Progress(sys.stderr or os.fdopen(2, "w"))
    progress.say("reading the inputs")
    # Before the model: what is wrong with them is known in a moment.
    read = _read(settings, found, told)
    if isinstance(read, Folders):
        progress.say(read.summary())
    progress.say("loading the model")
    loaded = load(settings, Unheard(), lambda _: None)
    embedder = TableEmbedder(
        settings,
        loaded,
        asked,
        dtype=told.dtype,
        truncate=told.truncate,
        on_progress=progress.add,
    )
    about = _about(told, read.facts, embedder, asked)
    chunking = _chunking(loaded, asked, embedder)
    with contextlib.ExitStack() as stack:
        progress.say("checking the output")  # whose shards are read again, if it has any
        work = stack.enter_context(job.begin(told.output, about, told.format))
        source: Source
        embed_table: Callable[[pa.Table], pa.Table] = embedder
        if told.ray is not None and len(read):
            task = Task(
                settings=settings,
                asked=asked,
                dtype=told.dtype,
                truncate=told.truncate,
                chunking=chunking,
                expected=known(loaded, embedder),
            )
            source = stack.enter_context(_on_cluster(told, read, task, progress))
            embed_table = pa.Table.combine_chunks  # the actors have; as one machine writes it
        elif isinstance(read, Rows):
            source = read
        else:
            chunker = Chunker(settings, loaded, chunking)
            source = Documents(read, stack.enter_context(contextlib.closing(chunker)))
        embed(work, source, embed_table, shard_rows=told.shard_rows, progress=progress)
    summary = {
        "output": str(told.output),
        "rows": work.rows,
        "errors": sum(shard.errors for shard in work.shards),
        "tokens": sum(shard.tokens for shard in work.shards),
        "shards": len(work.shards),
        "model": embedder.model,
        "fingerprint": embedder.fingerprint,
    }
    try:
        with os.fdopen(out, "w", encoding="utf-8", errors="surrogateescape") as stdout:
            stdout.write(f"{json.dumps(summary, ensure_ascii=False)}\n")
    except OSError as error:
        what = "every row is written, but not to stdout what came of them"
        why = error.strerror or ""
        raise DiskError(what, why=why, next_step=f"see {told.output / job.MANIFEST}") from error


def embed(
    work: job.BatchJob,
    source: Source,
    embedder: Callable[[pa.Table], pa.Table],
    *,
    shard_rows: int,
    progress: Progress,
) -> None:
    """Write the shards of `source` that `work` lacks."""
    progress.begin(source, done=work.items, rows=work.rows)
    trim = limits.trimmer()
    try:
        for block in job.cut(source.blocks(work.items), rows=shard_rows):
            table = _positioned(block.table, work.rows)
            progress.written(work.add(_columns(embedder(table)), items=block.items))
            del table, block  # before the next shard is read
            pa.default_memory_pool().release_unused()
            trim()
        if isinstance(source, Rows) and not work.shards:  # so that the output has its columns
            work.add(_columns(embedder(_positioned(source.none(), 0))), items=0)
    finally:  # so that an error is told on a line of its own
        progress.end()


def _positioned(table: pa.Table, first: int) -> pa.Table:
    """Return `table` with the positions of its rows, and ids if it has none."""
    positions = pa.array(range(first, first + table.num_rows), pa.int64())
    if "id" not in table.column_names:
        table = table.append_column("id", positions)
    return table.append_column("position", positions)


def _columns(table: pa.Table) -> pa.Table:
    """Return what is written of an embedded table: an input's own problem is its row's error."""
    error = pc.coalesce(table.column("problem"), table.column("error"))
    table = table.set_column(table.schema.get_field_index("error"), "error", error)
    of_chunks = OF_CHUNKS if "chunk" in table.column_names else ()
    return table.select(["id", "position", *of_chunks, *ADDED])


def _read(settings: Settings, found: Listed, told: argparse.Namespace) -> Rows | Folders:
    if found.files:
        return Rows(found.files, text_column=told.text_column, id_column=told.id_column)
    return Folders(found.folders, max_bytes=settings.limits.max_file_bytes)


def _about(
    told: argparse.Namespace,
    facts: Sequence[Mapping[str, object]],
    embedder: TableEmbedder,
    asked: FileOptions,
) -> dict[str, object]:
    """Return what the job is known by."""
    own = {name: getattr(told, name) for name in OWN_OPTIONS}
    found = embedder.loaded.snapshot
    return {
        "inputs": facts,
        "options": own | asked.model_dump(include=set(options.FIELDS)),
        "model": {"repository": found.repository, "revision": found.revision},
        "fingerprint": embedder.fingerprint,
        "made_by": {"version": __version__, "plan": found.plan},
    }


def _chunking(loaded: Loaded, asked: FileOptions, embedder: TableEmbedder) -> Chunking:
    prompt_tokens = len(loaded.engine.spans(embedder.space.prompt))
    try:
        return asked.chunking(loaded.engine, prompt_tokens=prompt_tokens)
    except Problem as problem:
        raise refused(problem) from problem


def _require_outside(bundle: Path | None, output: Path) -> None:
    """Raise UsageError for an output in the bundle, where it would be lost."""
    if bundle is not None and Path(os.path.realpath(output)).is_relative_to(bundle.resolve()):
        what = f"{output} is in the bundle"
        why = "assembling or updating it removes what is not its own"
        raise UsageError(what, why=why, next_step="name a folder outside of it: --output DIR")


def _require_ray(address: str) -> None:
    """Import Ray, which one profile alone has. Raises UsageError."""
    ray_environment.prepare(address)
    try:
        import ray  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        what = "this bundle knows no cluster"
        step = "use a bundle of the profile cluster, or leave out --ray and unset RAY_ADDRESS"
        raise UsageError(what, why="its profile leaves out Ray", next_step=step) from error


@contextlib.contextmanager
def _on_cluster(
    told: argparse.Namespace, read: Rows | Folders, task: Task, progress: Progress
) -> Iterator[Source]:
    """Yield `read` as it comes back from a cluster, embedded."""
    from sidecar.batch import cluster  # noqa: PLC0415 (Ray, as above)

    progress.say("joining the cluster")
    with cluster.joined(told.ray, Path(__file__).absolute().parents[2]) as folder:
        _end_when_told(folder)  # which Ray has a way of its own of
        progress.say(_waits_for(told.ray, wanted=task.settings.threads, most=cluster.most_cores()))
        yield cluster.ClusterSource(read, task, actors=told.actors, on_progress=progress.add)


def _waits_for(address: str, *, wanted: int, most: int) -> str:
    """Return what a job on a cluster waits for. Raises UsageError for what will never come."""
    if wanted <= most:
        return "waiting for its engines"
    if address == ray_environment.LOCAL:
        what = "an engine takes more cores than this machine has"
        raise UsageError(what, why=f"--threads is {wanted}, of {most}", next_step="give it fewer")
    return (
        f"waiting for a node with {wanted} cores for an engine (--threads): the largest has {most}"
    )


def _end_when_told(folder: Path | None = None) -> None:
    """End at a signal, and leave nothing of `folder`."""

    def end(received: int, _: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopped: the same command goes on\n")  # it may be amid another line
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + received)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not by the signal's own default, which the first process of a container does not have.
        signal.signal(number, end)


class Progress:
    """Says on a terminal in one line, and elsewhere in a line now and then, how far a job is."""

    def __init__(self, out: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        """Write to `out`; `now` is a clock in seconds."""
        self._out, self._now = out, now
        self._is_terminal = out.isatty()
        self._pause_s = REWRITTEN_S if self._is_terminal else LINE_S
        self._total = self._first = self._items = self._rows = self._new = self._tokens = 0
        self._is_by_row = True  # an item is a row, and is known to be done before its shard is
        self._began = self._told = now()

    def say(self, what: str) -> None:
        """Say what is done before there are rows."""
        self._write(f"{what}\n")

    def begin(self, source: Source, *, done: int, rows: int) -> None:
        """Begin with `done` items of `source`, which have become so many `rows`."""
        self._total, self._first, self._items, self._rows = source.total, done, done, rows
        self._is_by_row = source.is_by_row
        self._began = self._told = self._now()
        if done:
            self.say(f"going on after {rows:,} rows")

    def add(self, rows: int, tokens: int) -> None:
        """Note that so many rows more have their vectors, and tell of it if it is time."""
        self._new, self._tokens = self._new + rows, self._tokens + tokens
        if self._now() - self._told >= self._pause_s:
            self._tell()

    def written(self, shard: Shard) -> None:
        """Note that a shard is finished."""
        self._items += shard.items

    def end(self) -> None:
        """Tell the end."""
        self._tell()
        if self._is_terminal:
            self._write("\n")

    def _tell(self) -> None:
        self._told = self._now()
        seconds = max(self._told - self._began, 1e-9)
        said = f"{self._rows + self._new:,} rows, {self._new / seconds:,.0f} rows/s"
        said += f", {self._tokens / seconds:,.0f} tokens/s"
        done = max(self._items - self._first, self._new if self._is_by_row else 0)
        left = self._total - self._first - done
        if done and left > 0:
            said += f", {_duration(seconds * left / done)} left"
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        self._write(f"{start}{said}{end}")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # of a terminal that is gone, or a log on a full disk
            self._out.write(text)
            self._out.flush()


def _duration(seconds: float) -> str:
    """Return a time as people say it, in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
