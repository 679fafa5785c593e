"""Whether a bundle does its job: it starts, its vectors are the golden ones, it stays as it was.

And whether the diet harmed it: traced, it reaches for nothing that a rule removed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.console import Progress
from bundler.errors import SmokeError
from bundler.golden import MIN_COSINE, read_golden, worst_cosine
from bundler.launch import Service
from bundler.trace import Proved, prove
from bundler.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.recipe import Recipe

START_SECONDS = 180.0
BATCH = 16
# A few texts reach every module; the golden vectors were compared with all of them.
TRACED_TEXTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """What was seen: the model, the number of texts, the worst cosine, seconds until ready.

    `profile` is the diet, and `proved` what was traced to prove it.
    """

    model: str
    texts: int
    worst: float
    ready_s: float
    profile: str
    proved: Proved


def smoke(bundle: Path, recipe: Recipe) -> Smoked:
    """Start the bundle in an empty environment, compare its vectors, stop it, verify it again.

    In between it is run once more, traced, and held against the diet's rules in `recipe`. Raises
    SmokeError with the evidence, and VerificationError if running changed a byte.
    """
    manifest = verify(bundle, Progress()).manifest
    if not manifest.models:
        raise SmokeError("there is no model in this bundle", why="it was assembled without models")
    model = manifest.models[0]
    if model.golden is None:
        raise SmokeError(f"there are no golden vectors for {model.name} in this bundle")
    golden = read_golden(bundle / model.golden)
    started = time.monotonic()
    with Service.start(bundle, ["--port", "0", "--model", model.name], environment={}) as service:
        service.wait_ready(START_SECONDS)
        ready_s = time.monotonic() - started
        vectors: list[list[float]] = []
        for at in range(0, len(golden.texts), BATCH):
            texts = golden.texts[at : at + BATCH]
            answer = service.request("/embed", {"texts": texts, "pooling": golden.pooling})
            vectors += answer["vectors"]
        worst = worst_cosine(golden, vectors)
        if worst < MIN_COSINE:
            raise service.failure(f"the worst cosine to the golden vectors is {worst:.6f}")
        code = service.stop()
    if code != 0:
        raise service.failure(f"asked to stop, it ended with exit code {code}")
    proved = prove(bundle, recipe, golden.texts[:TRACED_TEXTS])
    verify(bundle, Progress())
    return Smoked(
        model=model.name,
        texts=len(golden.texts),
        worst=worst,
        ready_s=ready_s,
        profile=manifest.profile,
        proved=proved,
    )
