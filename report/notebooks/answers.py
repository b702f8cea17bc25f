"""A server's answers with titles, as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from core.columns import RAW_MOVIE, TITLE, YEAR
from ensemble.client import Client, Recommendations, Similar
from models.networks.base import NETWORKS
from report.files import RunFiles


def most_rated(files: RunFiles, count: int) -> list[int]:
    """Raw ids of the movies with the most ratings, the most rated first."""
    counts = files.ratings[RAW_MOVIE].value_counts(sort=False).sort_index()
    return counts.sort_values(ascending=False, kind="stable").index[:count].tolist()


def titles_of(files: RunFiles) -> pd.Series:
    """`Title (year)` by raw movie id."""
    movies = files.movies.set_index(RAW_MOVIE)
    year = movies[YEAR].map(lambda year: f" ({year})" if year else "")
    return movies[TITLE] + year


def answers_of(
    client: Client, networks: Iterable[str], user_id: int | None = None, history: Sequence[int] = ()
) -> dict[str, Recommendations]:
    """What each network recommends, by its name; arguments as of `Client.recommend`."""
    return {name: client.recommend(user_id, history=list(history), model=name) for name in networks}


def side_by_side(files: RunFiles, answers: Mapping[str, Recommendations]) -> pd.DataFrame:
    """Lists of recommendations beside each other, from place 1 on; a dot marks movies that are in all of several.

    Args:
        answers: by the name of the network.
    """
    titles = titles_of(files)
    everywhere = set.intersection(*(set(one.movie_id.tolist()) for one in answers.values()))
    parts = {}
    for model, answer in answers.items():
        movies = answer.movie_id.tolist()
        columns = {"movie": titles.reindex(movies).to_numpy(), "score": answer.score.round(3)}
        if len(answers) > 1:
            columns[f"in {'both' if len(answers) == 2 else 'all'}"] = [
                "●" if movie in everywhere else "" for movie in movies
            ]
        parts[NETWORKS[model].title] = pd.DataFrame(columns)
    return _from_one(pd.concat(parts, axis=1))


def manifest_table(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """What a repository's manifest says of the version that serves: a row for each fact."""
    networks = {NETWORKS[name].title: one["strategy"] for name, one in manifest["networks"].items()}
    facts = {
        "version": manifest["version"],
        "dataset": manifest["dataset"],
        "protocol": manifest["protocol"],
        "answers by default": NETWORKS[manifest["default_model"]].title,
        "strategy of recommend": ", ".join(f"{title}: {strategy}" for title, strategy in networks.items()),
        "files with a SHA-256": len(manifest["files"]),
    }
    return pd.Series(facts, dtype=object).to_frame("")


def similar_table(files: RunFiles, answer: Similar) -> pd.DataFrame:
    """The movies most like one, from place 1 on."""
    titles = titles_of(files).reindex(answer.movie_id.tolist()).to_numpy()
    return _from_one(pd.DataFrame({"movie": titles, "similarity": answer.score.round(3)}))


def _from_one(table: pd.DataFrame) -> pd.DataFrame:
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table
