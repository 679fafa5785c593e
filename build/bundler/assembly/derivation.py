"""What is made of a model at assembly: graphs, a Unigram's files, and weights in half if wanted.

What was made is proven at once, against the model's reference vectors and on every machine alike.
Of int8 that is the graph for processors that do not multiply bytes: it makes the same whole numbers
of floats. Every graph is the same for every target, for it holds no code of any machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.assembly.model_graph import graph, quantized_graph, write_half
from bundler.assembly.unigram_files import write_unigram
from bundler.errors import ModelError
from bundler.locks.models import Cosines, judge, lower
from sidecar.engines.packed import architecture, engine, quantized
from sidecar.engines.packed.weights import open_weights, require
from sidecar.models.golden import MIN_COSINE, cosines, read
from sidecar.process import cores

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.engines import Engine
    from sidecar.engines.packed.architecture import Architecture
    from sidecar.engines.packed.quantized import Calibration
    from sidecar.engines.packed.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The file of the model's golden vectors, and how near int8 must come to them.

    `least_int8` is None for a model that is locked without int8.
    """

    golden: Path
    least_int8: Cosines | None


def derive(name: str, snapshot: Path, proof: Proof | None, *, weights: str) -> None:
    """Add to the folder `snapshot` what the packed engine needs; nothing if it cannot run it.

    With `weights` half, packed.safetensors takes the place of the locked file. Raises ModelError if
    what was made does not give the vectors that `proof` asks for, and if the packed engine cannot
    run a model that is to have weights in half or int8. Without `proof` both graphs are made and
    nothing is proven: for models that are only measured.
    """
    least = proof.least_int8 if proof else None
    try:
        shape, tensors = _opened(snapshot)
        if weights == "half":
            tensors = _halved(snapshot, shape, tensors)
        (snapshot / architecture.GRAPH).write_bytes(graph(shape, tensors))
        write_unigram(snapshot)
        made = engine.load(snapshot, device="cpu", threads=cores.count())
        if proof is not None:
            _prove(name, made, proof.golden, weights)
        if proof is None or least is not None:
            calibration = _calibration(proof.golden, shape) if proof else quantized.plain(shape)
            write_int8(snapshot, shape, tensors, calibration)
            if proof is not None and least is not None:
                _hold(name, _int8_cosines(snapshot, proof.golden), least)
            # That it can be loaded is asked everywhere; what it computes depends on the processor.
            engine.load(snapshot, device="cpu", threads=cores.count(), precision="int8")
    except architecture.UnpackableError as error:
        if weights == "whole" and least is None:
            return
        raise ModelError(
            f"the packed engine cannot run {name}",
            why=f"{error}; this profile has no other engine"
            if weights == "half"
            else f"{error}; models.lock.toml says that it has int8, which only that engine has",
            next_step="choose another model, or --profile safe"
            if weights == "half"
            else f"python3 build lock --models {name}",
        ) from error


def measure_int8(snapshot: Path, golden: Path) -> Cosines | None:
    """Return how near int8 comes to the vectors in `golden`; None if the model cannot have it.

    Measured with the weights in `snapshot`, which are then replaced by those in half: if these
    would not hold the limits that follow, the lower of both counts, as profiles have either.
    """
    try:
        shape, tensors = _opened(snapshot)
        calibration = _calibration(golden, shape)
        write_int8(snapshot, shape, tensors, calibration)
        whole = _int8_cosines(snapshot, golden)
        write_int8(snapshot, shape, _halved(snapshot, shape, tensors), calibration)
        half = _int8_cosines(snapshot, golden)
    except architecture.UnpackableError:
        return None
    least = judge(whole).least
    return whole if least is None or half.holds(least) else lower(whole, half)


def write_int8(
    snapshot: Path, shape: Architecture, tensors: Weights, calibration: Calibration
) -> None:
    """Write into `snapshot` all that int8 needs beside the weights."""
    for name, is_wide in ((architecture.QUANTIZED_GRAPH, False), (architecture.WIDE_GRAPH, True)):
        made = quantized_graph(shape, tensors, calibration, is_wide=is_wide)
        (snapshot / name).write_bytes(made)
    text = json.dumps(calibration.table(), sort_keys=True)
    (snapshot / architecture.CALIBRATION).write_text(text + "\n", encoding="ascii", newline="\n")


def _calibration(golden: Path, shape: Architecture) -> Calibration:
    """Return the constants of int8 that were found when the model was locked."""
    return quantized.calibration_of(json.loads(golden.read_bytes()).get("int8"), shape)


def _opened(snapshot: Path) -> tuple[Architecture, Weights]:
    """Return what the model is, and its weights as they are locked. Raises UnpackableError."""
    shape = architecture.read(snapshot)
    tensors = open_weights(snapshot / architecture.WEIGHTS)
    require(tensors, shape)
    return shape, tensors


def _halved(snapshot: Path, shape: Architecture, tensors: Weights) -> Weights:
    """Put weights in half in the place of the locked ones, and return them."""
    write_half(tensors, shape, snapshot / architecture.HALF_WEIGHTS)
    (snapshot / architecture.WEIGHTS).unlink()
    return open_weights(snapshot / architecture.HALF_WEIGHTS)


def _int8_cosines(snapshot: Path, golden: Path) -> Cosines:
    """Return the cosines of int8 as every processor can compute it."""
    threads = cores.count()
    made = engine.load(
        snapshot, device="cpu", threads=threads, precision="int8", multiplies_bytes=False
    )
    found = cosines(read(golden), made)
    return Cosines(worst=float(found.min()), mean=float(found.mean()))


def _prove(name: str, made: Engine, golden: Path, weights: str) -> None:
    """Raise ModelError unless `made` gives the reference vectors."""
    worst = float(cosines(read(golden), made).min())
    if not worst >= MIN_COSINE:
        raise ModelError(
            f"the graph of {name} in {made.precision} does not give the model's vectors",
            why=f"the worst cosine to the reference vectors is {worst:.6f}, below {MIN_COSINE}",
            next_step="please report this with the processor's name; "
            + ("--profile safe" if weights == "half" else "another --model")
            + " may do until then",
        )


def _hold(name: str, found: Cosines, least: Cosines) -> None:
    """Raise ModelError unless the int8 vectors are as near as they were when it was locked."""
    if not found.holds(least):
        raise ModelError(
            f"int8 of {name} is farther from the model's vectors than its lock allows",
            why=f"over all golden texts the worst cosine is {found.worst:.6f}, at least "
            f"{least.worst} is locked; the mean is {found.mean:.6f}, at least {least.mean}",
            next_step="`git status service build bundle` shows the changes; if they are intended, "
            f"python3 build lock --models {name}",
        )
