"""Whether a bundle does its job: it starts, its vectors are the golden ones, it stays as it was.

And whether the diet harmed it: traced, it reaches for nothing that a rule removed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.console import Progress
from bundler.errors import SmokeError
from bundler.inspection.trace import Proved, prove
from bundler.launch import RunningService, command
from bundler.targets import target_named
from bundler.verify import verify
from sidecar.models.golden import MIN_COSINE, Golden
from sidecar.models.golden import read as read_golden

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.recipe import Recipe
    from sidecar.manifest import Manifest

START_SECONDS = 180.0
BATCH = 16
# A few texts reach every module; the golden vectors were compared with all of them.
TRACED_TEXTS = 3
# The package without which there is no reference engine.
REFERENCE = "sentence_transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """What was seen: the model, the number of texts, the worst cosine of any engine.

    `ready_s` is the time until the engine of the bundle's own choice was ready; `profile` is the
    diet, and `proved` what was traced to prove it, engine by engine.
    """

    model: str
    texts: int
    worst: float
    ready_s: float
    profile: str
    proved: tuple[Proved, ...]


def smoke(bundle: Path, recipe: Recipe) -> Smoked:
    """Start the bundle in an empty environment, compare its vectors, stop it, verify it again.

    So with every engine it has; each is run once more, traced, and held against the diet's rules
    in `recipe`. Raises SmokeError with the evidence, and VerificationError if running changed a
    byte.
    """
    manifest = verify(bundle, Progress()).manifest
    if not manifest.models:
        raise SmokeError("there is no model in this bundle", why="it was assembled without models")
    model = manifest.models[0]
    if model.golden is None:
        raise SmokeError(f"there are no golden vectors for {model.name} in this bundle")
    golden = read_golden(bundle / model.golden)
    names = engines(bundle, manifest)
    seen = [_run(bundle, model.name, engine, golden) for engine in names]
    proved = tuple(
        prove(bundle, recipe, golden.texts[:TRACED_TEXTS], engine=engine) for engine in names
    )
    verify(bundle, Progress())
    return Smoked(
        model=model.name,
        texts=len(golden.texts),
        worst=min(worst for worst, _ in seen),
        ready_s=seen[0][1],
        profile=manifest.profile,
        proved=proved,
    )


def engines(bundle: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return the values of --engine that a bundle has something for, its own choice first."""
    site = bundle / target_named(manifest.target).site_packages
    return ("auto", "reference") if (site / REFERENCE).is_dir() else ("auto",)


def _run(bundle: Path, model: str, engine: str, golden: Golden) -> tuple[float, float]:
    """Return the worst cosine of one engine, and the seconds until it was ready."""
    started = time.monotonic()
    arguments = ["--port", "0", "--model", model, "--engine", engine]
    with RunningService.start(command(bundle, arguments), environment={}) as service:
        service.wait_ready(START_SECONDS)
        ready_s = time.monotonic() - started
        vectors: list[list[float]] = []
        for at in range(0, len(golden.texts), BATCH):
            texts = golden.texts[at : at + BATCH]
            answer = service.request("/embed", {"texts": texts, "pooling": golden.pooling})
            vectors += answer["vectors"]
        worst = float(golden.cosines(vectors).min())
        if worst < MIN_COSINE:
            raise service.failure(
                f"with --engine {engine} the worst cosine to the golden vectors is {worst:.6f}"
            )
        service.end()
    return worst, ready_s
