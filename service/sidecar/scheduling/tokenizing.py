"""From texts to tokens, in turns: no request has the tokenizer for long."""

from __future__ import annotations

import asyncio
import functools
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import TypeVar

from sidecar.engines import Engine, Tokens
from sidecar.problems import Problem, stopping
from sidecar.scheduling import batching
from sidecar.scheduling.cancellation import Cancellation, Disconnected
from sidecar.scheduling.scheduler import Priority
from sidecar.scheduling.tokenizer_thread import TokenizerThread

# One turn at the tokenizer: a short text that comes meanwhile waits for it.
TOKENIZE_ROWS = 256
TOKENIZE_CHARS = 1 << 15
URGENT_CHARS, URGENT_ROWS = 2_000, 64
# What is handed on at a time: enough for some batches of an engine.
PART_TOKENS = 4_096
R = TypeVar("R")


class Tokenizing:
    """Reads texts on a thread of its own, for any number of requests."""

    def __init__(self, cancellation: Cancellation) -> None:
        """Read until `cancellation`."""
        self._cancellation = cancellation
        self._reader = TokenizerThread()

    def close(self) -> None:
        """Read no more."""
        self._reader.close()

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
        if not (_is_urgent(lengths, priority) and self._reader.is_idle):
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
        does when nobody waits for it any more.
        """
        is_urgent = _is_urgent(lengths, priority)
        first = 0
        for run in batching.slices(lengths, max_rows=TOKENIZE_ROWS, max_total=TOKENIZE_CHARS):
            work = functools.partial(_tokenize, engine, texts, run)
            found = await self._read(work, is_urgent=is_urgent, disconnected=disconnected)
            if not truncate:
                _refuse_cut(found, first, engine.max_tokens)
            first += len(found)
            sizes = [len(one.ids) for one in found]
            for part in batching.slices(sizes, max_rows=TOKENIZE_ROWS, max_total=PART_TOKENS):
                yield found[part]

    async def spans(
        self, engine: Engine, text: str, *, disconnected: Disconnected | None
    ) -> tuple[array[int], array[int]]:
        """Return where the tokens of `text` start and where they end, four bytes for each.

        A long text is read in turns that begin with white space, which changes no token.
        """
        starts, ends = array("I"), array("I")
        for first, last in batching.turns(text, max_chars=TOKENIZE_CHARS):
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
        for first, last in batching.turns(text, max_chars=TOKENIZE_CHARS):
            work = functools.partial(engine.unknown, text[first:last])
            found = await self._read(work, is_urgent=False, disconnected=disconnected)
            unknown, total = unknown + found[0], total + found[1]
        return unknown, total

    async def _read(
        self, work: Callable[[], R], *, is_urgent: bool, disconnected: Disconnected | None
    ) -> R:
        if self._cancellation.is_done:
            raise stopping()
        future = asyncio.wrap_future(self._reader.submit(work, is_urgent=is_urgent))
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


def _tokenize(engine: Engine, texts: Sequence[str], run: slice) -> list[Tokens]:
    return engine.tokenize(texts[run])


def _refuse_cut(found: Sequence[Tokens], first: int, limit: int) -> None:
    for index, one in enumerate(found, first):
        if one.is_truncated:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "text-too-long",
                f"texts.{index}: {one.length} tokens, the model reads {limit}",
                next_step="shorten it, or set truncate to true",
            )
