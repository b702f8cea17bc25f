"""One training in several processes, as torchrun starts them: each takes its part of every batch.

Every process has the whole model, the data and the epoch's order. It works out the gradients of its own samples; their
sum over the processes is then the gradient of the batch, so all take the same step. What is dropped out differs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from core.columns import MOVIE_ID
from core.errors import UserError
from core.torchrun import local_rank, processes, rank
from models.data.batches import Batch, Batches, epoch_seed
from models.networks.base import NETWORKS
from models.training.checkpoint import Trainee
from models.training.epoch import Task, TorchSteps, squares_of_rows


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Waits for the other processes that torchrun started, and leaves them at the end; nothing where there is one."""
    if processes() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(local_rank())
    with _others():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_several() -> bool:
    """Whether this training is in several processes."""
    return dist.is_available() and dist.is_initialized()


def wait_for_all() -> None:
    """Until every process is here, so that all see what the first has written."""
    if is_several():
        with _others():
            dist.barrier()


def agreed(value: float | None, device: torch.device) -> float | None:
    """A number as the first process has it, so that all decide alike; None for none."""
    if not is_several():
        return value
    told = torch.tensor([float("nan") if value is None else value], dtype=torch.float64, device=device)
    with _others():
        dist.broadcast(told, 0)
    return None if bool(told.isnan()) else float(told)


@contextmanager
def parted_steps(trainee: Trainee, task: Task, number: int) -> Iterator["PartedSteps"]:
    """The steps of this process."""
    torch.manual_seed(epoch_seed(task.settings.seed, number) + rank())  # of dropout
    trainee.model.train()
    trainee.rowwise.gather = gathered
    with squares_of_rows(trainee.model, task.settings.l2) as squares:
        yield PartedSteps(trainee, task, squares)


class PartedSteps(TorchSteps):
    """PyTorch's steps over a part of each batch, with gradients that are added up over the processes."""

    def gradients(self, batch: Batch) -> Tensor:
        own = 0 if batch.shared is not None else cast(Batches, self.task.batches).negatives
        part = part_of(batch, own, rank(), processes())
        loss = torch.zeros((), device=self.task.device)
        if len(part):
            loss = self.backward(part, len(batch))
        weights = [one for group in self.trainee.optimizer.param_groups for one in group["params"]]
        self._add_up(weights, loss)
        return loss

    def penalty(self, part: Batch) -> Tensor | int:
        """Movies that all share are looked up in every process, and pay in the first alone."""
        found, by_pairs = super().penalty(part), NETWORKS[self.trainee.model.name].against is None
        if part.shared is None or by_pairs or not rank():
            return found
        rows = self.trainee.model.movie_rows(part.shared.movie)
        tables = [table for name, table in self.trainee.model.embedding_tables() if name == MOVIE_ID]
        shared = [table(rows).float().flatten() for table in tables]
        del self.squares[-len(shared) :]  # which the hooks have kept of these lookups too
        return found - sum(torch.dot(row, row) for row in shared)

    def _add_up(self, weights: list[Tensor], loss: Tensor) -> None:
        """Gradients and loss become the sums of all processes'; a weight that no process used keeps none."""
        used = torch.tensor([one.grad is not None for one in weights], dtype=torch.float32, device=loss.device)
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
        flat = torch.cat([loss.reshape(1), used, *(part.flatten() for part in parts)])
        with _others():
            dist.all_reduce(flat)
        loss.copy_(flat[0])
        place = 1 + len(weights)
        for one, is_used in zip(weights, flat[1:place].bool().tolist()):
            one.grad = flat[place : place + one.numel()].view_as(one) if is_used else None
            place += one.numel()


def part_of(batch: Batch, negatives: int, rank: int, processes: int) -> Batch:
    """The samples of one process: some of the positives, each with its own negatives and its history.

    Args:
        negatives: of each positive's own, which follow all positives in their order.
    """
    positives = len(batch) // (1 + negatives)
    bounds = [positives * one // processes for one in (rank, rank + 1)]
    own = torch.arange(*bounds, device=batch.user.device)
    count = len(own)
    samples = own
    if negatives:
        drawn = positives + own[:, None] * negatives + torch.arange(negatives, device=own.device)
        samples = torch.cat([own, drawn.flatten()])
    history = batch.history
    if history is not None:
        rows = {one.name: getattr(history, one.name)[own] for one in fields(history) if one.name != "owner"}
        owner = None
        if negatives:
            owner = torch.cat([torch.arange(count), torch.arange(count).repeat_interleave(negatives)]).to(own.device)
        history = replace(history, **rows, owner=owner)
    shared = batch.shared
    if shared is not None:
        shared = replace(shared, is_negative=shared.is_negative[own])
    return Batch(
        user=batch.user[samples],
        movie=batch.movie[samples],
        fold=batch.fold[samples],
        label=batch.label[samples],
        weight=None if batch.weight is None else batch.weight[samples],
        history=history,
        shared=shared,
    )


def gathered(index: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a table that all processes used, int64 [n], and their gradients, float32 [n, dim]."""
    count = torch.tensor([len(index)], device=index.device)
    counts = [torch.zeros_like(count) for _ in range(processes())]
    with _others():
        dist.all_gather(counts, count)
        most = int(max(counts))
        parts = []
        for values in (index, gradient):
            padded = values.new_zeros((most, *values.shape[1:]))
            padded[: len(values)] = values
            found = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(found, padded)
            parts.append(torch.cat([one[: int(size)] for one, size in zip(found, counts)]))
    return parts[0], parts[1]


@contextmanager
def _others() -> Iterator[None]:
    """What waits for the other processes.

    Raises:
        UserError: one of them has ended.
    """
    try:
        yield
    except RuntimeError:  # with whatever the connection to it has met
        raise UserError(
            "another process of this training has ended; run it again, and it resumes after its last whole epoch"
        ) from None


def refuse_several(what: Any) -> None:
    """Raises a UserError where there are several processes, which something cannot be done in."""
    if processes() > 1:
        raise UserError(f"{what} is done in one process; run it without torchrun")
