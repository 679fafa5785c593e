"""The one thread that computes, and the way there for everyone else.

Loading, tokenising and encoding all run on one inference thread: engines are not safe under
concurrent calls. A request goes there one batch at a time, so long requests and short ones take
turns, and a request whose client left gives up its place in the queue.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np

from sidecar import batching
from sidecar.engines import Engine, Tokens, Vectors
from sidecar.loader import Loaded
from sidecar.phases import Phase, Report
from sidecar.problems import Problem, client_gone, not_ready, stopping
from sidecar.settings import Limits

TOKENIZE_ROWS = 512
TOKENIZE_CHARS = 1 << 18
log = logging.getLogger("sidecar.encoder")
R = TypeVar("R")
Load = Callable[[Report], Loaded]
Gone = asyncio.Future[None]  # done when the client has left


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one request: rows of shape (texts, dim), and what is said beside them."""

    rows: Vectors
    tokens: list[int]
    truncated: list[int]
    fingerprint: str


class Encoder:
    """Loads a model off the event loop, then embeds for any number of concurrent requests."""

    def __init__(self, load: Load, *, limits: Limits) -> None:
        """Call `load` on the inference thread once `start` is called."""
        self._load = load
        self._limits = limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._abandoned: asyncio.Future[None] | None = None
        self._phase: Phase = "starting"
        self._loaded: Loaded | None = None
        self._is_stopping = False

    @property
    def phase(self) -> str:
        """What the encoder does now: a phase of loading, ready, or stopping."""
        if self._is_stopping:
            return "stopping"
        return self._phase if self._loaded is None else "ready"

    @property
    def is_stopping(self) -> bool:
        """Whether requests are refused because the service ends."""
        return self._is_stopping

    @property
    def loaded(self) -> Loaded | None:
        """The model once it is ready, else None."""
        return self._loaded

    async def start(self) -> Loaded:
        """Load the model. Raises ServiceError, and whatever else loading raises."""
        loop = asyncio.get_running_loop()
        self._loaded = await loop.run_in_executor(self._thread, self._load, self._report)
        return self._loaded

    def ready(self) -> Loaded:
        """Return the loaded model. Raises Problem 503 before that and while stopping."""
        if self._is_stopping:
            raise stopping()
        if self._loaded is None:
            raise not_ready(self._phase)
        return self._loaded

    def refuse_new(self) -> None:
        """Refuse requests from now on; the running ones go on."""
        self._is_stopping = True

    def abandon(self) -> None:
        """Answer the running requests with 503 now; the batch in work is left to itself."""
        self._is_stopping = True
        future = self._abandonment()
        if not future.done():
            future.set_result(None)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Wait for the inference thread to end."""
        self._is_stopping = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def run(self, work: Callable[[], R], *, gone: Gone | None = None) -> R:
        """Return what `work` returns on the inference thread.

        Raises Problem: 499 when `gone` is done, 503 when abandoned. Work that has not begun then
        never does.
        """
        loop = asyncio.get_running_loop()
        abandoned = self._abandonment()
        if abandoned.done():
            raise stopping()
        future = loop.run_in_executor(self._thread, work)
        waited: set[asyncio.Future[Any]] = {future, abandoned}
        if gone is not None:
            waited.add(gone)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            future.cancel()
        if not future.cancelled():
            return future.result()
        raise client_gone() if gone is not None and gone.done() else stopping()

    async def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        batch_size: int = 16,
        truncate: bool = True,
        gone: Gone | None = None,
    ) -> Embedded:
        """Return the vectors of `texts` in order; none for no texts.

        A request that was let in is served while the service stops, until it is abandoned.
        Raises Problem: 422 for a text over a limit, 503 when the model is not loaded or the
        request is abandoned, 499 when `gone` is done.
        """
        loaded = self._loaded
        if loaded is None:
            raise not_ready(self._phase)
        engine = loaded.engine
        self._refuse_oversize(texts)
        tokens = await self._tokenize(engine, texts, gone)
        truncated = [index for index, found in enumerate(tokens) if found.is_truncated]
        if truncated and not truncate:
            raise _too_long(truncated[0], tokens[truncated[0]].length, engine.max_tokens)
        rows: Vectors = np.zeros((len(texts), engine.dim), dtype=np.float32)
        for batch in batching.batches(
            [len(found.ids) for found in tokens],
            max_rows=min(batch_size, self._limits.max_batch_rows),
            max_tokens=self._limits.max_batch_tokens,
        ):
            ids = [tokens[index].ids for index in batch]
            encode = functools.partial(engine.encode, ids, pooling=pooling, normalize=normalize)
            rows[batch] = await self.run(encode, gone=gone)
        if not np.isfinite(rows).all():
            what = "the model gave a vector that is not finite"
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "not-finite", what)
        return Embedded(
            rows=rows,
            tokens=[found.length for found in tokens],
            truncated=truncated,
            fingerprint=loaded.fingerprint(pooling=pooling, normalize=normalize),
        )

    async def _tokenize(
        self,
        engine: Engine,
        texts: Sequence[str],
        gone: Gone | None,
    ) -> list[Tokens]:
        tokens: list[Tokens] = []
        for run in batching.slices(
            [len(text) for text in texts],
            max_rows=TOKENIZE_ROWS,
            max_total=TOKENIZE_CHARS,
        ):
            tokens += await self.run(functools.partial(engine.tokenize, texts[run]), gone=gone)
        return tokens

    def _refuse_oversize(self, texts: Sequence[str]) -> None:
        if len(texts) > self._limits.max_texts:
            what = f"texts: more than {self._limits.max_texts} in one request"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too-many-texts", what)
        for index, text in enumerate(texts):
            if len(text) > self._limits.max_text_chars:
                what = f"texts.{index}: longer than {self._limits.max_text_chars} characters"
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "text-too-long", what)

    def _report(self, phase: Phase) -> None:
        self._phase = phase
        log.info("%s", phase)

    def _abandonment(self) -> asyncio.Future[None]:
        if self._abandoned is None:
            self._abandoned = asyncio.get_running_loop().create_future()
        return self._abandoned


def _too_long(index: int, length: int, limit: int) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "text-too-long",
        f"texts.{index}: {length} tokens, the model reads {limit}",
        next_step="shorten it, or leave truncate at true",
    )
