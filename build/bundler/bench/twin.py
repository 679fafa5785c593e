"""Models that have the shape of real ones and weights by lot: true costs without a download.

A twin is an ordinary sentence-transformers snapshot. Its vectors mean nothing, but its layers, its
tables and its tokenizer cost what the real ones do, and different texts get different vectors. The
same shape and seed give the same bytes: weights are whole numbers from PCG64, whose stream numpy
promises to keep, times one factor.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from bundler.bench.twintokenizer import MASK, WORDPIECE_SPECIAL, unigram, wordpiece
from bundler.files.renaming import rename

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from bundler.bench.shapes import Shape

    Matrix = NDArray[np.float32]

FORMAT = 1
RECORD = "twin.json"
HOME = "sentence_transformers.models"
STEPS = 1 << 15  # a weight is one of twice as many values


def write_twin(folder: Path, shape: Shape, texts: Sequence[str], *, seed: int = 0) -> Path:
    """Make `folder` a snapshot of `shape` and return it; one that is there already is kept.

    `texts` decide the tokenizer's pieces alone. The files are written beside and renamed
    together, so a run that was killed leaves nothing that looks whole. Raises OSError.
    """
    record = _json({"format": FORMAT, "seed": seed, **dataclasses.asdict(shape)})
    if (folder / RECORD).is_file() and (folder / RECORD).read_bytes() == record:
        return folder
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        (fresh / "1_Pooling").mkdir(parents=True)
        tokenizer = _tokenizer(shape, texts)
        for name, data in _papers(shape, tokenizer).items():
            (fresh / name).write_bytes(data)
        save_file(
            dict(weights(shape, seed=seed)), fresh / "model.safetensors", metadata={"format": "pt"}
        )
        (fresh / RECORD).write_bytes(record)
        shutil.rmtree(folder, ignore_errors=True)
        rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def weights(shape: Shape, *, seed: int = 0) -> Iterator[tuple[str, Matrix]]:
    """Yield every tensor of the model by name, in float32."""

    def lot(name: str, deviation: float, *sizes: int) -> Iterator[tuple[str, Matrix]]:
        yield name, _drawn((seed, zlib.crc32(name.encode())), deviation, sizes)

    def linear(name: str, out: int, width: int) -> Iterator[tuple[str, Matrix]]:
        # Small enough that texts do not all end up alike behind twelve layers.
        yield from lot(f"{name}.weight", 0.6 / math.sqrt(width), out, width)
        yield from lot(f"{name}.bias", 0.02, out)

    def norm(name: str) -> Iterator[tuple[str, Matrix]]:
        yield f"{name}.weight", np.ones(shape.width, np.float32)
        yield f"{name}.bias", np.zeros(shape.width, np.float32)

    width, types = shape.width, 1 if shape.family == "xlm-roberta" else 2
    yield from lot("embeddings.word_embeddings.weight", 0.5, shape.vocabulary, width)
    yield from lot("embeddings.position_embeddings.weight", 0.1, shape.positions, width)
    yield from lot("embeddings.token_type_embeddings.weight", 0.1, types, width)
    yield from norm("embeddings.LayerNorm")
    for layer in range(shape.layers):
        base = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield from linear(f"{base}.attention.self.{name}", width, width)
        yield from linear(f"{base}.attention.output.dense", width, width)
        yield from norm(f"{base}.attention.output.LayerNorm")
        yield from linear(f"{base}.intermediate.dense", shape.inner, width)
        yield from linear(f"{base}.output.dense", width, shape.inner)
        yield from norm(f"{base}.output.LayerNorm")
    yield from linear("pooler.dense", width, width)


def _drawn(seed: tuple[int, int], deviation: float, sizes: tuple[int, ...]) -> Matrix:
    """Return values spread evenly about zero with that standard deviation."""
    count = math.prod(sizes)
    raw = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(-(-count // 4))
    steps = raw.astype("<u8").view("<i2")[:count].reshape(sizes)
    made: Matrix = steps.astype(np.float32)
    made *= np.float32(deviation * math.sqrt(3) / STEPS)
    return made


def _tokenizer(shape: Shape, texts: Sequence[str]) -> Tokenizer:
    make = unigram if shape.family == "xlm-roberta" else wordpiece
    return make(texts, size=shape.vocabulary)


def _papers(shape: Shape, tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return every file but the weights, spelled as the real models' are."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if shape.is_normalized:
        modules.append(("2_Normalize", "Normalize"))
    files = {
        "config.json": _json(_config(shape)),
        "sentence_bert_config.json": _json(
            {"max_seq_length": shape.max_tokens, "do_lower_case": False}
        ),
        "config_sentence_transformers.json": _json({"__version__": {}}),
        "1_Pooling/config.json": _json(
            {
                "word_embedding_dimension": shape.width,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }
        ),
        "modules.json": _json(
            [
                {"idx": index, "name": str(index), "path": path, "type": f"{HOME}.{kind}"}
                for index, (path, kind) in enumerate(modules)
            ]
        ),
        "tokenizer.json": tokenizer.to_str(pretty=False).encode(),
        "tokenizer_config.json": _json(_tokenizer_config(shape)),
    }
    if shape.family == "bert":
        ranked = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        files["vocab.txt"] = "".join(f"{piece}\n" for piece, _ in ranked).encode()
    return files


def _config(shape: Shape) -> dict[str, Any]:
    is_xlmr = shape.family == "xlm-roberta"
    return {
        "architectures": ["XLMRobertaModel" if is_xlmr else "BertModel"],
        "model_type": shape.family,
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.inner,
        "layer_norm_eps": 1e-05 if is_xlmr else 1e-12,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": 1 if is_xlmr else 0,
        **({"bos_token_id": 0, "eos_token_id": 2} if is_xlmr else {}),
        "position_embedding_type": "absolute",
        "type_vocab_size": 1 if is_xlmr else 2,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    if shape.family == "bert":
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": shape.positions,
            **{f"{name[1:-1].lower()}_token": name for name in WORDPIECE_SPECIAL},
        }
    return {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": shape.positions - 2,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": MASK,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()
