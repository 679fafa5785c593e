"""The models that requests may name: which are in memory, and how they come and go.

The first is loaded at the start, another when it is first asked for. A request keeps the one that
it uses in memory: it is unloaded between its uses, after an idle time or where another needs the
room. All of this runs on the event loop but for the loading itself, of one model at a time.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from sidecar.engines import Engine, Unloaded
from sidecar.errors import ServiceError
from sidecar.models.loader import Candidate, Load, Loaded
from sidecar.models.snapshot import NOWHERE, REPAIR, Phase
from sidecar.problems import Problem, at_limit, bundle_gone, busy
from sidecar.process import limits
from sidecar.process.limits import LimitError
from sidecar.process.logs import discreet
from sidecar.scheduling.inference import Inference, Ready, ready
from sidecar.scheduling.tokenizing import fulfil

# How long a load waits for the next request to end of the model in whose place it comes.
DRAIN_S = 10.0
log = logging.getLogger("sidecar.served")
R = TypeVar("R")
Waiter = asyncio.Future[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """Which models may be in memory at a time.

    Of the `models` those after the first are loaded when they are asked for, as the first is again
    if it was unloaded; none stands for the one that a start loads. `needs` returns what the model
    in a folder takes of `max_bytes`, None for any; one that is idle for `idle_s` is unloaded.
    """

    models: tuple[Candidate, ...] = ()
    needs: Callable[[Path], int] = lambda _: 0
    max_bytes: int | None = None
    idle_s: float | None = None


class ServedModel:
    """One of the models, by its number in their order.

    `loaded` describes it whether it is in memory or not. While `is_open` requests may use it: each
    counts in `uses`, and the `waiters` do as soon as it is loaded. `failure` is the kind of problem
    that its last load ended with, None if that did not fail. `keep_s` is how long it may be idle,
    None for ever.
    """

    def __init__(self, number: int, known: Candidate) -> None:
        """Be known, and not in memory."""
        self.number = number
        self.loaded = known.known
        self.load: Load = known.load
        self.phase: Phase | Literal["unloaded", "ready", "failed"] = "unloaded"
        self.failure: str | None = None
        self.is_open = False
        self.uses = 0
        self.waiters: list[Waiter] = []
        self.keep_s: float | None = None
        self.turn = 0  # of the last use, in the order in which uses of all models ended
        self.used_s = 0.0  # when that was, where an idle time is kept
        self.due_s = math.inf  # when it is next looked at for its idle time
        self.bytes: int | None = None  # what it takes in memory, once that was asked for
        self.emptied: asyncio.Future[None] | None = None  # done once its last use is over, or late
        self.coming: asyncio.Task[None] | None = None  # what loads it
        self.going: asyncio.Task[None] | None = None  # what unloads it
        self.loads = self.load_failures = self.unloads = self.texts = self.tokens = 0

    @property
    def is_here(self) -> bool:
        """Whether it is in memory."""
        return not isinstance(self.loaded.engine, Unloaded)


class ServedModels:
    """All models of one service, and what brings them into memory and out of it."""

    def __init__(
        self,
        inference: Inference,
        residence: Residence,
        *,
        now: Callable[[], float],
        after: Callable[[float, Callable[[], object]], object],
    ) -> None:
        """Have no model in memory yet; `now` and `after` are of one clock."""
        self._inference = inference
        self.idle_s = residence.idle_s
        self._needs, self._max_bytes = residence.needs, residence.max_bytes
        self._now, self._after = now, after
        self.all = [ServedModel(number, one) for number, one in enumerate(residence.models)]
        self.turns = itertools.count(1)
        self.is_gone: Callable[[], bool] = lambda: False  # whether the bundle is
        self.changed: Callable[[], object] = lambda: None  # called once a model was loaded anew
        self._by_name: dict[str, ServedModel] = {}
        self._turn = asyncio.Lock()

    def begin(self, loaded: Loaded, load: Load) -> ServedModel:
        """Serve the first, which was `loaded` as `load` does, and return it."""
        self.all = self.all or [ServedModel(0, Candidate(known=loaded, load=load))]
        first = self.all[0]
        first.loaded = loaded
        for one in reversed(self.all):  # a name that two have is the first one's
            self._by_name |= dict.fromkeys(map(str.casefold, one.loaded.snapshot.names), one)
        self._open(first)
        self.rest(first)
        return first

    def named(self, name: str) -> ServedModel | None:
        """Return the model that is called `name`, in any case, with or without Ollama's tag."""
        return self._by_name.get(name.casefold().removesuffix(":latest"))

    def wait(self, model: ServedModel) -> Waiter:
        """Return what is done once `model` is in memory and has one use more.

        Its exception is the Problem that keeps it from being loaded.
        """
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        model.waiters.append(waiter)
        if model.coming is None:
            model.coming = loop.create_task(self._bring(model))
        return waiter

    def give_up(self, model: ServedModel, waiter: Waiter) -> None:
        """Wait no longer; a use that was counted already is over."""
        if waiter in model.waiters:
            model.waiters.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            model.uses -= 1
            self.rest(model)

    def keep(self, model: ServedModel, seconds: float) -> None:
        """Keep `model` in memory for so many seconds after its last use, within the idle time."""
        if self.idle_s is not None:
            model.keep_s = min(seconds, self.idle_s) if seconds >= 0 else self.idle_s

    def left_s(self, model: ServedModel) -> float | None:
        """Return how long `model` stays in memory if it is not used again, None for ever."""
        if model.keep_s is None:
            return None
        return model.keep_s if model.uses else max(model.used_s + model.keep_s - self._now(), 0.0)

    def rest(self, model: ServedModel) -> None:
        """See to a model that may have no use any more."""
        if model.uses:
            return
        model.used_s = self._now()
        if model.emptied is not None and not model.emptied.done():
            model.emptied.set_result(None)
        elif model.is_open and model.keep_s is not None:
            self._look_after(model, model.keep_s)

    def _look_after(self, model: ServedModel, seconds: float) -> None:
        due = self._now() + seconds
        if due < model.due_s:
            model.due_s = due
            self._after(seconds, lambda: self._look_at(model, due))

    def _look_at(self, model: ServedModel, due: float) -> None:
        """Look at a model when it is due, unless it was due earlier meanwhile."""
        if due == model.due_s:
            self._look(model)

    def _look(self, model: ServedModel) -> None:
        """Unload a model that was idle for as long as it may be, or look again later."""
        model.due_s = math.inf
        left_s = self.left_s(model)
        if model.uses or not model.is_open or left_s is None:
            return
        if left_s > 0:
            self._look_after(model, left_s)
        elif model.going is None:
            # The timer has the context of the request that used the model last, which is over.
            loop = asyncio.get_running_loop()
            model.going = loop.create_task(self._let_go(model), context=Context())

    async def _let_go(self, model: ServedModel) -> None:
        """Unload a model that is still idle when no other is being loaded."""
        async with self._turn:
            if model.is_open and not model.uses and self.left_s(model) == 0:
                model.is_open = False
                await self._unload(model)
        model.going = None
        self._look(model)

    async def _bring(self, model: ServedModel) -> None:
        """Load `model` if it is not in memory and still wanted, and let those that wait use it."""
        problem: Problem | None = None
        try:
            async with self._turn:
                if not model.is_open and any(not one.done() for one in model.waiters):
                    await self._make_room(model)
                    await self._load(model)
        except Exception as error:  # noqa: BLE001 (it is told to each that waits)
            problem = self._problem(model, error)
            _let_go_of_frames(error)
        model.coming = None
        if problem is not None:
            self._fail(model, problem)
            waiters, model.waiters = model.waiters, []
            for one in waiters:
                if not one.done():
                    one.set_exception(problem)
        elif model.is_open:
            self._let_in(model)
            self.rest(model)

    def _fail(self, model: ServedModel, problem: Problem) -> None:
        """Note what keeps `model` from being loaded, unless others only have the room for now."""
        if problem.kind != "busy":
            model.failure = problem.kind
            model.load_failures += 1
        model.phase = "failed" if model.failure else "unloaded"

    def _let_in(self, model: ServedModel) -> None:
        waiters, model.waiters = model.waiters, []
        for one in waiters:
            if not one.done():
                model.uses += 1
                one.set_result(None)

    async def _load(self, model: ServedModel) -> None:
        """Load `model`, in the place of others where a limit of memory leaves no room."""
        while True:
            try:
                await self._load_once(model)
            except LimitError as error:
                _let_go_of_frames(error)
                if not (error.is_of_memory and await self._evict(model)):
                    raise
                log.info("%s: %s", _name(model), error.what)
            else:
                return

    async def _load_once(self, model: ServedModel) -> None:
        def report(phase: Phase) -> None:
            model.phase = phase
            log.info("%s: %s", _name(model), phase)

        def load() -> tuple[Loaded, Ready]:
            limits.require()
            self._require_bundle()
            loaded = model.load(report)
            self._require_bundle()  # what was read meanwhile may be another version's
            return loaded, ready(loaded.engine)

        loaded, found = await _on_a_thread(load)
        self._inference.add(model.number, found)
        model.loaded = loaded
        self._open(model)
        log.info("%s: ready", _name(model))
        self.changed()

    def _require_bundle(self) -> None:
        if self.is_gone():
            raise bundle_gone()

    def _open(self, model: ServedModel) -> None:
        model.phase, model.failure = "ready", None
        model.is_open = True
        model.keep_s = self.idle_s
        model.loads += 1

    async def _unload(self, model: ServedModel) -> None:
        """Take a model without uses out of memory."""
        engines: list[Engine] = [model.loaded.engine]
        model.loaded = replace(model.loaded, engine=Unloaded.of(model.loaded.engine))
        self._inference.remove(model.number)
        model.phase = "unloaded"
        model.unloads += 1
        log.info("%s: unloaded", _name(model))

        def free() -> None:
            engines.clear()
            if "torch" in sys.modules:  # whose modules refer to each other in circles
                gc.collect()
            self._inference.trim()

        try:
            await _on_a_thread(free)
        except RuntimeError as error:  # the system starts no thread
            engines.clear()
            why = limits.named(error) or type(error).__name__
            log.warning("%s: its memory is given back later: %s", _name(model), why)
        self._inference.freed()  # as an answer that is still written may hold the engine

    async def _make_room(self, model: ServedModel) -> None:
        """Unload what was used least recently until `model` fits beside the rest.

        Raises LimitError if it would not even alone, and Problem if those in use stay too long.
        """
        if self._max_bytes is None:
            return
        need = await self._need(model)
        limits.require_within(self._max_bytes, need)
        while limits.LIBRARIES.private + need + await self._taken() > self._max_bytes:
            if not await self._evict(model):
                return

    async def _taken(self) -> int:
        return sum([await self._need(one) for one in self.all if one.is_here])

    async def _need(self, model: ServedModel) -> int:
        folder = model.loaded.snapshot.path
        if folder == NOWHERE:
            return 0
        if model.bytes is None:
            model.bytes = await _on_a_thread(lambda: self._needs(folder))
        return model.bytes

    async def _evict(self, wanted: ServedModel) -> bool:
        """Unload the least recently used of the others; return whether there was one.

        Raises Problem if its requests take too long.
        """
        others = [one for one in self.all if one.is_here and one is not wanted]
        if not others:
            return False
        least = min(others, key=lambda one: (one.uses > 0, one.turn))
        least.is_open = False
        if least.uses:
            await self._drain(least)
        if least.uses:
            least.is_open = True
            self._let_in(least)
            what = "another model has the memory that this one needs"
            raise busy(what, f"{_name(least)} is in use", retry_s=DRAIN_S)
        await self._unload(least)
        return True

    async def _drain(self, model: ServedModel) -> None:
        """Wait until the requests that use `model` have ended, each in time after another."""
        emptied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        model.emptied = emptied

        def look(turn: int) -> None:
            if emptied.done():
                return
            if model.turn == turn:
                emptied.set_result(None)
            else:
                self._after(DRAIN_S, functools.partial(look, model.turn))

        self._after(DRAIN_S, functools.partial(look, model.turn))
        try:
            await emptied
        finally:
            model.emptied = None

    def _problem(self, model: ServedModel, error: Exception) -> Problem:
        """Return what is answered to a request for a model that could not be loaded."""
        if isinstance(error, Problem):
            return error
        limit = limits.named(error)
        log.warning("%s cannot be loaded: %s", _name(model), limit or _told(error))
        if limit is not None:
            return at_limit("a limit of the system leaves too little to load the model", limit)
        if self.is_gone():
            return bundle_gone()
        if isinstance(error, LimitError):
            kind = "out-of-memory" if error.is_of_memory else "system-limit"
            retry_s = 5 if error.may_pass else None
            return Problem(kind, error.what, error.why, error.next_step, retry_s=retry_s)
        what = f"the model {_name(model)} cannot be loaded"
        step = error.next_step if isinstance(error, ServiceError) else ""
        return Problem("model-fails", what, _told(error), step or REPAIR)


def _name(model: ServedModel) -> str:
    return model.loaded.snapshot.names[0]


def _told(error: Exception) -> str:
    if not isinstance(error, ServiceError):
        return type(error).__name__
    return discreet(": ".join(part for part in (error.what, error.why) if part))


def _let_go_of_frames(error: BaseException | None) -> None:
    """Clear what the frames of an error hold: half of a model may be among it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


async def _on_a_thread(work: Callable[[], R]) -> R:
    """Return what `work` returns on a thread that nothing waits for when the service ends.

    What it logs has the id of the request that this task works for, if there is one.
    """
    made: Future[R] = Future()
    made.set_running_or_notify_cancel()
    args = (fulfil, work, made)
    threading.Thread(target=copy_context().run, args=args, name="models", daemon=True).start()
    return await asyncio.wrap_future(made)
