"""Reference vectors: texts and what sentence-transformers made of them when it was locked.

The service has its own reading and comparing, in numpy, and proves itself with them. Here others
are judged, a bundle's service among them, so nothing of what is judged takes part.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


TEXTS = "texts.json"
MAKER = Path(__file__).resolve().with_name("golden_maker.py")
HEADER = ("model", "repository", "revision", "pooling", "normalize", "dim", "made_with")
# Two machines round differently; vectors closer than this are the same ones.
SAME_COSINE = 0.999999


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Reference vectors as base64 rows, what the model says once loaded, and what made them."""

    vectors: tuple[str, ...]
    dim: int
    max_tokens: int
    made_with: Mapping[str, str]


def read_texts(path: Path) -> tuple[str, ...]:
    """Return the texts that every model is asked. Raises UsageError."""
    try:
        texts = json.loads(path.read_bytes())
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ValueError  # noqa: TRY301
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path.name} is not a list of texts", why=str(error), next_step="git checkout bundle"
        ) from error
    return tuple(texts)


def make_golden(folder: Path, texts: Sequence[str]) -> Made:
    """Return what sentence-transformers makes of `texts` with the snapshot in `folder`.

    Raises ModelError with the last thing it said.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(MAKER)],
        input=json.dumps({"folder": str(folder), "texts": list(texts)}),
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    try:
        if done.returncode:
            raise ValueError  # noqa: TRY301
        raw = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise ModelError(
            "sentence-transformers cannot load the model",
            why=said[-1],
            next_step="choose a model that the locked sentence-transformers can load",
        ) from error
    return Made(
        vectors=tuple(raw["vectors"]),
        dim=raw["dim"],
        max_tokens=raw["max_tokens"],
        made_with=raw["made_with"],
    )


def render_golden(header: Mapping[str, Any], texts: Sequence[str], vectors: Sequence[str]) -> str:
    """Return the text of a golden file: keys in one order, a line per text and per vector."""
    lines = ["{"]
    lines += [f" {_json(key)}: {_json(header[key])}," for key in HEADER]
    lines += [f' "texts": [\n{_lines(texts)}\n ],', f' "vectors": [\n{_lines(vectors)}\n ]', "}"]
    return "\n".join(lines) + "\n"


def keep_or_replace(old: Path, fresh: str) -> str:
    """Return the text in `old` if it says what `fresh` says but for rounding, else `fresh`.

    Without this a refresh on another machine would read as a change of every vector.
    """
    try:
        text = old.read_text(encoding="utf-8")
        before, after = json.loads(text), json.loads(fresh)
        rows = zip(before.pop("vectors"), after.pop("vectors"), strict=True)
        is_same = before == after and all(
            cosine(decode_row(a), decode_row(b)) >= SAME_COSINE for a, b in rows
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return fresh
    return text if is_same else fresh


def _lines(values: Sequence[str]) -> str:
    return ",\n".join(f"  {_json(value)}" for value in values)


def _json(value: object) -> str:
    # Escapes keep control characters and directions of writing out of reviews and editors.
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
