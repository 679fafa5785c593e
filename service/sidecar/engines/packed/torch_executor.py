"""The definition run by torch, for MPS and CUDA; weights are read through a mapping of their file.

On MPS every new shape costs a compiled graph and memory that is kept (pytorch issues 132596 and
181213), so numbers of tokens and columns of grids are rounded up to whole steps there, rows to
powers of two, and nothing has the size of several grids together. Metal aborts when two threads
encode at once: a lock lets in one. None of this was measured on a Mac.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from sidecar.engines import Vectors
from sidecar.engines.packed.architecture import SMALLEST_NORM, Architecture, forward
from sidecar.engines.packed.layout import Layout, arrange, distance_buckets
from sidecar.engines.packed.weights import Weights, names_read

# On MPS: the steps in which tokens and columns of grids are counted, and the fewest rows.
TOKEN_STEP, COLUMN_STEP, FEWEST_ROWS = 256, 32, 8


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
        """Bring the layout onto the device."""
        self._architecture = architecture
        self._weights = weights
        self._device = device
        self._layout = layout
        self._total = len(layout.ids)
        self._padded = _up(self._total, TOKEN_STEP) if is_stepped else self._total
        self._texts = len(layout.order)
        if is_stepped:
            self._texts = _rows(self._texts)
        self._ids = self._tensor(_stretch(layout.ids, self._padded))
        self._positions = self._tensor(_stretch(layout.positions, self._padded))
        self._grids: list[tuple[Tensor, Tensor, Tensor]] = []
        for grid, (first, last) in zip(layout.grids, layout.spans, strict=True):
            rows, columns = grid.cells.shape
            if is_stepped:
                rows, columns = _rows(rows), _up(columns, COLUMN_STEP)
            full = np.zeros((rows, columns), dtype=np.int64)
            seen = np.zeros((rows, columns), dtype=bool)
            full[: grid.cells.shape[0], : grid.cells.shape[1]] = grid.cells
            seen[: grid.cells.shape[0], : grid.cells.shape[1]] = grid.mask.astype(bool)
            # Cells that are no token's are put behind the last token.
            tokens = np.full(full.size, self._padded, dtype=np.int64)
            tokens[np.flatnonzero(seen)] = np.arange(first, last)
            # A row of padding alone would have nothing to attend to.
            seen[grid.cells.shape[0] :, 0] = True
            self._grids.append((self._tensor(full), self._tensor(seen), self._tensor(tokens)))
        self._visible: list[Tensor] = []
        self.pooling, self.normalize = "mean", True

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def embed(self, words: str, positions: str, types: str | None) -> Tensor:
        """Gather rows."""
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

    def gelu(self, x: Tensor, bias: str) -> Tensor:
        """Add and take the exact GELU."""
        return functional.gelu(x + self._weights[bias])

    def attention(self, query: Tensor, key: Tensor, value: Tensor, distances: str | None) -> Tensor:
        """Attend grid by grid, and put the cells back into one row after another."""
        heads = self._architecture.heads
        if distances is not None and not self._visible:
            self._visible = [self._biased(mask, distances) for _, mask, _ in self._grids]
        seen = query.new_zeros((self._padded + 1, query.shape[1]))
        for index, (cells, mask, tokens) in enumerate(self._grids):
            q, k, v = (
                part[cells].unflatten(-1, (heads, -1)).transpose(1, 2)
                for part in (query, key, value)
            )
            visible = self._visible[index] if distances else mask[:, None, None, :]
            grid = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
            seen.index_copy_(0, tokens, grid.transpose(1, 2).flatten(2).flatten(0, 1))
        return seen[: self._padded]

    def _biased(self, mask: Tensor, distances: str) -> Tensor:
        """Return what is added to the scores of a grid, the same in every layer."""
        columns, reach = mask.shape[1], self._architecture.max_tokens
        # Rounding a grid's columns up can take it beyond the longest text; those cells are masked.
        steps = np.arange(columns)
        steps = np.clip(steps[None, :] - steps[:, None], 1 - reach, reach - 1) + reach - 1
        known = distance_buckets(self._architecture.buckets, reach)
        buckets = self._tensor(known[steps])
        bias = functional.embedding(buckets, self._weights[distances]).permute(2, 0, 1)
        return bias.masked_fill(~mask[:, None, None, :], -torch.inf)

    def pool(self, x: Tensor) -> Tensor:
        """Pool as the request asks, and scale, if asked."""
        if self.pooling == "max":
            rows = torch.cat([self._largest(x, index) for index in range(len(self._grids))])
        else:
            matrix = self._layout.pooling(self.pooling)
            spare = (0, self._texts - len(matrix)), (0, self._padded - self._total)
            rows = self._tensor(np.pad(matrix, spare)) @ x
        if self.normalize:
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(SMALLEST_NORM)
        return rows

    def _largest(self, x: Tensor, index: int) -> Tensor:
        """Return the largest values of every text of one grid, on the CPU."""
        cells, mask, _ = self._grids[index]
        found = x[cells].masked_fill(~mask[:, :, None], -torch.inf).amax(1)
        return found.to("cpu")[: len(self._layout.grids[index].cells)]


class TorchExecutor:
    """Runs a model on a torch device."""

    def __init__(
        self, weights: dict[str, Tensor], *, architecture: Architecture, device: str
    ) -> None:
        """Take over `weights`, already on `device`."""
        self.device = device
        self._weights = weights
        self._architecture = architecture
        self._turn = threading.Lock()

    def run(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row per sequence of ids, in the order of `batch`."""
        layout = arrange(batch, first_position=self._architecture.first_position)
        with self._turn, torch.inference_mode():
            ops = TorchOperations(
                self._architecture,
                self._weights,
                layout,
                device=self.device,
                is_stepped=self.device == "mps",
            )
            ops.pooling, ops.normalize = pooling, normalize
            found = forward(ops, self._architecture).to("cpu", torch.float32).numpy()
        rows = np.empty((len(batch), found.shape[1]), dtype=np.float32)
        rows[layout.order] = found[: len(batch)]
        return rows

    def trim(self) -> None:
        """Give back what the device's allocator holds for shapes that may not come again."""
        with self._turn:
            empty_cache(self.device)


def open_tensors(stored: Weights, *, architecture: Architecture, device: str) -> TorchExecutor:
    """Return the executor for `stored`: what the forward reads of it, in float32 on `device`.

    Raises what torch raises for a device that is not there.
    """
    with safe_open(str(stored.path), framework="pt") as file:
        weights = {
            name: file.get_tensor(stored.tensors[name].name).to(device, torch.float32)
            for name in sorted(names_read(architecture))
        }
    return TorchExecutor(weights, architecture=architecture, device=device)


def empty_cache(device: str) -> None:
    """Give back what the allocator of `device` holds."""
    if device != "cpu":
        getattr(torch, device).empty_cache()


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _rows(count: int) -> int:
    return max(FEWEST_ROWS, 1 << (count - 1).bit_length())


def _stretch(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)))
