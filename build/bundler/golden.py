"""Golden files: texts, and what sentence-transformers made of them when a model was locked."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.bootstrap.platforms import run_program
from bundler.errors import ModelError, UsageError
from sidecar.errors import IntegrityError
from sidecar.models import golden

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        if not (isinstance(texts, list) and texts and all(isinstance(one, str) for one in texts)):
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
    asked = json.dumps({"folder": str(folder), "texts": list(texts)})
    done = run_program([sys.executable, "-I", "-B", MAKER], text=asked)
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
    return Made(**{**raw, "vectors": tuple(raw["vectors"])})


def render_golden(
    header: Mapping[str, Any],
    texts: Sequence[str],
    vectors: Sequence[str],
    int8: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of a golden file: keys in one order, a line per text, vector and norm.

    `int8` are the constants of the model's int8, as `Calibration.table` gives them.
    """
    lines = ["{"]
    lines += [f" {_json(key)}: {_json(header[key])}," for key in HEADER]
    if int8 is not None:
        norms = ",\n".join(f"  {_json(name)}: {_json(one)}" for name, one in int8["norms"].items())
        lines += [f' "int8": {{"scheme": {int8["scheme"]}, "norms": {{\n{norms}\n }}}},']
    lines += [f' "texts": [\n{_lines(texts)}\n ],', f' "vectors": [\n{_lines(vectors)}\n ]', "}"]
    return "\n".join(lines) + "\n"


def keep_or_replace(old: Path, fresh: str) -> str:
    """Return the text in `old` if it says what `fresh` says but for rounding, else `fresh`.

    Without this a refresh on another machine would read as a change of every vector. The constants
    of int8 are rounded, too: only those of another scheme replace the old ones.
    """
    try:
        text = old.read_text(encoding="utf-8")
        before, after = json.loads(text), json.loads(fresh)
        rows = [golden.decoded(row) for row in after.pop("vectors")]
        is_near = golden.read(old).cosines(rows).min() >= SAME_COSINE
        vectors = before.pop("vectors")
        known, int8 = before.pop("int8", None), after.pop("int8", None)
        is_same_scheme = (known or {}).get("scheme") == (int8 or {}).get("scheme")
    except (OSError, ValueError, KeyError, TypeError, IntegrityError):
        return fresh
    if not is_near or before != after:
        return fresh
    return text if is_same_scheme else render_golden(before, before["texts"], vectors, int8)


def _lines(values: Sequence[str]) -> str:
    return ",\n".join(f"  {_json(value)}" for value in values)


def _json(value: object) -> str:
    # Escapes keep control characters and directions of writing out of reviews and editors.
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
