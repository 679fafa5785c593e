"""The GEMM ceiling: how much arithmetic a model needs, and how fast this machine multiplies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.systems import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
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

    def products(self, rows: int) -> list[tuple[int, int, int, int]]:
        """Return a layer's matrix products for `rows` tokens: m, k, n, and their number."""
        return [
            (rows, self.width, self.width, 4),
            (rows, self.width, self.inner, 1),
            (rows, self.inner, self.width, 1),
        ]


def read_sizes(snapshot: Path) -> Sizes:
    """Return the sizes of the model in `snapshot`. Raises UsageError for an unknown family."""
    try:
        config: dict[str, Any] = json.loads((snapshot / "config.json").read_bytes())
        return Sizes(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the sizes of the model in {snapshot.name} are not known",
            why=f"its config.json does not name them as BERT's and XLM-R's do ({error})",
            next_step="choose another --bundle, or --synthetic",
        ) from error


def ceiling(meter: Running, sizes: Sizes, rows: Sequence[int]) -> dict[str, float]:
    """Return by library the most floating-point operations a second, over these numbers of rows."""
    with meter.connect() as connection:
        bodies = [connection.embed(sizes.products(number))[1][0] for number in rows]
    found = [json.loads(body)["rates"] for body in bodies]
    return {name: max(rates[name] for rates in found) for name in found[0]}
