"""What is made of a model at assembly: its graphs, and its weights in half if wanted.

What was made is proven at once: the packed engine runs on it, and must give the model's reference
vectors. It is the same for every target, for it holds no code of any machine. What multiplies bytes
can be proven only where the processor is made for it; elsewhere it is loaded and no more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bundler.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.engines import Engine


def derive(name: str, snapshot: Path, golden: Path | None, *, weights: str) -> None:
    """Add to the folder `snapshot` what the packed engine needs; nothing if it cannot run it.

    With `weights` half, packed.safetensors takes the place of the locked file. Raises ModelError if
    what was made does not give the vectors in `golden`, or if weights in half are asked of a model
    that only the reference engine can run. Without `golden` nothing is proven: for models that are
    only measured.
    """
    # These bring numpy, onnx and ONNX Runtime; a bundle whose models are kept needs none of them.
    from bundler.models.graph import graph  # noqa: PLC0415
    from bundler.models.half import write_half  # noqa: PLC0415
    from bundler.models.quantized import quantized_graph  # noqa: PLC0415
    from sidecar.engines.packed import architecture, engine  # noqa: PLC0415
    from sidecar.engines.packed.weights import open_weights, require  # noqa: PLC0415
    from sidecar.process import cpu_features  # noqa: PLC0415

    whole = snapshot / architecture.WEIGHTS
    try:
        shape = architecture.read(snapshot)
        tensors = open_weights(whole)
        require(tensors, shape)
        if weights == "half":
            write_half(tensors, shape, snapshot / architecture.HALF_WEIGHTS)
            whole.unlink()
            tensors = open_weights(snapshot / architecture.HALF_WEIGHTS)
        (snapshot / architecture.GRAPH).write_bytes(graph(shape, tensors))
        (snapshot / architecture.QUANTIZED_GRAPH).write_bytes(quantized_graph(shape, tensors))
        threads = os.cpu_count() or 1
        _prove(name, engine.load(snapshot, device="cpu", threads=threads), golden)
        quantized = engine.load(snapshot, device="cpu", threads=threads, precision="int8")
        if cpu_features.detect().has_byte_products:
            _prove(name, quantized, golden)
    except architecture.UnpackableError as error:
        if weights == "whole":
            return
        raise ModelError(
            f"the packed engine cannot run {name}",
            why=f"{error}; this profile has no other engine",
            next_step="choose another model, or --profile safe",
        ) from error


def _prove(name: str, made: Engine, golden: Path | None) -> None:
    if golden is None:
        return
    from sidecar.models.golden import min_cosine, read, worst_cosine  # noqa: PLC0415

    worst, least = worst_cosine(read(golden), made), min_cosine(made)
    if not worst >= least:
        raise ModelError(
            f"the graph of {name} in {made.precision} does not give the model's vectors",
            why=f"the worst cosine to the reference vectors is {worst:.6f}, below {least}",
            next_step="--profile safe ships the weights as they are; please report this",
        )
