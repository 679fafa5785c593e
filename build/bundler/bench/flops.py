"""How much arithmetic a token costs, from a model's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The sizes of an encoder that decide its arithmetic."""

    layers: int
    width: int
    inner: int

    def per_token(self, length: int) -> int:
        """Return the floating-point operations for one token of a text of `length` tokens.

        A multiplication and its addition are two. Counted are the matrix products alone: four of
        width by width, two of width by inner, and the two of attention, which grow with the text.
        """
        products = 2 * (4 * self.width * self.width + 2 * self.width * self.inner)
        attention = 2 * 2 * length * self.width
        return self.layers * (products + attention)

    def total(self, lengths: Iterable[int]) -> int:
        """Return the operations for texts of these lengths, padding not counted."""
        return sum(length * self.per_token(length) for length in lengths)

    def products(self, rows: int) -> list[tuple[Shape, int]]:
        """Return one layer's matrix products for `rows` tokens: (m, k, n), and how many of it."""
        return [
            ((rows, self.width, self.width), 4),
            ((rows, self.width, self.inner), 1),
            ((rows, self.inner, self.width), 1),
        ]


def read_work(snapshot: Path) -> Work:
    """Return the sizes of the model in `snapshot`. Raises UsageError for an unknown family."""
    try:
        config: dict[str, Any] = json.loads((snapshot / "config.json").read_bytes())
        return Work(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the sizes of the model in {snapshot.name} are not known",
            why=f"its config.json does not say them as BERT's and XLM-R's do ({error})",
            next_step="choose another --model",
        ) from error
