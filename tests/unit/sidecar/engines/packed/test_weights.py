from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sidecar.engines.packed.architecture import WEIGHTS, UnpackableError, read
from sidecar.engines.packed.weights import MAX_HEADER_BYTES, open_weights, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORDS = "embeddings.word_embeddings.weight"
QUERY = "encoder.layer.1.attention.self.query.weight"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply `change` to the tensors in `folder` and return their file."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return folder / WEIGHTS


def reheader(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply `change` to the header alone; the data stays as it is."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


def test_every_tensor_is_where_the_header_says(bert: Path) -> None:
    known = load_file(bert / WEIGHTS)
    found = open_weights(bert / WEIGHTS)
    assert set(found.tensors) == set(known)
    data = (bert / WEIGHTS).read_bytes()
    for name, array in known.items():
        tensor = found.tensors[name]
        assert data[tensor.offset : tensor.offset + tensor.size] == array.tobytes()
        np.testing.assert_array_equal(found.array(name), array)


def test_views_are_mapped_and_cannot_be_written(bert: Path) -> None:
    view = open_weights(bert / WEIGHTS).array(WORDS)
    assert isinstance(view, np.memmap)
    assert not view.flags.writeable


@pytest.mark.parametrize("prefix", ["", "bert.", "roberta.", "model."])
def test_any_prefix_that_models_are_saved_with_is_taken_off(bert: Path, prefix: str) -> None:
    tensors = {f"{prefix}{name}": array for name, array in load_file(bert / WEIGHTS).items()}
    save_file(tensors, bert / WEIGHTS)
    require(open_weights(bert / WEIGHTS), read(bert))


def test_tables_in_half_precision_will_do(bert: Path) -> None:
    path = rewrite(bert, lambda t: t.update({WORDS: t[WORDS].astype(np.float16)}))
    found = open_weights(path)
    require(found, read(bert))
    assert found.array(WORDS).dtype == np.float16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(QUERY), f"{WEIGHTS} has no {QUERY}"),
        (lambda t: t.pop("embeddings.LayerNorm.bias"), "has no embeddings.LayerNorm.bias"),
        (lambda t: t.update({QUERY: t[QUERY].astype(np.float64)}), f"{QUERY} is stored as F64"),
        (lambda t: t.update({QUERY: t[QUERY].astype(np.int8)}), f"{QUERY} is stored as I8"),
        (lambda t: t.update({QUERY: t[QUERY][:, :8].copy()}), r"has the shape \(32, 8\)"),
        (lambda t: t.update({QUERY: t[QUERY].ravel()}), r"has the shape \(1024,\)"),
        (lambda t: t.update({WORDS: t[WORDS][:, :8].copy()}), r"has the shape \(600, 8\)"),
        (lambda t: t.pop(WORDS), f"{WEIGHTS} has no {WORDS}"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    bert: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises(UnpackableError, match=reason):
        require(open_weights(rewrite(bert, change)), read(bert))


def test_position_table_of_another_length_is_refused(bert: Path) -> None:
    name = "embeddings.position_embeddings.weight"
    path = rewrite(bert, lambda t: t.update({name: t[name][:50].copy()}))
    with pytest.raises(UnpackableError, match=r"has the shape \(50, 32\)"):
        require(open_weights(path), read(bert))


def test_a_tensor_whose_bytes_are_not_what_its_shape_takes_is_refused(bert: Path) -> None:
    def shorten(header: dict[str, Any]) -> None:
        header[QUERY]["data_offsets"][1] -= 4

    path = reheader(bert / WEIGHTS, shorten)
    with pytest.raises(UnpackableError, match=f"{QUERY} has 4092 bytes, not what its shape takes"):
        require(open_weights(path), read(bert))


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h[QUERY].update(data_offsets=[0, 1 << 40]),
        lambda h: h[QUERY].update(data_offsets=[-8, 4]),
        lambda h: h[QUERY].update(data_offsets=[8, 4]),
        lambda h: h[QUERY].update(data_offsets=[0]),
        lambda h: h[QUERY].update(data_offsets="xx"),
        lambda h: h[QUERY].update(shape=None),
        lambda h: h[QUERY].pop("dtype"),
        lambda h: h.update({QUERY: 3}),
    ],
)
def test_a_header_that_speaks_of_bytes_that_are_not_there_is_refused(
    bert: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(UnpackableError, match="is not a safetensors file"):
        open_weights(reheader(bert / WEIGHTS, change))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not a safetensors file"),
        (b"\x05\0\0\0\0\0\0\0", "is not a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "has no embeddings"),
        (b"\x01\0\0\0\0\0\0\x003", "is not a safetensors file"),
        (b"PK\x03\x04 a pickle of old" * 4, "is not a safetensors file"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "is not a safetensors file"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "is not a safetensors file"),
    ],
    ids=["empty", "cut", "list", "number", "zip", "endless", "deep"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(data)
    with pytest.raises(UnpackableError, match=reason):
        open_weights(path)


def test_weights_that_were_cut_short_are_refused(bert: Path) -> None:
    data = (bert / WEIGHTS).read_bytes()
    (bert / WEIGHTS).write_bytes(data[:-1])
    with pytest.raises(UnpackableError, match="is not a safetensors file"):
        open_weights(bert / WEIGHTS)


def test_weights_in_other_files_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(UnpackableError, match=f"its weights are not in one {WEIGHTS}"):
        open_weights(tmp_path / WEIGHTS)
