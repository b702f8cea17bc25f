"""The datasets by name: their size, their layout, and where their files can be had.

This module imports no library of numbers or tables: the command line lists the datasets in its help.
"""

import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from core.errors import UserError
from core.registry import Registry
from workflows.sources.download import MadeBySynth, Source, WheelFolder, grouplens

SYNTHETIC = "synth-"  # what the names of synthetic datasets begin with


@dataclass(frozen=True)
class Dataset:
    """A dataset of ratings.

    Attributes:
        ratings, users, movies: how many, as its publisher says; 0 where that is not known.
        layout: its layout in `LAYOUTS`, looked for before the others; None where it is not known. A copy of the dataset
            in another layout is read all the same.
        sources: where its files can be had, in the order in which they are tried.
    """

    name: str
    _: KW_ONLY
    ratings: int = 0
    users: int = 0
    movies: int = 0
    layout: str | None = None
    sources: tuple[Source, ...] = ()


DATASETS: Registry[Dataset] = Registry("dataset", __name__)


def get_dataset(name: str) -> Dataset:
    """The dataset of that name; `synth-...` is one that `marquee synth` has made.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name.startswith(SYNTHETIC) and Path(name).name == name:
        return Dataset(name, layout="movielens-csv", sources=(MadeBySynth(),))
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise UserError(f"unknown dataset {name!r}; choose one of {known}, what synth has made, or a table's file")
    return DATASETS[name]


def data_home() -> Path:
    """Where datasets are looked for and downloads are kept: $MARQUEE_DATA, or `data/`."""
    return Path(os.environ.get("MARQUEE_DATA") or "data")


# -- MovieLens' releases, with GroupLens' own numbers ------------------------------------------------------------------

DATASETS.add(
    "ml-100k",
    Dataset(
        "ml-100k",
        ratings=100_000,
        users=943,
        movies=1_682,
        layout="movielens-100k",
        sources=(
            grouplens("ml-100k", "0e33842e24a9c977be4e0107933c0723"),
            WheelFolder(
                "recbole==1.2.1",
                "recbole/dataset_example/ml-100k/",
                sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            ),
        ),
    ),
    position=10,
)
DATASETS.add(
    "ml-1m",
    Dataset(
        "ml-1m",
        ratings=1_000_209,
        users=6_040,
        movies=3_883,
        layout="movielens-dat",
        sources=(grouplens("ml-1m", "c4d9eecfca2ab87c1945afe126590906"),),
    ),
    position=20,
)
DATASETS.add(
    "ml-10m",
    Dataset(
        "ml-10m",
        ratings=10_000_054,
        users=69_878,
        movies=10_681,
        layout="movielens-dat",
        sources=(grouplens("ml-10m", "ce571fd55effeba0271552578f2648bd"),),
    ),
    position=30,
)
DATASETS.add(
    "ml-20m",
    Dataset(
        "ml-20m",
        ratings=20_000_263,
        users=138_493,
        movies=27_278,
        layout="movielens-csv",
        sources=(grouplens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3"),),
    ),
    position=40,
)
DATASETS.add(
    "ml-25m",
    Dataset(
        "ml-25m",
        ratings=25_000_095,
        users=162_541,
        movies=62_423,
        layout="movielens-csv",
        sources=(grouplens("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada"),),
    ),
    position=50,
)
DATASETS.add(
    "ml-32m",
    Dataset(
        "ml-32m",
        ratings=32_000_204,
        users=200_948,
        movies=87_585,
        layout="movielens-csv",
        sources=(grouplens("ml-32m"),),
    ),
    position=60,
)
DATASETS.add(
    "ml-latest-small",
    Dataset(
        "ml-latest-small",
        ratings=100_836,
        users=610,
        movies=9_742,
        layout="movielens-csv",
        sources=(grouplens("ml-latest-small"),),
    ),
    position=70,
)

# -- others ------------------------------------------------------------------------------------------------------------

DATASETS.add(
    "netflix",
    Dataset(
        "netflix",
        ratings=100_480_507,  # Bennett and Lanning, "The Netflix Prize", KDD Cup 2007
        users=480_189,
        movies=17_770,
        layout="netflix",  # no source: Netflix has withdrawn the files
    ),
    position=80,
)
