"""NVTabular by the recipe of NVIDIA's getting-started MovieLens notebooks: rows per second of its ETL on the CPU.

What a user who follows those notebooks writes: pandas turns the CSV files into Parquet, genres into lists, a random
fifth of the ratings into a validation set; then one NVTabular workflow joins the genres to every rating, categorifies
users, movies and genres, and turns more than three stars into the label. It is fitted on the training rows and
transforms both sets to Parquet. `rows_per_second` is all rows over the seconds of fitting and transforming.

Without a Dask client NVTabular computes in one thread, and that is how the notebooks run it. `--scheduler client` gives
it a client with `--threads` threads.
"""

import argparse
import contextlib
import itertools
import os
import time
import warnings
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the CPU is measured; a driver without cuDF would mislead Merlin

import dask
import nvtabular as nvt
import pandas as pd
from distributed import Client
from merlin.core.utils import set_dask_client
from merlin.io import Dataset
from peer import parse, write_result

PACKAGES = ("nvtabular", "merlin-core", "dask", "pandas", "pyarrow", "numpy")
VALID_SHARE = 0.2
PART_SIZE = "100MB"
SEED = 42


def liked(rating: pd.Series) -> pd.Series:
    """1 where there are more than three stars."""
    return (rating > 3).astype("int8")


def convert(raw: Path, out: Path) -> int:
    """CSV to Parquet, shuffled and split; returns the number of ratings."""
    movies = pd.read_csv(raw / "movies.csv")
    movies["genres"] = movies["genres"].str.split("|")
    movies.drop(columns="title").to_parquet(out / "movies.parquet")
    ratings = pd.read_csv(raw / "ratings.csv").sample(frac=1, random_state=SEED)
    valid = round(len(ratings) * VALID_SHARE)
    ratings = ratings.drop(columns="timestamp")
    ratings[valid:].to_parquet(out / "train.parquet", index=False)
    ratings[:valid].to_parquet(out / "valid.parquet", index=False)
    return len(ratings)


def workflow(out: Path) -> nvt.Workflow:
    """Joined genres, categorical ids and genres, and the label."""
    movies = pd.read_parquet(out / "movies.parquet")
    joined = ["userId", "movieId"] >> nvt.ops.JoinExternal(movies, on=["movieId"])
    categories = joined >> nvt.ops.Categorify(out_path=str(out / "categories"))
    label = ["rating"] >> nvt.ops.LambdaOp(liked)
    return nvt.Workflow(categories + label)


def transform(fitted: nvt.Workflow, source: Dataset, out: Path) -> None:
    """Writes the transformed rows, shuffled within partitions as in the notebooks."""
    shuffle = nvt.io.Shuffle.PER_PARTITION
    names = {"cats": ["userId", "movieId", "genres"], "labels": ["rating"]}
    fitted.transform(source).to_parquet(output_path=str(out), shuffle=shuffle, **names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="the folder with ratings.csv and movies.csv")
    parser.add_argument("--out-folder", type=Path, required=True)
    parser.add_argument("--scheduler", choices=("notebook", "client"), default="notebook")
    arguments = parse(parser)
    warnings.filterwarnings("ignore")
    out = arguments.out_folder
    out.mkdir(parents=True, exist_ok=True)
    times = [time.perf_counter()]
    rows = convert(arguments.raw, out)
    times.append(time.perf_counter())
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(scheduler="threads", num_workers=arguments.threads))
        if arguments.scheduler == "client":
            client = Client(processes=False, n_workers=1, threads_per_worker=arguments.threads, dashboard_address=None)
            set_dask_client(stack.enter_context(client))
        times.append(time.perf_counter())
        train, valid = (Dataset(str(out / f"{part}.parquet"), part_size=PART_SIZE) for part in ("train", "valid"))
        fitted = workflow(out).fit(train)
        times.append(time.perf_counter())
        transform(fitted, train, out / "train")
        transform(fitted, valid, out / "valid")
        times.append(time.perf_counter())
    convert_seconds, _, fit_seconds, transform_seconds = (end - begin for begin, end in itertools.pairwise(times))
    seconds = fit_seconds + transform_seconds
    write_result(
        arguments.out,
        PACKAGES,
        rows_per_second=rows / seconds,
        seconds=seconds,
        rows=rows,
        scheduler=arguments.scheduler,
        stages={"convert": convert_seconds, "fit": fit_seconds, "transform": transform_seconds},
    )


if __name__ == "__main__":
    main()
