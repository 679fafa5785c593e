"""Embeds generated rows by an engine that returns fixed vectors, and tells its private memory.

`python -m tests.support.batch_memory FOLDER ROWS` writes a line of JSON: the most RssAnon, in MB,
of every tenth of the rows, as it is after each batch.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sidecar.batch import command, job
from sidecar.batch.embedder import TableEmbedder, validated
from sidecar.batch.inputs import Rows
from sidecar.engines import Tokens
from sidecar.models.loader import Loaded
from sidecar.settings import Settings
from tests.support.stub_engine import SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.engines import Vectors

SHARD_ROWS = 4_096
KB = re.compile(r"RssAnon:\s+(\d+)")


class FixedEngine(StubEngine):
    """Returns the same vectors at once, of a usual size."""

    dim = 384
    row = np.full((256, 384), 0.05, np.float32)
    tokens = Tokens(ids=tuple(range(20)), length=20)

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        del keeps_end
        return [self.tokens] * len(texts)

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        del pooling, normalize
        return self.row[: len(batch)]


def main(folder: Path, rows: int) -> list[float]:
    """Return the most private memory, in MB, of every tenth of the rows."""
    source = folder / "in.jsonl"
    with source.open("w", encoding="utf-8") as lines:
        for number in range(rows):
            lines.write(f'{{"id": "r{number}", "text": "{"word " * (number % 20)}"}}\n')
    most, done = [0.0] * 10, 0

    def note(count: int, _tokens: int) -> None:
        nonlocal done
        tenth = min(9, done * 10 // rows)
        done += count
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = KB.search(status)
        assert found is not None
        most[tenth] = max(most[tenth], int(found[1]) / 1024)

    model = Loaded(engine=FixedEngine(), snapshot=SNAPSHOT)
    embedder = TableEmbedder(Settings(), model, validated({}), on_progress=note)
    read = Rows([source], text_column="text", id_column="id")
    with job.begin(folder / "out", {"inputs": read.facts}) as work:
        told = command.Progress(io.StringIO())
        command.embed(work, read, embedder, shard_rows=SHARD_ROWS, progress=told)
    return most


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
