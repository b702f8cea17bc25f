"""One epoch of training: its steps, and the running mean of the weights; and the steps that PyTorch takes."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from packaging.version import parse as version_info
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.data.batches import Batches, epoch_seed
from models.data.sequences import SequenceBatches
from models.networks.base import Recommender
from models.training.checkpoint import Trainee
from models.training.objective import Objective
from models.training.rowwise import LARGE_TABLE, RowwiseAdagrad
from models.training.settings import TrainSettings

REPORT_STEPS = 32
AVERAGE_STEPS = 16  # between two updates of the running mean of the weights

Advance = Callable[[float, str], None]


def make_trainee(model: Recommender, settings: TrainSettings, device: torch.device) -> Trainee:
    # What is validated and kept is a running mean of the weights: better than the last ones, and less noisy.
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging**AVERAGE_STEPS))
    tables = [table for _, table in model.embedding_tables() if len(table.weight) >= LARGE_TABLE]
    rowwise = RowwiseAdagrad(tables if settings.embedding_rate else [], settings.embedding_rate, settings.weight_decay)
    # In a group, as there may be none: the tables of matrix factorisation can all be large.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(
        [{"params": parameters}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=_can_fuse(device),
    )
    return Trainee(model, mean, optimizer, rowwise)


class Steps(Protocol):
    """The steps of one epoch, in some framework."""

    def step(self, batch: Any) -> Tensor:
        """Changes what is trained by one batch; returns its mean loss without penalties."""

    def write(self) -> None:
        """Brings the trainee's model to where the training is."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a training does in each epoch: its samples, its loss, and how.

    Attributes:
        batches: have `samples`, how many an epoch has, or is expected to have where they are drawn; `samples_at_most`;
            and `epoch`, from its number to its batches.
        steps: (trainee, task, the epoch's number) to its steps, which end with it; PyTorch's own, or a framework's.
    """

    batches: Batches | SequenceBatches
    objective: Objective
    settings: TrainSettings
    device: torch.device
    steps: "Callable[[Trainee, Task, int], AbstractContextManager[Steps]]"


def train_epoch(trainee: Trainee, task: Task, number: int, advance: Advance) -> float:
    """One pass over the samples; returns their mean loss.

    Args:
        advance: reported the samples done, as a share of `samples_at_most`, and an empty note.
    """
    batches = task.batches
    stands_for = batches.samples_at_most / batches.samples
    total = torch.zeros((), device=task.device)
    reported, done = 0, 0
    batch: Any
    with task.steps(trainee, task, number) as steps:
        for count, batch in enumerate(batches.epoch(number), 1):
            set_rates(trainee, task.settings, number - 1 + (done / batches.samples))
            total += steps.step(batch) * len(batch)
            done += len(batch)
            if count % AVERAGE_STEPS == 0:
                steps.write()
                trainee.mean.update_parameters(trainee.model)
            if count % REPORT_STEPS == 0:
                advance((done - reported) * stands_for, "")
                reported = done
    trainee.mean.update_parameters(trainee.model)
    advance((done - reported) * stands_for, "")
    return float(total) / done


@contextmanager
def torch_steps(trainee: Trainee, task: Task, number: int) -> Iterator["TorchSteps"]:
    """PyTorch's steps."""
    torch.manual_seed(epoch_seed(task.settings.seed, number))  # of dropout
    trainee.model.train()
    with squares_of_rows(trainee.model, task.settings.l2) as squares:
        yield TorchSteps(trainee, task, squares)


@dataclass
class TorchSteps:
    """Forward, loss, backward, update.

    Attributes:
        squares: of the embeddings that a forward pass used, added by it.
    """

    trainee: Trainee
    task: Task
    squares: list[Tensor]

    def step(self, batch: Any) -> Tensor:
        self.trainee.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(batch)
        self.trainee.optimizer.step()
        self.trainee.rowwise.step()
        return loss

    def gradients(self, batch: Any) -> Tensor:
        """Works out the batch's gradients; returns its mean loss without penalties."""
        return self.backward(batch, len(batch))

    def backward(self, batch: Any, samples: int) -> Tensor:
        """Adds a batch's gradients; returns its loss without penalties.

        Args:
            samples: of the whole that the batch is a part of, or is itself: the loss is its share of their mean.
        """
        settings, objective = self.task.settings, self.task.objective
        with autocast(settings.precision, self.task.device):
            outputs = objective.outputs(self.trainee.model, batch)
        loss = objective.loss(outputs.float(), batch)
        if samples != len(batch):
            loss = loss * (len(batch) / samples)
        alone = loss.detach()
        if settings.l2:
            loss = loss + settings.l2 / samples * self.penalty(batch)
            self.squares.clear()
        loss.backward()
        return alone

    def penalty(self, batch: Any) -> Tensor | int:
        """The sum of squares of the embeddings that the batch used."""
        return sum(self.squares)

    def write(self) -> None:
        """The model itself is what the steps change."""


def set_rates(trainee: Trainee, settings: TrainSettings, epochs_done: float) -> None:
    """Sets the learning rates where the schedule has them after so many epochs, in fractions."""
    if settings.schedule == "cosine":
        share = (1 + math.cos(math.pi * min(1.0, epochs_done / settings.epochs))) / 2
        for group in trainee.optimizer.param_groups:
            group["lr"] = settings.learning_rate * share
        trainee.rowwise.learning_rate = settings.embedding_rate * share


@contextmanager
def squares_of_rows(model: Recommender, wanted: float) -> Iterator[list[Tensor]]:
    """A list that every forward pass adds to: the sums of squares of the embeddings that it used."""
    squares: list[Tensor] = []

    def keep(_: nn.Module, __: Any, rows: Tensor) -> None:
        pooled = rows.shape[1] if rows.dim() == 3 else 1  # the rows that make one vector share its penalty
        flat = rows.float().flatten()
        squares.append(torch.dot(flat, flat) / pooled)  # a third of the time of square().sum()

    def keep_pooled(table: nn.Embedding, codes: Tensor) -> None:
        times = torch.bincount(codes.flatten(), minlength=len(table.weight)).to(table.weight.dtype)
        squares.append(torch.dot(times, table.weight.square().sum(dim=1)) / codes.shape[1])

    tables = [table for _, table in model.embedding_tables()] if wanted else []
    hooks = [table.register_forward_hook(keep) for table in tables]
    for table in tables:
        table.of_pooled = keep_pooled
    try:
        yield squares
    finally:
        for hook in hooks:
            hook.remove()
        for table in tables:
            del table.of_pooled


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Where the forward pass runs in `precision`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _can_fuse(device: torch.device) -> bool:
    """Whether this PyTorch has a fused Adam for the device: on the CPU only from 2.4 on."""
    return device.type == "cuda" or version_info(torch.__version__) >= version_info("2.4")
