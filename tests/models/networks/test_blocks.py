"""Blocks that networks share: dropout by random bytes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.networks._blocks import ByteDropout, mlp, with_byte_dropout

SEED = 7


def dropped(share: float, *shape: int) -> torch.Tensor:
    torch.manual_seed(SEED)
    return ByteDropout(share).train()(torch.ones(shape))


@given(share=st.floats(0.0, 0.99), rows=st.integers(0, 5), width=st.integers(1, 40))
def test_each_unit_is_dropped_or_scaled(share, rows, width):
    found = dropped(share, rows, width)
    assert found.shape == (rows, width)
    kept = max(1, round((1 - share) * 256)) / 256 if share else 1.0
    assert all(value in (0.0, pytest.approx(1 / kept)) for value in found.flatten().tolist())
    assert abs(kept - (1 - share)) <= 1 / 256


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_its_share_of_units_is_dropped_everywhere(share):
    """Of 80,000 draws for each of the eight bytes of a word: a deviation of five standard errors is no chance."""
    there = (dropped(share, 80_000, 8) > 0).float()
    error = (share * (1 - share) / 80_000) ** 0.5
    assert ((there.mean(dim=0) - (1 - share)).abs() < 5 * error + 0.5 / 256).all()
    together = (there[:, :-1] * there[:, 1:]).mean(dim=0)  # neighbours know nothing of each other
    assert ((together - (1 - share) ** 2).abs() < 5 * error + 1 / 256).all()


def test_gradients_pass_where_units_are_kept():
    inputs = torch.ones(64, 8, requires_grad=True)
    torch.manual_seed(SEED)
    ByteDropout(0.5).train()(inputs).sum().backward()
    assert torch.equal(inputs.grad, dropped(0.5, 64, 8))


def test_a_mask_comes_from_the_seed():
    assert torch.equal(dropped(0.5, 9, 9), dropped(0.5, 9, 9))


def test_in_evaluation_and_without_a_share_nothing_changes():
    inputs = torch.randn(5, 5)
    assert torch.equal(ByteDropout(0.5).eval()(inputs), inputs)
    assert torch.equal(ByteDropout(0.0).train()(inputs), inputs)


def test_every_dropout_of_a_block_is_replaced():
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.3)
    for block, count in ((mlp((4, 4), 0.3), 2), (with_byte_dropout(layer), 3)):
        found = [module for module in block.modules() if isinstance(module, nn.Dropout)]
        assert [type(module) for module in found] == [ByteDropout] * count
        assert {module.p for module in found} == {0.3}
