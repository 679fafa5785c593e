"""Vectors as bytes: JSON numbers, base64, or the raw rows."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.engines import Vectors


def raw(rows: Vectors) -> bytes:
    """Return the rows as little-endian float32, one after the other."""
    return rows.astype("<f4", copy=False).tobytes()


def as_json(rows: Vectors) -> bytes:
    """Return a JSON array of arrays; nine digits bring every float32 back exactly.

    Formats row by row, so that a long answer lets other threads run in between.
    """
    if not len(rows):
        return b"[]"
    pattern = "[" + ",".join(["%.9g"] * rows.shape[1]) + "]"
    return ("[" + ",".join(pattern % tuple(row.tolist()) for row in rows) + "]").encode("ascii")


def as_base64_json(rows: Vectors) -> bytes:
    """Return a JSON array with the base64 of every row's little-endian float32 values."""
    return b"[" + b",".join(b'"' + base64.b64encode(raw(row)) + b'"' for row in rows) + b"]"


def indices(found: list[int], *, max_chars: int = 4_000) -> str:
    """Return indices as a header value, or `count=N` where that would be too long for a client."""
    text = ",".join(map(str, found))
    return text if len(text) <= max_chars else f"count={len(found)}"
