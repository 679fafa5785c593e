"""Where each tensor lies in a safetensors file: the header read, the data left on disk.

The format: eight bytes with the header's length, a JSON header, the data; see
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.engines.packed.architecture import DISTANCES, Architecture, UnpackableError

MAX_HEADER_BYTES = 100 << 20
DTYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16}
# Files name the encoder's tensors with or without the model around it.
_PREFIXES = ("", "bert.", "roberta.", "model.", "mpnet.")
# MPNet's names of the parts of BERT's attention.
_MPNET = {
    ".attention.attn.q.": ".attention.self.query.",
    ".attention.attn.k.": ".attention.self.key.",
    ".attention.attn.v.": ".attention.self.value.",
    ".attention.attn.o.": ".attention.output.dense.",
    ".attention.LayerNorm.": ".attention.output.LayerNorm.",
}
WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of the file: `offset` and `size` in bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The tensors of one file by the names that BERT gives them."""

    path: Path
    tensors: Mapping[str, Tensor]

    def array(self, name: str) -> NDArray[np.generic]:
        """Return a read-only view of the tensor `name`; untouched parts are never read."""
        tensor = self.tensors[name]
        return np.memmap(
            self.path,
            dtype=DTYPES[tensor.dtype],
            mode="r",
            offset=tensor.offset,
            shape=tensor.shape,
        )


def open_weights(path: Path) -> Weights:
    """Return the tensors in the safetensors file at `path`. Raises UnpackableError."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise ValueError  # noqa: TRY301
            header = json.loads(stream.read(length))
            room = stream.seek(0, 2)
        start = 8 + length
        names = [name for name in header if name != "__metadata__"]
        prefix = next(p for p in _PREFIXES if f"{p}{WORDS}" in header)
        tensors = {}
        for name in names:
            entry = header[name]
            begin, end = entry["data_offsets"]
            tensor = Tensor(
                name=name,
                dtype=str(entry["dtype"]),
                shape=tuple(int(n) for n in entry["shape"]),
                offset=start + int(begin),
                size=int(end) - int(begin),
            )
            if not start <= tensor.offset <= tensor.offset + tensor.size <= room:
                raise ValueError  # noqa: TRY301
            tensors[_bert_name(name.removeprefix(prefix))] = tensor
    except StopIteration as error:
        raise UnpackableError(f"{path.name} has no {WORDS}") from error
    except FileNotFoundError as error:
        raise UnpackableError(f"its weights are not in one {path.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnpackableError(f"{path.name} is not a safetensors file") from error
    return Weights(path=path, tensors=tensors)


def _bert_name(name: str) -> str:
    for part, known in _MPNET.items():
        name = name.replace(part, known)
    return name


def require(weights: Weights, architecture: Architecture) -> None:
    """Raise UnpackableError unless every tensor that the forward reads is there as it should be."""
    for name, shape in _expected(architecture).items():
        tensor = weights.tensors.get(name)
        if tensor is None:
            raise UnpackableError(f"{weights.path.name} has no {name}")
        if tensor.dtype not in DTYPES:
            raise UnpackableError(f"{name} is stored as {tensor.dtype}")
        if len(tensor.shape) != len(shape) or any(
            want is not None and want != have
            for want, have in zip(shape, tensor.shape, strict=True)
        ):
            raise UnpackableError(f"{name} has the shape {tensor.shape}")
        if tensor.size != math.prod(tensor.shape) * np.dtype(DTYPES[tensor.dtype]).itemsize:
            raise UnpackableError(f"{name} has {tensor.size} bytes, not what its shape takes")


def names_read(architecture: Architecture) -> frozenset[str]:
    """Return the names of all tensors that the forward reads."""
    return frozenset(_expected(architecture))


def _expected(architecture: Architecture) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of every tensor that the forward reads; None is any length."""
    width, inner = architecture.width, architecture.inner
    shapes: dict[str, tuple[int | None, ...]] = {
        WORDS: (None, width),
        "embeddings.position_embeddings.weight": (architecture.positions, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    if architecture.buckets:
        shapes[DISTANCES] = (architecture.buckets, architecture.heads)
    else:
        shapes["embeddings.token_type_embeddings.weight"] = (None, width)
    steps = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (inner, width),
        "output.dense": (width, inner),
    }
    for layer in range(architecture.layers):
        place = f"encoder.layer.{layer}."
        for step, shape in steps.items():
            shapes[f"{place}{step}.weight"] = shape
            shapes[f"{place}{step}.bias"] = shape[:1]
        for step in ("attention.output", "output"):
            shapes[f"{place}{step}.LayerNorm.weight"] = (width,)
            shapes[f"{place}{step}.LayerNorm.bias"] = (width,)
    return shapes
