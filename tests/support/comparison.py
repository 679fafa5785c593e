"""Random mixes of lengths through the packed engine, each text held against the reference engine.

python -m tests.support.comparison BUNDLE [MIXES] takes the bundle's default model, and prints the
worst cosine and how far a text's neighbours moved its vector.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sidecar.engines import reference
from sidecar.engines.packed import engine as packed
from sidecar.manifest import read
from sidecar.models.golden import read as read_golden
from tests.support.clients import cosines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.engines import Engine, Vectors

    Ids = tuple[int, ...]

MIN_COSINE, MAX_MOVED = 0.99999, 1e-5
POOLINGS = ("mean", "cls", "max")
DRAWN, MOST_TEXTS, SEED = 200, 12, 8421
# Ids below this are special in one vocabulary or the other.
FIRST_PLAIN = 1000


def pool_of(engine: Engine, vocabulary: int, texts: Sequence[str], *, seed: int) -> list[Ids]:
    """Return the tokens of `texts`, and DRAWN sequences of all lengths, short ones more often."""
    drawn = random.Random(seed)
    made = [found.ids for found in engine.tokenize(texts)]
    first = min(FIRST_PLAIN, vocabulary // 2)
    for _ in range(DRAWN):
        length = round(engine.max_tokens ** drawn.random())
        made.append(tuple(drawn.randrange(first, vocabulary) for _ in range(length)))
    return made


def alone(engine: Engine, pool: Sequence[Ids], pooling: str) -> Vectors:
    """Return the vector of every sequence, encoded by itself."""
    rows = [engine.encode([ids], pooling=pooling, normalize=True) for ids in pool]
    return np.concatenate(rows)


def compare(
    ours: Engine, theirs: Engine, pool: Sequence[Ids], *, mixes: int, seed: int
) -> tuple[float, float]:
    """Encode `mixes` batches drawn from `pool` and compare every row with both engines' own.

    Returns the worst cosine, and the largest change of a number by neighbours.
    """
    known = {pooling: alone(theirs, pool, pooling) for pooling in POOLINGS}
    single = {pooling: alone(ours, pool, pooling) for pooling in POOLINGS}
    drawn = random.Random(seed)
    worst = min(float(cosines(single[pooling], known[pooling]).min()) for pooling in POOLINGS)
    moved = 0.0
    for number in range(mixes):
        picked = [drawn.randrange(len(pool)) for _ in range(drawn.randint(1, MOST_TEXTS))]
        pooling = POOLINGS[number % len(POOLINGS)]
        rows = ours.encode([pool[index] for index in picked], pooling=pooling, normalize=True)
        worst = min(worst, float(cosines(rows, known[pooling][picked]).min()))
        moved = max(moved, float(np.abs(rows - single[pooling][picked]).max()))
    return worst, moved


def main(arguments: Sequence[str]) -> int:
    """Compare, report; 0 if the packed engine gave the reference's vectors."""
    parser = argparse.ArgumentParser(
        prog="ci/count engines", description="Hold packed vectors against the reference's."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("mixes", type=int, nargs="?", default=3000)
    options = parser.parse_args(arguments)
    model = read(options.bundle).models[0]
    folder = options.bundle / model.snapshot
    ours = packed.load(folder, device="cpu", threads=2)
    theirs = reference.load(folder, device="cpu")
    texts = read_golden(options.bundle / model.golden).texts if model.golden else ()
    if ours.tokenize(texts) != theirs.tokenize(texts):
        sys.stdout.write(f"{model.name}: the tokens of some text differ\n")
        return 1
    vocabulary = json.loads((folder / "config.json").read_bytes())["vocab_size"]
    pool = pool_of(ours, vocabulary, texts, seed=SEED)
    worst, moved = compare(ours, theirs, pool, mixes=options.mixes, seed=SEED)
    sys.stdout.write(
        f"{model.name}: {options.mixes} mixes, worst cosine {worst:.9f}, "
        f"moved by neighbours {moved:.2e}\n"
    )
    return 0 if worst >= MIN_COSINE and moved <= MAX_MOVED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
