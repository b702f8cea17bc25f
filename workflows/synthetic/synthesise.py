"""The command `synth`: a synthetic release written whole, with its truth and the best metrics that can be reached."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from core.artifacts import fingerprint, is_current, missing_folders, new_folder, remove_empty
from core.errors import UserError
from core.json_files import read_json, write_json
from core.locks import Held, held
from workflows.sources.datasets import DATASETS
from workflows.synthetic.draw import FEWEST_RATINGS, Shape, activity, draw_truth
from workflows.synthetic.files import SUMMARY
from workflows.synthetic.measure import measure
from workflows.synthetic.truth import FORMAT, PARAMETERS, write_truth
from workflows.synthetic.write import readme, write_movies, write_ratings, write_tags

LARGEST_SCALE = 4.0
FEWEST_USERS = 50
CATALOGUE = 10  # times what a user rates on average: the fewest movies, so that there are some left to recommend
# GroupLens' numbers; the Netflix Prize had no tags
TAGGINGS = {"ml-20m": 465_564, "ml-25m": 1_093_360, "ml-32m": 2_000_072, "ml-latest-small": 3_683, "netflix": 0}
LIKE = {
    name: Shape(DATASETS[name].users, DATASETS[name].movies, DATASETS[name].ratings, tags)
    for name, tags in TAGGINGS.items()
}


def synthesise(folder: Path, like: str, scale: float, seed: int, advance: Callable[[float, str], None]) -> dict:
    """Writes a synthetic release in MovieLens' CSV layout, with its truth: `folder` is whole or not there.

    A folder that was made with the same arguments, and has not changed since, is left as it is. The same arguments
    give the same bytes on the same machine.

    Args:
        folder: gets `ratings.csv`, `movies.csv`, `tags.csv`, `links.csv`, `truth-users.parquet`,
            `truth-movies.parquet`, `synth.json`, `README.txt` and a manifest.
        like: whose size to take, one of `LIKE`.
        scale: times how many users, movies, ratings and tags; above 0, at most 4. A small catalogue shrinks less: it
            keeps ten times as many movies as a user rates on average.
        seed: what everything is drawn from, 0 or more.
        advance: is called with the number of ratings written and an empty note.

    Returns:
        What `synth.json` holds: the arguments, counts, parameters, the best metrics that any model can reach
        (leave-one-out HR@10 and NDCG@10 against 99 movies; AUC of more than 3 stars), and popularity's HR@10.

    Raises:
        UserError: an unknown `like`, a scale or seed out of range, or a folder that holds something else.
    """
    scale = float(scale)
    shape = scaled_shape(like, scale)
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; give 0 or more")
    made_from = fingerprint(format=FORMAT, like=like, scale=scale, seed=seed)
    if is_current(folder, made_from):
        return read_json(folder / SUMMARY)
    with _alone(folder), new_folder(folder, made_from) as out:
        if folder.exists():
            raise UserError(
                f"{folder} exists and is not {like} at scale {scale} from seed {seed}; remove it or give another --out"
            )
        measured = _write_files(out, shape, seed, advance)
        summary = {"format": FORMAT, "like": like, "scale": scale, "seed": seed, "counts": asdict(shape), **measured}
        write_json(out / SUMMARY, summary)
        (out / "README.txt").write_text(readme(like, scale, seed, shape), encoding="utf-8")
    return summary


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time make a folder; parents that were made for it and stayed empty are removed.

    Raises:
        UserError: another process makes it.
    """
    folder = folder.absolute()  # whose name is not `.`
    missing = missing_folders(folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(folder.with_name(f".{folder.name}.lock")):
            yield
    except Held:
        raise UserError(
            f"another marquee process writes to {folder}; wait for it, or give another folder with --out"
        ) from None
    finally:
        remove_empty(missing)


def _write_files(out: Path, shape: Shape, seed: int, advance: Callable[[float, str], None]) -> dict[str, dict]:
    """Draws everything and writes it; returns the parameters, the best metrics and popularity's."""
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)]
    for_movies, for_users, for_ratings, for_text, for_tags, for_best = streams
    counts = activity(for_users, shape)
    truth, genres = draw_truth(for_movies, for_users, shape, counts)
    write_movies(for_text, out, truth.movie_ids, genres)
    write_truth(out, truth)
    ratings = write_ratings(for_ratings, out / "ratings.csv", truth, counts, advance)
    write_tags(for_tags, out / "tags.csv", truth, ratings, shape.tags)
    best, popularity = measure(for_best, truth, ratings)
    parameters = PARAMETERS | {"fit_mean": truth.fit[0], "fit_scale": truth.fit[1]}
    return {"parameters": parameters, "best": best, "popularity": popularity}


def ratings_of(like: str, scale: float) -> int:
    """How many ratings `synthesise` will write.

    Raises:
        UserError: an unknown `like`, or a scale out of range.
    """
    return scaled_shape(like, scale).ratings


def scaled_shape(like: str, scale: float) -> Shape:
    """How many users, movies, ratings and tags a release has at a scale.

    Raises:
        UserError: an unknown `like`, or a scale out of range.
    """
    if like not in LIKE:
        raise UserError(f"unknown release {like!r}; choose one of {', '.join(LIKE)}")
    if not 0 < scale <= LARGEST_SCALE:
        raise UserError(f"--scale {scale} is out of range; give more than 0 and at most {LARGEST_SCALE:g}")
    full = LIKE[like]
    users, ratings = max(FEWEST_USERS, round(full.users * scale)), round(full.ratings * scale)
    if ratings < users * FEWEST_RATINGS:
        least = math.ceil(FEWEST_USERS * FEWEST_RATINGS / full.ratings * 1e6) / 1e6
        raise UserError(
            f"--scale {scale} leaves {users} users of {like} with under {FEWEST_RATINGS} ratings each; "
            f"give {least:g} or more"
        )
    movies = max(round(full.movies * scale), CATALOGUE * round(ratings / users))
    return Shape(users, movies, ratings, min(round(full.tags * scale), ratings))
