"""Texts that are made when they are read: many of them are not in memory at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from sidecar.problems import Problem
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
