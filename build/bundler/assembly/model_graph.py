"""The packed engine's forward as an ONNX graph, on the weights of a safetensors file.

The service's own definition is run with operations that write nodes instead of computing. The graph
holds no weights: its constants are places in the file beside it, which ONNX Runtime maps. So it is
small, the same for every target, and one copy of the weights serves every engine.

Inputs: `ids`, `positions`, `places` (T,); per grid `cells_N` and `mask_N`; `pooling` (texts, T);
`is_single`, `is_max` and `is_normalized`, scalars. Output: `vectors` (texts, width).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sidecar.engines.packed.architecture import SMALLEST_NORM, forward
from sidecar.engines.packed.layout import GRIDS, distance_buckets
from sidecar.engines.packed.weights import BYTES, DTYPES, FACTORS, MOST, SMALLEST, names_read

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.engines.packed.architecture import Architecture
    from sidecar.engines.packed.weights import Weights

CONTRIB = "com.microsoft"
OPSET = 20
# The newest that ONNX Runtime has read since 1.16.
IR_VERSION = 9
TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16}


class GraphOperations:
    """Writes one node per operation; a value is the name of what a node gives."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        """Start with an empty graph."""
        self._architecture = architecture
        self._weights = weights
        self._count = 0
        self._wide: dict[str, str] = {}
        self._biases: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def embed(self, words: str, positions: str, types: str | None) -> str:
        """Gather rows; the first type's row joins the position table when the graph is loaded."""
        table = self._wide_weight(positions)
        if types is not None:
            first = self._node("Gather", self._wide_weight(types), self._int("first", 0), axis=0)
            table = self._node("Add", table, first)
        word = self._node("Gather", self._weight(words), "ids")
        if self._weights.tensors[words].dtype != "F32":
            # After the look-up: the table itself stays as it is in the file.
            word = self._node("Cast", word, to=TensorProto.FLOAT)
        return self._node("Add", word, self._node("Gather", table, "positions"))

    def norm(self, x: str, name: str) -> str:
        """Normalise rows."""
        scale, shift = self._wide_weight(f"{name}.weight"), self._wide_weight(f"{name}.bias")
        epsilon = self._architecture.epsilon
        return self._node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def add_norm(self, x: str, residual: str, name: str) -> str:
        """Add and normalise: two nodes take a third of the time of the one that does both."""
        return self.norm(self._node("Add", x, residual), name)

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Multiply by the weight as it lies in the file: a row per output."""
        inputs = [x, self._wide_weight(weight)]
        if bias is not None:
            inputs.append(self._wide_weight(bias))
        return self._node("Gemm", *inputs, transB=1)

    def gelu(self, x: str, bias: str) -> str:
        """Add and take the exact GELU in one node."""
        return self._node("BiasGelu", x, self._wide_weight(bias), domain=CONTRIB)

    def attention(self, query: str, key: str, value: str, distances: str | None) -> str:
        """Attend within every grid of tokens; one text alone is a grid as it lies."""
        if distances is not None and not self._biases:
            self._biases = self._biased(distances)
        return self._node(
            "If",
            "is_single",
            then_branch=self._single(query, key, value),
            else_branch=self._grids(query, key, value),
        )

    def _biased(self, distances: str) -> list[str]:
        """Return what is added to the scores of each grid, the same in every layer."""
        reach = self._architecture.max_tokens
        known = distance_buckets(self._architecture.buckets, reach)
        rows = self._constant("buckets", known)
        table = self._node("Gather", self._wide_weight(distances), rows, axis=0)
        table = self._node("Transpose", table, perm=[1, 0])
        zero, one = (self._constant(f"scalar_{n}", np.array(n, dtype=np.int64)) for n in (0, 1))
        made = []
        for index in range(GRIDS):
            columns = self._node("Gather", self._node("Shape", f"cells_{index}"), one)
            tokens = self._node("Range", zero, columns, one)
            row = self._node("Unsqueeze", tokens, self._int("axis_0", 0))
            column = self._node("Unsqueeze", tokens, self._int("axis", 1))
            steps = self._node("Sub", row, column)
            steps = self._node("Add", steps, self._int("reach", reach - 1))
            bias = self._node("Gather", table, steps, axis=1)
            made.append(self._node("Unsqueeze", bias, self._int("axis_0", 0)))
        return made

    def _single(self, *parts: str) -> onnx.GraphProto:
        """Return the branch for one text: its rows are neither gathered nor put back."""
        text = self._int("text", 1, -1, self._architecture.width)
        taken = ["whole_query", "whole_key", "whole_value"]
        nodes = _each("Reshape", [[part, text] for part in parts], taken)
        # One text alone lies in the first grid.
        nodes += self._heads([*taken, "", "", *self._biases[:1]], "whole")
        return helper.make_graph(nodes, "single", [], [_rows("whole")])

    def _grids(self, *parts: str) -> onnx.GraphProto:
        """Return the branch for many texts: take every grid out of the rows, and put it back."""
        nodes = []
        for index in range(GRIDS):
            taken = [f"{name}_{index}" for name in ("query", "key", "value")]
            nodes += _each("Gather", [[part, f"cells_{index}"] for part in parts], taken)
            bias = self._biases[index : index + 1]
            nodes += self._heads([*taken, "", f"mask_{index}", *bias], f"seen_{index}")
        seen = [f"seen_{index}" for index in range(GRIDS)]
        nodes.append(helper.make_node("Concat", seen, ["seen"], axis=0))
        nodes.append(helper.make_node("Gather", ["seen", "places"], ["many"]))
        return helper.make_graph(nodes, "grids", [], [_rows("many")])

    def _heads(self, inputs: list[str], name: str) -> list[onnx.NodeProto]:
        """Return the nodes that attend with every head and give rows of the model's width."""
        rows = self._int("rows", -1, self._architecture.width)
        heads = self._architecture.heads
        while not inputs[-1]:
            inputs = inputs[:-1]
        attend = helper.make_node(
            "MultiHeadAttention", inputs, [f"{name}_heads"], domain=CONTRIB, num_heads=heads
        )
        return [attend, helper.make_node("Reshape", [f"{name}_heads", rows], [name])]

    def pool(self, x: str) -> str:
        """Multiply by the pooling's matrix or take maxima over cells; then scale, if asked."""
        axis = self._int("axis", 1)
        tokens = [f"tokens_{index}" for index in range(GRIDS)]
        names = [f"largest_{index}" for index in range(GRIDS)]
        largest = _each("Gather", [[x, f"cells_{index}"] for index in range(GRIDS)], tokens)
        largest += _each("ReduceMax", [[name, axis] for name in tokens], names, keepdims=0)
        largest.append(helper.make_node("Concat", names, ["largest"], axis=0))
        product = helper.make_node("MatMul", ["pooling", x], ["product"])
        pooled = self._node(
            "If",
            "is_max",
            then_branch=helper.make_graph(largest, "maxima", [], [_rows("largest")]),
            else_branch=helper.make_graph([product], "means", [], [_rows("product")]),
        )
        length = self._node("ReduceL2", pooled, axis, keepdims=1)
        length = self._node("Max", length, self._float("smallest", SMALLEST_NORM))
        divisor = self._node("Where", "is_normalized", length, self._float("one", 1.0))
        return self._node("Div", pooled, divisor)

    def _node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 (as onnx takes them)
        self._count += 1
        name = f"v{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def _weight(self, name: str) -> str:
        """Return the constant that lies in the weights' file."""
        tensor = self._weights.tensors[name]
        place = {"offset": tensor.offset, "length": tensor.size}
        return self._external(name, TYPES[tensor.dtype], tensor.shape, **place)

    def _external(
        self, name: str, kind: int, shape: tuple[int, ...], *, offset: int, length: int
    ) -> str:
        """Return a constant whose bytes are these of the weights' file."""
        if name not in self.constants:
            constant = TensorProto(name=name, data_type=kind, dims=shape)
            constant.data_location = TensorProto.EXTERNAL
            place = {"location": self._weights.path.name, "offset": offset, "length": length}
            for key, value in place.items():
                constant.external_data.add(key=key, value=str(value))
            self.constants[name] = constant
        return name

    def _wide_weight(self, name: str) -> str:
        """Return a constant in float32; one stored in half is widened when the graph is loaded."""
        if self._weights.tensors[name].dtype == "F32":
            return self._weight(name)
        if name not in self._wide:
            self._wide[name] = self._node("Cast", self._weight(name), to=TensorProto.FLOAT)
        return self._wide[name]

    def _int(self, name: str, *values: int) -> str:
        return self._constant(name, np.array(values, dtype=np.int64))

    def _float(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def _each(
    kind: str,
    inputs: list[list[str]],
    outputs: list[str],
    **attributes: Any,  # noqa: ANN401 (as onnx takes them)
) -> list[onnx.NodeProto]:
    """Return a node for each output."""
    return [
        helper.make_node(kind, taken, [given], **attributes)
        for taken, given in zip(inputs, outputs, strict=True)
    ]


def _rows(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _inputs() -> list[onnx.ValueInfoProto]:
    shapes: list[tuple[str, int, list[str]]] = [
        (name, TensorProto.INT64, ["tokens"]) for name in ("ids", "positions", "places")
    ]
    for index in range(GRIDS):
        grid = [f"texts_{index}", f"longest_{index}"]
        shapes.append((f"cells_{index}", TensorProto.INT64, grid))
        shapes.append((f"mask_{index}", TensorProto.INT32, grid))
    shapes.append(("pooling", TensorProto.FLOAT, ["texts", "tokens"]))
    switches = ("is_single", "is_max", "is_normalized")
    shapes += [(name, TensorProto.BOOL, []) for name in switches]
    return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in shapes]


def graph(architecture: Architecture, weights: Weights) -> bytes:
    """Return the graph of the forward, serialised; same arguments, same bytes."""
    return serialised(GraphOperations(architecture, weights), architecture)


def serialised(ops: GraphOperations, architecture: Architecture) -> bytes:
    """Return the bytes of the graph that the forward writes with `ops`."""
    result = forward(ops, architecture)
    ops.nodes[-1].output[0] = "vectors"
    assert result == f"v{len(ops.nodes)}", "the forward ends with its result"  # noqa: S101
    shape: list[str | int | None] = ["rows", architecture.dim]
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, shape)
    constants = list(ops.constants.values())
    model = helper.make_model(
        helper.make_graph(ops.nodes, "packed", _inputs(), [vectors], initializer=constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
        ir_version=IR_VERSION,
        producer_name="sidecar",
    )
    return _serialised(model)


def _serialised(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


# Tokens are unsigned, for the instructions multiply unsigned by signed numbers; this is their zero.
ZERO = 128


class QuantizedOperations(GraphOperations):
    """Writes the nodes of a linear layer so that its products are sums of bytes."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        """Start with an empty graph."""
        super().__init__(architecture, weights)
        self._rows: dict[str, tuple[str, str]] = {}
        self._zeros = ""

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Multiply bytes, then scale every row and column back."""
        outputs, inputs = self._weights.tensors[weight].shape
        whole = self._left_open(weight, BYTES, TensorProto.INT8, inputs, outputs)
        of_output = self._left_open(weight, FACTORS, TensorProto.FLOAT, outputs)
        tokens, of_token = self._tokens(x)
        zero = self._constant("zero", np.array(ZERO, dtype=np.uint8))
        parts = (tokens, whole, self._float("one", 1.0), of_output, zero)
        product = self._node("MatMulIntegerToFloat", *parts, domain=CONTRIB)
        product = self._node("Mul", product, of_token)
        return self._node("Add", product, self._wide_weight(bias)) if bias else product

    def _tokens(self, x: str) -> tuple[str, str]:
        """Return the rows of `x` as bytes, and the factor of each, of shape (T, 1)."""
        if x not in self._rows:
            axis = self._int("axis", 1)
            largest = self._node("ReduceMax", self._node("Abs", x), axis, keepdims=1)
            largest = self._node("Max", largest, self._float("least", SMALLEST))
            factor = self._node("Mul", largest, self._float("step", 1.0 / MOST))
            if not self._zeros:
                zero = numpy_helper.from_array(np.array([ZERO], dtype=np.uint8))
                shape = self._node("Shape", "places")
                self._zeros = self._node("ConstantOfShape", shape, value=zero)
            parts = (x, self._node("Squeeze", factor, axis), self._zeros)
            self._rows[x] = self._node("QuantizeLinear", *parts, axis=0), factor
        return self._rows[x]

    def _left_open(self, weight: str, suffix: str, kind: int, *shape: int) -> str:
        """Return a constant that the service fills in; until then it is any bytes of the file."""
        width = helper.tensor_dtype_to_np_dtype(kind).itemsize
        offset, length = self._weights.tensors[weight].offset, width * math.prod(shape)
        return self._external(f"{weight}{suffix}", kind, shape, offset=offset, length=length)


def quantized_graph(architecture: Architecture, weights: Weights) -> bytes:
    """Return the graph of the forward, serialised; same arguments, same bytes."""
    return serialised(QuantizedOperations(architecture, weights), architecture)


PRODUCT = "MatMulIntegerToFloat"


def widened(graph: bytes) -> bytes:
    """Return `graph`, made by `quantized_graph`, with its byte products as sums in float64."""
    model = onnx.load_model_from_string(graph)
    nodes: list[onnx.NodeProto] = []
    centred: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        if (node.op_type, node.domain) != (PRODUCT, CONTRIB):
            nodes.append(node)
            continue
        tokens, weight, of_tokens, of_outputs, zero = node.input
        (output,) = node.output
        if (tokens, zero) not in centred:
            nodes += [
                _in_float64(tokens, f"{tokens}.wide"),
                _in_float64(zero, f"{tokens}.zero"),
                helper.make_node("Sub", [f"{tokens}.wide", f"{tokens}.zero"], [f"{tokens}.even"]),
            ]
            centred[tokens, zero] = f"{tokens}.even"
        # Rounded once to float32, then scaled, as ONNX Runtime does with sums of 32 bits.
        nodes += [
            _in_float64(weight, f"{output}.weight"),
            helper.make_node(
                "MatMul", [centred[tokens, zero], f"{output}.weight"], [f"{output}.sums"]
            ),
            helper.make_node("Cast", [f"{output}.sums"], [f"{output}.float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [of_tokens, of_outputs], [f"{output}.factors"]),
            helper.make_node("Mul", [f"{output}.float", f"{output}.factors"], [output]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _serialised(model)


def _in_float64(name: str, wide: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [wide], to=TensorProto.DOUBLE)


# Where a tensor may begin: vector instructions and mappings like round places.
ALIGNMENT = 64
ROWS = 8192
CODES = {np.dtype(kind): code for code, kind in DTYPES.items()}


def write_half(weights: Weights, architecture: Architecture, path: Path) -> None:
    """Write to `path` what the forward reads of `weights`, a few megabytes at a time."""
    names = sorted(names_read(architecture))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor = weights.array(name)
        dtype = _dtype(tensor)
        size = tensor.size * dtype.itemsize
        header[name] = {
            "dtype": CODES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for name in names:
            tensor = weights.array(name)
            for start in range(0, len(tensor), ROWS):
                stream.write(tensor[start : start + ROWS].astype(_dtype(tensor)).tobytes())


def _dtype(tensor: np.ndarray) -> np.dtype[np.generic]:
    return np.dtype(np.float16 if tensor.ndim > 1 else np.float32)
