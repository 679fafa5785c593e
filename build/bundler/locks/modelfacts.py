"""What the configuration in a snapshot says of the model, and whether it may be loaded at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bundler.errors import PolicyError
from sidecar.models import trust

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

WEIGHTS = "model.safetensors"
WEIGHTED = frozenset({"Transformer", "Dense"})
REFUSED = "choose a model that consists of data alone"

# The names sentence-transformers had for each mode before version 6, as booleans.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The vector's length, where the model cuts (in tokens), and its own pooling."""

    dim: int
    max_tokens: int
    pooling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    kind: str
    path: str


def refuse_names(model: str, names: Collection[str]) -> None:
    """Raise PolicyError unless the repository has its weights as plain tensors."""
    if WEIGHTS in names:
        return
    pickles = sorted(name for name in names if name.endswith(trust.PICKLES))
    held = f"it holds {', '.join(pickles[:3])}, and a pickle runs code when it is loaded"
    raise PolicyError(
        f"{model} has no {WEIGHTS}",
        why=held if pickles else "nothing else is loaded",
        next_step="choose a model, or a revision of it, that has one",
    )


def refuse_code(model: str, folder: Path) -> None:
    """Raise PolicyError if loading the snapshot in `folder` could run anything but its modules.

    Needs the small files only, so that it can be asked before the weights are downloaded. The
    service asks the same again before it loads.
    """
    _modules(model, folder)
    for danger in trust.dangers(folder):
        raise PolicyError(
            f"{model} is not locked because of its file {danger.path}",
            why=danger.why,
            next_step=REFUSED,
        )


def refuse_missing_weights(model: str, folder: Path, names: Collection[str]) -> None:
    """Raise PolicyError if a module's weights are not among `names`, the files to be locked."""
    for module in _modules(model, folder):
        path = f"{module.path}/{WEIGHTS}" if module.path else WEIGHTS
        if _short(module.kind) in WEIGHTED and path not in names:
            raise PolicyError(
                f"{model} has no {path}",
                why=f"{_short(module.kind)} needs weights, and only plain tensors are loaded",
                next_step="choose a model, or a revision of it, that has them",
            )


def read_facts(model: str, folder: Path) -> Facts:
    """Return what the snapshot in `folder` says of itself. Raises PolicyError naming the gap."""
    modules = _modules(model, folder)
    pooling, dim = "", 0
    for module in modules:
        config = folder / module.path / "config.json"
        match _short(module.kind):
            case "Pooling":
                raw = _read(model, config)
                pooling = _pooling(model, raw)
                dim = int(raw.get("word_embedding_dimension", raw.get("embedding_dimension", 0)))
            case "Dense":
                dim = int(_read(model, config).get("out_features", 0))
            case _:
                pass
    max_tokens = _max_tokens(model, folder)
    for name, value in (("pooling", pooling), ("dim", dim), ("max_tokens", max_tokens)):
        if not value:
            raise PolicyError(
                f"{model} does not say its {name}",
                why="neither modules.json nor the configuration it names has it",
                next_step=REFUSED,
            )
    return Facts(dim=dim, max_tokens=max_tokens, pooling=pooling)


def _pooling(model: str, raw: Mapping[str, Any]) -> str:
    stated = raw.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else stated
    if modes is None:
        modes = [mode for flag, mode in FLAGS.items() if raw.get(flag)]
    if len(modes) != 1:
        raise PolicyError(
            f"{model} does not pool in one way",
            why=f"its modes are {', '.join(modes) or 'none'}",
            next_step=REFUSED,
        )
    return str(modes[0])


def _max_tokens(model: str, folder: Path) -> int:
    """Return where the model cuts; newer releases say it with the tokenizer."""
    places = (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    )
    for name, key in places:
        if (folder / name).is_file() and (value := _read(model, folder / name).get(key)):
            return int(value)
    return 0


def _modules(model: str, folder: Path) -> tuple[_Module, ...]:
    raw = _read(model, folder / "modules.json")
    try:
        return tuple(_Module(kind=str(entry["type"]), path=str(entry["path"])) for entry in raw)
    except (KeyError, TypeError) as error:
        raise PolicyError(
            f"modules.json of {model} cannot be understood",
            why=f"{type(error).__name__}: {error}",
            next_step=REFUSED,
        ) from error


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]


def _read(model: str, file: Path) -> Any:  # noqa: ANN401 - whatever JSON it holds
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{file.name} of {model} cannot be read",
            why=str(error),
            next_step="choose a sentence-transformers model; others say too little of themselves",
        ) from error
