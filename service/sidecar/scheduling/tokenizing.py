"""From texts to tokens, in turns: no request has the tokenizer for long."""

from __future__ import annotations

import asyncio
import functools
import itertools
import queue
import threading
from abc import abstractmethod
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, overload

from sidecar.engines import Engine, Tokens
from sidecar.problems import Problem, client_gone, stopping
from sidecar.scheduling.scheduler import Priority
from sidecar.settings import Limits


class DeferredTexts(Sequence[str]):
    """A sequence of texts of which the lengths alone are known: `lengths`, in characters."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """Have as many texts as `lengths`."""
        self.lengths = lengths

    @abstractmethod
    def text(self, index: int) -> str:
        """Make the text at `index`, which is within the sequence; any thread may call it."""

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Make one text, or all of a slice."""
        indices = range(len(self))
        if isinstance(index, slice):
            return [self.text(one) for one in indices[index]]
        return self.text(indices[index])


def lengths_of(texts: Sequence[str]) -> Sequence[int]:
    """Return the lengths of `texts` in characters, without making any."""
    return texts.lengths if isinstance(texts, DeferredTexts) else [len(text) for text in texts]


def refuse_oversize(lengths: Sequence[int], limits: Limits) -> None:
    """Raise Problem 422 for more texts, or a longer one, than `limits` allow."""
    if len(lengths) > limits.max_texts:
        what = f"texts: more than {limits.max_texts} in one request"
        raise Problem("too-many-texts", what)
    for index, length in enumerate(lengths):
        if length > limits.max_text_chars:
            what = f"texts.{index}: longer than {limits.max_text_chars} characters"
            raise Problem("text-too-long", what)


R = TypeVar("R")
Disconnected = asyncio.Future[None]  # done when the client has left


class Cancellation:
    """Whether the running requests are given up; for one event loop."""

    def __init__(self) -> None:
        """Nothing is given up."""
        self._future: asyncio.Future[None] | None = None

    @property
    def is_done(self) -> bool:
        """Whether requests were given up."""
        return self._made().done()

    def abandon(self) -> None:
        """Give up the running requests, and those to come."""
        if not self._made().done():
            self._made().set_result(None)

    async def unless_left(self, future: asyncio.Future[R], disconnected: Disconnected | None) -> R:
        """Return the future's result.

        Raises Problem: 499 when `disconnected` is done, 503 if requests are abandoned.
        """
        waited: set[asyncio.Future[Any]] = {future, self._made()}
        if disconnected is not None:
            waited.add(disconnected)
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise client_gone() if disconnected is not None and disconnected.done() else stopping()

    def _made(self) -> asyncio.Future[None]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future


_URGENT, _LATER = 0, 1
# Its urgency, its number, the work, None to end, and the future of what the work returns.
_Errand = tuple[int, int, Callable[[], Any] | None, "Future[Any]"]


class TokenizerThread:
    """Does small pieces of work one after the other, urgent ones first."""

    def __init__(self) -> None:
        """Start no thread before there is work."""
        self._errands: queue.PriorityQueue[_Errand] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._undone = 0

    @property
    def is_idle(self) -> bool:
        """Whether all that was submitted is done; one that says so stays so until the next."""
        return self._undone == 0

    def submit(self, work: Callable[[], R], *, is_urgent: bool) -> Future[R]:
        """Return the future of what `work` returns; cancelled in time, it is never done."""
        made: Future[R] = Future()
        with self._lock:
            self._undone += 1
        self._errands.put((_URGENT if is_urgent else _LATER, next(self._numbers), work, made))
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="reader", daemon=True)
                thread.start()  # where the system has none to give, the next errand asks again
                self._thread = thread
        return made

    def close(self) -> None:
        """Let the thread end after what it is doing; nothing is submitted any more."""
        self._errands.put((-1, next(self._numbers), None, Future()))

    def _serve(self) -> None:
        while True:
            _, _, work, made = self._errands.get()
            if work is None:
                return
            if made.set_running_or_notify_cancel():
                fulfil(work, made)
            del work, made
            with self._lock:
                self._undone -= 1


def fulfil(work: Callable[[], R], made: Future[R]) -> None:
    """Do `work`, and let the running future `made` tell what it returned or raised."""
    try:
        found = work()
    except BaseException as error:  # noqa: BLE001 (the future raises it)
        made.set_exception(error)
    else:
        made.set_result(found)


def slices(lengths: Sequence[int], *, max_rows: int, max_total: int) -> list[slice]:
    """Return the slices that cut `lengths` into runs, in order.

    No run has more than `max_rows` members, or a sum above `max_total` unless it is one alone.
    """
    made: list[slice] = []
    start = total = 0
    for index, length in enumerate(lengths):
        if index > start and (index - start == max_rows or total + length > max_total):
            made.append(slice(start, index))
            start, total = index, 0
        total += length
    if lengths:
        made.append(slice(start, len(lengths)))
    return made


def turns(text: str, *, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of pieces of at most `max_chars` that `text` consists of.

    A piece begins where white space does, if there is some in the second half of the one before:
    tokenizers take no token across that. An empty text has none.
    """
    start = 0
    while start < len(text):
        end = start + max_chars
        if end < len(text):
            floor = start + max_chars // 2
            places = range(end, floor, -1)
            end = next(
                (at for at in places if text[at].isspace() and not text[at - 1].isspace()), end
            )
        yield start, min(end, len(text))
        start = end


# One turn at the tokenizer: a short text that comes meanwhile waits for it.
TOKENIZE_ROWS = 256
TOKENIZE_CHARS = 1 << 15
URGENT_CHARS, URGENT_ROWS = 2_000, 64
# What is handed on at a time: enough for some batches of an engine.
PART_TOKENS = 4_096


class Tokenizing(TokenizerThread):
    """Reads texts on its thread, for any number of requests, until `cancellation`."""

    def __init__(self, cancellation: Cancellation) -> None:
        super().__init__()
        self._cancellation = cancellation

    def at_once(
        self,
        engine: Engine,
        texts: Sequence[str],
        lengths: Sequence[int],
        *,
        priority: Priority,
        truncate: bool,
    ) -> list[Tokens] | None:
        """Return the tokens of a few short texts, None for others and while others are read.

        They are read in less time than it takes to change threads and back. Raises Problem 422 as
        `parts` does.
        """
        if not (_is_urgent(lengths, priority) and self.is_idle):
            return None
        found = engine.tokenize(texts[:])
        if not truncate:
            _refuse_cut(found, 0, engine.max_tokens)
        return found

    async def parts(
        self,
        engine: Engine,
        texts: Sequence[str],
        lengths: Sequence[int],
        *,
        priority: Priority,
        truncate: bool,
        disconnected: Disconnected | None,
    ) -> AsyncIterator[list[Tokens]]:
        """Yield the tokens of `texts` of these `lengths`, PART_TOKENS or one text at a time.

        Raises Problem 422 for a text that would be cut, unless with `truncate`, and what `Encoder`
        does when the request is left.
        """
        is_urgent = _is_urgent(lengths, priority)
        first = 0
        for run in slices(lengths, max_rows=TOKENIZE_ROWS, max_total=TOKENIZE_CHARS):
            work = functools.partial(lambda run: engine.tokenize(texts[run]), run)
            found = await self._read(work, is_urgent=is_urgent, disconnected=disconnected)
            if not truncate:
                _refuse_cut(found, first, engine.max_tokens)
            first += len(found)
            sizes = [len(one.ids) for one in found]
            for part in slices(sizes, max_rows=TOKENIZE_ROWS, max_total=PART_TOKENS):
                yield found[part]

    async def spans(
        self, engine: Engine, text: str, *, disconnected: Disconnected | None
    ) -> tuple[array[int], array[int]]:
        """Return where the tokens of `text` start and where they end, four bytes for each.

        A long text is read in turns that begin with white space, which changes no token.
        """
        starts, ends = array("I"), array("I")
        for first, last in turns(text, max_chars=TOKENIZE_CHARS):
            work = functools.partial(engine.spans, text[first:last])
            found = await self._read(work, is_urgent=False, disconnected=disconnected)
            starts.extend(first + start for start, _ in found)
            ends.extend(first + end for _, end in found)
        return starts, ends

    async def unknown(
        self, engine: Engine, text: str, *, disconnected: Disconnected | None
    ) -> tuple[int, int]:
        """Return how many tokens of `text` the model has none for, and of how many, in turns."""
        unknown = total = 0
        for first, last in turns(text, max_chars=TOKENIZE_CHARS):
            work = functools.partial(engine.unknown, text[first:last])
            found = await self._read(work, is_urgent=False, disconnected=disconnected)
            unknown, total = unknown + found[0], total + found[1]
        return unknown, total

    async def _read(
        self, work: Callable[[], R], *, is_urgent: bool, disconnected: Disconnected | None
    ) -> R:
        if self._cancellation.is_done:
            raise stopping()
        future = asyncio.wrap_future(self.submit(work, is_urgent=is_urgent))
        try:
            return await self._cancellation.unless_left(future, disconnected)
        finally:
            future.cancel()


async def resumed(
    head: list[list[Tokens]], rest: AsyncIterator[list[Tokens]]
) -> AsyncIterator[list[Tokens]]:
    """Yield the parts in `head`, which is emptied, and then `rest`."""
    while head:
        yield head.pop(0)
    async for part in rest:
        yield part


def _is_urgent(lengths: Sequence[int], priority: Priority) -> bool:
    return priority != "bulk" and len(lengths) <= URGENT_ROWS and sum(lengths) <= URGENT_CHARS


def _refuse_cut(found: Sequence[Tokens], first: int, limit: int) -> None:
    for index, one in enumerate(found, first):
        if one.is_truncated:
            raise Problem(
                "text-too-long",
                f"texts.{index}: {one.length} tokens, the model reads {limit}",
                next_step="shorten it, or set truncate to true",
            )
