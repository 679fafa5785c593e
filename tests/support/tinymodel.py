"""A sentence-transformers model of a few KB: two layers of BERT and a WordPiece vocabulary.

Written as the models on the hub are, in the older spelling of their configuration, without torch:
making it costs milliseconds, and the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WIDTH, LAYERS, HEADS, INNER, POSITIONS, MAX_TOKENS = 16, 2, 2, 32, 64, 32
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "a", "of", "and", "to", "in", "is", "not", "cat", "dog", "house", "river")
PIECES = (*string.ascii_lowercase, *string.digits, *string.punctuation)
VOCABULARY = (*SPECIAL, *WORDS, *PIECES, *(f"##{piece}" for piece in PIECES))
HOME = "sentence_transformers.models"


def tiny_model(*, seed: int = 0, dense: int | None = None) -> dict[str, bytes]:
    """Return the files of a model by path. `dense` adds a last layer of that width."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    files = {
        "config.json": _json(_bert()),
        "model.safetensors": save(dict(_weights(seed)), metadata={"format": "pt"}),
        "sentence_bert_config.json": _json({"max_seq_length": MAX_TOKENS, "do_lower_case": False}),
        "1_Pooling/config.json": _json(
            {
                "word_embedding_dimension": WIDTH,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }
        ),
        "config_sentence_transformers.json": _json({"__version__": {}}),
        "tokenizer.json": _tokenizer().to_str(pretty=False).encode(),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": True,
                "model_max_length": POSITIONS,
                **{f"{name[1:-1].lower()}_token": name for name in SPECIAL},
            }
        ),
        "vocab.txt": "".join(f"{piece}\n" for piece in VOCABULARY).encode(),
    }
    if dense is not None:
        modules.append(("2_Dense", "Dense"))
        files["2_Dense/config.json"] = _json(
            {
                "in_features": WIDTH,
                "out_features": dense,
                "bias": True,
                "activation_function": "torch.nn.modules.activation.Tanh",
            }
        )
        random = np.random.default_rng(seed + 1)
        files["2_Dense/model.safetensors"] = save(
            {
                "linear.weight": random.normal(0, 0.2, (dense, WIDTH)).astype(np.float32),
                "linear.bias": np.zeros(dense, np.float32),
            }
        )
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    files["modules.json"] = _json(
        [
            {"idx": index, "name": str(index), "path": path, "type": f"{HOME}.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ]
    )
    return files


def write_model(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files below `folder` and return it."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def _bert() -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(VOCABULARY),
    }


def _weights(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield BERT's tensors: wide enough that different texts point in different directions."""
    random = np.random.default_rng(seed)

    def linear(name: str, out: int, width: int) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", random.normal(0, 0.3, (out, width)).astype(np.float32)
        yield f"{name}.bias", random.normal(0, 0.1, out).astype(np.float32)

    def norm(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", np.ones(WIDTH, np.float32)
        yield f"{name}.bias", np.zeros(WIDTH, np.float32)

    tables = {
        "word_embeddings": len(VOCABULARY),
        "position_embeddings": POSITIONS,
        "token_type_embeddings": 2,
    }
    for name, rows in tables.items():
        table = random.normal(0, 0.5, (rows, WIDTH)).astype(np.float32)
        yield f"embeddings.{name}.weight", table
    yield from norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        base = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield from linear(f"{base}.attention.self.{name}", WIDTH, WIDTH)
        yield from linear(f"{base}.attention.output.dense", WIDTH, WIDTH)
        yield from norm(f"{base}.attention.output.LayerNorm")
        yield from linear(f"{base}.intermediate.dense", INNER, WIDTH)
        yield from linear(f"{base}.output.dense", WIDTH, INNER)
        yield from norm(f"{base}.output.LayerNorm")
    yield from linear("pooler.dense", WIDTH, WIDTH)


def _tokenizer() -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()
