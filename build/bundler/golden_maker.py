"""Make reference vectors with sentence-transformers; run as a program, never imported by us.

Reads {"folder", "texts"} as JSON from standard input and writes {"vectors", "dim", "max_tokens",
"made_with"} to standard output; everything else that is said goes to standard error. A program of
its own keeps torch out of the builder.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from functools import partial
from importlib.metadata import version

LIBRARIES = ("sentence-transformers", "transformers", "torch", "tokenizers")


def main() -> None:
    """Encode each text alone, so that no other text in a batch can touch its bits."""
    # Whatever a library prints must not end up between our braces.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    request = json.load(sys.stdin)

    import torch  # noqa: PLC0415 - after the environment says that there is no network
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    # The order in which threads add up is not the same on every machine.
    torch.set_num_threads(1)
    model = SentenceTransformer(request["folder"], device="cpu", local_files_only=True)
    # A prompt that a model names as its default is not added unasked, and so not here.
    encode = partial(model.encode, prompt="", normalize_embeddings=True, show_progress_bar=False)
    rows = [encode([text])[0].astype("<f4") for text in request["texts"]]
    document = {
        "vectors": [base64.b64encode(row.tobytes()).decode("ascii") for row in rows],
        "dim": len(rows[0]),
        "max_tokens": model.max_seq_length,
        "made_with": {name: version(name) for name in LIBRARIES},
    }
    with answer:
        json.dump(document, answer)


if __name__ == "__main__":
    main()
