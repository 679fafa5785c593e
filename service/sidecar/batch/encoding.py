"""From a column of texts to vectors: a text that cannot be embedded costs itself alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sidecar.engines import Tokens, Truncation, Vectors
from sidecar.engines.packed.architecture import SMALLEST_NORM
from sidecar.errors import ModelError
from sidecar.models.loader import Loaded, Space
from sidecar.process import limits
from sidecar.scheduling import inference
from sidecar.scheduling.scheduler import BatchItem, BatchKey, Job
from sidecar.settings import Limits

# Texts of about one length that are tokenised together, before they are sorted by their tokens. As
# Python's objects they take a few megabytes.
GROUP_ROWS, GROUP_BYTES = 2_048, 1 << 22
OnProgress = Callable[[int, int], None]
NO_TEXT, NOT_UTF8, TOO_LONG = "no-text", "wrong-encoding", "text-too-long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What became of texts, in their order: `rows` of shape (texts, dim), and what is said of each.

    `errors` are kinds of problems by index; such a text has a row of zeros and, where it was never
    read, no tokens.
    """

    rows: Vectors
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    errors: dict[int, str]


class TextEncoder:
    """Embeds columns of any length by one engine, on the thread that calls."""

    def __init__(
        self,
        loaded: Loaded,
        space: Space,
        *,
        truncate: Truncation,
        limits: Limits,
        on_progress: OnProgress = lambda _rows, _tokens: None,
    ) -> None:
        """Embed into `space`; what is over `limits` is an error of its text.

        `on_progress` hears how many rows and tokens more are done.
        """
        self._on_progress = on_progress
        self._engine = loaded.engine
        self._space = space
        self._truncate = truncate
        self._limits = limits
        self._canary = inference.ready(loaded.engine).canary
        self._encode = functools.partial(
            loaded.engine.encode, pooling=space.pooling, normalize=space.normalize
        )
        self.dim = space.width or loaded.engine.dim

    def encode(self, texts: pa.Array) -> Encoded:
        """Return the vectors of `texts`. Raises ModelError if the engine gives none for any."""
        found = Encoded(
            rows=np.zeros((len(texts), self.dim), dtype=np.float32),
            tokens=np.zeros(len(texts), dtype=np.int32),
            truncated=np.zeros(len(texts), dtype=np.bool_),
            errors={},
        )
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        for group in _groups(np.argsort(sizes, kind="stable"), sizes):
            self._embed(group, texts, found)
        return found

    def trim(self) -> None:
        """Give back what memory only large batches need."""
        self._engine.trim()

    def _embed(self, group: NDArray[np.int64], texts: pa.Array, found: Encoded) -> None:
        """Embed the texts at the indices `group`, and write down what becomes of them."""
        kept: list[int] = []
        given: list[str] = []
        for index, text in zip(group.tolist(), strings(texts.take(pa.array(group))), strict=True):
            if isinstance(text, str) and len(text) <= self._limits.max_text_chars:
                kept.append(index)
                given.append(self._space.prompt + text)
            else:
                found.errors[index] = _refusal(text)
        read = self._engine.tokenize(given, keeps_end=self._truncate == "left")
        del given
        for index, one in zip(kept, read, strict=True):
            found.tokens[index] = one.length
            found.truncated[index] = one.is_truncated
            if self._truncate == "never" and one.is_truncated:
                found.errors[index] = TOO_LONG
        pairs = [pair for pair in zip(kept, read, strict=True) if pair[0] not in found.errors]
        self._on_progress(len(group) - len(pairs), 0)
        pairs.sort(key=lambda pair: len(pair[1].ids), reverse=True)
        for batch in _batches(pairs, most=self._engine.best_tokens, limits=self._limits):
            self._fill(batch, found)
            self._on_progress(len(batch), sum(len(one.ids) for _, one in batch))

    def _fill(self, batch: Sequence[tuple[int, Tokens]], found: Encoded) -> None:
        indices, ids = [index for index, _ in batch], [one.ids for _, one in batch]
        try:
            rows: Vectors | None = self._encode(ids)
        except Exception:  # noqa: BLE001 (an engine meets everything)
            rows = None
        if rows is not None and len(rows) == len(ids) and np.isfinite(rows).all():
            found.rows[indices] = self._cut(rows)
            return
        for index, row in zip(indices, self._one_by_one(ids), strict=True):
            if isinstance(row, str):
                found.errors[index] = row
            else:
                found.rows[index] = self._cut(row)[0]

    def _one_by_one(self, batch: Sequence[Sequence[int]]) -> list[Vectors | str]:
        """Return a row for each member of a batch that fails, or the kind of its problem.

        Raises ModelError where it is not the texts that are at fault.
        """
        key = BatchKey(self._space.pooling, self._space.normalize)
        jobs = [Job([ids], dim=self._engine.dim, key=key, is_interactive=False) for ids in batch]
        inference.run([BatchItem(job, 0) for job in jobs], self._encode, canary=self._canary)
        for job in jobs:
            # Memory may be there again tomorrow: that is nothing to say of a text for ever.
            if job.problem is not None and job.problem.kind == "out-of-memory":
                raise limits.too_little()
            if job.problem is not None and job.problem.kind == "engine-fails":
                what = job.problem.what
                raise ModelError(what, why=job.problem.why, next_step="run the command again")
        return [job.rows if job.problem is None else job.problem.kind for job in jobs]

    def _cut(self, rows: Vectors) -> Vectors:
        """Return what is kept of the engine's rows."""
        if self.dim == rows.shape[1]:
            return rows
        kept = rows[:, : self.dim]
        if self._space.normalize:
            norms = np.linalg.norm(kept, axis=1, keepdims=True)
            kept = kept / np.maximum(norms, SMALLEST_NORM)
        return kept


def _groups(order: NDArray[np.int64], sizes: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Yield runs of `order` of at most GROUP_ROWS and, unless it is one alone, GROUP_BYTES."""
    start = total = 0
    for at, index in enumerate(order.tolist()):
        size = int(sizes[index])
        if at > start and (at - start == GROUP_ROWS or total + size > GROUP_BYTES):
            yield order[start:at]
            start, total = at, 0
        total += size
    if start < len(order):
        yield order[start:]


def _batches(
    pairs: Sequence[tuple[int, Tokens]], *, most: int, limits: Limits
) -> Iterator[Sequence[tuple[int, Tokens]]]:
    """Yield runs of `pairs`, the longest first, of about `most` tokens as they are computed."""
    start = 0
    while start < len(pairs):
        longest = max(1, len(pairs[start][1].ids))
        rows = min(max(1, most // longest), limits.max_batch_rows)
        yield pairs[start : start + rows]
        start += rows


def strings(texts: pa.Array) -> list[str | bytes | None]:
    """Return the texts as Python has them; bytes for what is no UTF-8, which no file is held to."""
    try:
        found: list[str | bytes | None] = texts.to_pylist()
    except UnicodeDecodeError:
        raw = texts.cast(pa.large_binary()).to_pylist()
        found = [_decoded(one) for one in raw]
    return found


def _decoded(raw: bytes | None) -> str | bytes | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _refusal(text: str | bytes | None) -> str:
    match text:
        case None:
            return NO_TEXT
        case bytes():
            return NOT_UTF8
        case str():
            return TOO_LONG
