"""What turns tokens into vectors, behind one small protocol.

The service tokenises a request once, and encodes texts of several requests in one batch, so an
engine takes token ids. `tokenize` and `spans` are called by one thread at a time, and `encode` by
one at a time, but these two may be different threads at the same moment.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.settings import Precision

Vectors = NDArray[np.float32]
# Where a text that is too long is cut: at its end (right) or at its beginning, or it is refused.
Truncation = Literal["right", "left", "never"]
# What serves in the place of what was meant to: no model, another engine, another device, float32
# where bytes should be multiplied.
Degraded = Literal["hash", "reference", "cpu", "float32-products"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """One text as the model reads it.

    `ids` carry the special tokens and are cut to the model's `max_tokens`; `length` is what
    their number was before the cut.
    """

    ids: tuple[int, ...]
    length: int

    @property
    def is_truncated(self) -> bool:
        """Whether the model does not see the whole text."""
        return self.length > len(self.ids)


class Vocabulary(Protocol):
    """The tokens of a model; called by the thread that tokenises."""

    @property
    def around(self) -> Sequence[Sequence[int]]:
        """The ids that are put before every text, and those behind it."""

    def read(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """Yield the tokens of `text`, some at a time: id, start and end in characters of each.

        Special ones are left out.
        """

    def spell(self, number: int) -> str | None:
        """Return how the token of an id is spelled, None if there is none."""

    def decode(self, ids: Sequence[int], *, skips_special: bool) -> str:
        """Return the text of tokens; ids that no token has are left out."""


class Engine(Protocol):
    """Tokenises texts and encodes tokens of one model on one device.

    `max_tokens` of a text are read at most, `special_tokens` of them added to every text. With
    `pads`, `encode` computes every text of a batch at the length of the longest; a batch of more
    than `best_tokens` only takes more memory. `pooling` is the one the model was trained with.
    """

    name: str
    device: str  # where it computes: cpu, cuda or mps
    precision: Precision  # of its linear layers
    space: str  # with the model it names the vectors' space: exact, hash, or int8's constants
    dim: int
    max_tokens: int
    special_tokens: int
    pooling: str
    pads: bool
    best_tokens: int

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The model's tokens; an engine without a model has none."""

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens.

        A text that is too long is cut at its end, or with `keeps_end` at its beginning.
        """

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`, special ones left out."""

    def unknown(self, text: str) -> tuple[int, int]:
        """Return how many tokens of `text` stand for what the model has none for, and of how many.

        Special ones are left out.
        """

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row of shape (dim,) per sequence of ids, in order; `batch` is not empty."""

    def trim(self) -> None:
        """Give back what memory only large batches need; called when nothing is to do."""


@dataclass(slots=True, kw_only=True)
class Unloaded:
    """What is known of an engine that is not in memory: its facts, and "" or 0 for no fact."""

    name: str = ""
    device: str = ""
    precision: Precision = "float32"
    space: str = ""
    dim: int = 0
    max_tokens: int = 0
    special_tokens: int = 2  # at the start and the end, as every encoder here has them
    pooling: str = "mean"
    pads: bool = False
    best_tokens: int = 0
    vocabulary: ClassVar[None] = None

    @classmethod
    def of(cls, engine: Engine) -> Unloaded:
        """Return the facts of `engine`, and nothing that keeps it."""
        return cls(**{each.name: getattr(engine, each.name) for each in fields(cls)})

    def tokenize(self, *_: object, **__: object) -> NoReturn:
        """Raise RuntimeError: nothing is computed without the model."""
        raise RuntimeError("the model is not in memory")

    spans = unknown = encode = tokenize

    def trim(self) -> None:
        """Do nothing: there is no memory to give back."""


def has_reference() -> bool:
    """Return whether sentence-transformers is here; only bundles of the profile safe have it."""
    return importlib.util.find_spec("sentence_transformers") is not None
