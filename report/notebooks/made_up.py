"""Ratings that `synth` makes, small enough to print: MovieLens' own rows may not be passed on."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.run_folder import DEFAULT_SEED, Run
from core.temporary import temporary_folder
from workflows.features.prepare import PrepareSettings, prepare
from workflows.sources.datasets import SYNTHETIC, get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.synthetic.synthesise import synthesise

LIKE, SCALE = "ml-latest-small", 0.05
RARE = 10  # training ratings, below which `random-split` gives an id no index of its own
TEMPORARY = "marquee-made-up-"
THRESHOLDS = {"leave-one-out": 1, "random-split": RARE}


@contextmanager
def made_up_run() -> Iterator[Run]:
    """A synthetic dataset's run with tables and features, removed at the end of the block.

    The features of `leave-one-out` have an index for every id that trains; those of `random-split` only for ids with at
    least `RARE` training ratings.
    """
    with temporary_folder(TEMPORARY) as folder:
        dataset = get_dataset(f"{SYNTHETIC}{LIKE}")
        synthesise(folder / dataset.name, LIKE, SCALE, DEFAULT_SEED, lambda *_: None)
        run = Run(folder / "runs" / dataset.name)
        fetch_tables(dataset, folder / dataset.name, run.tables, lambda _: None)
        for split, threshold in THRESHOLDS.items():
            prepare(run, split, PrepareSettings(freq_threshold=threshold), lambda *_: None)
        yield run
