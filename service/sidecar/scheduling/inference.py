"""The one thread that computes: it loads the first model, then encodes batch after batch.

Engines are not safe under concurrent calls of `encode`, and one that has all cores for itself is
the fastest: those of several models take turns, batch by batch. Whatever is queued when the thread
becomes free makes its next batch; it never waits for more to come.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple

import numpy as np

from sidecar.engines import Engine, Vectors
from sidecar.metrics import Counts
from sidecar.models.loader import Loaded
from sidecar.problems import Problem, busy, stopping
from sidecar.process.limits import is_memory, trimmer
from sidecar.scheduling.scheduler import Batch, BatchItem, BatchKey, Job, Reservation, Scheduler
from sidecar.settings import Limits

Encode = Callable[[Sequence[Sequence[int]]], Vectors]


class NotFiniteError(ArithmeticError):
    """The engine gave a vector with an infinity or NaN in it."""


def run(
    items: Sequence[BatchItem], encode: Encode, *, canary: Sequence[int]
) -> tuple[list[Job], bool]:
    """Encode `items` and give their jobs the rows.

    Returns the jobs that came to their end, well or not, and whether the engine failed nowhere.

    A batch that fails is halved until the texts at fault stand alone; their jobs fail with a
    Problem, and the rest of their texts is left out. If the engine fails on `canary` too, which
    is a text it is known to encode, no text is at fault, and all jobs of the batch fail.
    """
    ended: list[Job] = []
    is_clean = True
    groups: list[Sequence[BatchItem]] = [items]
    while groups:
        group = [item for item in groups.pop() if item.job.is_open]
        if not group:
            continue
        bad, error = _encode(group, encode, ended)
        if error is None:
            continue
        if is_clean:
            is_clean = False
            log.warning("%s on %d texts in one batch", type(error).__name__, len(group))
            canary_error = _failure(canary, encode)
            if canary_error is not None:
                _fail({item.job for item in items}, _engine_fails(canary_error), ended)
                break
        if len(bad) == 1:
            job, place = bad[0]
            _fail({job}, _text_fails(job.first + place, error), ended)
        else:
            middle = len(bad) // 2
            groups += [bad[middle:], bad[:middle]]
    return ended, is_clean


def _encode(
    group: list[BatchItem], encode: Encode, ended: list[Job]
) -> tuple[list[BatchItem], Exception | None]:
    """Return the items that failed and why; none and None if all are served."""
    try:
        rows = encode([item.ids for item in group])
        if len(rows) != len(group):
            raise IndexError  # noqa: TRY301 (the same to us as an engine that raises)
        finite = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
    except Exception as error:  # noqa: BLE001 (an engine meets everything)
        return group, error
    bad = []
    for item, row, is_finite in zip(group, rows, finite, strict=True):
        if not is_finite:
            bad.append(item)
        elif item.job.fill(item.place, row) and item.job.close():
            ended.append(item.job)
    return bad, NotFiniteError() if bad else None


def _failure(canary: Sequence[int], encode: Encode) -> Exception | None:
    try:
        is_finite = np.isfinite(encode([canary])).all()
    except Exception as error:  # noqa: BLE001
        return error
    return None if is_finite else NotFiniteError()


def _fail(jobs: set[Job], problem: Problem, ended: list[Job]) -> None:
    ended += [job for job in jobs if job.close(problem)]


def _text_fails(index: int, error: Exception) -> Problem:
    if is_memory(error):
        return _memory(f"texts.{index}: there is not enough memory to encode it")
    return Problem(
        "text-fails",
        f"texts.{index}: the model gives no vector for this text",
        why=type(error).__name__,
        next_step="leave it out, or change it; other texts are served",
    )


def _engine_fails(error: Exception) -> Problem:
    if is_memory(error):
        return _memory("there is not enough memory to encode any text")
    return Problem(
        "engine-fails",
        "the engine fails on every text",
        why=type(error).__name__,
        next_step="try again; if it fails again, restart the service",
        retry_s=5,
    )


def _memory(what: str) -> Problem:
    return Problem(
        "out-of-memory",
        what,
        next_step="send shorter texts, or give the service more memory",
        retry_s=5,
    )


def engine_died() -> Problem:
    """Return the problem of a request whose batch ended the thread that computed it."""
    return Problem(
        "engine-died",
        "the compute thread ended during this request",
        next_step="send the request again",
        retry_s=1,
    )


State = Literal["ok", "stuck", "dead"]
Post = Callable[[list[Job]], None]
STUCK_S = 60.0  # the largest batch takes a fraction of a second, the longest text a few
TRIM_AFTER_S = 5.0
log = logging.getLogger("sidecar.inference")


class Ready(NamedTuple):
    """An engine that computes, and a text that it is known to encode."""

    engine: Engine
    canary: Sequence[int]


def ready(engine: Engine) -> Ready:
    """Return the engine as it is given to the thread."""
    return Ready(engine, engine.tokenize([""])[0].ids)


class Inference:
    """Computes the jobs it is given, and hands those that ended to `post`, on its own thread."""

    def __init__(
        self,
        limits: Limits,
        post: Post,
        *,
        counts: Counts,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do nothing until `begin`; `now` is a clock in seconds, for any thread to read.

        When the last work, or the first that `freed` was told of, is `trim_after_s` ago the engine
        is asked once to give back what memory it can, and then `trim` is called; a call of the
        engine that takes longer than `stuck_s` is stuck.
        """
        self.trim = trimmer()
        self.trim_after_s, self.stuck_s = TRIM_AFTER_S, STUCK_S
        self._post = post
        self._counts = counts
        self._now = now
        self.scheduler = Scheduler(limits)
        # Guards the scheduler and all below; a thread that has it may take it again.
        self._change = threading.Condition()
        self._ready: dict[int, Ready] = {}  # by the model's number
        self._has_begun = False
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._has_freed = True
        self._computed: Batch | None = None
        self._encoding_since: float | None = None

    @property
    def state(self) -> State:
        """Whether the thread lives, and is not stuck in one call of the engine."""
        since = self._encoding_since
        if since is not None and self._now() - since > self.stuck_s:
            return "stuck"
        is_dead = self._thread is not None and not self._thread.is_alive()
        return "dead" if is_dead and self._has_begun and not self._is_closed else "ok"

    def begin(self, load: Callable[[], Loaded]) -> Future[Loaded]:
        """Return the future of the first model, loaded on the thread; it computes from then on."""
        loading: Future[Loaded] = Future()
        if not self._spawn(functools.partial(self._load, load, loading)):
            loading.set_exception(RuntimeError("the system starts no thread"))
        return loading

    def add(self, model: int, found: Ready) -> None:
        """Compute jobs of this number with this engine from now on."""
        with self._change:
            traits = self.scheduler.traits[model]
            traits.pads, traits.best_tokens = found.engine.pads, found.engine.best_tokens
            self._ready[model] = found

    def remove(self, model: int) -> None:
        """Forget the engine of this number, of which no job waits or is computed."""
        with self._change:
            del self._ready[model]

    def submit(self, job: Job) -> None:
        """Let `job`, which has texts, wait for its turn.

        Raises Problem 503 once closed, 429 if too much waits already and it has no reservation.
        """
        with self._change:
            if self._is_closed:
                raise stopping()
            if job.reservation is None:
                self.require_room(job.queued_tokens, is_interactive=job.is_interactive)
            self.scheduler.add(job, self._now())
            self._change.notify()
        self.revive()

    def reserve(self, reservation: Reservation) -> None:
        """Keep the share of `reservation` in the queue until it is released.

        Raises Problem 429 if long requests have all that they may, or too much waits already.
        """
        with self._change:
            self.require_reservation(reservation)
            self.scheduler.reservations.add(reservation)

    def release(self, reservation: Reservation) -> None:
        """Keep the share of `reservation` no longer."""
        with self._change:
            self.scheduler.reservations.discard(reservation)

    def require_reservation(self, reservation: Reservation) -> None:
        """Raise Problem 429 if `reservation` would not be let in now."""
        with self._change:
            wait_s = self.scheduler.reservation_wait_s(reservation)
        if wait_s > 0:
            why = "long requests may have half of the queued tokens"
            raise busy("too many long requests are queued", why, retry_s=wait_s)

    def require_room(self, tokens: int, *, is_interactive: bool) -> None:
        """Raise Problem 429 if a job of so many tokens would not be let in now."""
        with self._change:
            wait_s = self.scheduler.wait_s(tokens, is_interactive=is_interactive)
        if wait_s > 0:
            why = "the limit of queued tokens is in GET /info"
            raise busy("the queue is full", why, retry_s=wait_s)

    def drop(self, job: Job) -> None:
        """Forget `job`: its request was left."""
        job.close()
        with self._change:
            self.scheduler.remove(job)

    def freed(self) -> None:
        """Note that much memory was freed beside the work; any thread may call it."""
        with self._change:
            if not self._has_freed:
                self._has_freed = True
                self._change.notify()

    def revive(self) -> None:
        """Replace the thread if it is dead; a system that has no thread to give is asked again."""
        with self._change:
            if self.state == "dead":
                self._spawn()

    def close(self, *, wait: bool) -> None:
        """Compute no more than the batch in work; what waits fails with 503."""
        with self._change:
            self._is_closed = True
            left = [job for job in self.scheduler.clear() if job.close(stopping())]
            self._change.notify_all()
        if left:
            self._post(left)
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _spawn(self, *work: Callable[[], bool]) -> bool:
        """Start a thread that serves, unless some `work` before it says not to."""
        # A daemon is not waited for: a hung engine must not keep the process from ending.
        thread = threading.Thread(
            target=self._guarded, args=(list(work),), name="inference", daemon=True
        )
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            log.error("the system starts no new thread")  # noqa: TRY400 (it says it all)
            return False
        return True

    def _guarded(self, work: list[Callable[[], bool]]) -> None:
        """Serve; if that ends the thread, fail the batch it was on, and let another go on."""
        try:
            # Nothing here keeps what it has loaded, which may be unloaded again.
            if not work or work.pop()():
                self._serve()
        except BaseException as error:  # noqa: BLE001 (SystemExit and bugs alike)
            log.error("the compute thread ended: %s", type(error).__name__)  # noqa: TRY400
            with self._change:
                batch, self._computed, self._encoding_since = self._computed, None, None
                jobs = dict.fromkeys(item.job for item in batch.items) if batch else {}
                ended = [job for job in jobs if job.close(engine_died())]
                for job in jobs:
                    self.scheduler.remove(job)
                if not self._is_closed:
                    self._spawn()
            self._post(ended)

    def _load(self, load: Callable[[], Loaded], loading: Future[Loaded]) -> bool:
        if not loading.set_running_or_notify_cancel():
            return False
        try:
            loaded = load()
            found = ready(loaded.engine)
        except BaseException as error:  # noqa: BLE001 (the future raises it)
            loading.set_exception(error)
            return False
        self.add(0, found)
        self._has_begun = True
        loading.set_result(loaded)
        return True

    def _serve(self) -> None:
        while (batch := self._next()) is not None:
            self._compute(batch)

    def _next(self) -> Batch | None:
        """Return the next batch, as soon as there is one; None once closed."""
        while True:
            with self._change:
                batch = None if self._is_closed else self.scheduler.take(self._now())
                self._computed = batch
                self._has_freed |= batch is not None
                if batch is not None or self._is_closed:
                    return batch
                if self._change.wait(self.trim_after_s if self._has_freed else None):
                    continue
                self._has_freed = False
            self._give_back()

    def _give_back(self) -> None:
        for found in list(self._ready.values()):
            try:
                found.engine.trim()
            except Exception as error:  # noqa: BLE001 (requests may still be served)
                log.warning("the engine keeps its memory: %s", type(error).__name__)
        self.trim()

    def _compute(self, batch: Batch) -> None:
        found = self._ready.get(batch.key.model)
        if found is None:  # its requests have left, and the model was unloaded
            self._computed = None
            return
        engine, canary = found
        encode = functools.partial(self._encode, engine, batch.key)
        started = self._now()
        ended, is_clean = run(batch.items, encode, canary=canary)
        took = self._now() - started
        self._counts.batches += 1
        self._counts.batch_s += took
        for job in ended:
            if job.is_waiting:  # what is left of one that failed
                with self._change:
                    self.scheduler.remove(job)
        self._computed = None
        if ended:
            self._post(ended)
        if is_clean:  # while the event loop wakes up
            with self._change:
                self.scheduler.traits[batch.key.model].pace.observe(batch.tokens, took)

    def _encode(self, engine: Engine, key: BatchKey, ids: Sequence[Sequence[int]]) -> Vectors:
        self._encoding_since = self._now()
        try:
            return engine.encode(ids, pooling=key.pooling, normalize=key.normalize)
        finally:
            self._encoding_since = None
