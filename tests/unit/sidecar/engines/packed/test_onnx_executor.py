from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file

from bench import TINY_BERT, TINY_XLMR
from bench.synthetic import write_model
from sidecar.engines.packed import onnx_executor
from sidecar.engines.packed.architecture import GRAPH, HALF_WEIGHTS, WEIGHTS, read
from sidecar.engines.packed.onnx_executor import OnnxExecutor, open_graph
from sidecar.process import limits
from sidecar.process.cpu_features import detect
from tests.support.clients import cosines
from tests.support.twins import LONG_SHAPES, lots, make_twin, write_graph
from tests.support.twins import WORDS as TEXTS

if TYPE_CHECKING:
    from bench import Shape
    from tests.support.twins import Twin

WORDS = "embeddings.word_embeddings.weight"
SAME, ROUNDING = 0.99999, 2e-6
MIX = [48, 1, 2, 2, 3, 30, 48, 5, 17, 9, 9, 9, 1, 33]
ODD_SHAPES = {
    "one layer of one head": dataclasses.replace(TINY_BERT, layers=1, heads=1),
    "heads of odd width": dataclasses.replace(TINY_XLMR, width=33, heads=3, inner=50),
    "heads of width one": dataclasses.replace(TINY_BERT, width=8, heads=8, inner=7),
    "narrow inside": dataclasses.replace(TINY_XLMR, inner=1, layers=3),
    "large vocabulary": dataclasses.replace(TINY_BERT, vocabulary=70_000),
}


@pytest.fixture
def executor(twin: Twin) -> OnnxExecutor:
    return open_graph(twin.folder, twin.architecture, threads=1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_sentence_transformers(
    twin: Twin, executor: OnnxExecutor, pooling: str, *, normalize: bool
) -> None:
    batch = lots(twin.shape, MIX)
    ours = executor.run(batch, pooling=pooling, normalize=normalize)
    theirs = twin.reference.encode(batch, pooling=pooling, normalize=normalize)
    assert ours.dtype == np.float32
    assert ours.shape == (len(batch), 32)
    assert cosines(ours, theirs).min() >= SAME
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_neighbours_do_not_change_a_vector(
    twin: Twin, executor: OnnxExecutor, pooling: str
) -> None:
    batch = lots(twin.shape, MIX)
    together = executor.run(batch, pooling=pooling, normalize=False)
    for ids, row in zip(batch, together, strict=True):
        alone = executor.run([ids], pooling=pooling, normalize=False)
        np.testing.assert_allclose(row, alone[0], atol=ROUNDING)
    shuffled = executor.run(batch[::-1], pooling=pooling, normalize=False)
    np.testing.assert_allclose(shuffled[::-1], together, atol=ROUNDING)


def test_spelled_padding_is_read_as_the_reference_does(twin: Twin, executor: OnnxExecutor) -> None:
    batch = [(0, 7, 1, 1, 8, 2), (0, 0, 0), (1, 1), (0, 9, 2)]
    for pooling in ("mean", "cls", "max"):
        ours = executor.run(batch, pooling=pooling, normalize=True)
        theirs = twin.reference.encode(batch, pooling=pooling, normalize=True)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", ODD_SHAPES)
def test_odd_shapes_are_computed_right(tmp_path: Path, name: str) -> None:
    twin = make_twin(tmp_path / "twin", ODD_SHAPES[name])
    batch = lots(twin.shape, MIX)
    ours = twin.packed.encode(batch, pooling="mean", normalize=True)
    theirs = twin.reference.encode(batch, pooling="mean", normalize=True)
    assert cosines(ours, theirs).min() >= SAME


@pytest.mark.torch
@pytest.mark.parametrize("family", LONG_SHAPES)
def test_texts_as_long_as_real_models_allow_go_with_short_ones(tmp_path: Path, family: str) -> None:
    twin = make_twin(tmp_path / "twin", LONG_SHAPES[family])
    batch = lots(twin.shape, [512, 1, 511, 64, 64, 8, 300, 2, 2, 2])
    for pooling in ("mean", "max"):
        ours = twin.packed.encode(batch, pooling=pooling, normalize=True)
        theirs = twin.reference.encode(batch, pooling=pooling, normalize=True)
        assert cosines(ours, theirs).min() >= SAME


def test_weights_in_half_give_nearly_the_same_vectors(twin: Twin, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for path in twin.folder.rglob("*.json"):
        target = folder / path.relative_to(twin.folder)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    tensors = {
        name: array.astype(np.float16) if array.ndim > 1 else array
        for name, array in load_file(twin.folder / WEIGHTS).items()
    }
    save_file(tensors, folder / HALF_WEIGHTS)
    write_graph(folder, HALF_WEIGHTS)
    half = open_graph(folder, twin.architecture, threads=1)
    batch = lots(twin.shape, MIX)
    ours = half.run(batch, pooling="mean", normalize=True)
    theirs = twin.reference.encode(batch, pooling="mean", normalize=True)
    assert 0.9999 < cosines(ours, theirs).min() < 1


def test_a_graph_without_its_weights_is_an_error_and_not_a_crash(bert: Path) -> None:
    (bert / WEIGHTS).unlink()
    with pytest.raises(Exception, match=WEIGHTS):
        open_graph(bert, read(bert), threads=1)


def test_weights_shorter_than_the_graph_says_are_an_error_and_not_a_crash(bert: Path) -> None:
    data = (bert / WEIGHTS).read_bytes()
    (bert / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(Exception, match="out of bounds"):
        open_graph(bert, read(bert), threads=1)


def test_a_damaged_graph_is_an_error_and_not_a_crash(bert: Path) -> None:
    (bert / GRAPH).write_bytes((bert / GRAPH).read_bytes()[:-200])
    with pytest.raises(Exception, match="Protobuf"):
        open_graph(bert, read(bert), threads=1)


def resident_bytes(kind: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(kind)


def with_table(folder: Path, shape: Shape, rows: int, dtype: str) -> Path:
    """Replace the table of words by one of `rows` rows, in a file that takes no room for them."""
    size = rows * shape.width * {"F32": 4, "F16": 2}[dtype]
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    held = data[8 + length :]
    header[WORDS] = {
        "dtype": dtype,
        "shape": [rows, shape.width],
        "data_offsets": [len(held), len(held) + size],
    }
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with (folder / WEIGHTS).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text + held)
        stream.truncate(8 + len(text) + len(held) + size)
    return write_graph(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_untouched_rows_of_the_table_of_words_cost_no_memory(bert: Path, dtype: str) -> None:
    table = 2_000_000 * 32 * (4 if dtype == "F32" else 2)
    with_table(bert, TINY_BERT, 2_000_000, dtype)
    before = {kind: resident_bytes(kind) for kind in ("RssAnon", "RssFile")}
    made = open_graph(bert, read(bert), threads=1)
    rows = made.run([(5, 1_999_999), (1_000_000,)], pooling="mean", normalize=True)
    assert np.isfinite(rows).all()
    for kind, size in before.items():
        assert resident_bytes(kind) - size < table / 4, kind


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_matrices_that_are_not_rearranged_cost_no_private_memory(tmp_path: Path) -> None:
    wide = dataclasses.replace(TINY_BERT, layers=1, width=512, heads=8, inner=8192)
    folder = write_graph(write_model(tmp_path / "wide", wide, TEXTS))
    batch = lots(wide, (3, 9))
    grown, rows, trim = [], [], limits.trimmer()
    for rearranges in (False, True):
        trim()  # or what others freed would be taken again
        before = resident_bytes("RssAnon")
        made = open_graph(folder, read(folder), threads=1, rearranges=rearranges)
        rows.append(made.run(batch, pooling="mean", normalize=True))
        grown.append(resident_bytes("RssAnon") - before)
    matrices = 4 * 2 * 512 * 8192
    assert grown[0] < matrices / 2 < grown[1]
    assert cosines(*rows).min() > SAME


def test_memory_that_is_given_back_changes_no_vector(twin: Twin, executor: OnnxExecutor) -> None:
    batch = lots(twin.shape, MIX)
    before = executor.run(batch, pooling="mean", normalize=True)
    executor.trim()
    assert np.array_equal(executor.run(batch, pooling="mean", normalize=True), before)


ROOT = Path(__file__).parents[5]
SERVICE = ROOT / "service"
PROGRAM = (
    "from sidecar.engines.packed.onnx_executor import onnxruntime; onnxruntime.SessionOptions()"
)


def test_loading_it_leaves_no_file_anywhere(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    told = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        env=told | {"PYTHONPATH": str(SERVICE), "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.rglob("*")) == [home, temporary]


def test_nothing_else_loads_it() -> None:
    """Whoever imported it first would have it report."""
    importers = set()
    for folder in (SERVICE, ROOT / "build"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                if any(name.split(".")[0] == "onnxruntime" for name in names):
                    importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"service/sidecar/engines/packed/onnx_executor.py"}


def test_the_graph_that_asks_is_what_onnx_writes() -> None:
    node = helper.make_node("MatMulInteger", ["left", "right"], ["sums"])
    left = helper.make_tensor_value_info("left", TensorProto.UINT8, [1, 4])
    right = helper.make_tensor_value_info("right", TensorProto.INT8, [4, 16])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 16])
    graph = helper.make_graph([node], "probe", [left, right], [sums])
    opset = onnx.OperatorSetIdProto(version=20)
    model = helper.make_model(graph, ir_version=9, opset_imports=[opset])
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString() == onnx_executor.PRODUCT_GRAPH


def test_sums_are_clipped_where_x86_lacks_the_instructions_alone() -> None:
    found = detect()
    is_x86 = found.level is not None
    assert onnx_executor.clips() is (is_x86 and not found.has_byte_products)
