"""What each user has rated, as `recommend` looks it up."""

import numpy as np
import pandas as pd

from tests.ensemble.export.conftest import vocabulary


def test_what_anyone_has_rated_is_listed_by_user(exported):
    """In any split, against the table of ratings."""
    folder = exported.repository / "recommend" / "1"
    rated, starts = np.load(folder / "rated.npy"), np.load(folder / "rated_starts.npy")
    users, movies = vocabulary(exported, "user"), vocabulary(exported, "movie").sort_values("index")
    catalogue = movies["movie_id"].to_numpy()
    ratings = pd.read_parquet(exported.tables / "ratings.parquet").groupby("userId")["movieId"].agg(sorted)
    assert len(starts) == users["index"].max() + 2
    assert len(rated) == ratings.map(len).sum()
    for raw, index in zip(users["user_id"], users["index"]):
        assert sorted(catalogue[rated[starts[index] : starts[index + 1]]].tolist()) == ratings[raw]
    assert starts[:4].tolist() == [0, 0, 0, 0]  # no user has a reserved index
