"""Weighted sums of an embedding table's rows: of the movies rated before, or of a set's members.

A row for each of n users' L movies, float [n, L, dim], takes longer to write and to read back than all the rest of a
training step: the table itself and the n sums fit a processor's cache, and these rows do not. Here neither the sums nor
their gradients lay the rows out. (Measured in bench/README.md.)
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

WORTH_IT = 1 << 17  # numbers in the rows: below, a second of compiling is never won back


def pooled(table: nn.Embedding, codes: Tensor, mix: Tensor) -> Tensor:
    """The sums over each list of its rows, weighted: float [n, k, dim].

    Args:
        codes: int64 [n, length], rows of the table.
        mix: float [n, k, length], the weights of k sums.
    """
    if not _is_worth_it(table.weight, codes):
        return torch.bmm(mix, table(codes))
    keep = getattr(table, "of_pooled", None)  # in the place of a forward hook, which would see the rows
    if keep:
        keep(table, codes)
    lists, length = codes.shape
    starts = torch.arange(0, codes.numel() + 1, length)
    return _Sums.apply(table.weight, codes.reshape(-1), starts, mix.transpose(0, 1).reshape(-1, lists * length))


def summed(weight: Tensor, codes: Tensor, starts: Tensor) -> Tensor:
    """The sums over lists of any length: float [n, dim].

    Args:
        weight: float [rows, dim].
        codes: int64 [m], the rows of all lists, one list after the other.
        starts: int64 [n + 1], where each list begins, and m.
    """
    if not _is_worth_it(weight, codes):
        return embedding_bag(codes, weight, starts[:-1], mode="sum")
    return _Sums.apply(weight, codes, starts, weight.new_ones((1, len(codes)))).squeeze(1)


def _is_worth_it(weight: Tensor, codes: Tensor) -> bool:
    """Whether there are many rows, and autograd asks for the table's gradient on the CPU.

    Row-wise updates, which take a table out of autograd, need its rows.
    """
    is_trained = weight.device.type == "cpu" and weight.requires_grad and torch.is_grad_enabled()
    return is_trained and codes.numel() * weight.shape[1] >= WORTH_IT


class _Sums(torch.autograd.Function):
    """float [n, k, dim] of float [rows, dim], int64 [m], int64 [n + 1] and float [k, m]."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, codes: Tensor, starts: Tensor, mix: Tensor) -> Tensor:
        ctx.save_for_backward(weight, codes, starts, mix)
        sums = [embedding_bag(codes, weight, starts[:-1], mode="sum", per_sample_weights=one) for one in mix]
        return torch.stack(sums, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
        weight, codes, starts, mix = (part.detach() for part in ctx.saved_tensors)
        of_sums = gradient.contiguous().numpy()
        of_weight = torch.zeros_like(weight)
        _scatter(codes.numpy(), starts.numpy(), mix.numpy(), of_sums, of_weight.numpy())
        of_mix = torch.empty_like(mix) if ctx.needs_input_grad[3] else None
        if of_mix is not None:
            _products(codes.numpy(), starts.numpy(), weight.numpy(), of_sums, of_mix.numpy())
        return of_weight, None, None, of_mix


@njit(nogil=True, fastmath=True)
def _scatter(codes: Any, starts: Any, mix: Any, of_sums: Any, of_weight: Any) -> None:
    for one in range(len(starts) - 1):
        for place in range(starts[one], starts[one + 1]):
            row = of_weight[codes[place]]
            for j in range(len(mix)):
                weight = mix[j, place]
                if weight != 0:
                    part = of_sums[one, j]
                    for d in range(len(row)):
                        row[d] += weight * part[d]


@njit(nogil=True, fastmath=True)
def _products(codes: Any, starts: Any, weight: Any, of_sums: Any, of_mix: Any) -> None:
    for one in range(len(starts) - 1):
        for place in range(starts[one], starts[one + 1]):
            row = weight[codes[place]]
            for j in range(len(of_mix)):
                part, total = of_sums[one, j], np.float32(0)
                for d in range(len(row)):
                    total += row[d] * part[d]
                of_mix[j, place] = total
