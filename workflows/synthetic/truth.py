"""The truth behind a synthetic stand-in for a MovieLens release: the model that its ratings are drawn from.

GroupLens' files may not be passed on and cannot be downloaded everywhere. The package draws ratings from a model that
is known in full, so that a whole run can be tried at full size, and its metrics compared with the best that any model
can reach. None of the ratings was given by a person.

Movies. Movie m has up to 4 genres, a style q_m ~ N(0, I) in R^8, half of whose variance comes from its genres, a
quality c_m ~ N(0, 0.45^2), and a popularity w_m = (rank_m + 0.0015 movies)^-1.2 by a shuffled rank (Mandelbrot, 1953).

Users. User u has a preference p_u ~ N(0, I) in R^8, a bias b_u ~ N(0, 0.4^2), and a mixture of 24 tastes, whose
directions t_z are unit vectors:

    mixture_uz = softmax_z(GAMMA t_z . p_u)        appeal_mz = w_m exp(BETA t_z . q_m) / (the sum over the movies)

    P(m | u) = sum_z mixture_uz appeal_mz

Popularity is flatter than ML-25M's on purpose. By (rank + 180)^-1.6, whose head is more like ML-25M's, popularity alone
finds nearly nine in ten held-out movies among 99 others (measured), and leaves a model little to show. Here it finds
between seven and eight in ten at that size, and the truth nine.

What is watched. A user's movies are drawn one after the other from P(. | u) without those already drawn (successive
sampling). So whatever came before, the chance that an unseen movie is the next is proportional to P(m | u), and no
ranking of unseen movies beats the one by P(m | u). How many a user rates is 20 plus a capped log-normal number.

Stars. With the fit f = p_u . q_m, made to have mean 0 and standard deviation 1 over draws from P(. | u),

    x = 3.55 + b_u + c_m + 0.45 f + N(0, 0.8^2), rounded to half stars and clipped to 0.5 ... 5

    P(more than 3 stars) = P(x >= 3.25) = Phi((3.55 + b_u + c_m + 0.45 f - 3.25) / 0.8)
"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit
from scipy.special import ndtr  # type: ignore[import-untyped]

from core.columns import RAW_MOVIE, RAW_USER
from core.errors import UserError
from core.json_files import read_json
from workflows.synthetic.files import SUMMARY, TRUTH_MOVIES, TRUTH_USERS

FORMAT = 1  # of the folder; a change of the model or of the order of its draws is a new one

DIMENSIONS, TASTES = 8, 24
BETA, GAMMA = 2.6, 6.0  # how sharply a taste separates movies, and a user separates tastes
SKEW, HEAD = 1.2, 0.0015  # popularity (rank + HEAD * movies) ** -SKEW
GENRE_SHARE = 0.5  # of the variance of a movie's style
STARS, QUALITY, BIAS, FIT, NOISE = 3.55, 0.45, 0.4, 0.45, 0.8  # the mean, and standard deviations, in stars
LIKED = 3.25  # where 3.5 stars begin
ACTIVITY = 1.39  # sigma of the log-normal: ML-25M's users have 51 ratings beyond the 20 in the median, 134 on average
PARAMETERS = {
    **{"dimensions": DIMENSIONS, "tastes": TASTES, "beta": BETA, "gamma": GAMMA, "skew": SKEW, "head": HEAD},
    **{"genre_share": GENRE_SHARE, "stars": STARS, "quality_sd": QUALITY, "bias_sd": BIAS, "fit_sd": FIT},
    **{"noise_sd": NOISE, "activity_sigma": ACTIVITY},
}


@dataclass(frozen=True)
class Truth:
    """What the ratings were drawn from. Users and movies are in ascending order of their ids.

    Attributes:
        user_ids: int64 [users]. movie_ids: int64 [movies].
        preference: float64 [users, 8]. style: float64 [movies, 8].
        bias: float64 [users], stars. quality: float64 [movies], stars.
        mixture: float64 [users, 24], rows sum to 1. appeal: float64 [movies, 24], columns sum to 1.
        fit: mean and standard deviation of preference . style over draws from P(. | u).
    """

    _: KW_ONLY
    user_ids: np.ndarray
    movie_ids: np.ndarray
    preference: np.ndarray
    style: np.ndarray
    bias: np.ndarray
    quality: np.ndarray
    mixture: np.ndarray
    appeal: np.ndarray
    fit: tuple[float, float]

    def watch(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """P(m | u): proportional, over a user's unseen movies, to the chance that the movie is the next one.

        Args:
            user_ids, movie_ids: int64 [n], as in `ratings.csv`.

        Returns:
            float64 [n]; over the whole catalogue a user's sum to 1.

        Raises:
            ValueError: an id that is not in the folder.
        """
        return dots(self.mixture, _find(self.user_ids, user_ids), self.appeal, _find(self.movie_ids, movie_ids))

    def like(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> np.ndarray:
        """The probability of more than 3 stars, float64 [n]. Arguments and errors as in `watch`."""
        return ndtr((self.stars(_find(self.user_ids, user_ids), _find(self.movie_ids, movie_ids)) - LIKED) / NOISE)

    def stars(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """The expected stars before noise, rounding and clipping: float64 [n] of int [n] positions, not ids."""
        mean, deviation = self.fit
        fit = (dots(self.preference, user, self.style, movie) - mean) / deviation
        return STARS + self.bias[user] + self.quality[movie] + FIT * fit


def load_truth(folder: Path) -> Truth:
    """The truth behind a folder that `synthesise` wrote.

    Raises:
        UserError: the folder holds no truth, or another version of Marquee wrote it.
    """
    remedy = "make the folder again: python -m marquee synth"
    if not (folder / SUMMARY).is_file():
        raise UserError(f"{folder} holds no {SUMMARY}, so its truth is not known; {remedy}")
    summary = read_json(folder / SUMMARY)
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        raise UserError(f"{folder / SUMMARY} is of another version of Marquee; {remedy}")
    try:
        users, movies = (pq.read_table(folder / name) for name in (TRUTH_USERS, TRUTH_MOVIES))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{folder}: its truth cannot be read ({error}); {remedy}") from None
    return Truth(
        user_ids=users[RAW_USER].to_numpy(),
        movie_ids=movies[RAW_MOVIE].to_numpy(),
        preference=_matrix(users["preference"]),
        style=_matrix(movies["style"]),
        bias=users["bias"].to_numpy(),
        quality=movies["quality"].to_numpy(),
        mixture=_matrix(users["mixture"]),
        appeal=_matrix(movies["appeal"]),
        fit=(summary["parameters"]["fit_mean"], summary["parameters"]["fit_scale"]),
    )


def write_truth(out: Path, truth: Truth) -> None:
    users = {
        **{RAW_USER: truth.user_ids, "bias": truth.bias},
        **{"preference": _lists(truth.preference), "mixture": _lists(truth.mixture)},
    }
    movies = {
        **{RAW_MOVIE: truth.movie_ids, "quality": truth.quality},
        **{"style": _lists(truth.style), "appeal": _lists(truth.appeal)},
    }
    pq.write_table(pa.table(users), out / TRUTH_USERS)
    pq.write_table(pa.table(movies), out / TRUTH_MOVIES)


def _lists(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return pa.concat_arrays(column.chunks).flatten().to_numpy().reshape(len(column), -1)


def _find(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions in the ascending `ids`."""
    found = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    if not np.array_equal(ids[found], wanted):
        raise ValueError("an id is not in the folder")
    return found


@njit
def dots(left: np.ndarray, left_row: np.ndarray, right: np.ndarray, right_row: np.ndarray) -> np.ndarray:
    """left[left_row[i]] . right[right_row[i]] for each i, without the copies that indexing would make."""
    out = np.zeros(len(left_row))
    for i in range(len(left_row)):
        for k in range(left.shape[1]):
            out[i] += left[left_row[i], k] * right[right_row[i], k]
    return out
