"""Vectors as bytes: JSON numbers, base64, or the raw rows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import orjson

if TYPE_CHECKING:
    from sidecar.engines import Vectors

CHUNK_VALUES = 1 << 16
_WIDTH = 4  # bytes of a float32
# A value below 1 with its nine digits, as `as_json` writes it; the others as they are.
_VALUE_BYTES = {"float": 13.0, "base64": _WIDTH * 4 / 3, "binary": float(_WIDTH)}


def size_of(count: int, dim: int, *, encoding: str) -> int:
    """Return about how many bytes `count` rows of `dim` values take: as float, base64 or binary."""
    return round(count * dim * _VALUE_BYTES[encoding])


def raw(rows: Vectors) -> bytes:
    """Return the rows as little-endian float32, one after the other."""
    return rows.astype("<f4", copy=False).tobytes()


def as_json(rows: Vectors) -> bytes:
    """Return a JSON array of arrays; the shortest digits that bring every float32 back exactly.

    Made in parts of about a millisecond: orjson holds the interpreter while it writes, and other
    threads run in between. To join bytes does not hold it, to add them does.
    """
    step = max(1, CHUNK_VALUES // max(1, rows.shape[1]))
    native = np.ascontiguousarray(rows, dtype=np.float32)
    parts = [
        orjson.dumps(native[start : start + step], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for start in range(0, len(native), step)
    ]
    return _array(parts)


def as_base64_json(rows: Vectors) -> bytes:
    """Return a JSON array with the base64 of every row's little-endian float32 values."""
    step = max(1, CHUNK_VALUES // max(1, rows.shape[1]))
    return _array([_coded(rows[start : start + step]) for start in range(0, len(rows), step)])


def _array(parts: list[bytes]) -> bytes:
    """Return the JSON array of what `parts` list, in one copy: an answer is held twice at most."""
    if not parts:
        return b"[]"
    parts[0] = b"[" + parts[0]
    parts[-1] += b"]"
    return b",".join(parts)


def _coded(rows: Vectors) -> bytes:
    """Return the base64 of every row in quotes, with commas between them."""
    count, dim = rows.shape
    size = dim * _WIDTH
    missing = -size % 3
    # All rows in one call: each is padded to whole groups of three bytes, the zeros being the
    # bits that base64 itself would add.
    padded = np.zeros((count, size + missing), dtype=np.uint8)
    padded[:, :size] = np.frombuffer(raw(rows), dtype=np.uint8).reshape(count, size)
    coded = np.frombuffer(base64.b64encode(padded.data), dtype=np.uint8).reshape(count, -1)
    width = coded.shape[1]
    out = np.empty((count, width + 3), dtype=np.uint8)
    out[:, 0] = out[:, width + 1] = ord('"')
    out[:, 1 : width + 1] = coded
    out[:, width + 1 - missing : width + 1] = ord("=")
    out[:, width + 2] = ord(",")
    return out.tobytes()[:-1]


def indices(found: Sequence[int], *, max_chars: int = 4_000) -> str:
    """Return indices as a header value, or `count=N` where that would be too long for a client."""
    text = ",".join(map(str, found))
    return text if len(text) <= max_chars else f"count={len(found)}"
