"""A training as TensorBoard events, which are on disk as each epoch ends."""

from pathlib import Path
from typing import Any

from tensorboard.compat import tf
from torch.utils.tensorboard import SummaryWriter

from core.errors import UserError

NOT_METRICS = {"epoch", "train_loss", "samples", "seconds"}  # what else is in a row of the history


class Events:
    """Writes one model's events into a folder; those of an earlier training there are superseded.

    The scalars are `train/loss`, `validation/<metric>` and, of training again on validation rows too, `refit/loss`.
    The step is the epoch.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        # an absolute path is not taken for a URL; TensorBoard drops what it has read of this step and later ones
        self.writer = SummaryWriter(str(folder.absolute()), purge_step=1)

    def fitted(self, row: dict[str, Any]) -> None:
        """Writes a row of the history; metrics that are undefined are left out.

        Raises:
            UserError: the folder cannot be written any more, as on a full disk.
        """
        metrics = {f"validation/{name}": value for name, value in row.items() if name not in NOT_METRICS}
        self._write(row["epoch"], {"train/loss": row["train_loss"], **metrics})

    def refitted(self, row: dict[str, Any]) -> None:
        """Writes an epoch of training on train and validation rows; raises as `fitted`."""
        self._write(row["epoch"], {"refit/loss": row["train_loss"]})

    def _write(self, epoch: int, scalars: dict[str, float | None]) -> None:
        try:
            for name, value in scalars.items():
                if value is not None:
                    self.writer.add_scalar(name, value, epoch)
            self.writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"--tensorboard: {self.folder} cannot be written any more: {error}") from None

    def close(self) -> None:
        """Closes the file."""
        self.writer.close()
