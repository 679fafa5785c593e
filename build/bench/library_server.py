"""A library in process: library_server.py PORT LIBRARY MODEL THREADS [SERVICE PRECISION].

LIBRARY is sentence-transformers, fastembed, or packed: the engine of the service in the folder
SERVICE. POST /embed encodes texts as a program does that imports the library, and says in X-Seconds
how long the call took: HTTP is how the texts get here, and is not measured. POST /single times each
text by itself, and by turns in our service. POST /gemm multiplies
matrices and needs no model; POST /versions names the loaded libraries. Nothing heavy is imported
before the first request.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import http.server
import json
import sys
import time
import timeit
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[list[str]], Any]

LIBRARIES = (
    *("sentence-transformers", "transformers", "torch"),
    *("fastembed", "onnxruntime", "tokenizers", "numpy"),
)
REPEATS = 3
PORT, LIBRARY, MODEL, THREADS, SERVICE, PRECISION = range(1, 7)


def sentence_transformers(model: str, threads: int) -> Encode:
    """Load `model` by sentence-transformers."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    torch.set_num_threads(threads)
    loaded = SentenceTransformer(model, device="cpu", local_files_only=True)
    options = {"convert_to_numpy": True, "show_progress_bar": False}
    return functools.partial(loaded.encode, normalize_embeddings=True, **options)


def fastembed(model: str, threads: int) -> Encode:
    """Load the model.onnx in the folder `model` by fastembed, as a model of the user's own."""
    import numpy as np  # noqa: PLC0415
    from fastembed import TextEmbedding  # noqa: PLC0415
    from fastembed.common.model_description import ModelSource, PoolingType  # noqa: PLC0415

    name = "sidecar/bench"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=json.loads(Path(model, "config.json").read_bytes())["hidden_size"],
        model_file="model.onnx",
    )
    loaded = TextEmbedding(name, threads=threads, specific_model_path=model)
    return lambda texts: np.array(list(loaded.embed(texts)), np.float32)


def packed(model: str, threads: int) -> Encode:
    """Load `model` by the service's packed engine, and give it batches as large as it likes."""
    sys.path.insert(0, sys.argv[SERVICE])
    import numpy as np  # noqa: PLC0415

    from sidecar.engines.packed import engine  # noqa: PLC0415

    precision: Any = sys.argv[PRECISION]
    loaded = engine.load(Path(model), device="cpu", threads=threads, precision=precision)

    def encode(texts: list[str]) -> Any:  # noqa: ANN401
        batches: list[list[tuple[int, ...]]] = [[]]
        room = loaded.best_tokens
        for ids in (found.ids for found in loaded.tokenize(texts)):
            if batches[-1] and len(ids) > room:
                batches.append([])
                room = loaded.best_tokens
            batches[-1].append(ids)
            room -= len(ids)
        rows = [loaded.encode(each, pooling=loaded.pooling, normalize=True) for each in batches]
        return np.concatenate(rows)

    return encode


LOADERS: dict[str, Callable[[str, int], Encode]] = {
    "sentence-transformers": sentence_transformers,
    "fastembed": fastembed,
    "packed": packed,
}


@functools.cache
def encoder() -> Encode:
    """Import the library and load the model: a part of the start that is measured."""
    return LOADERS[sys.argv[LIBRARY]](sys.argv[MODEL], int(sys.argv[THREADS]))


def embed(texts: list[str]) -> tuple[Any, float]:
    """Return the vectors of all texts from one call of the library, and its seconds."""
    encode, started = encoder(), time.perf_counter()
    rows = encode(texts)
    seconds = time.perf_counter() - started
    # A list of floats would take many times the memory of the vectors, and memory is measured.
    coded = base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii")
    return {"rows": coded, "width": rows.shape[1]}, seconds


def single(texts: list[str], port: int | None = None) -> tuple[Any, float]:
    """Return the seconds of each text by itself; given its `port`, those of our service, by turns.

    A process that waits for each text from another is put on the core of that one, where its
    threads then take turns: a program that has the texts itself is not.
    """
    encode = encoder()
    calls: list[Callable[[str], Any]] = [lambda text: encode([text])]
    seconds: list[list[float]] = [[]]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

        def post(text: str) -> None:
            body, headers = json.dumps({"texts": [text]}), {"Content-Type": "application/json"}
            connection.request("POST", "/embed", body, headers)
            response = connection.getresponse()
            if b"vectors" not in response.read():
                raise ValueError(f"the service answered with status {response.status}")

        if port is not None:
            calls.append(post)
            seconds.append([])
        order = list(zip(calls, seconds, strict=True))
        for text in texts:
            for call, found in order:
                started = time.perf_counter()
                call(text)
                found.append(time.perf_counter() - started)
            order.reverse()
    return {"seconds": seconds}, 0.0


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
    return {"rates": rates}, time.perf_counter() - started


def versions() -> tuple[Any, float]:
    """Return the versions of the libraries that are loaded."""
    loaded = {name for name in LIBRARIES if name.replace("-", "_") in sys.modules}
    return {found.name: found.version for found in distributions() if found.name in loaded}, 0.0


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


ROUTES: dict[str, Any] = {"/embed": embed, "/single": single, "/gemm": gemm, "/versions": versions}


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
