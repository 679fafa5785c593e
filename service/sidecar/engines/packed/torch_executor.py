"""The definition run by torch, for MPS and CUDA; weights are read through a mapping of their file.

On MPS every new shape costs a compiled graph and memory that is kept (pytorch issues 132596 and
181213), so numbers of tokens and columns of grids are rounded up to whole steps there, rows to
powers of two, and nothing has the size of several grids together. Metal aborts when two threads
encode at once: a lock lets in one. Neither this nor what is for CUDA alone has been measured.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sidecar.engines import Vectors
from sidecar.engines.devices import empty_cache
from sidecar.engines.packed.architecture import (
    DISTANCES,
    PROJECTIONS,
    SMALLEST_NORM,
    Architecture,
    forward,
)
from sidecar.engines.packed.layout import GRID_COST, Indices, Layout, arrange, distance_buckets
from sidecar.engines.packed.weights import Weights, names_read

# On MPS: the steps in which tokens and columns of grids are counted, and the fewest rows. Metal's
# own kernels for attention take up to eight queries and have taken strides and masks for others
# than they were (pytorch issues 163597 and 181133, pull request 184180): no grid is so narrow.
TOKEN_STEP, COLUMN_STEP, FEWEST_ROWS = 256, 32, 8
# On CUDA a grid is a dozen launches a layer, in which time a large GPU computes so many cells.
CUDA_GRID_COST = 1 << 20
_DTYPES = {"F32": torch.float32, "F16": torch.float16}
# Tables of which a few rows are read. They stay in the type that they are stored in.
_TABLES = (
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGrid:
    """Texts of like length on the device.

    `cells` (rows, columns) and `lengths` (rows,) are as `layout.Grid` has them, `texts` of the rows
    are texts and the others padding. `tokens` (rows * columns,) are the rows of what attention
    gives, no two of them the same; `mask` tells cells of tokens, and one in each row of padding.
    """

    cells: Tensor
    lengths: Tensor
    tokens: Tensor
    mask: Tensor
    texts: int


class TorchOperations:
    """Computes each operation at once, for one layout."""

    def __init__(
        self,
        architecture: Architecture,
        weights: dict[str, Tensor],
        layout: Layout,
        *,
        device: str,
        is_stepped: bool,
    ) -> None:
        """Bring the layout onto the device, all of it at once."""
        self._architecture = architecture
        self._weights = weights
        self._is_stepped = is_stepped
        total = len(layout.ids)
        self._padded = _up(total, TOKEN_STEP) if is_stepped else total
        parts = [_stretch(layout.ids, self._padded), _stretch(layout.positions, self._padded)]
        for grid, (first, last) in zip(layout.grids, layout.spans, strict=True):
            texts, longest = grid.cells.shape
            rows, columns = texts, longest
            if is_stepped:
                rows, columns = _rows(rows), _up(columns, COLUMN_STEP)
            cells = np.zeros((rows, columns), dtype=np.int64)
            cells[:texts, :longest] = grid.cells
            # A row of padding alone would have nothing to attend to.
            lengths = np.ones(rows, dtype=np.int64)
            lengths[:texts] = grid.mask.sum(axis=1)
            # Cells that are no token's go behind the last token, each to a row of its own: where
            # rows are written twice, devices do not say which write remains.
            tokens = np.arange(self._padded, self._padded + cells.size).reshape(cells.shape)
            tokens[:texts, :longest][grid.mask.astype(bool)] = np.arange(first, last)
            parts += [cells, lengths, tokens.ravel()]
        whole = torch.from_numpy(np.concatenate([part.ravel() for part in parts])).to(device)
        views = iter(whole.split([part.size for part in parts]))
        self._ids, self._positions = next(views), next(views)
        self._grids: list[DeviceGrid] = []
        for grid, shape in zip(layout.grids, [part.shape for part in parts[2::3]], strict=True):
            cells, lengths, tokens = (next(views) for _ in range(3))
            mask = torch.arange(shape[1], device=device) < lengths[:, None]
            self._grids.append(
                DeviceGrid(
                    cells=cells.view(shape),
                    lengths=lengths,
                    tokens=tokens,
                    mask=mask,
                    texts=len(grid.cells),
                )
            )
        # On MPS rows behind the last token go through every layer, and no grid writes them.
        spare = max(grid.tokens.numel() for grid in self._grids)
        self._seen = torch.zeros((self._padded + spare, architecture.width), device=device)
        self._visible: list[Tensor] = []
        self.pooling, self.normalize = "mean", True

    def embed(self, words: str, positions: str, types: str | None) -> Tensor:
        """Gather rows; what is stored in half is widened here."""
        known = self._weights
        word = functional.embedding(self._ids, known[words]).float()
        place = functional.embedding(self._positions, known[positions]).float()
        return word + (place if types is None else place + known[types][0].float())

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Normalise rows."""
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        width, epsilon = (self._architecture.width,), self._architecture.epsilon
        return functional.layer_norm(x, width, scale, shift, epsilon)

    def add_norm(self, x: Tensor, residual: Tensor, name: str) -> Tensor:
        """Add and normalise."""
        return self.norm(x + residual, name)

    def linear(self, x: Tensor, weight: str, bias: str | None = None) -> Tensor:
        """Multiply by the weight as it lies in the file."""
        return functional.linear(x, self._weights[weight], self._weights[bias] if bias else None)

    def gelu(self, x: Tensor) -> Tensor:
        """Take the exact GELU."""
        return functional.gelu(x)

    def attention(self, x: Tensor, name: str, distances: str | None) -> Tensor:
        """Attend grid by grid, and put the cells back into one row after another."""
        if not self._visible:
            self._visible = [self._reach(grid, distances) for grid in self._grids]
        # Queries, keys and values of a token lie beside each other.
        joined = self.linear(x, f"{name}.weight", f"{name}.bias")
        apart = (len(PROJECTIONS), self._architecture.heads, -1)
        for grid, visible in zip(self._grids, self._visible, strict=True):
            parts = joined[grid.cells].unflatten(-1, apart).permute(2, 0, 3, 1, 4)
            if self._is_stepped:
                # Before torch 2.12 attention on MPS could read the wrong cells of a view, and say
                # nothing (pytorch issue 181133, repaired by pull request 181151).
                parts = parts.contiguous()
            query, key, value = parts.unbind()
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
            self._seen.index_copy_(0, grid.tokens, seen.transpose(1, 2).flatten(2).flatten(0, 1))
        return self._seen[: self._padded]

    def _reach(self, grid: DeviceGrid, distances: str | None) -> Tensor:
        """Return which cells of a grid attend to which, or what is added to their scores."""
        mask = grid.mask[:, None, None, :]
        if distances is None:
            return mask
        biases, (_, columns) = self._weights[distances], grid.cells.shape
        steps = torch.arange(columns, device=biases.device)
        steps = steps[None, :] - steps[:, None] + biases.shape[1] // 2
        return biases[:, steps].masked_fill(~mask, -torch.inf)

    def pool(self, x: Tensor) -> Tensor:
        """Pool as the request asks, and scale, if asked, on the CPU."""
        rows = torch.cat([self._pooled(x, grid).to("cpu")[: grid.texts] for grid in self._grids])
        if self.normalize:
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(SMALLEST_NORM)
        return rows

    def _pooled(self, x: Tensor, grid: DeviceGrid) -> Tensor:
        """Return a row for every row of a grid. No product of matrices: those may be rounded."""
        if self.pooling == "cls":
            return x[grid.cells[:, 0]]
        found, padding = x[grid.cells], ~grid.mask[:, :, None]
        if self.pooling == "max":
            return found.masked_fill(padding, -torch.inf).amax(1)
        return found.masked_fill(padding, 0).sum(1) / grid.lengths[:, None]


class TorchExecutor:
    """Runs a model on a torch device."""

    def __init__(
        self, weights: dict[str, Tensor], *, architecture: Architecture, device: str
    ) -> None:
        """Take over `weights`, already on `device`; see `open_tensors`."""
        self.device = device
        self.is_tf32 = False
        self._weights = weights
        self._architecture = architecture
        self._turn = threading.Lock()

    def run(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row per sequence of ids, in the order of `batch`."""
        layout = arrange(
            batch,
            first_position=self._architecture.first_position,
            grid_cost=CUDA_GRID_COST if self.device == "cuda" else GRID_COST,
        )
        with self._turn, torch.inference_mode():
            if self.device == "cuda":
                # For the whole process, so set before each batch. With tf32 set here, torch's older
                # name of the same setting (allow_tf32) cannot be read any more.
                torch.backends.cuda.matmul.fp32_precision = "tf32" if self.is_tf32 else "ieee"
            ops = TorchOperations(
                self._architecture,
                self._weights,
                layout,
                device=self.device,
                is_stepped=self.device == "mps",
            )
            ops.pooling, ops.normalize = pooling, normalize
            found = forward(ops, self._architecture).numpy()
        rows = np.empty((len(batch), found.shape[1]), dtype=np.float32)
        rows[layout.order] = found
        return rows

    def trim(self) -> None:
        """Give back what the device's allocator holds for shapes that may not come again."""
        with self._turn:
            empty_cache(self.device)


def open_tensors(stored: Weights, *, architecture: Architecture, device: str) -> TorchExecutor:
    """Return the executor for `stored`: what the forward reads of it, on `device`.

    Tables are as they are stored, all else is in float32. Queries, keys and values of a layer are
    one matrix, biases by distance a row for each head. Raises what torch raises for a device that
    is not there.
    """
    size = stored.path.stat().st_size
    mapped = torch.from_file(str(stored.path), shared=False, size=size, dtype=torch.uint8)

    def read(name: str) -> Tensor:
        tensor = stored.tensors[name]
        # Tensors in half may leave the next one where nothing of four bytes can begin.
        held = mapped[tensor.offset : tensor.offset + tensor.size].clone()
        found = held.view(_DTYPES[tensor.dtype]).view(tensor.shape)
        return found if name in _TABLES else found.float()

    weights: dict[str, Tensor] = {}
    projected = set()
    for layer in range(architecture.layers):
        name = f"encoder.layer.{layer}.attention.self"
        for kind in ("weight", "bias"):
            parts = [f"{name}.{part}.{kind}" for part in PROJECTIONS]
            projected.update(parts)
            weights[f"{name}.{kind}"] = torch.cat([read(part) for part in parts]).to(device)
    for name in sorted(names_read(architecture) - projected):
        weights[name] = read(name).to(device)
    if architecture.buckets:
        # Rounding a grid's columns up can take it beyond the longest text; those cells are masked.
        reach = _up(architecture.max_tokens, COLUMN_STEP)
        buckets = torch.from_numpy(distance_buckets(architecture.buckets, reach)).to(device)
        weights[DISTANCES] = weights[DISTANCES][buckets].T.contiguous()
    return TorchExecutor(weights, architecture=architecture, device=device)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _rows(count: int) -> int:
    return max(FEWEST_ROWS, 1 << (count - 1).bit_length())


def _stretch(values: Indices, length: int) -> Indices:
    return np.pad(values, (0, length - len(values)))
