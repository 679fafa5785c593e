"""A model that is loaded once, and embeds Arrow tables for as long as it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa

from sidecar.batch.encoding import Encoded, OnProgress, TextEncoder
from sidecar.batch.options import DType
from sidecar.engines import Truncation
from sidecar.errors import UsageError
from sidecar.models.loader import Loaded, Space, load
from sidecar.problems import Problem
from sidecar.process import cores, cpu_features
from sidecar.process.stdio import Event
from sidecar.settings import Settings
from sidecar.web import schemas

# The columns that are added to a table, in this order.
ADDED = ("vector", "tokens", "truncated", "error", "model", "fingerprint")
SPACE_FIELDS = ("pooling", "normalize", "prompt_name", "prompt", "input_type", "dimensions")


class TableEmbedder:
    """Adds to a table the vectors of its column `text_column`, and what is said of each text.

    One object has one engine; it is for one thread at a time.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        asked: schemas.FileOptions,
        *,
        text_column: str = "text",
        dtype: DType = "float32",
        truncate: Truncation = "right",
        on_progress: OnProgress = lambda _rows, _tokens: None,
    ) -> None:
        """Embed by a model that is loaded. Raises UsageError for a space that it does not have."""
        self.loaded = loaded
        self.space = space_of(loaded, asked)
        self.model = loaded.snapshot.repository
        self.fingerprint = loaded.fingerprint(self.space)
        self._text_column = text_column
        self._dtype = dtype
        self._encoder = TextEncoder(
            loaded,
            self.space,
            truncate=truncate,
            limits=settings.limits,
            on_progress=on_progress,
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return `table` with ADDED behind its own columns. Raises UsageError and ModelError.

        A text that gives no vector has the kind of its problem in `error`, and null for a vector.
        """
        if self._text_column not in table.column_names:
            what = f"the table has no column {self._text_column}"
            raise UsageError(what, why=f"its columns are {', '.join(table.column_names)}")
        if taken := sorted(set(table.column_names) & set(ADDED)):
            what = f"the table has a column {taken[0]} already"
            raise UsageError(what, next_step="leave it out, or give it another name")
        column = as_text(table.column(self._text_column), self._text_column)
        found = self._encoder.encode(column)
        for name, values in zip(ADDED, self._columns(found), strict=True):
            table = table.append_column(name, values)
        return table

    def trim(self) -> None:
        """Give back what memory only large batches need."""
        self._encoder.trim()

    def _columns(self, found: Encoded) -> Sequence[pa.Array]:
        count = len(found.rows)
        rows = found.rows if self._dtype == "float32" else found.rows.astype(np.float16)
        is_missing = np.zeros(count, dtype=np.bool_)
        is_missing[list(found.errors)] = True
        errors = [found.errors.get(index) for index in range(count)] if found.errors else None
        return (
            pa.FixedSizeListArray.from_arrays(
                pa.array(rows.reshape(-1)),
                type=pa.list_(pa.from_numpy_dtype(rows.dtype), self._encoder.dim),
                mask=pa.array(is_missing) if found.errors else None,
            ),
            pa.array(found.tokens),
            pa.array(found.truncated),
            pa.nulls(count, pa.string()) if errors is None else pa.array(errors, pa.string()),
            pa.repeat(pa.scalar(self.model), count),
            pa.repeat(pa.scalar(self.fingerprint), count),
        )


class Embedder(TableEmbedder):
    """Loads a model of a bundle once, then embeds any number of tables."""

    def __init__(
        self,
        bundle: Path | str,
        *,
        model: str | None = None,
        threads: int | None = None,
        text_column: str = "text",
        dtype: DType = "float32",
        truncate: Truncation = "right",
        **space: object,
    ) -> None:
        """Load the model `model` of the bundle at the folder `bundle`, or its default model.

        `space` are fields of a request to /embed: pooling, normalize, prompt_name, prompt,
        input_type and dimensions. Raises ServiceError.
        """
        if unknown := sorted(set(space) - set(SPACE_FIELDS)):
            what = f"{unknown[0]} is no option of an embedder"
            raise UsageError(what, why=f"the space's are {', '.join(SPACE_FIELDS)}")
        _require_one_of("dtype", dtype, get_args(DType))
        _require_one_of("truncate", truncate, get_args(Truncation))
        asked = validated(space)
        settings = Settings(
            bundle=Path(bundle).absolute(),
            model=model,
            threads=threads or cores.count(),
            has_byte_products=cpu_features.detect().has_byte_products,
        )
        loaded = load(settings, Unheard(), lambda _: None)
        super().__init__(
            settings, loaded, asked, text_column=text_column, dtype=dtype, truncate=truncate
        )


class Unheard:
    """An EventWriter of a program that no other one watches."""

    def write_event(self, event: Event, data: dict[str, object]) -> None:
        """Do nothing."""


def validated(options: Mapping[str, object]) -> schemas.FileOptions:
    """Return `options` as a request has them. Raises UsageError."""
    try:
        return schemas.validate(dict(options), schemas.FileOptions)
    except Problem as problem:
        raise UsageError(problem.what, next_step="correct the option") from problem


def space_of(loaded: Loaded, asked: schemas.FileOptions) -> Space:
    """Return what the vectors are of that `asked` means for the model. Raises UsageError."""
    try:
        prompt = loaded.prompts.choose(
            name=asked.prompt_name, text=asked.prompt, input_type=asked.input_type
        )
        return Space(asked.pooling, asked.normalize, prompt, loaded.width(asked.dimensions))
    except Problem as problem:
        raise refused(problem) from problem


def refused(problem: Problem) -> UsageError:
    """Return the error of a command whose options a request would be refused for."""
    return UsageError(problem.what, why=problem.why, next_step=problem.next_step)


def _require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}", why=f"it may be {' or '.join(known)}")


def as_text(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a column of texts as one array of large strings. Raises UsageError."""
    if not is_of_texts(column.type):
        what = f"the column {name} has no texts"
        raise UsageError(what, why=f"its type is {column.type}", next_step="name a column of texts")
    found = column.cast(pa.large_string()).combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def is_of_texts(kind: pa.DataType) -> bool:
    """Return whether a column of this type has texts, or nothing."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )
