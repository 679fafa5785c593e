"""A twin of each family with its graph, the engines that read it, and texts of every kind."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from bench import TINY_BERT, TINY_MPNET, TINY_XLMR, Shape
from bench.synthetic import write_model
from bundler.assembly.derivation import write_int8
from bundler.assembly.model_graph import graph
from bundler.assembly.unigram_files import write_unigram
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import GRAPH, WEIGHTS, Architecture, read
from sidecar.engines.packed.quantized import Calibration, Columns, readers
from sidecar.engines.packed.weights import open_weights, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sidecar.engines import Engine
    from sidecar.engines.packed.engine import PackedEngine
    from sidecar.engines.packed.torch_executor import TorchExecutor

    Edit = Callable[[dict[str, Any]], object]

WORDS = (
    "The cat sat on the mat, and the dog did not.",
    "A function is called with its arguments in brackets.",
    "Rivers run to the sea; the sea is not full.",
)
# What tokenizers stumble over.
ODD = (
    "",
    " ",
    " \t\n\u00a0\u2003 ",
    "word",
    "  spaces  around  ",
    "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "日本語のテキストと、中文文本。한국어",
    "Привет, мир! שלום مرحبا नमस्ते",
    "\u0301",
    "e\u0301\u0323 \u0300\u0300 a\u20dd",
    "ﬁnal ① Ｗide ß İ ǅ",
    "a [SEP] b [CLS][PAD] [MASK]c [UNK]",
    "a <s> b</s> <pad><mask> c <unk>",
    "[sep] < s > [ SEP ]",
    "null \x00 and \x7f bell \x07 \ufeff\ufffd",
    "x" * 250,
    "the cat and the dog " * 40,
    "日" * 200,
    "&lt;s&gt; https://example.org/?q=1#top 3.14159 -- C++ a_b",
)
SHAPES: dict[str, Shape] = {"bert": TINY_BERT, "xlm-roberta": TINY_XLMR, "mpnet": TINY_MPNET}
LONG = 512
# As above with as many positions as the real models have.
LONG_SHAPES = {
    "bert": dataclasses.replace(TINY_BERT, positions=LONG, max_tokens=LONG),
    "xlm-roberta": dataclasses.replace(TINY_XLMR, positions=LONG + 2, max_tokens=LONG),
    "mpnet": dataclasses.replace(TINY_MPNET, positions=LONG + 2, max_tokens=LONG),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A snapshot folder as a bundle has it, and both engines on it."""

    folder: Path
    shape: Shape
    architecture: Architecture
    reference: Engine
    packed: PackedEngine

    def torch(self) -> TorchExecutor:
        """Return the same forward on torch and the CPU."""
        from sidecar.engines.packed.torch_executor import open_tensors  # noqa: PLC0415 - torch

        stored = open_weights(self.folder / WEIGHTS)
        return open_tensors(stored, architecture=self.architecture, device="cpu")


def write_graph(folder: Path, weights: str = WEIGHTS) -> Path:
    """Write the graphs beside the weights in `folder` and return `folder`."""
    architecture, tensors = read(folder), open_weights(folder / weights)
    require(tensors, architecture)
    (folder / GRAPH).write_bytes(graph(architecture, tensors))
    write_int8(folder, architecture, tensors, uneven(architecture))
    return folder


def uneven(architecture: Architecture) -> Calibration:
    """Return constants of int8 that move every column, and scale some."""
    rng = np.random.default_rng(5)
    columns = {
        norm: Columns(
            exponents=rng.integers(-1, 2, architecture.width).astype(np.int8),
            shifts=rng.normal(scale=0.1, size=architecture.width).astype(np.float16),
        )
        for norm in readers(architecture)
    }
    return Calibration(norms=columns)


def without_clipping(folder: Path) -> Path:
    """Make the model in `folder` one whose int8 is the same on every processor; return `folder`.

    x86 processors without byte instructions add up the products of two neighbouring inputs in
    sixteen bits, which two of the largest overflow. Here every second input has no weight. Inputs
    behind GELU are put in order of their largest weight: there each has one for every second
    output, and a neighbour of the same size for the others.
    """
    tensors = dict(load_file(folder / WEIGHTS))
    for name, tensor in tensors.items():
        if not name.startswith("encoder.layer.") or tensor.ndim < 2:
            continue
        if name.endswith(".output.dense.weight") and ".attention." not in name:
            tensor[1::2, 1::2] = tensor[::2, ::2]
            tensor[1::2, ::2] = 0
            tensor[::2, 1::2] = 0
        else:
            tensor[:, 1::2] = 0
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def make_twin(folder: Path, shape: Shape) -> Twin:
    """Write a twin of `shape` into `folder` and load it."""
    import torch  # noqa: PLC0415 - seconds, and not every test needs it

    from sidecar.engines import reference  # noqa: PLC0415

    # Models this small are done before a second thread has woken.
    torch.set_num_threads(1)
    write_unigram(write_graph(write_model(folder, shape, (*WORDS, *ODD))))
    return Twin(
        folder=folder,
        shape=shape,
        architecture=read(folder),
        reference=reference.load(folder, device="cpu"),
        packed=packed.load(folder, device="cpu", threads=1),
    )


def edit(folder: Path, name: str, change: Edit) -> Path:
    """Apply `change` to the JSON file `name` in `folder` and return `folder`."""
    held = json.loads((folder / name).read_bytes())
    change(held)
    (folder / name).write_text(json.dumps(held), encoding="utf-8")
    return folder


def lots(shape: Shape, lengths: Sequence[int], *, seed: int = 0) -> list[tuple[int, ...]]:
    """Return token ids of those lengths, drawn; none is a special one."""
    drawn = random.Random(seed)
    return [tuple(drawn.randrange(5, shape.vocabulary) for _ in range(n)) for n in lengths]
