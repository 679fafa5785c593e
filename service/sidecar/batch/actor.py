"""What a node of a cluster does of a job: an actor holds one engine, and embeds what it is sent."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from sidecar import manifest
from sidecar.batch.embedder import TableEmbedder, Unheard
from sidecar.batch.folders import ITEM, Chunker, documents_of
from sidecar.batch.options import DType
from sidecar.documents.chunking import Chunking
from sidecar.engines import Truncation
from sidecar.errors import ServiceError, UsageError
from sidecar.models.loader import Loaded, load
from sidecar.process import cpu_features
from sidecar.settings import Settings
from sidecar.web import schemas

SERVICE = Path(__file__).absolute().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What all actors of a job are told. `chunking` is how documents are divided.

    `settings` are the driver's, but for what each node finds out itself. `expected` is what an
    actor's bundle and model must be, by name.
    """

    settings: Settings
    asked: schemas.FileOptions
    dtype: DType
    truncate: Truncation
    chunking: Chunking
    expected: Mapping[str, object]


def known(loaded: Loaded, embedder: TableEmbedder) -> Mapping[str, object]:
    """Return what two bundles must have in common for their vectors to be of one job."""
    found = loaded.snapshot
    return {
        "plan": found.plan,
        "model": found.repository,
        "revision": found.revision,
        "fingerprint": embedder.fingerprint,
    }


class EngineActor:
    """Loads the model of its node's bundle once, then embeds any number of tables."""

    def __init__(self, task: Task) -> None:
        """Load. What is wrong is raised by the first call, whose errors Ray hands to the driver."""
        self._refusal: ServiceError | None = None
        self._chunker: Chunker | None = None
        try:
            self._begin(task)
        except ServiceError as error:
            self._refusal = error

    def _begin(self, task: Task) -> None:
        features = cpu_features.detect()
        settings = replace(
            task.settings,
            bundle=manifest.find_bundle(SERVICE) or task.settings.bundle,
            has_byte_products=features.has_byte_products,
        )
        loaded = load(settings, Unheard(), lambda _: None)
        self._embedder = TableEmbedder(
            settings, loaded, task.asked, dtype=task.dtype, truncate=task.truncate
        )
        found = known(loaded, self._embedder)
        differing = [name for name, value in task.expected.items() if found[name] != value]
        if differing:
            what = "a node of the cluster has another bundle than the driver"
            why = "; ".join(f"its {n} is {found[n]}, not {task.expected[n]}" for n in differing)
            raise UsageError(what, why=why, next_step="run all nodes from the same image or bundle")
        self._begin_reading = functools.partial(Chunker, settings, loaded, task.chunking)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield `table` embedded, of documents their chunks. Raises ServiceError."""
        if self._refusal is not None:
            raise self._refusal
        if ITEM in table.column_names:
            self._chunker = self._chunker or self._begin_reading()
            table = pa.concat_tables(list(self._chunks(self._chunker, table)))
        yield self._embedder(table)
        self._embedder.trim()

    def _chunks(self, chunker: Chunker, table: pa.Table) -> Iterator[pa.Table]:
        items = table.column(ITEM)
        for item, block in zip(items, chunker.blocks(documents_of(table)), strict=True):
            yield block.table.append_column(ITEM, pa.repeat(item, block.table.num_rows))

    def __del__(self) -> None:
        """End the processes that read documents."""
        with contextlib.suppress(Exception):
            if self._chunker is not None:
                self._chunker.close()
