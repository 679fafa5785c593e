"""A sentence-transformers model of some 100 KB, as files by path: the bench's smallest shape."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from bench import TINY_BERT
from bench.synthetic import MODULE, RECORD
from bench.synthetic import write_model as write_synthetic

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, MAX_TOKENS = TINY_BERT.width, TINY_BERT.max_tokens


def tiny_model(*, seed: int = 0, dense: int | None = None) -> dict[str, bytes]:
    """Return the files of a model by path. `dense` adds a layer of that width, as the last."""
    files = dict(_synthetic(seed))
    if dense is not None:
        activation = "torch.nn.modules.activation.Tanh"
        sizes = {"in_features": WIDTH, "out_features": dense}
        facts = {**sizes, "bias": True, "activation_function": activation}
        files["3_Dense/config.json"] = json.dumps(facts).encode()
        weight = np.random.default_rng(seed).normal(0, 0.2, (dense, WIDTH)).astype(np.float32)
        tensors = {"linear.weight": weight, "linear.bias": np.zeros(dense, np.float32)}
        files["3_Dense/model.safetensors"] = save(tensors)
        modules = json.loads(files["modules.json"])
        modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": f"{MODULE}.Dense"})
        files["modules.json"] = json.dumps(modules).encode()
    return files


@cache
def _synthetic(seed: int) -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_synthetic(Path(scratch) / "model", TINY_BERT, (), seed=seed)
        (folder / RECORD).unlink()
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_model(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files below `folder` and return it."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder
