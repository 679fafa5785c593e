"""Reference vectors: texts and what sentence-transformers made of them when it was locked.

The service has its own reading and comparing, in numpy, and proves itself with them. Here others
are judged, a bundle's service among them, so nothing of what is judged takes part.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# fp32 engines differ by rounding alone; below this a different space was computed.
MIN_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Texts and their reference vectors, row by row, and how token vectors became one."""

    model: str
    pooling: str
    texts: tuple[str, ...]
    vectors: tuple[tuple[float, ...], ...]


def read_golden(path: Path) -> Golden:
    """Return the golden file at `path`."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Golden(
        model=raw["model"],
        pooling=raw["pooling"],
        texts=tuple(raw["texts"]),
        vectors=tuple(decode_row(row) for row in raw["vectors"]),
    )


def decode_row(text: str) -> tuple[float, ...]:
    """Return the little-endian float32 row in base64 `text`."""
    data = base64.b64decode(text)
    return struct.unpack(f"<{len(data) // 4}f", data)


def encode_row(row: Sequence[float]) -> str:
    """Return `row` as base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode("ascii")


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors.

    -1, the worst there is, where they are not comparable: no length, other lengths, not finite.
    """
    if len(left) != len(right) or not all(map(math.isfinite, (*left, *right))):
        return -1.0
    dot = math.fsum(a * b for a, b in zip(left, right, strict=True))
    size = math.sqrt(math.fsum(a * a for a in left) * math.fsum(b * b for b in right))
    return dot / size if size else -1.0


def worst_cosine(golden: Golden, vectors: Iterable[Sequence[float]]) -> float:
    """Return the smallest cosine between golden vectors and `vectors`, text by text.

    -1 where there are not as many vectors as texts.
    """
    rows = tuple(vectors)
    if not rows or len(rows) != len(golden.vectors):
        return -1.0
    return min(map(cosine, golden.vectors, rows))
