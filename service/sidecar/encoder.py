"""The one thread that computes, and the way there for everyone else.

Loading, tokenising and encoding all run on one inference thread: engines are not safe under
concurrent calls. A request goes there one batch at a time, so long requests and short ones take
turns, and a request whose client left stops between two batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

import numpy as np

from sidecar import batching
from sidecar.engines import Engine, Tokens, Vectors
from sidecar.fingerprint import fingerprint
from sidecar.loader import Loaded, Phase
from sidecar.problems import Problem, client_gone, not_ready, stopping
from sidecar.settings import Limits

TOKENIZE_ROWS = 512
log = logging.getLogger("sidecar.encoder")
P = ParamSpec("P")
R = TypeVar("R")
Load = Callable[[Callable[[Phase], None]], Loaded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one request: rows of shape (texts, dim), and what is said beside them."""

    rows: Vectors
    tokens: list[int]
    truncated: list[int]
    fingerprint: str


async def _never() -> bool:
    return False


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

    def fingerprint(self, *, pooling: str | None = None, normalize: bool = True) -> str:
        """Return the name of the space that such a request's vectors are in."""
        loaded = self.ready()
        return fingerprint(
            repository=loaded.snapshot.repository,
            revision=loaded.snapshot.revision,
            pooling=pooling or loaded.engine.pooling,
            normalize=normalize,
            space=loaded.engine.space,
        )

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what `work` returns on the inference thread. Raises Problem 503 when abandoned."""
        loop = asyncio.get_running_loop()
        abandoned = self._abandonment()
        if abandoned.done():
            raise stopping()
        future = loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))
        waited: set[asyncio.Future[Any]] = {future, abandoned}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not future.done() or future.cancelled():
            future.cancel()
            raise stopping()
        return future.result()

    async def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: str | None = None,
        normalize: bool = True,
        batch_size: int = 16,
        truncate: bool = True,
        is_gone: Callable[[], Awaitable[bool]] = _never,
    ) -> Embedded:
        """Return the vectors of `texts` in order; none for no texts.

        `pooling` None is the model's own. Raises Problem: 422 for a text over a limit, 503 when
        the service is not ready or stops, 499 when `is_gone` says so between two batches.
        """
        engine = self.ready().engine
        self._refuse_oversize(texts)
        tokens = await self._tokenize(engine, texts, is_gone)
        truncated = [index for index, found in enumerate(tokens) if found.is_truncated]
        if truncated and not truncate:
            raise _too_long(truncated[0], tokens[truncated[0]].length, engine.max_tokens)
        rows: Vectors = np.zeros((len(texts), engine.dim), dtype=np.float32)
        mode = pooling or engine.pooling
        for batch in batching.batches(
            [len(found.ids) for found in tokens],
            max_rows=min(batch_size, self._limits.max_batch_rows),
            max_tokens=self._limits.max_batch_tokens,
        ):
            if await is_gone():
                raise client_gone()
            ids = [tokens[index].ids for index in batch]
            rows[batch] = await self.run(engine.encode, ids, pooling=mode, normalize=normalize)
        if not np.isfinite(rows).all():
            what = "the model gave a vector that is not finite"
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "not-finite", what)
        return Embedded(
            rows=rows,
            tokens=[found.length for found in tokens],
            truncated=truncated,
            fingerprint=self.fingerprint(pooling=mode, normalize=normalize),
        )

    async def _tokenize(
        self,
        engine: Engine,
        texts: Sequence[str],
        is_gone: Callable[[], Awaitable[bool]],
    ) -> list[Tokens]:
        tokens: list[Tokens] = []
        for start in range(0, len(texts), TOKENIZE_ROWS):
            if start and await is_gone():
                raise client_gone()
            tokens += await self.run(engine.tokenize, texts[start : start + TOKENIZE_ROWS])
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
