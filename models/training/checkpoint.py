"""Where training stands after an epoch, so that one that was killed resumes there with the same result.

Tensors are kept as safetensors, the rest as JSON: nothing is unpickled. An epoch's randomness comes from the seed and
the epoch's number, so no generator's state is needed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from core.artifacts import is_current, new_folder
from core.json_files import read_json, write_json
from core.partial import recover, remove
from models.training.rowwise import RowwiseAdagrad

SEPARATOR = "|"


@dataclass
class Progress:
    """What an interrupted training needs besides weights and optimizer.

    Attributes:
        history: a row per epoch that is done.
        best: the epoch that validated best, from 1; 0 for none yet.
        best_weights: its weights.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Trainee:
    """Everything that training changes."""

    model: nn.Module
    mean: AveragedModel
    optimizer: torch.optim.Optimizer
    rowwise: RowwiseAdagrad

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Every tensor that an epoch changes, as it is now and to be written to, by part and name."""
        state = self.optimizer.state_dict()["state"]
        return {
            "model": dict(self.model.state_dict()),
            "mean": dict(self.mean.module.state_dict()),
            "optimizer": {f"{n}.{key}": value for n, values in state.items() for key, value in values.items()},
            "squares": {str(n): value for n, value in enumerate(self.rowwise.squares)},
            "averaged": {"steps": self.mean.n_averaged},
        }


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept.

    Attributes:
        folder: of the checkpoint.
        made_from: fingerprint of the training that it belongs to; a checkpoint of another training is not looked at.
    """

    folder: Path
    made_from: str

    @classmethod
    def beside(cls, model_folder: Path, made_from: str) -> "Checkpoint":
        """The checkpoint of the model that will be in `model_folder`."""
        return cls(model_folder.with_name(f".{model_folder.name}.checkpoint"), made_from)

    def save(self, trainee: Trainee, progress: Progress) -> None:
        """Writes a checkpoint, whole or not at all, in the place of the one before."""
        parts = {**trainee.tensors(), "best": progress.best_weights}
        flat = {
            f"{part}{SEPARATOR}{name}": tensor.detach().cpu().contiguous()
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }
        with new_folder(self.folder, self.made_from) as out:
            save_file(flat, out / "tensors.safetensors")
            write_json(out / "progress.json", {"history": progress.history, "best": progress.best})

    def restore(self, trainee: Trainee) -> Progress | None:
        """Brings a fresh trainee to where the checkpoint is, in place.

        Returns:
            How far it is, or None where there is no whole checkpoint of the same training.
        """
        if not is_current(self.folder, self.made_from):
            return None
        saved: dict[str, dict[str, Tensor]] = {}
        for key, tensor in load_file(self.folder / "tensors.safetensors").items():
            part, name = key.split(SEPARATOR, 1)
            saved.setdefault(part, {})[name] = tensor
        # Adam has no state before its first step: a step that changes nothing makes it.
        for parameter in (p for group in trainee.optimizer.param_groups for p in group["params"]):
            parameter.grad = torch.zeros_like(parameter)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for part, tensors in trainee.tensors().items():
                for name, tensor in tensors.items():
                    tensor.copy_(saved[part][name])
        kept = read_json(self.folder / "progress.json")
        device = next(trainee.model.parameters()).device
        best_weights = {name: tensor.to(device) for name, tensor in saved.get("best", {}).items()}
        return Progress(kept["history"], kept["best"], best_weights)

    def remove(self) -> None:
        """Forgets a training that is done."""
        recover(self.folder)
        remove(self.folder)
