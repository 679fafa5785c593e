"""What sentence-transformers itself makes of texts, in a process of its own.

Run as text by a bundle's interpreter, with the folder of a model: reads texts as JSON from standard
input, writes rows as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HOME": "/nonexistent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Rows for the same texts: what `encode` gives, and token vectors pooled by hand."""

    encoded: Rows
    mean: Rows
    cls: Rows
    max: Rows


def reference(python: Path, model: Path, texts: Sequence[str]) -> Reference:
    """Return what `python` and its sentence-transformers make of `texts`."""
    done = subprocess.run(
        [str(python), "-I", "-B", "-c", Path(__file__).read_text(encoding="utf-8"), str(model)],
        input=json.dumps(list(texts)),
        env=OFFLINE,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Reference(**{name: np.array(rows, np.float32) for name, rows in found.items()})


def main(model: str) -> None:
    """Encode, pool, write."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - in the bundle only

    texts = json.load(sys.stdin)
    encoder = SentenceTransformer(model, device="cpu", local_files_only=True)
    tokens = encoder.encode(texts, output_value="token_embeddings", show_progress_bar=False)
    single = [np.asarray(found, dtype=np.float64) for found in tokens]
    rows = {
        "encoded": encoder.encode(texts, show_progress_bar=False),
        "mean": [found.mean(axis=0) for found in single],
        "cls": [found[0] for found in single],
        "max": [found.max(axis=0) for found in single],
    }
    written = {name: np.asarray(found, np.float32).tolist() for name, found in rows.items()}
    sys.stdout.write(json.dumps(written))


if __name__ == "__main__":
    main(sys.argv[1])
