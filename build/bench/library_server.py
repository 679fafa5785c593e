"""sentence-transformers in process; run as a program: library_server.py PORT MODEL THREADS.

POST /embed encodes texts as a program does that imports the library, and says in X-Seconds how long
the call took: HTTP is how the texts get here, and is not measured. POST /gemm multiplies matrices
and needs no model. Nothing heavy is imported before the first request.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import sys
import time
import timeit
from importlib.metadata import distributions
from typing import Any

LIBRARIES = ("sentence-transformers", "transformers", "torch", "tokenizers", "numpy")
REPEATS = 3
PORT, MODEL, THREADS = 1, 2, 3


@functools.cache
def model() -> Any:  # noqa: ANN401 - of a library that may not be here
    """Import the library and load the model: a part of the start that is measured."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    torch.set_num_threads(int(sys.argv[THREADS]))
    return SentenceTransformer(sys.argv[MODEL], device="cpu", local_files_only=True)


def embed(texts: list[str]) -> tuple[Any, float]:
    """Return the vectors of all texts from one call of the library, and its seconds."""
    encode, started = model().encode, time.perf_counter()
    rows = encode(texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    seconds = time.perf_counter() - started
    # A list of floats would take many times the memory of the vectors, and memory is measured.
    coded = base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii")
    return {"rows": coded, "width": rows.shape[1]}, seconds


def gemm(products: list[Any]) -> tuple[Any, float]:
    """Return per library the floating-point operations a second of weighted matrix products."""
    started = time.perf_counter()
    rates = {}
    for name, (ones, multiply) in libraries().items():
        seconds = 0.0
        for m, k, n, count in products:
            left, right, out = ones((m, k)), ones((k, n)), ones((m, n))
            multiply(left, right, out=out)  # warms up
            product = functools.partial(multiply, left, right, out=out)
            seconds += min(timeit.repeat(product, number=1, repeat=REPEATS)) * count
        operations = sum(2.0 * m * k * n * count for m, k, n, count in products)
        rates[name] = operations / seconds if products else 0.0
    versions = {found.name: found.version for found in distributions() if found.name in LIBRARIES}
    return {"rates": rates, "versions": versions}, time.perf_counter() - started


def libraries() -> dict[str, Any]:
    """Return by library the functions that make a float32 matrix of ones and multiply two."""
    import numpy as np  # noqa: PLC0415 - once a request asks for it

    found: dict[str, Any] = {"numpy": (functools.partial(np.ones, dtype=np.float32), np.matmul)}
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return found
    torch.set_num_threads(int(sys.argv[THREADS]))
    return {"torch": (torch.ones, torch.mm), **found}


ROUTES: dict[str, Any] = {"/embed": embed, "/gemm": gemm}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers JSON with JSON; what a function raises is a response of 500 with its text."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Call the function named by the path."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 200
        try:
            answer, seconds = ROUTES[self.path](**question)
        except Exception as error:  # noqa: BLE001 - the client reports it
            status, answer, seconds = 500, f"{type(error).__name__}: {error}", 0.0
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seconds", repr(seconds))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: standard error is for failures alone."""


if __name__ == "__main__":
    # One thread for every request, as in a program: OpenMP keeps threads for each caller.
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[PORT])), Handler).serve_forever()
