"""Polars doing the work of Marquee's own `prepare` for the random split: the practical limit of that ETL's speed.

What a user of Polars writes who wants the same tables: lazy frames, group-bys and joins, no NVTabular and no Merlin
schema. From the ratings in Parquet it makes the three splits (a random fifth tests, a tenth of the rest validates), the
vocabularies (most frequent in training first, ties by id; then the other rated movies, then those never rated; codes
from 3), the label, a random fold and the later ratings of every training row, the statistics of every movie and user
by fold, and the movies' genres as a multi-hot table. `rows_per_second` leaves out CSV to Parquet, which Marquee too
does in another stage.
"""

import argparse
import itertools
import time
from pathlib import Path

import polars as pl
from peer import parse, write_result

PACKAGES = ("polars",)
TEST_SHARE = 0.2
VALID_SHARE = 0.1
FOLDS = 5
FIRST_INDEX = 3
OUT_OF_VOCABULARY = 2
SEED = 42
KINDS = (("userId", "user_index"), ("movieId", "movie_index"))


def convert(raw: Path, out: Path) -> int:
    """CSV to Parquet; returns the number of ratings."""
    types = {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    pl.read_csv(raw / "ratings.csv", schema_overrides=types).write_parquet(out / "ratings.parquet")
    pl.read_csv(raw / "movies.csv", schema_overrides={"movieId": pl.Int32}).write_parquet(out / "movies.parquet")
    return pl.scan_parquet(out / "ratings.parquet").select(pl.len()).collect().item()


def split(ratings: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The three splits in file order; the rows of train with their folds and later ratings, the others without."""
    tests = round(len(ratings) * TEST_SHARE)
    valids = round((len(ratings) - tests) * VALID_SHARE)
    ratings = ratings.with_columns(draw=pl.int_range(pl.len()).shuffle(SEED))
    chosen = {
        "test": pl.col("draw") < tests,
        "valid": pl.col("draw").is_between(tests, tests + valids - 1),
        "train": pl.col("draw") >= tests + valids,
    }
    parts = {name: ratings.filter(condition).drop("draw") for name, condition in chosen.items()}
    later = pl.len() - pl.col("timestamp").rank("ordinal")
    not_before = pl.len() - pl.col("timestamp").rank("min")
    parts["train"] = parts["train"].with_columns(
        fold=(pl.int_range(pl.len()).shuffle(SEED + 1) % FOLDS).cast(pl.Int8),
        later=later.over("userId").cast(pl.Int32),
        not_before=not_before.over("userId").cast(pl.Int32),
    )
    for name in ("valid", "test"):
        parts[name] = parts[name].with_columns(
            fold=pl.lit(FOLDS, pl.Int8), later=pl.lit(0, pl.Int32), not_before=pl.lit(0, pl.Int32)
        )
    return parts


def vocabulary(train: pl.DataFrame, ratings: pl.DataFrame, catalogue: pl.DataFrame, name: str) -> pl.DataFrame:
    """The ids of one kind with their codes, their training ratings, and whether they are known and rated."""
    counts = train.group_by(name).agg(ratings=pl.len())
    rated = ratings.select(pl.col(name).unique(), rated=pl.lit(True))
    return (
        catalogue.select(pl.col(name).unique())
        .join(rated, on=name, how="left")
        .join(counts, on=name, how="left")
        .with_columns(
            pl.col("rated").fill_null(False), pl.col("ratings").fill_null(0), known=pl.col("ratings").is_not_null()
        )
        .sort(["ratings", "rated", name], descending=[True, True, False])
        .with_columns(index=pl.int_range(FIRST_INDEX, pl.len() + FIRST_INDEX, dtype=pl.Int32))
    )


def transform(part: pl.DataFrame, vocabularies: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Ids to codes, 2 for those not in training, and stars to the label."""
    frame = part.lazy()
    for name, index in KINDS:
        codes = vocabularies[name].lazy().filter("known").select(name, pl.col("index").alias(index))
        frame = frame.join(codes, on=name, how="left", maintain_order="left")
    return frame.select(
        pl.col("user_index", "movie_index").fill_null(OUT_OF_VOCABULARY),
        "rating",
        "timestamp",
        (pl.col("rating") > 3).cast(pl.Float32).alias("label"),
        "fold",
        "later",
    ).collect()


def statistics(train: pl.DataFrame, index: str) -> pl.DataFrame:
    """Ratings, sum of stars and sum of timestamps of every movie or user in every fold."""
    sums = {"stars": pl.col("rating").cast(pl.Float64).sum(), "seconds": pl.col("timestamp").sum()}
    return train.group_by(index, "fold").agg(count=pl.len(), **sums).sort(index, "fold")


def genres(movies: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    """A row per movie's code, a column per genre."""
    pairs = movies.select("movieId", genre=pl.col("genres").str.split("|")).explode("genre")
    pairs = pairs.filter(pl.col("genre") != "(no genres listed)").with_columns(has=pl.lit(1, pl.Float32))
    names = pairs["genre"].unique().sort().to_list()
    hot = pairs.pivot("genre", index="movieId", values="has", aggregate_function="first")
    table = codes.select("movieId", movie_index="index").join(hot, on="movieId", how="left")
    return table.select("movie_index", pl.col(names).fill_null(0).name.prefix("genre_")).sort("movie_index")


def prepare(out: Path) -> dict[str, float]:
    """The whole ETL from Parquet to Parquet; returns the seconds of its stages."""
    times = {"start": time.perf_counter()}

    def done(stage: str) -> None:
        times[stage] = time.perf_counter()

    ratings = pl.read_parquet(out / "ratings.parquet")
    movies = pl.read_parquet(out / "movies.parquet")
    parts = split(ratings)
    done("split")
    catalogues = {"userId": ratings, "movieId": movies}
    vocabularies = {name: vocabulary(parts["train"], ratings, catalogues[name], name) for name, _ in KINDS}
    for (name, _), frame in zip(KINDS, vocabularies.values()):
        frame.write_parquet(out / f"vocabulary-{name}.parquet")
    done("vocabularies")
    transformed = {name: transform(part, vocabularies) for name, part in parts.items()}
    for name, frame in transformed.items():
        frame.write_parquet(out / f"{name}.parquet")
    done("transform")
    for _, index in KINDS:
        statistics(transformed["train"], index).write_parquet(out / f"statistics-{index}.parquet")
    genres(movies, vocabularies["movieId"]).write_parquet(out / "movie_features.parquet")
    done("side tables")
    stages = list(times)
    return {stage: times[stage] - times[before] for before, stage in itertools.pairwise(stages)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="the folder with ratings.csv and movies.csv")
    parser.add_argument("--out-folder", type=Path, required=True)
    arguments = parse(parser)
    out = arguments.out_folder
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    rows = convert(arguments.raw, out)
    converted = time.perf_counter() - start
    stages = prepare(out)
    seconds = sum(stages.values())
    write_result(
        arguments.out,
        PACKAGES,
        rows_per_second=rows / seconds,
        seconds=seconds,
        rows=rows,
        stages={"convert": converted, **stages},
    )


if __name__ == "__main__":
    main()
