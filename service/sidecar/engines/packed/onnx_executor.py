"""The graph on the CPU: ONNX Runtime, on weights that stay where they lie in the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.engines import Vectors
from sidecar.engines.packed.architecture import GRAPH, Architecture
from sidecar.engines.packed.layout import GRIDS, Grid, Layout, arrange

# Its releases since 1.29 keep an identifier and a database in HOME, a file in the temporary folder
# and a thread that sends what they hold to their maker (docs/Privacy.md, pull request 27379). The
# variable is read once, when the library is loaded. On Windows events go to the system's tracing
# instead, where the call stops them.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

onnxruntime.disable_telemetry_events()

__all__ = ["PRODUCT_GRAPH", "OnnxExecutor", "clips", "feed", "onnxruntime", "open_graph"]

# One MatMulInteger of four bytes by sixteen columns, `left` and `right` to `sums`, as onnx writes
# it, which is no part of a bundle.
PRODUCT_GRAPH = bytes.fromhex(
    "08093a740a220a046c6566740a057269676874120473756d73220d4d61744d756c496e7465676572120570726f6265"
    "5a160a046c656674120e0a0c080212080a0208010a0208045a170a057269676874120e0a0c080312080a0208040a02"
    "081062160a0473756d73120e0a0c080612080a0208010a02081042021014"
)
_UNUSED = Grid(cells=np.zeros((1, 1), dtype=np.int64), mask=np.ones((1, 1), dtype=np.int32))
# What is added to the scores of a cell, as ONNX Runtime's own attention has it: no weight is left.
_SEEN, _HIDDEN = np.float32(0.0), np.float32(-10000.0)
_QUIET = 3
_SPIN_US = "50"


class OnnxExecutor:
    """Runs a model's graph; see the builder's `graph` for its inputs."""

    device = "cpu"
    is_tf32 = False

    def __init__(self, session: onnxruntime.InferenceSession, architecture: Architecture) -> None:
        """Take over `session`, of a graph of `architecture`."""
        self._session = session
        self._architecture = architecture
        self._trim = onnxruntime.RunOptions()
        self._trim.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(
        self,
        batch: Sequence[Sequence[int]],
        *,
        pooling: str,
        normalize: bool,
        options: onnxruntime.RunOptions | None = None,
    ) -> Vectors:
        """Return one row per sequence of ids, in the order of `batch`."""
        layout = arrange(batch, first_position=self._architecture.first_position)
        inputs = feed(layout, heads=self._architecture.heads, pooling=pooling, normalize=normalize)
        found: Vectors = self._session.run(["vectors"], inputs, options)[0]
        rows = np.empty((len(batch), found.shape[1]), dtype=np.float32)
        # Unused grids give rows of their own behind those of the texts when pooling takes maxima.
        rows[layout.order] = found[: len(batch)]
        return rows

    def trim(self) -> None:
        """Give back what the largest batch needed: the arena does so at the end of a run only."""
        self.run([(0,)], pooling="mean", normalize=False, options=self._trim)


def feed(
    layout: Layout, *, heads: int, pooling: str, normalize: bool
) -> dict[str, NDArray[np.generic]]:
    """Return the graph's inputs for a layout.

    Attention sees each of its heads as a row of its own: `heads_N` (texts, heads, columns) are the
    rows of a grid's cells, `mask_N` (texts, 1, 1, columns) is what is added to their scores, and
    `places` (T, heads) are each token's rows in what attention gives, grid after grid.
    """
    is_max, is_single = pooling == "max", len(layout.order) == 1
    inputs: dict[str, NDArray[np.generic]] = {
        "ids": layout.ids,
        "positions": layout.positions,
        # The branch that is not taken reads nothing of this.
        "pooling": layout.pooling("cls" if is_max else pooling),
        "is_single": np.asarray(is_single),
        "is_max": np.asarray(is_max),
        "is_normalized": np.asarray(normalize),
    }
    each = np.arange(heads)
    places = np.empty((1 if is_single else len(layout.ids), heads), dtype=np.int64)
    cells = 0
    for index in range(GRIDS):
        is_used = index < len(layout.grids)
        grid = layout.grids[index] if is_used else _UNUSED
        inputs[f"cells_{index}"] = grid.cells
        if is_single or not is_used:
            grid = _UNUSED
        else:
            first, last = layout.spans[index]
            texts, columns = np.divmod(layout.places[first:last] - cells, grid.cells.shape[1])
            row = cells * heads + texts * (heads * grid.cells.shape[1]) + columns
            places[first:last] = row[:, None] + each * grid.cells.shape[1]
            cells += grid.cells.size
        inputs[f"heads_{index}"] = grid.cells[:, None] * heads + each[:, None]
        inputs[f"mask_{index}"] = np.where(grid.mask, _SEEN, _HIDDEN)[:, None, None]
    inputs["places"] = places
    return inputs


def open_graph(
    folder: Path,
    architecture: Architecture,
    *,
    threads: int,
    graph: str = GRAPH,
    rearranges: bool = True,
    constants: Iterable[tuple[str, NDArray[np.generic]]] = (),
) -> OnnxExecutor:
    """Return the executor for the file `graph` beside the weights in `folder`.

    With `rearranges` matrices are copied into the order in which they are multiplied: that is
    faster for short texts, and as much private memory as they are large. `constants` are those
    that the graph leaves open, by name. Raises what ONNX Runtime raises for a
    graph or weights that it cannot load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits takes the core from the one that should wake it. For as
    # long as one that sleeps takes to wake it pays: a sixth to a fifth of a short text's time.
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The graph is written as it should run; only constants are left to fold.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Sizes differ from run to run: remembered patterns would only hold memory.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "0" if rearranges else "1")
    options.log_severity_level = _QUIET
    filled = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in constants}
    options.add_external_initializers(list(filled), list(filled.values()))
    make: Callable[..., Any] = onnxruntime.InferenceSession
    session = make(str(folder / graph), options, providers=["CPUExecutionProvider"])
    return OnnxExecutor(session, architecture)


def clips() -> bool:
    """Return whether sums of products of bytes are clipped on this processor.

    x86 processors before VNNI add up two products in sixteen bits. Where neither processor nor
    system tells which instructions there are, the largest bytes give other sums without them.
    """
    make: Callable[..., Any] = onnxruntime.InferenceSession
    session = make(PRODUCT_GRAPH, providers=["CPUExecutionProvider"])
    left = np.full((1, 4), 255, dtype=np.uint8)
    right = np.full((4, 16), 127, dtype=np.int8)
    found = session.run(["sums"], {"left": left, "right": right})[0]
    return not np.array_equal(found, left.astype(np.int32) @ right.astype(np.int32))
