"""A run's files as pictures need them: each is read once, and nothing is trained or scored again."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from core.columns import GENRES, RATING, RAW_MOVIE
from core.errors import UserError
from core.json_files import read_json, validated
from core.run_folder import Run
from models.evaluation.results import Result, read_results
from report.current import refuse_stale
from report.served import Served, served_now


@dataclass(frozen=True)
class RunFiles:
    """See the module. Every method raises `UserError` where a file is missing, and names the command that writes it."""

    run: Run

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """`userId`, `movieId`, `rating`, `timestamp`."""
        return self._table("ratings")

    @cached_property
    def movies(self) -> pd.DataFrame:
        """`movieId`, `title`, `year` (0 where it is unknown), `genres` (a list each)."""
        return self._table("movies")

    def _table(self, name: str) -> pd.DataFrame:
        path = self.run.tables / f"{name}.parquet"
        if not path.is_file():
            raise UserError(f"{path} is missing; run: {self.run.command('fetch')}")
        return pq.read_table(path).to_pandas(split_blocks=True, self_destruct=True)

    @cached_property
    def stars(self) -> pd.DataFrame:
        """How often each movie has each of the star values that occur: int64 [movies, values].

        The rows are those of `movies`, the columns the values in stars, the lowest first.
        """
        code, values = pd.factorize(self.ratings[RATING].to_numpy(), sort=True)
        movie = pd.Index(self.movies[RAW_MOVIE]).get_indexer(self.ratings[RAW_MOVIE])
        shape = len(self.movies), len(values)
        counts = np.bincount(movie * len(values) + code, minlength=shape[0] * shape[1]).reshape(shape)
        return pd.DataFrame(counts, index=self.movies.index, columns=values.astype("float64"))

    @cached_property
    def genres(self) -> pd.DataFrame:
        """Which movie has which genre: bool [movies, genres], the rows those of `movies`, the genres by name."""
        flat = self.movies[GENRES].explode().dropna()
        code, names = pd.factorize(flat.to_numpy(), sort=True)
        has = np.zeros((len(self.movies), len(names)), dtype=bool)
        has[self.movies.index.get_indexer(flat.index), code] = True
        return pd.DataFrame(has, index=self.movies.index, columns=names)

    @cached_property
    def results(self) -> list[Result]:
        """The entries of `evaluation.json`."""
        return read_results(self.run)

    def result(self, protocol: str, model: str) -> Result:
        """One of them."""
        for one in self.results:
            if (one.protocol, one.model) == (protocol, model):
                return one
        raise UserError(f"{self.run.evaluation} has no {model}, {protocol}; run: {self.run.command('evaluate')}")

    def models(self, protocol: str) -> list[str]:
        """The models that a protocol has judged, in the order of the tables."""
        return [one.model for one in self.results if one.protocol == protocol]

    @cache  # noqa: B019 - one object for each run and notebook
    def history(self, protocol: str, model: str) -> pd.DataFrame:
        """Loss and validation metrics of a trained network, float64, a row for each epoch from 1 on.

        NaN stands for a metric that is undefined on the validation rows.
        """
        path, command = self.run.model(protocol, model) / "history.json", self.run.command("train")
        epochs = validated(list[dict[str, float | None]], read_json(path, command), str(path), command)
        if not epochs or any("epoch" not in row for row in epochs):
            raise UserError(f"{path} has no epochs; delete {path.parent} and run: {command}")
        rows = pd.DataFrame(epochs).astype("float64")
        return rows.set_index(rows.pop("epoch").astype("int64"))

    @cache  # noqa: B019
    def config(self, protocol: str, model: str) -> dict[str, Any]:
        """`config.json` of a trained network."""
        path, command = self.run.model(protocol, model) / "config.json", self.run.command("train")
        return validated(dict[str, Any], read_json(path, command), str(path), command)

    @cache  # noqa: B019
    def served(self, protocol: str) -> Served | None:
        """How long a server took to answer with the networks; None where that was not measured with those of now."""
        return served_now(self.run, protocol)

    @cache  # noqa: B019
    def check_kept(self) -> None:
        """Refuses kept files that are not of `evaluation.json` and of the run's networks as they are now.

        Raises:
            UserError: see `report.current.refuse_stale`.
        """
        refuse_stale(self.run)

    @cache  # noqa: B019
    def kept(self, protocol: str, model: str, part: str) -> pd.DataFrame:
        """What `evaluate` has kept of a judged model.

        Args:
            part: `sampled` or `full` (`user_id`, `movie_id`, `rank` from 0, `ties`, `others`), `lists` (`user_id`,
                `place` from 0 to 9, `movie_id`, `score`) or `rows` (`user_id`, `movie_id`, `timestamp`, `label`,
                `score`): one of the names in `models.evaluation.kept`.

        Raises:
            UserError: also where it is stale, see `check_kept`.
        """
        path = self.run.kept(protocol, model) / f"{part}.parquet"
        if not path.is_file():
            raise UserError(f"{path} is missing; run: {self.run.command('evaluate')}")
        self.check_kept()
        return pq.read_table(path).to_pandas()
