"""A job on a Ray cluster: the driver reads and writes, and actors on the nodes embed.

`ray_environment.prepare` goes before the import of this module.

Ray Data moves the parts of the input to the actors and brings their vectors back in order, sends a
part again whose actor or node is lost, and holds back what would not fit in memory. Shards and
manifest are those of a job on one machine, so that either can go on with what the other began.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray import data as ray_data
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from sidecar.batch.actor import EngineActor, Task
from sidecar.batch.folders import Folders, by_item
from sidecar.batch.inputs import Block, Rows
from sidecar.batch.ray_environment import AUTO, LOCAL, RESTARTS, homeless
from sidecar.errors import ModelError, ServiceError, UnreachableError

# Of the input: what an actor embeds at a time, and what is lost with it. Rows of long inputs are in
# larger parts, for Ray Data knows of every part from the start.
PART_ROWS, LONG_PART_ROWS, PARTS = 1_024, 4_096, 10_000
PART_DOCUMENTS = 8
BLOCK_BYTES = 1 << 26
READERS = 2
RAY_PORT, ANSWERS_WITHIN_S = 6379, 30


class InputPart(Protocol):
    """A part of an input, that is read where the driver runs."""

    def tables(self) -> Iterator[pa.Table]:
        """Yield its rows, or its documents."""


class Parts(Datasource):  # type: ignore[misc]  # no checker of ours reads Ray
    """What Ray Data reads: the parts of an input, in order."""

    supports_distributed_reads = False  # the files are the driver's

    def __init__(self, parts: Sequence[InputPart]) -> None:
        """Read `parts`."""
        super().__init__()
        self._parts = parts

    def estimate_inmemory_data_size(self) -> int | None:
        """Say that it is unknown."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """Return a task for each part."""
        del parallelism, per_task_row_limit, data_context
        unknown = functools.partial(BlockMetadata, size_bytes=None, input_files=None)
        return [
            ReadTask(part.tables, unknown(num_rows=None, exec_stats=None)) for part in self._parts
        ]


@contextlib.contextmanager
def joined(address: str, service: Path) -> Iterator[Path | None]:
    """Be the driver of a job on the cluster at `address`, on one of its own for `local`.

    Nodes find the program beside their own Python if that is a bundle's, else at `service`. Yields
    the folder of a cluster of its own, which goes with it. Raises UnreachableError.
    """
    # Of arguments for which Ray has no other name yet.
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    found: dict[str, object] = {"worker_process_setup_hook": _finder(str(service))}
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            if address == LOCAL:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
                with homeless() as home:
                    # Quoted, for Ray hands it to a shell.
                    found |= {"env_vars": home, "py_executable": shlex.quote(sys.executable)}
                    _init(address, found, include_dashboard=False, _temp_dir=folder)
            else:
                _require_answer(address)
                _init(address, found)
        except Exception as error:  # Ray raises the class itself, too
            what = f"no Ray cluster can be used at {address}"
            step = "start it, name it by --ray HOST:PORT, and give it its token: RAY_AUTH_TOKEN"
            if address == LOCAL:
                what = "no Ray cluster can be started on this machine"
                step = "run the command again when the machine is less busy, or without --ray"
            raise UnreachableError(what, why=str(error), next_step=step) from error
        stack.callback(ray.shutdown)
        yield None if folder is None else Path(folder)


def _require_answer(address: str) -> None:
    """Raise OSError or ValueError if no server answers at HOST:PORT: Ray would wait for minutes."""
    if address != AUTO:
        place = urlsplit(f"//{address}")
        socket.create_connection((place.hostname, place.port or RAY_PORT), ANSWERS_WITHIN_S).close()


def _init(address: str, runtime_env: Mapping[str, object], **own: object) -> None:
    critical = logging.CRITICAL
    ray.init(address, log_to_driver=False, logging_level=critical, runtime_env=runtime_env, **own)


def _finder(service: str) -> Callable[[], None]:
    """Return what makes a worker find the program. A function within, so it travels by value."""

    def find() -> None:
        import sys  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        sys.dont_write_bytecode = True
        own = Path(sys.executable).parent.parent.parent / "embedding_sidecar"
        sys.path.insert(0, str(own) if own.is_dir() else service)

    return find


def most_cores() -> int:
    """Return the number of cores of the largest node, free or in use."""
    return max(
        (int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0
    )


class ClusterSource:
    """Reads an input as it comes back from the actors: embedded."""

    def __init__(
        self,
        source: Rows | Folders,
        task: Task,
        *,
        actors: int | None,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Embed `source` by `actors`, by as many as the cluster has room for without a number."""
        self._source, self._task, self._actors = source, task, actors
        self._on_progress = on_progress
        self.is_by_row = isinstance(source, Rows)
        self.total, self.facts = len(source), source.facts

    def blocks(self, first: int) -> Iterator[Block]:
        """Yield what there is from the item `first` on. Raises ServiceError."""
        tables = self._embedded(first)
        if self.is_by_row:
            for table in tables:
                yield Block(items=table.num_rows, table=table, is_divisible=True)
        else:
            for table in by_item(tables):
                yield Block(items=1, table=table, is_divisible=False)

    def _embedded(self, first: int) -> Iterator[pa.Table]:
        """Yield the rows of all parts from `first` on, in order."""
        if first >= self.total:
            return
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK_BYTES
        size = PART_DOCUMENTS
        if self.is_by_row:
            size = min(max(PART_ROWS, self.total // PARTS), LONG_PART_ROWS)
        parts = [
            self._source.part(start, min(size, self.total - start))
            for start in range(first, self.total, size)
        ]
        pool = ActorPoolStrategy()
        if self._actors:
            pool = ActorPoolStrategy(size=min(self._actors, len(parts)))
        readers = min(READERS, len(parts))
        found = ray_data.read_datasource(
            Parts(parts), num_cpus=0, concurrency=readers, override_num_blocks=len(parts)
        ).map_batches(
            EngineActor,
            fn_constructor_args=(self._task,),
            batch_size=None,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=self._task.settings.threads,
            max_restarts=RESTARTS,
            max_task_retries=-1,  # each second counts while a node is found to be lost
        )
        try:
            for table in found.iter_batches(batch_size=None, batch_format="pyarrow"):
                self._on_progress(table.num_rows, pc.sum(table.column("tokens")).as_py())
                yield table
        except RayTaskError as error:
            if isinstance(error.cause, ServiceError):
                raise error.cause from None
            raise _failed(error) from None
        except RayError as error:
            raise _failed(error) from None


def _failed(error: Exception) -> ServiceError:
    """Return what the job ends with where a part fails however often it is tried."""
    what = "a part of the input cannot be embedded on the cluster"
    why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    step = "give the nodes more memory or fewer actors, and run the command again: it goes on"
    return ModelError(what, why=why, next_step=step)
