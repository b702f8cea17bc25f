"""Updates of large embedding tables that touch only the rows of the batch.

Adam, as PyTorch has it, visits every row of every table at every step, though a batch of MovieLens-25M names a few
thousand of 220,000 rows. Here a table's gradient is never laid out over the table. It is taken where the rows leave it,
summed per distinct row, and applied by row-wise Adagrad: one running sum of squares per row instead of one per weight
(Duchi et al., "Adaptive Subgradient Methods", 2011; row-wise as in DLRM's own training, Naumov et al., 2019).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

LARGE_TABLE = 1_000  # rows; smaller tables are not worth it
EPSILON = 1e-8


class RowwiseAdagrad:
    """Keeps the rows that each table hands out in a forward pass, and updates them after the backward pass.

    The tables' weights are taken out of autograd while this object holds them; `release` gives them back.
    """

    def __init__(self, tables: list[nn.Embedding], learning_rate: float, weight_decay: float):
        """
        Args:
            learning_rate: of each row's step, before it is divided by the root of the row's sum of squared gradients.
            weight_decay: L2 penalty on the rows of a batch, per step.
        """
        self.tables = tables
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        # float32 [rows] per table: the sum over steps of the row's mean squared gradient
        self.squares = [torch.zeros(len(table.weight), device=table.weight.device) for table in tables]
        self.gather: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None  # from all processes of a training
        self._scratch = [_Scratch(len(table.weight)) for table in tables]
        self._taken: list[list[tuple[Tensor, Tensor]]] = [[] for _ in tables]
        self._hooks = []
        for position, table in enumerate(tables):
            table.weight.requires_grad_(False)
            self._hooks.append(table.register_forward_hook(self._keeper(position)))

    def _keeper(self, position: int) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def keep(table: nn.Module, inputs: tuple[Tensor], rows: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                rows.requires_grad_()
                self._taken[position].append((inputs[0], rows))
            return rows

        return keep

    @torch.no_grad()
    def step(self) -> None:
        """Applies the gradients of the rows handed out since the last step."""
        work = [position for position in range(len(self.tables)) if self.gather or self._taken[position]]
        on_cpu = all(self.tables[position].weight.device.type == "cpu" for position in work)
        if (
            on_cpu and len(work) > 1 and torch.get_num_threads() > 1 and not self.gather
        ):  # the fused update lets other threads run
            list(_pool(torch.get_num_threads()).map(self._update, work))
        else:
            for position in work:
                self._update(position)

    @torch.no_grad()
    def _update(self, position: int) -> None:
        used = [(index.reshape(-1), rows.grad) for index, rows in self._taken[position] if rows.grad is not None]
        self._taken[position].clear()
        if not used and not self.gather:
            return
        weight, squares = self.tables[position].weight, self.squares[position]
        if not used:
            used = [(torch.zeros(0, dtype=torch.int64, device=weight.device), weight[:0])]
        index = torch.cat([index for index, _ in used]) if len(used) > 1 else used[0][0]
        parts = [gradient.reshape(-1, weight.shape[1]).float() for _, gradient in used]
        gradient = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self.gather:
            index, gradient = self.gather(index, gradient)
        if weight.device.type == "cpu":
            index_of, gradient_of, weights, sums = (
                part.detach().numpy() for part in (index, gradient, weight, squares)
            )
            scratch = self._scratch[position].of(len(index), weight.shape[1])
            _fused(index_of, gradient_of, weights, sums, *scratch, self.learning_rate, self.weight_decay)
        else:
            _by_operators(index, gradient, weight, squares, self.learning_rate, self.weight_decay)

    def release(self) -> None:
        """Gives the tables back to autograd."""
        for hook in self._hooks:
            hook.remove()
        for table in self.tables:
            table.weight.requires_grad_(True)


def _by_operators(index: Tensor, gradient: Tensor, weight: Tensor, squares: Tensor, rate: float, decay: float) -> None:
    """The update in PyTorch's operators, for any device."""
    row, place = torch.unique(index, return_inverse=True)
    summed = torch.zeros((len(row), weight.shape[1]), device=weight.device).index_add_(0, place, gradient)
    old = weight.index_select(0, row)
    summed.add_(old, alpha=decay)
    total = squares.index_select(0, row).add_(summed.square().mean(dim=1))
    squares.index_copy_(0, row, total)
    weight.index_copy_(0, row, old.addcdiv_(summed, total.sqrt().add_(EPSILON).unsqueeze(1), value=-rate))


@njit(nogil=True, fastmath=True)
def _fused(
    index: Any, gradient: Any, weight: Any, squares: Any, slot: Any, rows: Any, sums: Any, rate: float, decay: float
) -> None:
    """The same in one pass over the batch and one over its distinct rows: a third of the operators' time on a CPU."""
    size, found = weight.shape[1], 0
    for i in range(len(index)):
        row = index[i]
        place = slot[row]
        if place < 0:
            place = slot[row] = found
            rows[found] = row
            for d in range(size):
                sums[place, d] = gradient[i, d]
            found += 1
        else:
            for d in range(size):
                sums[place, d] += gradient[i, d]
    for place in range(found):
        row = rows[place]
        slot[row] = -1
        total = np.float32(0)
        for d in range(size):
            sums[place, d] += np.float32(decay) * weight[row, d]
            total += sums[place, d] * sums[place, d]
        squares[row] += total / np.float32(size)
        step = np.float32(rate) / (np.sqrt(squares[row]) + np.float32(EPSILON))
        for d in range(size):
            weight[row, d] -= step * sums[place, d]


class _Scratch:
    """What the fused update writes to, kept from step to step: fresh memory is slow to touch.

    `slot` says at which place of `rows` and `sums` a row of the table is gathered; -1 for nowhere.
    """

    def __init__(self, table_rows: int):
        self._table_rows = table_rows
        self._arrays: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def of(self, samples: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._arrays is None or len(self._arrays[1]) < samples:
            slot = np.full(self._table_rows, -1, np.int32)
            self._arrays = slot, np.empty(samples, np.int64), np.empty((samples, dim), np.float32)
        return self._arrays


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="rowwise")
    return _POOLS[threads]
