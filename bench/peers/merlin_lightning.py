"""Merlin Models' PyTorch side: training samples per second of `mm.DLRMModel` under Lightning's `Trainer`.

What a user of Merlin writes: the model from its own factory, Merlin's loader, and `Trainer.fit`. Timed is `fit` on a
model that a few steps have already warmed up. It is at its best: no metrics, no logger, no checkpoints, no
progress bar. This side of Merlin has no NCF.
"""

import logging
import os
import time
import warnings

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the CPU is measured; a driver without cuDF would mislead Merlin

import merlin.models.torch as mm
import pytorch_lightning as pl
import torch
from merlin.dataloader.torch import Loader
from merlin.models.torch.batch import Batch
from merlin_loader import ending
from merlin_schema import dataset, schema
from peer import WARM_UP_STEPS, facts, parse, passes, training_parser, write_result
from pytorch_lightning.trainer.states import TrainerFn

PACKAGES = ("merlin-models", "merlin-dataloader", "torch", "pytorch-lightning", "numpy", "pandas")


class DLRM(mm.DLRMModel):
    """Merlin's DLRM under a current Python.

    Merlin's two hooks format the stage into an attribute's name, "fit_loop"; the stage is an enum, which since Python
    3.11 formats as "TrainerFn.FITTING". They work once they are given its value.
    """

    def setup(self, stage: str) -> None:
        super().setup(TrainerFn(stage).value)

    def teardown(self, stage: str) -> None:
        super().teardown(TrainerFn(stage).value)


def build(sizes: dict) -> DLRM:
    """The model with the benchmark's widths."""
    columns = schema(sizes, "dlrm")
    model = DLRM(
        columns,
        dim=sizes["dim"],
        bottom_block=mm.MLPBlock([*sizes["bottom"], sizes["dim"]]),
        top_block=mm.MLPBlock(sizes["top"]),
        output_block=mm.BinaryOutput(columns["label"]),
    )
    for output in model.model_outputs():
        output.metrics = []
    model.initialization = "manual"
    return model


def fit(model: DLRM, loader: Loader, epochs: int, steps: int) -> tuple[float, float]:
    """Trains with a Trainer of its own; returns the seconds of `fit` and the last loss."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(model, loader)
    seconds = time.perf_counter() - start
    loader.stop()
    return seconds, float(trainer.callback_metrics["train_loss"])


def main() -> None:
    arguments = parse(training_parser(__doc__, ("dlrm",)))
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    sizes = facts(arguments.data)
    rows = dataset(arguments.data, sizes, arguments.model)
    model = build(sizes)
    loader = ending(Loader(rows, batch_size=arguments.batch_size, shuffle=True, drop_last=True))
    # Given the loader instead, as it is by itself when `fit` begins, Merlin cuts a whole partition into single rows.
    model.initialize(Batch(*next(iter(loader))))
    loader.stop()
    fit(model, loader, 1, min(WARM_UP_STEPS, len(loader)))
    epochs, steps = passes(arguments.samples, arguments.batch_size, len(loader))
    seconds, loss = fit(model, loader, epochs, steps)
    samples = epochs * steps * arguments.batch_size
    write_result(
        arguments.out,
        PACKAGES,
        samples_per_second=samples / seconds,
        samples=samples,
        seconds=seconds,
        loss=loss,
        weights=sum(parameter.numel() for parameter in model.parameters()),
    )


if __name__ == "__main__":
    main()
