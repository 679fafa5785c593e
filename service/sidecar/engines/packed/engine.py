"""The packed engine: our tokens, our forward, on whichever executor the device has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sidecar.engines import SpaceClass, Tokens, Vectors
from sidecar.engines.packed import tokens, weights
from sidecar.engines.packed.architecture import (
    HALF_WEIGHTS,
    WEIGHTS,
    Architecture,
    qualify,
)


class Executor(Protocol):
    """Runs the forward on token ids."""

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda or mps."""
        ...

    def run(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row per sequence of ids, in the order of `batch`."""
        ...


class PackedEngine:
    """Runs BERT's and XLM-RoBERTa's encoders on unpadded tokens."""

    name = "packed"
    precision = "float32"
    space: SpaceClass = "exact"
    pads = False

    def __init__(
        self, architecture: Architecture, tokenizer: tokens.PackedTokenizer, executor: Executor
    ) -> None:
        """Put the parts of one model together."""
        self._tokenizer = tokenizer
        self._executor = executor
        self.device = executor.device
        self.dim = architecture.dim
        self.max_tokens = architecture.max_tokens
        self.pooling = architecture.pooling
        self.special_tokens = tokenizer.special_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens."""
        return self._tokenizer.tokenize(texts) if texts else []

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end, in characters, of every token of `text`, special ones left out."""
        return self._tokenizer.spans(text)

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row of shape (dim,) per sequence of ids, in order; `batch` is not empty."""
        return self._executor.run(batch, pooling=pooling, normalize=normalize)


def weights_file(snapshot: Path) -> str:
    """Return the name of the file that holds the snapshot's weights."""
    return WEIGHTS if (snapshot / WEIGHTS).is_file() else HALF_WEIGHTS


def load(snapshot: Path, *, device: str, threads: int) -> PackedEngine:
    """Return the engine for a local snapshot folder; never touches the network.

    Raises UnpackableError where the model is not one of ours or has no graph.
    """
    architecture = qualify(snapshot, device=device)
    tokenizer = tokens.load(snapshot, max_tokens=architecture.max_tokens)
    executor: Executor
    if device == "cpu":
        from sidecar.engines.packed.onnx_executor import open_graph  # noqa: PLC0415 (heavy)

        executor = open_graph(snapshot, threads=threads, first_position=architecture.first_position)
    else:
        from sidecar.engines.packed.torch_executor import open_weights  # noqa: PLC0415 (heavy)

        path = snapshot / weights_file(snapshot)
        weights.require(weights.open_weights(path), architecture)
        executor = open_weights(path, architecture=architecture, device=device)
    return PackedEngine(architecture, tokenizer, executor)
