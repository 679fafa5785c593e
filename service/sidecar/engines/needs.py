"""What a model takes of memory beside the libraries, before it is loaded: lower bounds.

Measured on Linux with two cores. Weights are mapped from their file, so only copies of them are
private; a tokenizer's vocabulary is as large as a small model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sidecar.engines.packed.architecture import WEIGHTS, Architecture, UnpackableError
from sidecar.engines.packed.weights import WORDS, open_weights
from sidecar.process.headroom import MIB, Need
from sidecar.settings import Precision

# ONNX Runtime with its first batches; torch and sentence-transformers with theirs.
PACKED = Need(space=40 * MIB, private=46 * MIB)
REFERENCE = Need(space=920 * MIB, private=358 * MIB)
# Of a token in the vocabulary, by the tokenizer that the family has: a trie of bytes, or a table.
_TOKEN_BYTES: Mapping[str, int] = {"xlm-roberta": 1100}
_OTHER_TOKEN_BYTES = 250


def packed(architecture: Architecture, weights: Path, *, precision: Precision) -> Need:
    """Return what the packed engine takes on a processor, with the file `weights`."""
    encoder = architecture.encoder_bytes
    is_whole = weights.name == WEIGHTS
    try:
        vocabulary, mapped = open_weights(weights).tensors[WORDS].shape[0], weights.stat().st_size
    except (UnpackableError, OSError):
        vocabulary = mapped = 0  # loading them says what is wrong
    copies = 0
    if precision == "int8":
        copies = encoder // 2  # a byte of four, and what the multiplication wants beside it
    elif not is_whole or architecture.is_rearranged:
        copies = encoder
    if copies:
        # What was copied is mapped no more.
        mapped -= encoder if is_whole else encoder // 2
    own = copies + _tokenizer(architecture.family, vocabulary)
    return PACKED.with_more(space=max(0, mapped) + own, private=own)


def reference(snapshot: Path) -> Need:
    """Return what the reference engine takes, its libraries included."""
    try:
        config = json.loads((snapshot / "config.json").read_bytes())
        own = _tokenizer(str(config["model_type"]), int(config["vocab_size"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        own = 0  # as above
    mapped = sum(file.stat().st_size for file in snapshot.rglob("*.safetensors"))
    return REFERENCE.with_more(space=mapped + own, private=own)


def _tokenizer(family: str, vocabulary: int) -> int:
    return max(0, vocabulary) * _TOKEN_BYTES.get(family, _OTHER_TOKEN_BYTES)
