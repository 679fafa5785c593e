from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from bench import TINY_BERT
from bench.synthetic import write_model
from bench.systems import ONNX_EXPORT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def test_an_exported_model_gives_the_vectors_of_its_tokens(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    snapshot = write_model(tmp_path / "tiny", TINY_BERT, ["some text"])
    folder = tmp_path / "onnx"
    subprocess.run([sys.executable, "-I", "-B", ONNX_EXPORT, snapshot, folder], check=True)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    ids, mask = np.full((3, 9), 7), np.ones((3, 9), np.int64)
    ids[1, 4:], mask[1, 4:] = 1, 0
    (tokens,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    model = transformers.AutoModel.from_pretrained(snapshot)
    with torch.no_grad():
        found = model(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state.numpy()
    assert np.abs(tokens - found)[mask == 1].max() < 1e-4
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    assert config["model_max_length"] == TINY_BERT.max_tokens
    assert (folder / "tokenizer.json").read_bytes() == (snapshot / "tokenizer.json").read_bytes()
