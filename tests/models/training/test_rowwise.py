"""Row-wise Adagrad against the same sums written out over whole tables, with autograd's own dense gradients."""

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.training.rowwise import EPSILON, RowwiseAdagrad

RATE = 0.1


class Pair(nn.Module):
    """Two tables, as DLRM has them: the second is indexed twice by a step, a layer stays with autograd."""

    def __init__(self, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.user, self.movie = nn.Embedding(20, 4), nn.Embedding(30, 4)
            self.top = nn.Linear(8, 1)

    def forward(self, user: Tensor, movie: Tensor) -> Tensor:
        both = torch.cat([self.user(user), self.movie(movie)], dim=1)
        return self.top(torch.relu(both)).squeeze(1)

    @property
    def tables(self) -> list[nn.Embedding]:
        return [self.user, self.movie]


def batch(seed: int, rows: int = 40) -> tuple[Tensor, Tensor]:
    """More rows than the tables' first half has, so that indices repeat; the other half is never named."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 10, (rows,), generator=generator), torch.randint(0, 15, (rows,), generator=generator)


class Reference:
    """The same update, row after row over the whole table."""

    def __init__(self, tables: list[nn.Embedding], weight_decay: float):
        self.tables, self.weight_decay = tables, weight_decay
        self.squares = [torch.zeros(len(table.weight), dtype=torch.float64) for table in tables]

    @torch.no_grad()
    def step(self, named: list[set[int]]) -> None:
        for table, squares, rows in zip(self.tables, self.squares, named):
            gradients = table.weight.grad.double()  # summed by autograd over all that named the row
            for row in rows:
                old = table.weight[row].double()
                gradient = gradients[row] + self.weight_decay * old
                squares[row] += (gradient**2).mean()
                table.weight[row] = (old - RATE * gradient / (squares[row].sqrt() + EPSILON)).float()
            table.weight.grad = None


def both_ways(
    passes: list[list[tuple[Tensor, Tensor]]], weight_decay: float = 0.0, forward: Callable[..., Tensor] | None = None
) -> tuple[Pair, RowwiseAdagrad, Pair, Reference]:
    """Trains one copy by the object under test and one by the reference: per step, the passes before it."""
    forward = forward or (lambda model, user, movie: model(user, movie))
    ours, theirs = Pair(), Pair()
    rowwise, reference = RowwiseAdagrad(ours.tables, RATE, weight_decay), Reference(theirs.tables, weight_decay)
    for of_step in passes:
        for model in (ours, theirs):
            model.top.zero_grad()
            loss = sum((forward(model, *pair).float() - 1).square().mean() for pair in of_step)
            loss.backward()
        rowwise.step()
        reference.step([set(torch.cat([pair[column] for pair in of_step]).tolist()) for column in (0, 1)])
    return ours, rowwise, theirs, reference


def assert_same(ours: Pair, rowwise: RowwiseAdagrad, theirs: Pair, reference: Reference) -> None:
    for table, expected, squares, of_reference in zip(ours.tables, theirs.tables, rowwise.squares, reference.squares):
        torch.testing.assert_close(table.weight.detach(), expected.weight.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(squares.double(), of_reference, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_are_those_written_out(weight_decay):
    steps = [[batch(seed)] for seed in range(5)]
    assert len(set(steps[0][0][0].tolist())) < len(steps[0][0][0])  # indices repeat
    assert_same(*both_ways(steps, weight_decay))


def test_a_step_moves_the_rows_it_names():
    ours, *_ = both_ways([[batch(0)]], weight_decay=0.01)  # which moves a row that nothing flowed back to, too
    user, movie = batch(0)
    for table, before, index in zip(ours.tables, Pair().tables, (user, movie)):
        moved = (table.weight != before.weight).any(dim=1)
        assert set(moved.nonzero().reshape(-1).tolist()) == set(index.tolist())


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_several_forward_passes_before_a_step_are_one_gradient(weight_decay):
    steps = [[batch(3 * number + part, rows=15) for part in range(3)] for number in range(3)]
    shared = [set(index.tolist()) for index, _ in steps[0]]
    assert shared[0] & shared[1]  # a row that two passes name gets one step, by the sum
    assert_same(*both_ways(steps, weight_decay))


def test_a_table_that_a_forward_pass_asks_twice_gets_one_gradient():
    first, second = batch(1)[0], batch(2)[0]
    ours, theirs = Pair(), Pair()
    rowwise, reference = RowwiseAdagrad([ours.user], RATE, 0.0), Reference([theirs.user], 0.0)
    for model in (ours, theirs):
        (model.user(first) * model.user(second)).sum().backward()
    rowwise.step()
    reference.step([set(first.tolist()) | set(second.tolist())])
    torch.testing.assert_close(ours.user.weight.detach(), theirs.user.weight.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("same_object", [True, False])
def test_tables_of_one_input_each_get_their_own_gradient(same_object):
    """As in NCF, whose branches both ask for the batch's users."""
    index = batch(1)[0]
    again = index if same_object else index.clone()
    ours, theirs = Pair(), Pair()
    rowwise, reference = RowwiseAdagrad(ours.tables, RATE, 0.01), Reference(theirs.tables, 0.01)
    for model in (ours, theirs):
        (model.user(index).square() * model.movie(again)).sum().backward()
    rowwise.step()
    reference.step([set(index.tolist())] * 2)
    assert_same(ours, rowwise, theirs, reference)


def test_an_index_of_two_dimensions_is_one_of_rows():
    index = torch.tensor([[1, 2, 1], [3, 1, 2]])
    ours, theirs = Pair(), Pair()
    rowwise, reference = RowwiseAdagrad([ours.user], RATE, 0.0), Reference([theirs.user], 0.0)
    weight = torch.arange(24.0).reshape(2, 3, 4)
    for model in (ours, theirs):
        (model.user(index) * weight).sum().backward()
    rowwise.step()
    reference.step([{1, 2, 3}])
    torch.testing.assert_close(ours.user.weight.detach(), theirs.user.weight.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_rows_that_no_batch_names_do_not_change_by_a_bit(weight_decay):
    ours, rowwise, *_ = both_ways([[batch(seed)] for seed in range(5)], weight_decay)
    for table, before, squares, untouched in zip(
        ours.tables, Pair().tables, rowwise.squares, (slice(10, None), slice(15, None))
    ):
        assert torch.equal(table.weight[untouched], before.weight[untouched])
        assert not squares[untouched].any()
        assert (squares[: untouched.start] > 0).any()


def test_a_step_without_a_pass_changes_nothing():
    ours, rowwise, *_ = both_ways([[batch(0)]])
    before = [(table.weight.clone(), squares.clone()) for table, squares in zip(ours.tables, rowwise.squares)]
    rowwise.step()
    for table, squares, (weight, old) in zip(ours.tables, rowwise.squares, before):
        assert torch.equal(table.weight, weight)
        assert torch.equal(squares, old)


def test_a_pass_that_nothing_flowed_back_to_changes_nothing():
    model = Pair()
    rowwise = RowwiseAdagrad(model.tables, RATE, 0.01)
    before = copy.deepcopy(model.state_dict())
    model(*batch(0))
    rowwise.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_pass_without_gradients_is_not_kept(mode):
    model = Pair()
    rowwise = RowwiseAdagrad(model.tables, RATE, 0.01)
    with mode():
        rows = model.user(batch(0)[0])
        assert not rows.requires_grad
    there = weakref.ref(rows)
    del rows
    gc.collect()
    assert there() is None  # validation's rows would pile up
    before = copy.deepcopy(model.state_dict())
    rowwise.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_are_let_go_after_a_step():
    model = Pair()
    rowwise = RowwiseAdagrad(model.tables, RATE, 0.0)
    rows = model.user(batch(0)[0])
    rows.sum().backward()
    rowwise.step()
    there = weakref.ref(rows)
    del rows
    gc.collect()
    assert there() is None


def test_the_tables_are_out_of_autograd_and_the_rest_is_not():
    model = Pair()
    RowwiseAdagrad(model.tables, RATE, 0.0)
    model(*batch(0)).sum().backward()
    assert not any(table.weight.requires_grad for table in model.tables)
    assert all(table.weight.grad is None for table in model.tables)
    assert model.top.weight.grad.abs().sum() > 0


def test_a_table_that_is_not_held_stays_with_autograd():
    ours, theirs = Pair(), Pair()
    rowwise = RowwiseAdagrad([ours.user], RATE, 0.0)
    for model in (ours, theirs):
        model(*batch(0)).sum().backward()
    torch.testing.assert_close(ours.movie.weight.grad, theirs.movie.weight.grad)
    rowwise.step()
    assert torch.equal(ours.movie.weight, theirs.movie.weight)
    assert not torch.equal(ours.user.weight, theirs.user.weight)


def test_release_gives_the_tables_back_to_autograd():
    ours, rowwise, *_ = both_ways([[batch(0)], [batch(1)]])
    rowwise.release()
    assert all(parameter.requires_grad for parameter in ours.parameters())
    plain = Pair()
    plain.load_state_dict(ours.state_dict())
    for model in (ours, plain):
        model.zero_grad()
        model(*batch(2)).square().sum().backward()
    for one, other in zip(ours.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
    before = copy.deepcopy(ours.state_dict())
    rowwise.step()  # has kept nothing since
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_under_autocast_the_steps_are_those_of_autograd_under_autocast():
    def forward(model: Pair, user: Tensor, movie: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(user, movie)
        assert logits.dtype == torch.bfloat16
        return logits

    # More than one step would compare how roundings grow: bfloat16 has 8 bits.
    ours, rowwise, theirs, reference = both_ways([[batch(0)]], 0.01, forward)
    assert_same(ours, rowwise, theirs, reference)
    assert all(table.weight.dtype == torch.float32 for table in ours.tables)
    in_float32, *_ = both_ways([[batch(0)]], 0.01)
    assert not torch.equal(ours.user.weight, in_float32.user.weight)
