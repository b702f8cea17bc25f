"""Training a network's branches apart, before they are trained together: He et al., 2017, section 3.4.1."""

from dataclasses import replace

import torch
from torch import nn

from models.networks.base import Network, Recommender
from models.training.checkpoint import Trainee
from models.training.epoch import Advance, Task, make_trainee, train_epoch


def pretrain(network: Network, trainee: Trainee, task: Task, advance: Advance) -> Trainee:
    """Trains each branch for `settings.pretraining` epochs and joins them, all weighing alike.

    Returns:
        A fresh trainee of the joined model.
    """
    model = trainee.model
    settings = replace(task.settings, epochs=task.settings.pretraining)
    last_layers = []
    torch.manual_seed(settings.seed)
    for branch in network.branches(model) if network.branches else ():
        apart = make_trainee(branch.to(task.device), settings, task.device)
        for number in range(1, settings.pretraining + 1):
            loss = train_epoch(apart, replace(task, settings=settings), number, lambda *_: None)
            advance(0, f"a branch of {network.title} alone, epoch {number}: loss {loss:.4f}")
        apart.rowwise.release()
        branch.load_state_dict(apart.mean.module.state_dict())  # the modules are the network's own
        last_layers.append(last_layer(branch))
    last, share = last_layer(model), 1 / len(last_layers)
    with torch.no_grad():
        last.weight.copy_(torch.cat([layer.weight for layer in last_layers], dim=1) * share)
        last.bias.copy_(sum(layer.bias for layer in last_layers) * share)
    return make_trainee(model, task.settings, task.device)


def last_layer(model: Recommender) -> nn.Linear:
    """The layer that gives the score."""
    return next(module for module in reversed(list(model.network.modules())) if isinstance(module, nn.Linear))
