"""From texts to tokens, in turns: no request has the tokenizer for long."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, overload

from sidecar.engines import Tokens
from sidecar.problems import Problem
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


class PromptedTexts(DeferredTexts):
    """Texts with a prompt before each, as sentence-transformers joins them."""

    def __init__(self, texts: Sequence[str], prompt: str) -> None:
        """Make none of them yet."""
        super().__init__([len(prompt) + length for length in lengths_of(texts)])
        self._texts, self._prompt = texts, prompt

    def text(self, index: int) -> str:
        """Return one text behind the prompt."""
        return self._prompt + self._texts[index]


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


URGENT_CHARS, URGENT_ROWS = 2_000, 64


def is_urgent(lengths: Sequence[int], priority: Priority) -> bool:
    """Return whether texts of these lengths are few and short, and not for later."""
    return priority != "bulk" and len(lengths) <= URGENT_ROWS and sum(lengths) <= URGENT_CHARS


def refuse_cut(found: Sequence[Tokens], first: int, limit: int) -> None:
    """Raise Problem 422 for a text that was cut; `first` is the index of the first."""
    for index, one in enumerate(found, first):
        if one.is_truncated:
            raise Problem(
                "text-too-long",
                f"texts.{index}: {one.length} tokens, the model reads {limit}",
                next_step="shorten it, or set truncate to true",
            )
