"""Sums of rows that are never laid out: the same values and gradients as of rows that are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.networks import _pooled
from models.networks._pooled import pooled, summed
from models.training.epoch import squares_of_rows


@pytest.fixture(autouse=True)
def _whatever_the_size(monkeypatch):
    monkeypatch.setattr(_pooled, "WORTH_IT", 0)


def laid_out(table: nn.Embedding, codes: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    return torch.bmm(mix, table(codes))


def gradients(of, table: nn.Embedding, codes: torch.Tensor, mix: torch.Tensor) -> list[np.ndarray]:
    """The sums, and the gradients of the table and of the weights."""
    table.weight.grad = None
    mix = mix.clone().requires_grad_()
    sums = of(table, codes, mix)
    sums.backward(torch.linspace(-1, 1, sums.numel()).view(sums.shape))
    return [one.detach().numpy() for one in (sums, table.weight.grad, mix.grad)]


@settings(deadline=None, max_examples=40)
@given(
    lists=st.integers(1, 9),
    length=st.integers(1, 7),
    sums=st.integers(1, 3),
    dim=st.integers(1, 17),
    rows=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_are_those_of_rows_laid_out(lists, length, sums, dim, rows, seed):
    torch.manual_seed(seed)
    table = nn.Embedding(rows, dim)
    codes = torch.randint(rows, (lists, length))
    mix = torch.randn(lists, sums, length) * (torch.rand(lists, sums, length) < 0.7)
    for one, other in zip(gradients(pooled, table, codes, mix), gradients(laid_out, table, codes, mix)):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_two_rows_by_hand():
    table = nn.Embedding(3, 2)
    table.weight.data = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    sums = pooled(table, torch.tensor([[0, 2], [2, 2]]), torch.tensor([[[1.0, 0.5]], [[0.0, 2.0]]]))
    assert sums.tolist() == [[[51.0, 102.0]], [[200.0, 400.0]]]
    sums.sum().backward()
    assert table.weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [2.5, 2.5]]


def test_lists_of_any_length_by_hand():
    weight = torch.tensor([[1.0], [10.0], [100.0]], requires_grad=True)
    sums = summed(weight, torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2, 3]))
    assert sums.tolist() == [[11.0], [0.0], [10.0]]
    (sums * torch.tensor([[1.0], [5.0], [3.0]])).sum().backward()
    assert weight.grad.tolist() == [[1.0], [4.0], [0.0]]


def test_the_penalty_is_that_of_rows_laid_out():
    """The sum of squares of the rows that a batch used, those of one list sharing it."""
    model = nn.Module()
    model.table = nn.Embedding(6, 4)
    model.embedding_tables = lambda: [("history", model.table)]
    codes, mix = torch.randint(6, (5, 3)), torch.rand(5, 2, 3)
    found = []
    for of in (pooled, laid_out):
        model.table.weight.grad = None
        with squares_of_rows(model, wanted=0.1) as squares:
            of(model.table, codes, mix)
            (square,) = squares
        square.backward()
        found.append((square.item(), model.table.weight.grad.numpy()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
    pooled(model.table, codes, mix)  # nobody asks any more
    assert len(squares) == 1


@pytest.mark.parametrize("frozen", ["row-wise updates", "no gradients"])
def test_where_rows_are_needed_or_nothing_is_learnt_they_are_laid_out(frozen):
    table = nn.Embedding(6, 4)
    table.weight.requires_grad_(frozen != "row-wise updates")
    seen = []
    table.register_forward_hook(lambda module, inputs, rows: seen.append(rows.shape))
    with torch.set_grad_enabled(frozen != "no gradients"):
        pooled(table, torch.randint(6, (5, 3)), torch.rand(5, 2, 3))
    assert seen == [(5, 3, 4)]
