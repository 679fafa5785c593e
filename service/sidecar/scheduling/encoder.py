"""From a request's texts to a model's vectors, and what the service is doing meanwhile.

Texts are tokenised on one thread and encoded on another, so that the one goes on while the other
computes. In between, the scheduler decides which texts of which requests are encoded together.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from array import array
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeVar

import numpy as np

from sidecar.engines import Engine, Tokens, Truncation, Vectors, Vocabulary
from sidecar.metrics import Counts
from sidecar.models.loader import USUAL, Load, Loaded, Space
from sidecar.models.snapshot import Phase
from sidecar.problems import Problem, client_gone, not_ready, stopping
from sidecar.scheduling.inference import Inference
from sidecar.scheduling.scheduler import BatchKey, Job, Priority, Reservation, is_interactive
from sidecar.scheduling.served import Residence, ServedModel, ServedModels
from sidecar.scheduling.tokenizing import (
    Disconnected,
    PromptedTexts,
    TokenizerThread,
    is_urgent,
    lengths_of,
    refuse_cut,
    refuse_oversize,
    slices,
    turns,
)
from sidecar.settings import Limits

# One turn at the tokenizer: a short text that comes meanwhile waits for it.
TOKENIZE_ROWS = 256
TOKENIZE_CHARS = 1 << 15
# What is handed on at a time: enough for some batches of an engine.
PART_TOKENS = 4_096
# Of a long request so many parts wait at a time: while one is computed the next is there, and
# another is tokenised.
PARTS_AT_ONCE = 2
# How often a patient request asks whether there is room.
ROOM_S = 0.5
log = logging.getLogger("sidecar.encoder")
# Of so many spaces the fingerprints are kept: a prompt may be any text.
SPACES = 256
R = TypeVar("R")
Status = Literal["ok", "loading", "stopping", "stuck", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of texts: rows of shape (texts, dim), and what is said beside them.

    `truncated` are the indices of texts that the model cut.
    """

    rows: Vectors
    tokens: list[int]
    truncated: list[int]
    fingerprint: str


def _later(seconds: float, call: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


class Encoder:
    """Loads models off the event loop, and embeds for any number of concurrent requests.

    A method that takes a `model` takes the first one in the place of None. It is in use meanwhile.
    """

    def __init__(
        self,
        load: Load,
        *,
        limits: Limits,
        now: Callable[[], float] = time.monotonic,
        after: Callable[[float, Callable[[], object]], object] = _later,
        residence: Residence | None = None,
    ) -> None:
        """Call `load` on the inference thread once `start` is called.

        `now` measures the work, `after` is of its clock.
        """
        residence = residence or Residence()
        self._load = load
        self._limits = limits
        self.counts = Counts()
        self._tokenizer = TokenizerThread()
        self._inference = Inference(limits, self._post, counts=self.counts, now=now)
        self.models = ServedModels(self._inference, residence, now=now, after=after)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Job, asyncio.Future[None]] = {}
        self._phase: Phase = "starting"
        self._first: ServedModel | None = None  # once it is ready
        self._fingerprint = functools.lru_cache(SPACES)(self._fingerprint_of)
        self.models.changed = self._fingerprint.cache_clear
        self.is_stopping = False  # requests are refused, because the service ends

    @property
    def loaded(self) -> Loaded | None:
        """The first model, once it is ready."""
        return self._first.loaded if self._first else None

    @property
    def phase(self) -> str:
        """What the encoder does now: a phase of loading, ready, or stopping."""
        if self.is_stopping:
            return "stopping"
        return self._phase if self._first is None else "ready"

    def phase_of(self, model: ServedModel) -> str:
        """Return how far the loading of `model` is, ready, unloaded, or failed."""
        is_starting = self._first is None and model is self.models.all[0]
        return self._phase if is_starting else model.phase

    @property
    def status(self) -> Status:
        """What /health says: `ok` alone means that requests are served.

        `stuck` is an engine that does not come back, `dead` a thread that ended and could not be
        replaced yet; to ask is to try again.
        """
        if self.is_stopping:
            return "stopping"
        if self._first is None:
            return "loading"
        state = self._inference.state
        if state == "dead":
            self._inference.revive()
        return state

    @property
    def queued(self) -> dict[str, int]:
        """The tokens that wait to be computed, by lane."""
        return self._inference.scheduler.queued

    @property
    def long_requests(self) -> int:
        """How many requests are computed part by part."""
        return len(self._inference.scheduler.reservations)

    async def start(self) -> Loaded:
        """Load the first model. Raises ServiceError, and what else loading raises."""
        self._loop = asyncio.get_running_loop()
        load = functools.partial(self._load, self._report)
        loaded = await asyncio.wrap_future(self._inference.begin(load))
        self._first = self.models.begin(loaded, self._load)
        return loaded

    def ready(self) -> Loaded:
        """Return the first model. Raises Problem 503 before it is loaded and while stopping."""
        if self.is_stopping:
            raise stopping()
        return self._of(None).loaded

    def named(self, name: str | None) -> ServedModel:
        """Return the model of this name, the first for None. Raises Problem 404 and as `ready`."""
        first = self._of(None)
        if name is None:
            return first
        found = self.models.named(name)
        if found is not None:
            return found
        names = [one.loaded.snapshot.names[0] for one in self.models.all]
        what = "no model of this name is served"
        why = f"this service has {', '.join(names)}"
        raise Problem("unknown-model", what, why, f"send the name {' or '.join(names)}")

    def using(
        self,
        model: ServedModel,
        *,
        keep_s: float | None = None,
        disconnected: Disconnected | None = None,
    ) -> Use:
        """Return the use of `model` by one request, which waits until it is in memory.

        `keep_s` is how long it is to stay there afterwards, within the idle time.
        """
        return Use(self, model, keep_s, disconnected)

    def refuse_new(self) -> None:
        """Refuse requests from now on; the running ones go on."""
        self.is_stopping = True

    def abandon(self) -> None:
        """Answer the running requests with 503 now; the batch in work is left to itself."""
        if not self._abandoned.done():
            self._abandoned.set_result(None)
        for ended in self._waiting.values():
            _give_up(ended, stopping())
        self.close(wait=False)

    def close(self, *, wait: bool = True) -> None:
        """Compute no more than the batch in work, and wait for it if asked to."""
        self.is_stopping = True
        self._tokenizer.close()
        self._inference.close(wait=wait)

    def freed(self) -> None:
        """Note that a request has freed much memory, which is given back to the system soon."""
        self._inference.freed()

    async def embed(
        self,
        texts: Sequence[str],
        space: Space = USUAL,
        *,
        model: ServedModel | None = None,
        truncate: Truncation = "right",
        priority: Priority = "auto",
        disconnected: Disconnected | None = None,
    ) -> Embedded:
        """Return the vectors of `texts` in order; none for no texts. Raises Problem as `parts`."""
        model = self._of(model)
        loaded = model.loaded
        shape = (len(texts), space.width or loaded.engine.dim)
        if not texts:
            rows, fingerprint = np.empty(shape, dtype=np.float32), self._fingerprint(model, space)
            return Embedded(rows=rows, tokens=[], truncated=[], fingerprint=fingerprint)
        if len(texts) * loaded.engine.max_tokens <= self._share(loaded.engine):
            given = PromptedTexts(texts, space.prompt) if space.prompt else texts
            lengths = self._let_by(given, model, priority)
            # Read in less time than it takes to change threads and back.
            if is_urgent(lengths, priority) and self._tokenizer.is_idle:
                few = loaded.engine.tokenize(given[:], keeps_end=truncate == "left")
                if truncate == "never":
                    refuse_cut(few, 0, loaded.engine.max_tokens)
                is_ahead = is_interactive(priority, _size(few))
                job = self._submit(few, space, model, is_interactive=is_ahead)
                return await self._finish(job, few, space, disconnected)
        parts = self.parts(
            texts,
            space,
            model=model,
            truncate=truncate,
            priority=priority,
            disconnected=disconnected,
        )
        async with contextlib.aclosing(parts):
            found = await anext(parts)
            if len(found.rows) < len(texts):
                rows = np.empty(shape, dtype=np.float32)
                rows[: len(found.rows)] = found.rows
                found = dataclasses.replace(found, rows=rows)
                async for part in parts:
                    first = len(found.tokens)
                    rows[first : first + len(part.rows)] = part.rows
                    found.tokens.extend(part.tokens)
                    found.truncated.extend(first + index for index in part.truncated)
        return found

    async def parts(
        self,
        texts: Sequence[str],
        space: Space = USUAL,
        *,
        model: ServedModel | None = None,
        truncate: Truncation = "right",
        priority: Priority = "auto",
        disconnected: Disconnected | None = None,
        is_patient: bool = False,
    ) -> AsyncGenerator[Embedded]:
        """Yield the vectors of `texts` in order, a short request's at once, a long one's in parts.

        No more of a long one waits than its share of the queue, and no more is tokenised. A request
        that was let in is served while the service stops, until it is abandoned.
        One that `is_patient` waits where too much waits already; others are refused.
        Raises Problem: 422 for a text over a limit or one that the model fails on, 429 if too
        much waits already, 507 if there is not enough memory for it, 503 when the model is not
        loaded, the engine fails or the request is abandoned, 499 when `disconnected` is done.
        """
        model = self._of(model)
        loaded = model.loaded
        if space.prompt:
            texts = PromptedTexts(texts, space.prompt)
        lengths = self._let_by(texts, model, None if is_patient else priority)
        read = functools.partial(
            self._tokens,
            loaded.engine,
            texts,
            lengths,
            is_urgent=is_urgent(lengths, priority),
            truncate=truncate,
            disconnected=disconnected,
        )
        share = self._share(loaded.engine)
        reading, head, total = read(), list[list[Tokens]](), 0
        async for part in reading:
            head.append(part)
            total += _size(part)
            if total > share:
                break
        if total <= share:
            if head:
                whole = list(chain.from_iterable(head))
                is_ahead = is_interactive(priority, total)
                submit = functools.partial(
                    self._submit, whole, space, model, is_interactive=is_ahead
                )
                job = await self._let_in(submit, disconnected, is_patient=is_patient)
                yield await self._finish(job, whole, space, disconnected)
            return
        if truncate == "never":  # what a text at the end refuses is not computed before
            async for _ in reading:
                pass
            head, reading = [], read()
        reservation = Reservation(tokens=share, is_interactive=priority == "interactive")
        reserve = functools.partial(self._inference.reserve, reservation)
        await self._let_in(reserve, disconnected, is_patient=is_patient)
        made = self._part_by_part(_resumed(head, reading), space, model, reservation, disconnected)
        async with contextlib.aclosing(made):
            async for found in made:
                yield found

    def _let_by(
        self, texts: Sequence[str], model: ServedModel, priority: Priority | None
    ) -> Sequence[int]:
        """Return the lengths of `texts`. Raises Problem 422 and, where there is a priority, 429."""
        lengths = lengths_of(texts)
        refuse_oversize(lengths, self._limits)
        if priority is not None:
            self.require_room(priority, texts=len(texts), model=model)
        return lengths

    async def _let_in(
        self, enter: Callable[[], R], disconnected: Disconnected | None, *, is_patient: bool
    ) -> R:
        """Return what `enter` returns, as soon as there is room for the patient.

        Raises Problem 429 for others.
        """
        while True:
            try:
                return enter()
            except Problem as problem:
                if not is_patient or problem.kind != "busy":
                    raise
            await self.while_wanted(asyncio.sleep(ROOM_S), disconnected=disconnected)

    async def _part_by_part(
        self,
        parts: AsyncIterator[list[Tokens]],
        space: Space,
        model: ServedModel,
        reservation: Reservation,
        disconnected: Disconnected | None,
    ) -> AsyncGenerator[Embedded]:
        """Yield the vectors of `parts`, of which PARTS_AT_ONCE wait in the queue at most.

        Gives the reservation back in the end.
        """
        submitted: deque[tuple[Job, list[Tokens]]] = deque()
        first = 0
        try:
            async for part in parts:
                job = self._submit(part, space, model, reservation=reservation, first=first)
                submitted.append((job, part))
                first += len(part)
                if len(submitted) == PARTS_AT_ONCE:
                    yield await self._finish(*submitted.popleft(), space, disconnected)
            while submitted:
                yield await self._finish(*submitted.popleft(), space, disconnected)
        finally:
            for job, _ in submitted:
                self._leave(job)
            self._inference.release(reservation)

    async def while_wanted(
        self, work: Awaitable[R], *, disconnected: Disconnected | None = None
    ) -> R:
        """Return what `work` returns, and cancel it when its request is left.

        Raises Problem: 499 when `disconnected` is done, 503 when requests are abandoned.
        """
        future = asyncio.ensure_future(work)
        waited: set[asyncio.Future[Any]] = {future, self._abandoned}
        if disconnected is not None:
            waited.add(disconnected)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
        finally:
            future.cancel()
        raise client_gone() if disconnected is not None and disconnected.done() else stopping()

    @functools.cached_property
    def _abandoned(self) -> asyncio.Future[None]:
        """What is done once the running requests are given up."""
        return asyncio.get_running_loop().create_future()

    def require_room(
        self, priority: Priority = "auto", *, texts: int = 1, model: ServedModel | None = None
    ) -> None:
        """Raise Problem 429 if a request of at least so many texts would surely be refused.

        To be asked before anything costly is done for it; `parts` itself counts.
        """
        if texts <= 0:  # each text that there is has a token at least
            return
        share = self._share(self._of(model).loaded.engine)
        if texts > share:
            reservation = Reservation(tokens=share, is_interactive=priority == "interactive")
            self._inference.require_reservation(reservation)
            return
        if is_interactive(priority, texts):
            try:
                self._inference.require_room(texts, is_interactive=True)
            except Problem:
                if priority == "interactive":
                    raise
            else:
                return
        self._inference.require_room(texts, is_interactive=False)

    @staticmethod
    def _share(engine: Engine) -> int:
        """Return how many tokens of one request may wait at a time."""
        return PARTS_AT_ONCE * max(PART_TOKENS, engine.max_tokens)

    async def spans(
        self,
        text: str,
        *,
        model: ServedModel | None = None,
        disconnected: Disconnected | None = None,
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Return where the tokens of `text` start and end, four bytes for each.

        Raises Problem as `parts` does.
        """
        starts, ends = array("I"), array("I")
        read = self._of(model).loaded.engine.spans
        async for first, found in self._in_turns(read, text, disconnected):
            starts.extend(first + start for start, _ in found)
            ends.extend(first + end for _, end in found)
        return starts, ends

    async def unknown(
        self,
        text: str,
        *,
        model: ServedModel | None = None,
        disconnected: Disconnected | None = None,
    ) -> tuple[int, int]:
        """Return how many tokens of `text` the model has none for, and of how many.

        Raises Problem as `parts` does.
        """
        read = self._of(model).loaded.engine.unknown
        found = [counts async for _, counts in self._in_turns(read, text, disconnected)]
        return sum(unknown for unknown, _ in found), sum(total for _, total in found)

    async def told(
        self,
        tell: Callable[[Vocabulary], Iterator[R]],
        *,
        model: ServedModel | None = None,
        disconnected: Disconnected | None = None,
    ) -> AsyncIterator[R]:
        """Yield what `tell` yields of the model's tokens, each in a turn at the tokenizer.

        Raises Problem 400 where there is no model, and as `parts` does.
        """
        vocabulary = self._of(model).loaded.engine.vocabulary
        if vocabulary is None:
            what = "there are no tokens to be had from this engine"
            raise Problem("bad-request", what, "it has no model", "start the service with a model")
        steps = tell(vocabulary)
        step = functools.partial(next, steps, None)
        while (found := await self._on_tokenizer(step, disconnected)) is not None:
            yield found

    async def _in_turns(
        self, read: Callable[[str], R], text: str, disconnected: Disconnected | None
    ) -> AsyncIterator[tuple[int, R]]:
        """Yield where pieces of `text` start and what `read` returns of each.

        They begin with white space, which changes no token.
        """
        for first, last in turns(text, max_chars=TOKENIZE_CHARS):
            work = functools.partial(read, text[first:last])
            yield first, await self._on_tokenizer(work, disconnected)

    async def _tokens(
        self,
        engine: Engine,
        texts: Sequence[str],
        lengths: Sequence[int],
        *,
        is_urgent: bool,
        truncate: Truncation,
        disconnected: Disconnected | None,
    ) -> AsyncIterator[list[Tokens]]:
        """Yield the tokens of `texts` of these `lengths`, PART_TOKENS or one text at a time."""
        first = 0
        for run in slices(lengths, max_rows=TOKENIZE_ROWS, max_total=TOKENIZE_CHARS):
            work = functools.partial(
                lambda run: engine.tokenize(texts[run], keeps_end=truncate == "left"), run
            )
            found = await self._on_tokenizer(work, disconnected, is_urgent=is_urgent)
            if truncate == "never":
                refuse_cut(found, first, engine.max_tokens)
            first += len(found)
            sizes = [len(one.ids) for one in found]
            for part in slices(sizes, max_rows=TOKENIZE_ROWS, max_total=PART_TOKENS):
                yield found[part]

    async def _on_tokenizer(
        self, work: Callable[[], R], disconnected: Disconnected | None, *, is_urgent: bool = False
    ) -> R:
        if self._abandoned.done():
            raise stopping()
        future = asyncio.wrap_future(self._tokenizer.submit(work, is_urgent=is_urgent))
        return await self.while_wanted(future, disconnected=disconnected)

    def _submit(
        self,
        part: Sequence[Tokens],
        space: Space,
        model: ServedModel,
        *,
        is_interactive: bool = False,
        reservation: Reservation | None = None,
        first: int = 0,
    ) -> Job:
        """Let `part` wait in the queue, and return the job that must be finished or left."""
        job = Job(
            [one.ids for one in part],
            dim=space.width or model.loaded.engine.dim,
            key=BatchKey(space.pooling, space.normalize, model.number),
            is_interactive=reservation.is_interactive if reservation else is_interactive,
            reservation=reservation,
            first=first,
        )
        self._inference.submit(job)
        self._waiting[job] = asyncio.get_running_loop().create_future()
        return job

    async def _finish(
        self,
        job: Job,
        part: Sequence[Tokens],
        space: Space,
        disconnected: Disconnected | None,
    ) -> Embedded:
        """Return the vectors of `part` once `job` has them."""
        ended = self._waiting[job]

        def leave(_: asyncio.Future[None]) -> None:
            _give_up(ended, client_gone())

        if disconnected is not None:
            disconnected.add_done_callback(leave)
        try:
            await ended
        finally:
            if disconnected is not None:
                disconnected.remove_done_callback(leave)
            self._leave(job)
        if job.problem is not None:
            raise job.problem
        model, tokens = self.models.all[job.key.model], _size(part)
        model.texts += len(part)
        model.tokens += tokens
        self.counts.texts += len(part)
        self.counts.tokens += tokens
        return Embedded(
            rows=job.rows,
            tokens=[one.length for one in part],
            truncated=[index for index, one in enumerate(part) if one.is_truncated],
            fingerprint=self._fingerprint(model, space),
        )

    def _leave(self, job: Job) -> None:
        """Forget `job`, and what of it still waits."""
        ended = self._waiting.pop(job)
        if not ended.done() or ended.cancelled() or ended.exception() is not None:
            self._inference.drop(job)

    def _post(self, jobs: list[Job]) -> None:
        """Tell the requests that wait for `jobs` that they ended; called by any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and no request waits
                self._loop.call_soon_threadsafe(self._settle, jobs)

    def _settle(self, jobs: list[Job]) -> None:
        for job in jobs:
            done = self._waiting.get(job)
            if done is not None and not done.done():
                done.set_result(None)

    def _of(self, model: ServedModel | None) -> ServedModel:
        """Return `model`, or the first. Raises Problem 503 before that is loaded."""
        if self._first is None:
            raise not_ready(self._phase)
        return model or self._first

    @staticmethod
    def _fingerprint_of(model: ServedModel, space: Space) -> str:
        return model.loaded.fingerprint(space)

    def _report(self, phase: Phase) -> None:
        self._phase = phase
        log.info("%s", phase)


class Use:
    """What keeps a model in memory for one request."""

    __slots__ = ("_disconnected", "_encoder", "_keep_s", "_model")

    def __init__(
        self,
        encoder: Encoder,
        model: ServedModel,
        keep_s: float | None,
        disconnected: Disconnected | None,
    ) -> None:
        self._encoder, self._model = encoder, model
        self._keep_s, self._disconnected = keep_s, disconnected

    async def __aenter__(self) -> Loaded:
        """Return the model once it is in memory.

        Raises Problem: what keeps it from being loaded, and as `Encoder.while_wanted`.
        """
        model, models = self._model, self._encoder.models
        if model.is_open:
            model.uses += 1
            return model.loaded
        waiter = models.wait(model)
        try:
            await self._encoder.while_wanted(waiter, disconnected=self._disconnected)
        except BaseException:
            models.give_up(model, waiter)
            raise
        return model.loaded

    async def __aexit__(self, *_: object) -> None:
        """Let it go."""
        model, models = self._model, self._encoder.models
        model.uses -= 1
        model.turn = next(models.turns)
        if self._keep_s is not None:
            models.keep(model, self._keep_s)
        if model.keep_s is not None or model.emptied is not None:
            models.rest(model)


def _give_up(ended: asyncio.Future[None], problem: Problem) -> None:
    """Make `ended` raise `problem` where it is awaited, unless it is done."""
    if not ended.done():
        ended.set_exception(problem)


def _size(part: Sequence[Tokens]) -> int:
    return sum(len(one.ids) for one in part)


async def _resumed(
    head: list[list[Tokens]], rest: AsyncIterator[list[Tokens]]
) -> AsyncIterator[list[Tokens]]:
    """Yield the parts in `head`, which is emptied, and then `rest`."""
    while head:
        yield head.pop(0)
    async for part in rest:
        yield part
