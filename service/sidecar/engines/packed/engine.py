"""The packed engine: our tokens, our forward, on whichever executor the device has."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sidecar.engines import Vectors, Vocabulary
from sidecar.engines.packed import quantized, tokens, weights
from sidecar.engines.packed.architecture import (
    GRAPH,
    QUANTIZED_GRAPH,
    WIDE_GRAPH,
    Architecture,
    qualify,
    weights_file,
)
from sidecar.settings import Precision

# On a processor: what caches hold of a larger batch, each step pushes out again. Elsewhere a batch
# must be large to be worth its start.
BEST_TOKENS, MANY_TOKENS = 768, 4096


class Executor(Protocol):
    """Runs the forward on token ids."""

    device: str  # where it computes: cpu, cuda or mps
    is_tf32: bool  # whether it may multiply numbers rounded to TF32; only CUDA has that

    def run(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row per sequence of ids, in the order of `batch`."""

    def trim(self) -> None:
        """Give back the memory that only large batches need."""


class PackedEngine:
    """Runs BERT's, XLM-RoBERTa's and MPNet's encoders on unpadded tokens."""

    name = "packed"
    pads = False

    def __init__(
        self,
        architecture: Architecture,
        tokenizer: tokens.PackedTokenizer,
        executor: Executor,
        *,
        space: str = "exact",
    ) -> None:
        self.space = space
        self.precision: Precision = "float32" if space == "exact" else "int8"
        self.executor = executor
        self.device = executor.device
        self.best_tokens = BEST_TOKENS if executor.device == "cpu" else MANY_TOKENS
        self.dim = architecture.width
        self.max_tokens = architecture.max_tokens
        self.pooling = architecture.pooling
        self.special_tokens = tokenizer.special_tokens
        self.tokenize, self.spans = tokenizer.tokenize, tokenizer.spans
        self.unknown = tokenizer.unknown
        self.vocabulary: Vocabulary | None = tokenizer
        self.encode, self.trim = executor.run, executor.trim


def load(
    snapshot: Path,
    *,
    device: str,
    threads: int,
    precision: Precision = "float32",
    multiplies_bytes: bool = True,
) -> PackedEngine:
    """Return the engine for a local snapshot folder; never touches the network.

    int8 is for the CPU alone; unless it `multiplies_bytes` the same sums are made of floats. Raises
    UnpackableError where the model is not one of ours or has no graph of that precision.
    """
    architecture = qualify(snapshot, device=device, precision=precision)
    tokenizer = tokens.load(snapshot, max_tokens=architecture.max_tokens)
    if device != "cpu":
        from sidecar.engines.packed.torch_executor import open_tensors  # noqa: PLC0415 (heavy)

        stored = _required(snapshot, architecture)
        tensors = open_tensors(stored, architecture=architecture, device=device)
        return PackedEngine(architecture, tokenizer, tensors)

    from sidecar.engines.packed.onnx_executor import open_graph  # noqa: PLC0415 (heavy)

    opened = functools.partial(open_graph, snapshot, architecture, threads=threads)
    if precision == "float32":
        executor = opened(graph=GRAPH, rearranges=architecture.is_rearranged)
        return PackedEngine(architecture, tokenizer, executor)
    stored = _required(snapshot, architecture)
    calibration = quantized.read_calibration(snapshot, architecture)
    executor = opened(
        graph=QUANTIZED_GRAPH if multiplies_bytes else WIDE_GRAPH,
        rearranges=True,
        constants=quantized.constants(stored, architecture, calibration),
    )
    return PackedEngine(architecture, tokenizer, executor, space=calibration.space)


def _required(snapshot: Path, architecture: Architecture) -> weights.Weights:
    """Return the snapshot's tensors, all that the forward reads among them."""
    stored = weights.open_weights(weights_file(snapshot))
    weights.require(stored, architecture)
    return stored
