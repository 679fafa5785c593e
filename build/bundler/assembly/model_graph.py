"""The packed engine's forward as an ONNX graph, on the weights of a safetensors file.

The service's own definition is run with operations that write nodes instead of computing. The graph
holds no weights: its constants are places in the file beside it, which ONNX Runtime maps. So it is
small, the same for every target, and one copy of the weights serves every engine. That file is the
locked one, or what `write_half` makes of it.

Inputs: `ids` and `positions` (T,); `places` (T, heads); per grid `cells_N`, `heads_N` and
`mask_N`; `pooling` (texts, T); `is_single`, `is_max` and `is_normalized`, scalars. Output:
`vectors` (texts, width).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sidecar.engines.packed import quantized
from sidecar.engines.packed.architecture import PROJECTIONS, SMALLEST_NORM, forward
from sidecar.engines.packed.layout import GRIDS, distance_buckets
from sidecar.engines.packed.weights import DTYPES, names_read

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
        self._head = architecture.width // architecture.heads
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

    def gelu(self, x: str) -> str:
        """Take the exact GELU: less time than the node that also adds the bias."""
        return self._node("Gelu", x)

    def attention(self, x: str, name: str, distances: str | None) -> str:
        """Attend within every grid of tokens; one text alone is a grid as it lies."""
        if distances is not None and not self._biases:
            self._biases = self._biased(distances)
        # Head by head, out here, where it costs nothing.
        head = self._int("head", -1, self._head)
        parts = [self._node("Reshape", part, head) for part in self._projected(x, name)]
        return self._node(
            "If", "is_single", then_branch=self._single(*parts), else_branch=self._grids(*parts)
        )

    def _projected(self, x: str, name: str) -> list[str]:
        """Return queries, keys and values."""
        return [
            self.linear(x, f"{name}.{part}.weight", f"{name}.{part}.bias") for part in PROJECTIONS
        ]

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
            made.append(self._node("Add", bias, f"mask_{index}"))
        return made

    def _single(self, *parts: str) -> onnx.GraphProto:
        """Return the branch for one text: its rows are neither gathered nor put back."""
        text = self._int("text", 1, -1, self._architecture.width)
        taken = ["whole_query", "whole_key", "whole_value"]
        nodes = _each("Reshape", [[part, text] for part in parts], taken)
        # One text alone lies in the first grid.
        inputs = [*taken, *(["", "", *self._biases[:1]] if self._biases else [])]
        heads = self._architecture.heads
        nodes.append(
            helper.make_node(
                "MultiHeadAttention", inputs, ["whole_heads"], domain=CONTRIB, num_heads=heads
            )
        )
        shape = self._int("rows", -1, self._architecture.width)
        nodes.append(helper.make_node("Reshape", ["whole_heads", shape], ["whole"]))
        return helper.make_graph(nodes, "single", [], [rows("whole")])

    def _grids(self, *parts: str) -> onnx.GraphProto:
        """Return the branch for many texts: take every grid out of the rows, and put it back.

        Rows are taken head by head, so that nothing is transposed: a fifth less time than the node
        that does it all.
        """
        nodes: list[onnx.NodeProto] = []
        for index in range(GRIDS):
            query, key, value = (f"{name}_{index}" for name in PROJECTIONS)
            scores, reach, weights, seen = (
                f"{name}_{index}" for name in ("scores", "reach", "weights", "seen")
            )
            hidden = self._biases[index] if self._biases else f"mask_{index}"
            taken = [[part, f"heads_{index}"] for part in parts]
            nodes += _each("Gather", taken, [query, key, value])
            scale: dict[str, Any] = {"transB": 1, "alpha": self._head**-0.5}
            nodes += [
                helper.make_node("FusedMatMul", [query, key], [scores], domain=CONTRIB, **scale),
                helper.make_node("Add", [scores, hidden], [reach]),
                helper.make_node("Softmax", [reach], [weights], axis=-1),
                helper.make_node("MatMul", [weights, value], [seen]),
                helper.make_node("Reshape", [seen, "head"], [f"{seen}_rows"]),
            ]
        seen_rows = [f"seen_{index}_rows" for index in range(GRIDS)]
        shape = self._int("rows", -1, self._architecture.width)
        nodes.append(helper.make_node("Concat", seen_rows, ["seen"], axis=0))
        nodes.append(helper.make_node("Gather", ["seen", "places"], ["many_heads"]))
        nodes.append(helper.make_node("Reshape", ["many_heads", shape], ["many"]))
        return helper.make_graph(nodes, "grids", [], [rows("many")])

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
            then_branch=helper.make_graph(largest, "maxima", [], [rows("largest")]),
            else_branch=helper.make_graph([product], "means", [], [rows("product")]),
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


def rows(name: str) -> onnx.ValueInfoProto:
    """Return the description of rows of floats."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _inputs() -> list[onnx.ValueInfoProto]:
    shapes: list[tuple[str, int, list[str | int]]] = [
        (name, TensorProto.INT64, ["tokens"]) for name in ("ids", "positions")
    ]
    shapes.append(("places", TensorProto.INT64, ["tokens", "heads"]))
    for index in range(GRIDS):
        texts, longest = f"texts_{index}", f"longest_{index}"
        shapes.append((f"cells_{index}", TensorProto.INT64, [texts, longest]))
        shapes.append((f"heads_{index}", TensorProto.INT64, [texts, "heads", longest]))
        shapes.append((f"mask_{index}", TensorProto.FLOAT, [texts, 1, 1, longest]))
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
    data: bytes = model.SerializeToString(deterministic=True)
    return data


# Tokens are unsigned, for the instructions multiply unsigned by signed numbers; this is their zero.
ZERO = 128
STEPS = 255
PRODUCT = "MatMulIntegerToFloat"


class QuantizedOperations(GraphOperations):
    """Writes the nodes of a linear layer so that its products are sums of bytes.

    With `is_wide` the sums are made of floats, in which whole numbers below 2**24 are exact.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        calibration: quantized.Calibration,
        *,
        is_wide: bool,
    ) -> None:
        """Start with an empty graph."""
        super().__init__(architecture, weights)
        self._calibration = calibration
        self._is_wide = is_wide
        # What nodes give: the norms' by the norm's name, GELU's, and rows as bytes.
        self._norms: dict[str, str] = {}
        self._positive: set[str] = set()
        self._rows: dict[str, tuple[str, str]] = {}
        self._floats: dict[str, str] = {}
        self._zeros = ""

    def norm(self, x: str, name: str) -> str:
        """Normalise rows, and store each column as the calibration says."""
        columns = self._calibration.norms.get(name)
        if columns is None:  # the last one, whose rows are pooled
            return super().norm(x, name)
        shift = self._array(f"{name}.bias") - columns.shifts.astype(np.float32)
        made = self._node(
            "LayerNormalization",
            x,
            self._constant(f"{name}.gain", self._array(f"{name}.weight") / columns.scales),
            self._constant(f"{name}.shift", shift / columns.scales),
            axis=-1,
            epsilon=self._architecture.epsilon,
        )
        self._norms[made] = name
        return made

    def add_norm(self, x: str, residual: str, name: str) -> str:
        """Scale the residual back, add and normalise; its shift is in the bias that `x` has."""
        norm = self._norms[residual]
        scales = self._constant(f"{norm}.scales", self._calibration.norms[norm].scales)
        return self.norm(self._node("Add", x, self._node("Mul", residual, scales)), name)

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Multiply bytes, then scale every row and column back."""
        if x in self._positive:
            return self._after_gelu(x, weight, self._bias(weight))
        tokens, of_token = self._tokens(x)
        zero = self._constant("zero", np.array(ZERO, dtype=np.uint8))
        product = self._node("Mul", self._product(tokens, weight, zero), of_token)
        if bias is None:
            return product
        moved = self._bias(weight)
        if ".intermediate." in weight:
            moved = moved[quantized.order(self._weights, weight)]
        return self._node("Add", product, self._constant(bias, moved))

    def _projected(self, x: str, name: str) -> list[str]:
        """Return queries, keys without their bias, and values.

        The bias would add the same to all scores of a query, which changes no weight.
        """
        made = []
        for part in PROJECTIONS:
            bias = None if part == "key" else f"{name}.{part}.bias"
            made.append(self.linear(x, f"{name}.{part}.weight", bias))
        return made

    def gelu(self, x: str) -> str:
        """Take the exact GELU."""
        made = super().gelu(x)
        self._positive.add(made)
        return made

    def _after_gelu(self, x: str, weight: str, bias: np.ndarray) -> str:
        """Multiply by bytes that start at GELU's lowest value, and a few columns by floats.

        One product of floats has these columns, what the rows' zeros stand for, and the bias.
        """
        axis = self._int("axis", 1)
        largest = self._node("Relu", self._node("ReduceMax", x, axis, keepdims=1))
        lowest = self._float("lowest", quantized.LOWEST)
        factor = self._node("Add", largest, lowest)
        factor = self._node("Mul", factor, self._float("positive_step", 1.0 / STEPS))
        zero = self._node("Round", self._node("Div", lowest, factor))
        zeros = self._node("Cast", self._node("Squeeze", zero, axis), to=TensorProto.UINT8)
        parts = (x, self._node("Squeeze", factor, axis), zeros)
        product = self._product(self._node("QuantizeLinear", *parts, axis=0), weight)
        product = self._node("Mul", product, factor)
        exact = self._int("exact", quantized.EXACT)
        few = self._node("Slice", x, self._int("first", 0), exact, axis)
        few = self._node("Concat", few, self._node("Mul", zero, factor), axis=1)
        order = quantized.order(self._weights, weight)[: quantized.EXACT]
        whole, factors = quantized.quantize(
            quantized.matrix(self._weights, weight, self._calibration)
        )
        of_zero = whole.sum(axis=0, dtype=np.int32).astype(np.float32) * -factors
        rest = np.concatenate([self._array(weight)[:, order].T, of_zero[None]])
        floats = self._constant(f"{weight}.floats", np.ascontiguousarray(rest))
        moved = self._constant(weight.removesuffix("weight") + "bias", bias)
        few = self._node("Gemm", few, floats, moved)
        return self._node("Add", product, few)

    def _product(self, tokens: str, weight: str, zero: str = "") -> str:
        """Return the sums of products of bytes, scaled by each output's factor."""
        outputs, inputs = self._weights.tensors[weight].shape
        whole = self._left_open(weight, quantized.BYTES, TensorProto.INT8, inputs, outputs)
        of_output = self._left_open(weight, quantized.FACTORS, TensorProto.FLOAT, outputs)
        if not self._is_wide:
            parts = [tokens, whole, self._float("one", 1.0), of_output]
            return self._node(PRODUCT, *parts, *([zero] if zero else []), domain=CONTRIB)
        # Of the weight this is done once, when the graph is loaded.
        wide = self._node("Cast", whole, to=TensorProto.FLOAT)
        return self._node("Mul", self._node("MatMul", self._even(tokens, zero), wide), of_output)

    def _even(self, tokens: str, zero: str) -> str:
        """Return bytes as floats centred on zero."""
        if tokens not in self._floats:
            even = self._node("Cast", tokens, to=TensorProto.FLOAT)
            if zero:
                even = self._node("Sub", even, self._float("even_zero", ZERO))
            self._floats[tokens] = even
        return self._floats[tokens]

    def _tokens(self, x: str) -> tuple[str, str]:
        """Return the rows of `x` as bytes, and the factor of each, of shape (T, 1)."""
        if x not in self._rows:
            axis = self._int("axis", 1)
            largest = self._node("ReduceMax", self._node("Abs", x), axis, keepdims=1)
            largest = self._node("Max", largest, self._float("least", quantized.SMALLEST))
            factor = self._node("Mul", largest, self._float("step", 1.0 / quantized.MOST))
            if not self._zeros:
                zero = numpy_helper.from_array(np.array([ZERO], dtype=np.uint8))
                shape = self._node("Shape", "ids")
                self._zeros = self._node("ConstantOfShape", shape, value=zero)
            parts = (x, self._node("Squeeze", factor, axis), self._zeros)
            self._rows[x] = self._node("QuantizeLinear", *parts, axis=0), factor
        return self._rows[x]

    def _bias(self, weight: str) -> np.ndarray:
        """Return the bias of the layer of `weight`, with what the shifts of its input stand for.

        A layer that reads no norm takes over the shifts of the residual instead. Summed up in one
        order, so that every machine rounds alike.
        """
        total = self._array(weight.removesuffix("weight") + "bias").astype(np.float64)
        norm = quantized.norm_before(weight)
        if norm is None:
            shifts = self._calibration.norms[quantized.residual_norm(weight)].shifts
            return (total + shifts.astype(np.float64)).astype(np.float32)
        columns = np.ascontiguousarray(self._array(weight).T, dtype=np.float64)
        shifts = self._calibration.norms[norm].shifts.astype(np.float64)
        for column, shift in zip(columns, shifts, strict=True):
            total += column * shift
        return total.astype(np.float32)

    def _array(self, name: str) -> np.ndarray:
        return np.asarray(self._weights.array(name), dtype=np.float32)

    def _left_open(self, weight: str, suffix: str, kind: int, *shape: int) -> str:
        """Return a constant that the service fills in; until then it is any bytes of the file."""
        width = helper.tensor_dtype_to_np_dtype(kind).itemsize
        offset, length = self._weights.tensors[weight].offset, width * math.prod(shape)
        return self._external(f"{weight}{suffix}", kind, shape, offset=offset, length=length)


def quantized_graph(
    architecture: Architecture,
    weights: Weights,
    calibration: quantized.Calibration,
    *,
    is_wide: bool = False,
) -> bytes:
    """Return the graph of the forward in int8, serialised; same arguments, same bytes."""
    ops = QuantizedOperations(architecture, weights, calibration, is_wide=is_wide)
    return serialised(ops, architecture)


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
