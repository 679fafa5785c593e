"""Jobs of `embed` on a stub engine, in the process of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sidecar.batch import command, job
from sidecar.batch.embedder import TableEmbedder, validated
from sidecar.models.loader import Loaded
from sidecar.settings import Limits, Settings
from tests.support.stub_engine import PROMPTS, SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.batch.options import Format


def loaded(engine: StubEngine | None = None) -> Loaded:
    """Return a stub engine as a loaded model."""
    return Loaded(engine=engine or StubEngine(), snapshot=SNAPSHOT, prompts=PROMPTS)


def embedder(
    engine: StubEngine | None = None, *, limits: Limits | None = None, **options: Any
) -> TableEmbedder:
    """Return an embedder of tables on a stub engine; `options` are its own, or the space's."""
    own = {name: options.pop(name) for name in ("dtype", "truncate") if name in options}
    settings = Settings(limits=limits or Limits())
    return TableEmbedder(settings, loaded(engine), validated(options), **own)


def texts(*values: str | None) -> pa.Table:
    """Return a table with the column `text`."""
    return pa.table({"text": pa.array(values, pa.string())})


def read(output: Path) -> pa.Table:
    """Return all the rows of an output, in the order of its shards."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))])


def shards(output: Path) -> dict[str, bytes]:
    """Return the bytes of an output's shards by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*.parquet"))}


class Quiet(command.Progress):
    """Progress that nobody reads."""

    def __init__(self) -> None:
        import io  # noqa: PLC0415

        super().__init__(io.StringIO())


def write(
    output: Path,
    source: Any,
    rows: int = 10,
    engine: StubEngine | None = None,
    form: Format = "parquet",
) -> None:
    """Embed `source` into `output` in shards of so many rows, or go on with it."""
    with job.begin(output, {"inputs": source.facts, "rows": rows}, form) as work:
        command.embed(work, source, embedder(engine), shard_rows=rows, progress=Quiet())


def files(folder: Path, named: dict[str, str | bytes | pa.Table]) -> Sequence[Path]:
    """Write files of rows into `folder`, and return their paths."""
    made = []
    for name, content in named.items():
        path = folder / name
        if isinstance(content, pa.Table):
            pq.write_table(content, path, row_group_size=7)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        made.append(path)
    return made
