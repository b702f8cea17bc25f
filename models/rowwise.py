"""Updates of large embedding tables that touch only the rows of the batch.

Adam, as PyTorch has it, visits every row of every table at every step, though a batch of MovieLens-25M names a few
thousand of 220,000 rows. Here a table's gradient is never laid out over the table. It is taken where the rows leave it,
summed per distinct row, and applied by row-wise Adagrad: one running sum of squares per row instead of one per weight
(Duchi et al., "Adaptive Subgradient Methods", 2011; row-wise as in DLRM's own training, Naumov et al., 2019).
"""

import torch
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
        self._taken: list[list[tuple[Tensor, Tensor]]] = [[] for _ in tables]
        self._hooks = []
        for position, table in enumerate(tables):
            table.weight.requires_grad_(False)
            self._hooks.append(table.register_forward_hook(self._keeper(position)))

    def _keeper(self, position: int):  # type: ignore[no-untyped-def]
        def keep(table: nn.Module, inputs: tuple[Tensor], rows: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                rows.requires_grad_()
                self._taken[position].append((inputs[0], rows))
            return rows

        return keep

    @torch.no_grad()
    def step(self) -> None:
        """Applies the gradients of the rows handed out since the last step."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for table, squares, taken in zip(self.tables, self.squares, self._taken):
            weight = table.weight
            for index, rows in taken:
                if rows.grad is None:
                    continue
                row, place = _distinct(index, found)
                gradient = torch.zeros((len(row), weight.shape[1]), device=weight.device)
                gradient.index_add_(0, place.reshape(-1), rows.grad.reshape(-1, weight.shape[1]).float())
                old = weight.index_select(0, row)
                if self.weight_decay:
                    gradient.add_(old, alpha=self.weight_decay)
                total = squares.index_select(0, row).add_(gradient.square().mean(dim=1))
                squares.index_copy_(0, row, total)
                root = total.sqrt().add_(EPSILON).unsqueeze(1)
                weight.index_copy_(0, row, old.addcdiv_(gradient, root, value=-self.learning_rate))
            taken.clear()

    def release(self) -> None:
        """Gives the tables back to autograd."""
        for hook in self._hooks:
            hook.remove()
        for table in self.tables:
            table.weight.requires_grad_(True)


def _distinct(index: Tensor, found: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The distinct values of an index and the place of each; two tables of one input (NCF's) share one search."""
    for known, row, place in found:
        if torch.equal(known, index):
            return row, place
    row, place = torch.unique(index, return_inverse=True)
    found.append((index, row, place))
    return row, place
