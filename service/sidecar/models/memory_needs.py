"""What a model takes in memory, told before it is loaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from sidecar.engines.packed.architecture import (
    PIECES,
    WEIGHTS,
    Architecture,
    UnpackableError,
    qualify,
    weights_file,
)
from sidecar.engines.packed.weights import WORDS, open_weights
from sidecar.process.limits import MIB, MemoryNeed
from sidecar.settings import Precision, Settings

# ONNX Runtime with its first batches; torch and sentence-transformers with theirs.
PACKED = MemoryNeed(space=40 * MIB, private=46 * MIB)
REFERENCE = MemoryNeed(space=920 * MIB, private=358 * MIB)
# Of a token in the vocabulary, by the tokenizer that the family has: a trie of bytes, or a table.
_TOKEN_BYTES: Mapping[str, int] = {"xlm-roberta": 1500}
_OTHER_TOKEN_BYTES = 250
# Of a vocabulary that is mapped: the steps around it, and the words that are remembered.
_MAPPED_VOCABULARY_BYTES = 12 * MIB


def packed_needs(
    architecture: Architecture,
    weights: Path,
    *,
    precision: Precision,
    multiplies_bytes: bool = True,
) -> MemoryNeed:
    """Return what the packed engine takes on a processor, with the file `weights`."""
    encoder = architecture.encoder_bytes
    is_whole = weights.name == WEIGHTS
    try:
        vocabulary, mapped = open_weights(weights).tensors[WORDS].shape[0], weights.stat().st_size
    except (UnpackableError, OSError):
        vocabulary = mapped = 0  # loading them says what is wrong
    copies = 0
    if precision == "int8" and multiplies_bytes:
        copies = encoder // 2  # a byte of four, and what the multiplication wants beside it
    elif precision == "int8" or not is_whole or architecture.is_rearranged:
        copies = encoder
    if copies:
        # What was copied is mapped no more.
        mapped -= encoder if is_whole else encoder // 2
    own = copies + _tokenizer(architecture.family, vocabulary)
    if (pieces := weights.with_name(PIECES)).is_dir():
        own = copies + _MAPPED_VOCABULARY_BYTES
        mapped += sum(file.stat().st_size for file in pieces.iterdir())
    return PACKED.with_more(space=max(0, mapped) + own, private=own)


def needed_bytes(settings: Settings, folder: Path) -> int:
    """Return about how many bytes the model in `folder` takes in memory, mapped ones included."""
    if settings.engine != "reference":
        with contextlib.suppress(UnpackableError):
            made = qualify(folder, device="cpu", precision=settings.precision)
            return packed_needs(
                made,
                weights_file(folder),
                precision=settings.precision,
                multiplies_bytes=settings.has_byte_products is not False,
            ).resident
    return reference_needs(folder).resident


def reference_needs(snapshot: Path) -> MemoryNeed:
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
