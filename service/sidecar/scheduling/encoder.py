"""From a request's texts to its vectors, and what the service is doing meanwhile.

Texts are tokenised on one thread and encoded on another, so that the one goes on while the other
computes. In between, the scheduler decides which texts of which requests are encoded together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from sidecar.engines import Engine, Tokens, Vectors
from sidecar.models.loader import Loaded
from sidecar.models.phases import Phase, Report
from sidecar.problems import Problem, client_gone, not_ready, stopping
from sidecar.scheduling import batching
from sidecar.scheduling.inference import Inference
from sidecar.scheduling.jobs import Job, Space
from sidecar.scheduling.reader import Reader
from sidecar.scheduling.scheduler import Priority, is_interactive
from sidecar.settings import Limits
from sidecar.web.counts import Counts

# One turn at the tokenizer: a short text that comes meanwhile waits for it.
TOKENIZE_ROWS = 256
TOKENIZE_CHARS = 1 << 15
URGENT_CHARS, URGENT_ROWS = 2_000, 64
log = logging.getLogger("sidecar.encoder")
R = TypeVar("R")
Load = Callable[[Report], Loaded]
Gone = asyncio.Future[None]  # done when the client has left
Status = Literal["ok", "loading", "stopping", "stuck", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one request: rows of shape (texts, dim), and what is said beside them."""

    rows: Vectors
    tokens: list[int]
    truncated: list[int]
    fingerprint: str


class Encoder:
    """Loads a model off the event loop, then embeds for any number of concurrent requests."""

    def __init__(
        self, load: Load, *, limits: Limits, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Call `load` on the inference thread once `start` is called; `now` measures the work."""
        self._load = load
        self._limits = limits
        self.counts = Counts()
        self._reader = Reader()
        self._inference = Inference(limits, self._post, counts=self.counts, now=now)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Job, asyncio.Future[None]] = {}
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
    def status(self) -> Status:
        """What /health says: `ok` alone means that requests are served.

        `stuck` is an engine that does not come back, `dead` a thread that ended and could not be
        replaced yet; to ask is to try again.
        """
        if self._is_stopping:
            return "stopping"
        if self._loaded is None:
            return "loading"
        state = self._inference.state
        if state == "dead":
            self._inference.revive()
        return state

    @property
    def is_stopping(self) -> bool:
        """Whether requests are refused because the service ends."""
        return self._is_stopping

    @property
    def loaded(self) -> Loaded | None:
        """The model once it is ready, else None."""
        return self._loaded

    @property
    def queued_tokens(self) -> int:
        """The tokens that wait to be computed."""
        return self._inference.queued_tokens

    @property
    def queued(self) -> dict[str, int]:
        """The tokens that wait to be computed, by lane."""
        return self._inference.queued

    async def start(self) -> Loaded:
        """Load the model. Raises ServiceError, and whatever else loading raises."""
        self._loop = asyncio.get_running_loop()
        found: list[Loaded] = []

        def load() -> Engine:
            found.append(self._load(self._report))
            return found[0].engine

        await asyncio.wrap_future(self._inference.begin(load))
        self._loaded = found[0]
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
        future = self._abandonment()
        if not future.done():
            future.set_result(None)
        self.close(wait=False)

    def close(self, *, wait: bool = True) -> None:
        """Compute no more than the batch in work, and wait for it if asked to."""
        self._is_stopping = True
        self._reader.close()
        self._inference.close(wait=wait)

    async def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        truncate: bool = True,
        priority: Priority = "auto",
        gone: Gone | None = None,
        is_let_in: bool = False,
    ) -> Embedded:
        """Return the vectors of `texts` in order; none for no texts.

        A request that was let in is served while the service stops, until it is abandoned; with
        `is_let_in` these texts are a further part of one, and there is always room for them.
        Raises Problem: 422 for a text over a limit or one that the model fails on, 429 if too
        much waits already, 507 if there is not enough memory for it, 503 when the model is not
        loaded, the engine fails or the request is abandoned, 499 when `gone` is done.
        """
        loaded = self._loaded
        if loaded is None:
            raise not_ready(self._phase)
        engine = loaded.engine
        self._refuse_oversize(texts)
        if not is_let_in:
            self.require_room(priority, least_tokens=len(texts))
        tokens = await self._tokenize(engine, texts, priority, gone)
        truncated = [index for index, found in enumerate(tokens) if found.is_truncated]
        if truncated and not truncate:
            raise _too_long(truncated[0], tokens[truncated[0]].length, engine.max_tokens)
        ids = [found.ids for found in tokens]
        job = Job(
            ids,
            dim=engine.dim,
            space=Space(pooling, normalize),
            is_interactive=is_interactive(priority, sum(map(len, ids))),
        )
        if ids:
            await self._compute(job, gone, is_let_in=is_let_in)
        self.counts.texts += len(ids)
        self.counts.tokens += sum(map(len, ids))
        return Embedded(
            rows=job.rows,
            tokens=[found.length for found in tokens],
            truncated=truncated,
            fingerprint=loaded.fingerprint(pooling=pooling, normalize=normalize),
        )

    async def while_wanted(self, work: Coroutine[Any, Any, R], *, gone: Gone) -> R:
        """Return what `work` returns, and cancel it when nobody waits for it any more.

        Raises Problem: 499 when `gone` is done, 503 when requests are abandoned.
        """
        task = asyncio.ensure_future(work)
        try:
            return await self._unless_left(task, gone)
        finally:
            task.cancel()

    def require_room(self, priority: Priority, *, least_tokens: int = 1) -> None:
        """Raise Problem 429 if a request of at least so many tokens would surely be refused.

        To be asked before anything costly is done for it; `embed` itself counts.
        """
        if least_tokens <= 0:
            return
        if is_interactive(priority, least_tokens):
            try:
                self._inference.require_room(least_tokens, is_interactive=True)
            except Problem:
                if priority == "interactive":
                    raise
            else:
                return
        self._inference.require_room(least_tokens, is_interactive=False)

    async def spans(self, text: str, *, gone: Gone | None = None) -> list[tuple[int, int]]:
        """Return start and end of every token of `text`. Raises Problem as `embed` does.

        A long text is read in turns that begin with white space, which changes no token.
        """
        loaded = self._loaded
        if loaded is None:
            raise not_ready(self._phase)
        found: list[tuple[int, int]] = []
        for start, end in batching.turns(text, max_chars=TOKENIZE_CHARS):
            work = functools.partial(loaded.engine.spans, text[start:end])
            places = await self._read(work, is_urgent=False, gone=gone)
            found += ((start + first, start + last) for first, last in places)
        return found

    async def _tokenize(
        self, engine: Engine, texts: Sequence[str], priority: Priority, gone: Gone | None
    ) -> list[Tokens]:
        chars = [len(text) for text in texts]
        is_short = sum(chars) <= URGENT_CHARS and len(texts) <= URGENT_ROWS
        is_urgent = priority != "bulk" and is_short
        if texts and is_urgent and self._reader.is_idle:
            # A few short texts are read in less time than it takes to change threads and back.
            return engine.tokenize(texts)
        tokens: list[Tokens] = []
        for run in batching.slices(chars, max_rows=TOKENIZE_ROWS, max_total=TOKENIZE_CHARS):
            work = functools.partial(engine.tokenize, texts[run])
            tokens += await self._read(work, is_urgent=is_urgent, gone=gone)
        return tokens

    async def _read(self, work: Callable[[], R], *, is_urgent: bool, gone: Gone | None) -> R:
        if self._abandonment().done():
            raise stopping()
        future = asyncio.wrap_future(self._reader.submit(work, is_urgent=is_urgent))
        try:
            return await self._unless_left(future, gone)
        finally:
            future.cancel()

    async def _compute(self, job: Job, gone: Gone | None, *, is_let_in: bool) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting[job] = done
        try:
            self._inference.submit(job, is_let_in=is_let_in)
            await self._unless_left(done, gone)
        finally:
            del self._waiting[job]
            if not done.done():
                self._inference.drop(job)
        if job.problem is not None:
            raise job.problem

    async def _unless_left(self, future: asyncio.Future[R], gone: Gone | None) -> R:
        """Return the future's result. Raises Problem: 499 when `gone` is done, 503 if abandoned."""
        waited: set[asyncio.Future[Any]] = {future, self._abandonment()}
        if gone is not None:
            waited.add(gone)
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise client_gone() if gone is not None and gone.done() else stopping()

    def _post(self, jobs: list[Job]) -> None:
        """Tell whoever waits for `jobs` that they ended; called by any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle, jobs)

    def _settle(self, jobs: list[Job]) -> None:
        for job in jobs:
            done = self._waiting.get(job)
            if done is not None and not done.done():
                done.set_result(None)

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
