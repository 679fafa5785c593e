"""Linear layers as sums of products of bytes: what decides them, and how they are made.

Tokens become bytes row by row, weights output by output, each with a factor. Three things keep what
is lost small. What a norm gives is stored per column as `(value - shift) / 2**exponent`, so that no
column needs the range of another; GELU, which never falls below `-LOWEST`, uses all 256 steps; and
the columns of the layer behind it with the largest weights stay in float32. Powers of two scale
exactly and a shift has eleven bits, so the bytes depend on no machine's last bits.

The bytes are made while a model is loaded, from the file that the exact graph reads, so nothing is
shipped twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.engines.packed.architecture import (
    CALIBRATION,
    Architecture,
    UnpackableError,
    read_table,
)
from sidecar.engines.packed.weights import Weights

# Counts up whenever the same constants would give other vectors.
SCHEME = 2
BYTES = ".bytes"
FACTORS = ".factors"
# Columns of the layer behind GELU that stay in float32.
EXACT = 16
LOWEST = 0.17
MOST = 127
# A row of zeros has no largest value to divide by.
SMALLEST = 1e-30
Constant = tuple[str, NDArray[np.generic]]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How each column of what a norm gives is stored: `(value - shift) / 2**exponent`.

    Both are of shape (width,).
    """

    exponents: NDArray[np.int8]
    shifts: NDArray[np.float16]

    @property
    def scales(self) -> Floats:
        """The powers of two."""
        return np.ldexp(np.float32(1.0), self.exponents.astype(np.int32)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The columns of each norm that linear layers read, by the norm's name."""

    norms: Mapping[str, Columns]

    @property
    def space(self) -> str:
        """What tells vectors that were computed with these constants from all others."""
        text = json.dumps(self.table(), sort_keys=True, separators=(",", ":"))
        return f"int8:{SCHEME}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def table(self) -> dict[str, Any]:
        """Return the constants as golden files have them: little-endian, in base64."""
        norms = {
            name: {
                "exponents": _encoded(columns.exponents.astype("i1")),
                "shifts": _encoded(columns.shifts.astype("<f2")),
            }
            for name, columns in self.norms.items()
        }
        return {"scheme": SCHEME, "norms": norms}


def calibration_of(table: Any, architecture: Architecture) -> Calibration:  # noqa: ANN401 (any JSON)
    """Return the constants in `table`. Raises UnpackableError unless they are this model's."""
    try:
        scheme = table["scheme"]
        norms = {
            name: Columns(
                exponents=np.frombuffer(base64.b64decode(held["exponents"]), dtype="i1"),
                shifts=np.frombuffer(base64.b64decode(held["shifts"]), dtype="<f2"),
            )
            for name, held in table["norms"].items()
        }
        lengths = {len(part) for one in norms.values() for part in (one.exponents, one.shifts)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnpackableError("the constants of its int8 cannot be read") from error
    if scheme != SCHEME:
        raise UnpackableError(f"its int8 is of scheme {scheme}, not {SCHEME}")
    if set(norms) != set(readers(architecture)) or lengths != {architecture.width}:
        raise UnpackableError("the constants of its int8 are another model's")
    return Calibration(norms=norms)


def read_calibration(folder: Path, architecture: Architecture) -> Calibration:
    """Return the constants in the snapshot `folder`. Raises UnpackableError."""
    return calibration_of(read_table(folder / CALIBRATION), architecture)


def plain(architecture: Architecture) -> Calibration:
    """Return constants that move and scale nothing, for a model without reference texts."""
    width = architecture.width
    columns = Columns(exponents=np.zeros(width, np.int8), shifts=np.zeros(width, np.float16))
    return Calibration(norms=dict.fromkeys(readers(architecture), columns))


def _encoded(values: NDArray[np.generic]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def layers(architecture: Architecture) -> list[str]:
    """Return the names of the weights of all linear layers."""
    steps = [f"attention.self.{part}" for part in ("query", "key", "value")]
    steps += ["attention.output.dense", "intermediate.dense", "output.dense"]
    return [
        f"encoder.layer.{layer}.{step}.weight"
        for layer in range(architecture.layers)
        for step in steps
    ]


def readers(architecture: Architecture) -> dict[str, list[str]]:
    """Return the weights that read each norm, by the norm's name."""
    found: dict[str, list[str]] = {}
    for weight in layers(architecture):
        norm = norm_before(weight)
        if norm is not None:
            found.setdefault(norm, []).append(weight)
    return found


def norm_before(weight: str) -> str | None:
    """Return the norm that the layer with `weight` reads, if it reads one."""
    if ".attention.self." in weight:
        return _input_norm(weight)
    return _attention_norm(weight) if ".intermediate." in weight else None


def residual_norm(weight: str) -> str:
    """Return the norm that is added to what the layer with `weight`, which reads none, gives."""
    return _input_norm(weight) if ".attention.output." in weight else _attention_norm(weight)


def _input_norm(weight: str) -> str:
    layer = _layer(weight)
    return f"encoder.layer.{layer - 1}.output.LayerNorm" if layer else "embeddings.LayerNorm"


def _attention_norm(weight: str) -> str:
    return f"encoder.layer.{_layer(weight)}.attention.output.LayerNorm"


def _layer(weight: str) -> int:
    return int(weight.split(".")[2])


def order(weights: Weights, weight: str) -> NDArray[np.intp]:
    """Return the inner columns of the layer of `weight`, those that stay in float32 first."""
    last = weights.array(f"encoder.layer.{_layer(weight)}.output.dense.weight")
    return np.argsort(-np.abs(np.asarray(last, dtype=np.float32)).max(axis=0), kind="stable")


def matrix(weights: Weights, weight: str, calibration: Calibration) -> Floats:
    """Return the matrix (outputs, inputs) that the bytes of `weight` stand for."""
    found: Floats = np.asarray(weights.array(weight), dtype=np.float32)
    norm = norm_before(weight)
    if norm is not None:
        found = found * calibration.norms[norm].scales
        return found[order(weights, weight)] if ".intermediate." in weight else found
    if ".attention." in weight:
        return found
    found = found[:, order(weights, weight)]
    found[:, :EXACT] = 0.0
    return found


def quantize(weight: NDArray[np.generic]) -> tuple[NDArray[np.int8], Floats]:
    """Return `weight` (outputs, inputs) as bytes (inputs, outputs), and each output's factor."""
    wide = np.asarray(weight, dtype=np.float32)
    factors = np.maximum(np.abs(wide).max(axis=1), np.float32(SMALLEST)) / np.float32(MOST)
    whole = np.rint(wide / factors[:, None]).astype(np.int8)
    return np.ascontiguousarray(whole.T), factors


def constants(
    weights: Weights, architecture: Architecture, calibration: Calibration
) -> Iterator[Constant]:
    """Yield the name and value of every constant that the graphs leave open."""
    for name in layers(architecture):
        whole, factors = quantize(matrix(weights, name, calibration))
        yield f"{name}{BYTES}", whole
        yield f"{name}{FACTORS}", factors
