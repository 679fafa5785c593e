"""What a snapshot's configuration says of its encoder, and whether we know how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sidecar.settings import Precision

GRAPH = "packed.onnx"
QUANTIZED_GRAPH = "packed-int8.onnx"
# The same in float32, for processors that do not multiply bytes.
WIDE_GRAPH = "packed-int8-wide.onnx"
CALIBRATION = "packed-int8.json"
# What an assembly adds to a snapshot for each precision.
MADE: Mapping[Precision, tuple[str, ...]] = {
    "float32": (GRAPH,),
    "int8": (QUANTIZED_GRAPH, WIDE_GRAPH, CALIBRATION),
}
WEIGHTS = "model.safetensors"
HALF_WEIGHTS = "packed.safetensors"
PIECES = "packed-tokenizer"  # the folder with a Unigram's vocabulary in files to be mapped
POOLINGS = ("mean", "cls", "max")
# Of a MiniLM's encoder a second copy is 43 MB, of an XLM-RoBERTa's 340 MB. There it would save a
# fifth of a short text's time and a twentieth of a long batch's.
REARRANGED_BYTES = 128 << 20
# Where sentence-transformers looks for its own settings of an encoder, in this order.
_ENCODER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Settings of an encoder that may have any value, and the one value that others may have.
_FREE = ("max_seq_length", "unpad_inputs")
_HARMLESS_SETTINGS: Mapping[str, object] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
# How the first word's position is counted: from zero, or behind the padding's own.
_POSITION_AFTER_PAD = {"bert": False, "roberta": True, "xlm-roberta": True, "mpnet": True}


class UnpackableError(ValueError):
    """The packed engine cannot run this model; the message says why, in words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of an encoder: BERT's, post-norm, with exact GELU.

    `width` is the length of a token's vector, `inner` that inside the feed-forward step;
    `first_position` is the row of the position table that the first token gets, `positions` the
    number of rows; `buckets` is the number of rows of MPNet's table of biases by distance, 0 for
    the other families. `pooling` is the model's own.
    """

    family: str
    layers: int
    width: int
    heads: int
    inner: int
    positions: int
    first_position: int
    epsilon: float
    max_tokens: int
    pooling: str
    buckets: int = 0

    @property
    def dim(self) -> int:
        """The number of columns of a vector."""
        return self.width

    @property
    def encoder_bytes(self) -> int:
        """The size of the matrices that every token is multiplied by, in float32."""
        return 4 * self.layers * (4 * self.width * self.width + 2 * self.width * self.inner)

    @property
    def is_rearranged(self) -> bool:
        """Whether a processor gets those matrices in the order in which they are multiplied."""
        return self.encoder_bytes <= REARRANGED_BYTES


def read(folder: Path) -> Architecture:
    """Return the architecture of the snapshot in `folder`. Raises UnpackableError."""
    config = read_table(folder / "config.json")
    family = str(config.get("model_type"))
    if family not in _POSITION_AFTER_PAD:
        raise UnpackableError(f"its architecture {family} is not one of BERT's family")
    _refuse_variants(config)
    pooling, is_mpnet = _pooling(folder), family == "mpnet"
    try:
        positions = int(config["max_position_embeddings"])
        first = int(config.get("pad_token_id", 1)) + 1 if _POSITION_AFTER_PAD[family] else 0
        made = Architecture(
            family=family,
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            heads=int(config["num_attention_heads"]),
            inner=int(config["intermediate_size"]),
            positions=positions,
            first_position=first,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            max_tokens=min([positions - first, *_stated_limits(folder)]),
            pooling=pooling,
            buckets=int(config.get("relative_attention_num_buckets", 32)) if is_mpnet else 0,
        )
    except UnpackableError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnpackableError(f"config.json lacks or misspells {error}") from error
    if min(made.layers, made.width, made.heads, made.inner, made.max_tokens) < 1:
        raise UnpackableError("config.json has a size below one")
    if made.width % made.heads:
        raise UnpackableError("its width is not a multiple of its heads")
    if is_mpnet and (made.buckets < 4 or made.buckets % 4):  # noqa: PLR2004 (half of each half)
        raise UnpackableError("its number of relative positions is not a multiple of four")
    return made


def weights_file(folder: Path) -> Path:
    """Return the file that holds the snapshot's weights, whole or in half."""
    return folder / (WEIGHTS if (folder / WEIGHTS).is_file() else HALF_WEIGHTS)


def qualify(folder: Path, *, device: str, precision: Precision = "float32") -> Architecture:
    """Return the architecture if the snapshot has all that the packed engine needs on `device`.

    Raises UnpackableError.
    """
    made = read(folder)
    missing = [name for name in MADE[precision] if not (folder / name).is_file()]
    if device == "cpu" and missing:
        raise UnpackableError(f"it has no {missing[0]}, which is made when a bundle is assembled")
    return made


def _refuse_variants(config: dict[str, Any]) -> None:
    """Refuse what the same family can also be: other positions, another activation, a decoder."""
    if config.get("hidden_act", "gelu") != "gelu":
        raise UnpackableError(f"its activation is {config['hidden_act']}, not gelu")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UnpackableError("its positions are relative")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise UnpackableError("it is a decoder")
    if "embedding_size" in config and config["embedding_size"] != config.get("hidden_size"):
        raise UnpackableError("its embeddings are factorised")


def _pooling(folder: Path) -> str:
    """Return the pooling of a model that consists of an encoder, a pooling and perhaps a norm."""
    modules = _config(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnpackableError("modules.json is not a list of steps")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnpackableError(f"its steps are {', '.join(kinds)}")
    if modules[0].get("path"):
        raise UnpackableError("its encoder is in a separate folder")
    if (folder / "adapter_config.json").exists():
        raise UnpackableError("it is an adapter to another model")
    config = read_table(folder / str(modules[1].get("path", "")) / "config.json")
    stated = config.get("pooling_mode")
    names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    names["pooling_mode_max_tokens"] = "max"
    modes = stated if isinstance(stated, list) else [stated]
    if stated is None:
        modes = [names.get(key, key) for key, on in config.items() if on is True and "mode_" in key]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnpackableError(f"it pools by {'+'.join(map(str, modes)) or 'nothing'}")
    return str(modes[0])


def _stated_limits(folder: Path) -> list[int]:
    """Return every limit on tokens that the snapshot states."""
    encoder = _first(folder, _ENCODER_CONFIGS)
    if encoder.get("do_lower_case"):
        raise UnpackableError("it lowers the case of texts before its tokenizer does")
    for key, value in encoder.items():
        if value and key not in _FREE and value != _HARMLESS_SETTINGS.get(key):
            raise UnpackableError(f"it asks for another {key} of its encoder")
    tokenizer = _first(folder, ("tokenizer_config.json",))
    if tokenizer.get("truncation_side", "right") != "right":
        raise UnpackableError("its tokenizer cuts texts on the left")
    stated = (encoder.get("max_seq_length"), tokenizer.get("model_max_length"))
    return [int(limit) for limit in stated if limit]


def _first(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the first of these files that is there, an empty table if none is."""
    found = (folder / name for name in names)
    path = next((path for path in found if path.is_file()), None)
    return {} if path is None else read_table(path)


def read_table(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file at `path`. Raises UnpackableError."""
    found = _config(path)
    if not isinstance(found, dict):
        raise UnpackableError(f"{path.name} is not a table")
    return found


def _config(path: Path) -> Any:  # noqa: ANN401 (any JSON)
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UnpackableError(f"{path.name} cannot be read") from error


V = TypeVar("V")
# What a vector is divided by at the least when it is brought to length 1.
SMALLEST_NORM = 1e-12
# What attention is made of.
PROJECTIONS = ("query", "key", "value")
# MPNet's table of what is added to the scores of attention, by distance.
DISTANCES = "encoder.relative_attention_bias.weight"


class Operations(Protocol[V]):
    """What the forward is made of; each executor spells it in its own way. Names are BERT's own."""

    def embed(self, words: str, positions: str, types: str | None) -> V:
        """Return for every token the sum of its word's, its position's and the first type's row."""

    def norm(self, x: V, name: str) -> V:
        """Return each row of `x` normalised over its columns, scaled and shifted by `name`."""

    def add_norm(self, x: V, residual: V, name: str) -> V:
        """Return `norm` of `x` plus `residual`."""

    def linear(self, x: V, weight: str, bias: str | None = None) -> V:
        """Return `x` times the transposed weight, plus the bias."""

    def gelu(self, x: V) -> V:
        """Return the exact GELU of `x`."""

    def attention(self, x: V, name: str, distances: str | None) -> V:
        """Return multi-head attention of every token to the tokens of the same text alone.

        Queries, keys and values are linear layers of `x`, those of `PROJECTIONS` under `name`.
        `distances` is a table with a row for each of `layout.distance_buckets` and a column for
        each head, whose entries are added to the scores.
        """

    def pool(self, x: V) -> V:
        """Return one row per text as the request pools, of length 1 if it asks for that."""


def forward(ops: Operations[V], architecture: Architecture) -> V:
    """Return one row per text, of shape (N, width).

    BERT's post-norm encoder (Devlin et al., 2018; RoBERTa shares it, MPNet adds to its attention a
    bias by distance) on the T tokens of N texts in one row after another, of shape (T, width):
    every step but attention treats tokens alone, so nothing is padded.
    """
    x = ops.embed(
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        None if architecture.buckets else "embeddings.token_type_embeddings.weight",
    )
    distances = DISTANCES if architecture.buckets else None
    x = ops.norm(x, "embeddings.LayerNorm")
    for layer in range(architecture.layers):
        place = f"encoder.layer.{layer}."
        seen = ops.attention(x, f"{place}attention.self", distances)
        output = f"{place}attention.output."
        seen = ops.linear(seen, f"{output}dense.weight", f"{output}dense.bias")
        x = ops.add_norm(seen, x, f"{output}LayerNorm")
        dense = f"{place}intermediate.dense."
        inner = ops.gelu(ops.linear(x, f"{dense}weight", f"{dense}bias"))
        inner = ops.linear(inner, f"{place}output.dense.weight", f"{place}output.dense.bias")
        x = ops.add_norm(inner, x, f"{place}output.LayerNorm")
    return ops.pool(x)
