"""sentence-transformers in a process of its own; run as a program, never imported by us.

Answers each JSON line on standard input with one on standard output: `load`, `encode` (all texts
in one call), `requests` (a call for each), `vectors`, and `gemm`, which needs no model.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("sentence-transformers", "transformers", "torch", "tokenizers", "numpy")
REPEATS = 3


class Bench:
    """The model once it is loaded, and what can be asked of it."""

    def __init__(self) -> None:
        """Load nothing yet."""
        self.model: Any = None
        self.threads = 1

    def load(self, folder: str, threads: int) -> dict[str, Any]:
        """Import and load, each timed."""
        started = time.perf_counter()
        import torch  # noqa: PLC0415 - what is timed
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        imported = time.perf_counter()
        torch.set_num_threads(threads)
        self.model = SentenceTransformer(folder, device="cpu", local_files_only=True)
        return {
            "import_s": imported - started,
            "load_s": time.perf_counter() - imported,
            "max_tokens": self.model.max_seq_length,
            "versions": versions(),
        }

    def encode(self, texts: list[str]) -> dict[str, Any]:
        """Encode all texts in one call, as a program would: sorted by length, in its batches."""
        started = time.perf_counter()
        self._rows(texts)
        return {"seconds": time.perf_counter() - started}

    def requests(self, batches: list[list[str]]) -> dict[str, Any]:
        """Encode each list in a call of its own, one after the other."""
        seconds = []
        for texts in batches:
            started = time.perf_counter()
            self._rows(texts)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def vectors(self, texts: list[str]) -> dict[str, Any]:
        """Return the vectors as base64 of little-endian float32, one row after the other."""
        rows = self._rows(texts).astype("<f4")
        return {"dim": rows.shape[1], "rows": base64.b64encode(rows.tobytes()).decode("ascii")}

    def gemm(self, products: list[Any], threads: int) -> dict[str, Any]:
        """Return, per library, the floating-point operations per second of weighted `products`."""
        found = {}
        for name, multiply in multipliers(threads):
            work = spent = 0.0
            for (m, k, n), count in products:
                work += 2.0 * m * k * n * count
                spent += multiply(m, k, n) * count
            found[name] = work / spent
        return {"rates": found, "versions": versions()}

    def _rows(self, texts: list[str]) -> Any:  # noqa: ANN401 - numpy may not be there
        return self.model.encode(
            texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )


def multipliers(threads: int) -> list[tuple[str, Any]]:
    """Return functions that multiply two float32 matrices and return the best of some seconds."""
    import numpy as np  # noqa: PLC0415 - heavy, and perhaps torch comes first

    def with_numpy(m: int, k: int, n: int) -> float:
        left, right = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        out = np.empty((m, n), np.float32)
        return best(lambda: np.matmul(left, right, out=out))

    found: list[tuple[str, Any]] = [("numpy", with_numpy)]
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return found
    torch.set_num_threads(threads)

    def with_torch(m: int, k: int, n: int) -> float:
        left, right = torch.ones(m, k), torch.ones(k, n)
        out = torch.empty(m, n)
        return best(lambda: torch.mm(left, right, out=out))

    return [("torch", with_torch), *found]


def best(work: Any) -> float:  # noqa: ANN401 - a function
    """Return the shortest of some runs, after one that nobody counts."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def versions() -> dict[str, str]:
    """Return the libraries' versions, those that are here."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Answer until the input ends."""
    # Whatever a library prints must not end up between our lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    bench = Bench()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = getattr(bench, question.pop("do"))(**question)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
