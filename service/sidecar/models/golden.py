"""Reference vectors: the proof, at every start, that an engine or a bundle gives the right ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidecar.engines import Engine, Vectors, has_reference
from sidecar.errors import IntegrityError, ModelError

# Engines in float32 differ by rounding alone; below this a different space was computed.
MIN_COSINE = 0.9999
CANARIES = 4
REPORT = "report this bug with the name of the processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Texts of one model and the vectors they must have, one row per text."""

    texts: tuple[str, ...]
    vectors: Vectors
    pooling: str
    normalize: bool

    def shortest(self, count: int) -> Golden:
        """Return `count` of the texts, the shortest, with their vectors."""
        order = sorted(range(len(self.texts)), key=lambda at: (len(self.texts[at]), at))
        return self.part(order[:count])

    def part(self, chosen: Sequence[int]) -> Golden:
        """Return the texts at the indices `chosen`, with their vectors."""
        texts = tuple(self.texts[at] for at in chosen)
        return replace(self, texts=texts, vectors=self.vectors[list(chosen)])

    def cosines(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Return the cosine of each of `rows` to the reference.

        All are -1, the worst there is, if the rows have another shape or are not finite.
        """
        expected = self.vectors.astype(np.float64)
        try:
            given = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError):  # rows of several lengths
            given = np.empty(0)
        if given.shape != expected.shape or not np.isfinite(given).all():
            return np.full(len(expected), -1.0)
        norms = np.linalg.norm(given, axis=1) * np.linalg.norm(expected, axis=1)
        found: NDArray[np.float64] = (given * expected).sum(axis=1) / np.maximum(norms, 1e-12)
        return found


def decoded(row: str) -> Vectors:
    """Return a row as golden files have it: base64 of little-endian float32."""
    return np.frombuffer(base64.b64decode(row), dtype="<f4")


def read(path: Path) -> Golden:
    """Return the reference vectors in `path`. Raises IntegrityError."""
    try:
        raw = json.loads(path.read_bytes())
        rows = [decoded(row) for row in raw["vectors"]]
        texts = tuple(raw["texts"])
        vectors = np.stack(rows).astype(np.float32)
        if len(texts) != len(vectors) or vectors.shape[1] != raw["dim"]:
            raise ValueError  # noqa: TRY301
        return Golden(
            texts=texts, vectors=vectors, pooling=raw["pooling"], normalize=bool(raw["normalize"])
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        what = f"{path.name} is not a file of reference vectors"
        raise IntegrityError(what, why=type(error).__name__) from error


def cosines(golden: Golden, engine: Engine) -> NDArray[np.float64]:
    """Return the cosine of each of the engine's vectors to the reference."""
    ids = [found.ids for found in engine.tokenize(golden.texts)]
    return golden.cosines(engine.encode(ids, pooling=golden.pooling, normalize=golden.normalize))


def check(engine: Engine, path: Path | None, *, least: float = MIN_COSINE) -> None:
    """Raise ModelError unless the engine gives the reference vectors; without any, finite ones.

    On the CPU the shortest texts are checked, elsewhere all of them. None may have a cosine below
    `least`. An engine without a model has none to be held against, and is no model's.
    """
    if engine.space == "hash":
        what = f"the engine {engine.name} does not give any model's vectors"
        raise ModelError(what, next_step="--engine auto")
    if path is None:
        ids = [engine.tokenize(["canary"])[0].ids]
        if not np.isfinite(engine.encode(ids, pooling=engine.pooling, normalize=True)).all():
            what = f"the engine {engine.name} does not give finite vectors on {engine.device}"
            raise ModelError(what, next_step=_instead(engine))
        return
    worst = _worst(read(path), engine)
    if not worst >= least:  # a NaN is no proof either
        what = f"the engine {engine.name} on {engine.device} does not give the model's vectors"
        why = f"the worst cosine to the reference vectors is {worst:.6f}, below {least}"
        raise ModelError(what, why=why, next_step=_instead(engine))


def _worst(golden: Golden, engine: Engine) -> float:
    """Return the worst cosine of the texts that are checked.

    A GPU's kernels are chosen by shape, and what is wrong with one says nothing of the others: so
    all texts are computed there, together and each alone.
    """
    if engine.device == "cpu":
        return float(cosines(golden.shortest(CANARIES), engine).min())
    batches = [range(len(golden.texts)), *([at] for at in range(len(golden.texts)))]
    return min(float(cosines(golden.part(batch), engine).min()) for batch in batches)


def _instead(engine: Engine) -> str:
    """Return what may serve in the place of `engine`: nothing that it is already."""
    if engine.precision == "int8":
        return "leave out --precision"
    steps = []
    if engine.device != "cpu":
        steps.append("--device cpu")
    if engine.name != "reference" and has_reference():
        steps.append("--engine reference")
    return ", or ".join([*steps, REPORT])
