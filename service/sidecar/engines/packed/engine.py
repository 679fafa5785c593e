"""The packed engine: our tokens, our forward, on whichever executor the device has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from sidecar.engines import SpaceClass, Vectors
from sidecar.engines.packed import tokens, weights
from sidecar.engines.packed.architecture import GRAPHS, Architecture, qualify, weights_file
from sidecar.settings import Precision

# On a processor: what caches hold of a larger batch, each step pushes out again. Elsewhere a batch
# must be large to be worth its start.
BEST_TOKENS, MANY_TOKENS = 768, 4096


class Executor(Protocol):
    """Runs the forward on token ids."""

    device: str  # where it computes: cpu, cuda or mps

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
        precision: Precision = "float32",
    ) -> None:
        self.precision: Precision = precision
        self.space: SpaceClass = "int8" if precision == "int8" else "exact"
        self.device = executor.device
        self.best_tokens = BEST_TOKENS if executor.device == "cpu" else MANY_TOKENS
        self.dim = architecture.width
        self.max_tokens = architecture.max_tokens
        self.pooling = architecture.pooling
        self.special_tokens = tokenizer.special_tokens
        self.tokenize, self.spans = tokenizer.tokenize, tokenizer.spans
        self.unknown = tokenizer.unknown
        self.encode, self.trim = executor.run, executor.trim


def load(
    snapshot: Path, *, device: str, threads: int, precision: Precision = "float32"
) -> PackedEngine:
    """Return the engine for a local snapshot folder; never touches the network.

    Raises UnpackableError where the model is not one of ours or has no graph of that precision,
    which on other devices than the CPU is float32 alone.
    """
    architecture = qualify(snapshot, device=device, precision=precision)
    tokenizer = tokens.load(snapshot, max_tokens=architecture.max_tokens)
    path = weights_file(snapshot)
    executor: Executor
    if device == "cpu":
        from sidecar.engines.packed.onnx_executor import open_graph  # noqa: PLC0415 (heavy)

        executor = open_graph(
            snapshot,
            graph=GRAPHS[precision],
            threads=threads,
            first_position=architecture.first_position,
            rearranges=precision == "int8" or architecture.is_rearranged,
            constants=_left_open(path, architecture) if precision == "int8" else (),
        )
    else:
        from sidecar.engines.packed.torch_executor import open_tensors  # noqa: PLC0415 (heavy)

        executor = open_tensors(
            _required(path, architecture), architecture=architecture, device=device
        )
    return PackedEngine(architecture, tokenizer, executor, precision=precision)


def _left_open(path: Path, architecture: Architecture) -> Iterator[weights.Constant]:
    return weights.constants(_required(path, architecture), architecture)


def _required(path: Path, architecture: Architecture) -> weights.Weights:
    """Return the tensors in `path`, all that the forward reads among them."""
    stored = weights.open_weights(path)
    weights.require(stored, architecture)
    return stored
