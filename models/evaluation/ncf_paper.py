"""The NCF paper's own benchmark, from the authors' files: every model tuned alike, judged on the published lists.

He et al., "Neural Collaborative Filtering", 2017: a user's last movie among 99 published others, HR@10 and NDCG@10,
ties against the model. A model's number of epochs is found on validation rows held out from train (each user's last
one); then it is trained again on all of train, once for each seed, and scored once on the test lists. What the files do
not have (genres, ages, ...) no model sees; DLRM sees statistics of the training rows and what the user had watched.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.artifacts import fingerprint
from core.columns import MOVIE_ID, USER_ID
from core.constants import CANDIDATE_NEGATIVES
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES, baselines_of
from models.data.features import Features, SideTables
from models.data.interactions import Candidates, Interactions, joined
from models.evaluation import compare_seeds
from models.evaluation.judgement import Scorer, left_out_and_undefined, means_of, scorer_of
from models.evaluation.metrics.base import FULL
from models.evaluation.metrics.base import METRICS as ALL_METRICS
from models.evaluation.scorers import network_scorer, past_of
from models.networks.base import NETWORKS, build
from models.protocols.base import PROTOCOLS
from models.training.epoch import Advance
from models.training.loop import REFIT, Callbacks, fit, refit
from models.training.settings import with_changes
from workflows.features.schema import model_schema
from workflows.features.statistics import fold_statistics
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler
from workflows.sources.ncf_files import NcfFiles, hold_out_last
from workflows.splits.base import TimeOrder

PROTOCOL = "leave-one-out"
METRICS = ("hr@10", "ndcg@10")
ALL_MOVIES = tuple(FULL + metric for metric in METRICS)
ROOMS = (
    *compare_seeds.ROOMS,
    "models/evaluation/ncf_paper.py",
    "workflows/sources/ncf_checks.py",
    "workflows/sources/ncf_files.py",
    "workflows/sources/ratings.py",
    "workflows/sources/text.py",
)
# HR@10 and NDCG@10 as published, on the authors' own test files
PUBLISHED = {
    "NeuMF, 64 factors, pretrained (He et al., 2017, as run by Rendle et al., 2020)": (0.730, 0.447),
    "NeuMF, 64 factors (the same)": (0.705, 0.426),
    "matrix factorisation (Rendle et al., 2020)": (0.7294, 0.4523),
}


@dataclass(frozen=True, kw_only=True)
class PaperFeatures(Features):
    """The features of leave-one-out, held in memory.

    Attributes:
        parts: `train` and `valid`.
        questions: `valid` and `test`.
    """

    parts: dict[str, Interactions]
    questions: dict[str, Candidates]

    def interactions(self, part: str) -> Interactions:
        return self.parts[part]

    def candidates(self, part: str) -> Candidates:
        return self.questions[part]

    def seen(self, *parts: str) -> tuple[np.ndarray, np.ndarray]:
        rows = joined([self.parts[part] for part in parts])
        return rows.user.numpy(), rows.movie.numpy()


def models() -> tuple[str, ...]:
    """Every baseline and network that the benchmark knows, the simplest first."""
    baselines = (name for name, one in baselines_of(PROTOCOL).items() if one.applies(None))
    return tuple(reversed((*registry.networks_of(PROTOCOL), *baselines)))


def paper_features(files: NcfFiles, folder: Path, seed: int, same_second: bool = False) -> PaperFeatures:
    """What leave-one-out needs of the authors' files; ids become indices from `FIRST_INDEX` on.

    Args:
        same_second: as in `PrepareSettings`.
    """
    rng = np.random.default_rng(seed)
    held_out = hold_out_last(files)
    user, movie = files.user + FIRST_INDEX, files.movie + FIRST_INDEX
    fold = np.where(held_out, FOLDS, rng.integers(0, FOLDS, len(user)))
    times = TimeOrder.of(files.user, files.timestamp)
    tested = np.bincount(files.test_user, minlength=files.users).astype(np.int32)[files.user]  # 1 where one comes last
    later = times.later() + tested
    order = later, later if same_second else times.not_before() + tested
    train = ~held_out
    users, movies = files.users + FIRST_INDEX, files.movies + FIRST_INDEX
    side = SideTables(
        user_details=torch.zeros((users, 0), dtype=torch.int64),
        user_statistics=_statistics(files, user, fold, train, users),
        movie_features=torch.zeros((movies, 0)),
        movie_statistics=_statistics(files, movie, fold, train, movies),
        detail_names=(),
        movie_columns={},
    )
    return PaperFeatures(
        protocol=PROTOCOL,
        dataset=files.name,
        folder=folder,
        schema=model_schema({USER_ID: users, MOVIE_ID: movies}, {}, 6),
        side=side,
        user_embeddings=users,
        movie_embeddings=movies,
        users=users,
        movies=movies,
        rated_movies=files.movies,
        fingerprint=fingerprint(files=files.sha256, seed=seed, same_second=same_second),
        label=PROTOCOLS[PROTOCOL].label,
        parts={"train": _rows(files, fold, order, train), "valid": _rows(files, fold, order, held_out)},
        questions=_questions(files, held_out, order[1], _not_before_test(files, same_second), rng),
    )


def _rows(files: NcfFiles, fold: np.ndarray, order: tuple[np.ndarray, np.ndarray], chosen: np.ndarray) -> Interactions:
    """Some of the training file's rows."""

    def column(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(values[chosen]).to(dtype)

    return Interactions(
        user=column(files.user + FIRST_INDEX, torch.int32),
        movie=column(files.movie + FIRST_INDEX, torch.int32),
        label=column(np.ones(len(files.user)), torch.float32),
        fold=column(fold, torch.int8),
        later=column(order[0], torch.int32),
        not_before=column(order[1], torch.int32),
        stars=column(files.rating, torch.float32),
    )


def _not_before_test(files: NcfFiles, same_second: bool) -> np.ndarray:
    """How many of a user's training ratings do not count as given before the held-out one: int32 [users]."""
    moment = np.full(files.users, np.iinfo(np.int64).max)
    if not same_second:
        moment[files.test_user] = files.test_timestamp
    late = files.timestamp >= moment[files.user]
    return np.bincount(files.user[late], minlength=files.users)[files.test_user].astype(np.int32)


def _questions(
    files: NcfFiles, held_out: np.ndarray, not_before: np.ndarray, of_test: np.ndarray, rng: np.random.Generator
) -> dict[str, Candidates]:
    """The held-out rows among drawn movies, and the published lists; `of_test` is the test rows' `not_before`."""
    user, movie = files.user + FIRST_INDEX, files.movie + FIRST_INDEX
    sampler = NegativeSampler(user, movie, FIRST_INDEX, files.movies)
    order = np.flatnonzero(held_out)[np.argsort(user[held_out], kind="stable")]
    drawn = sampler.draw_distinct(user[order], CANDIDATE_NEGATIVES, rng).astype(np.int32)
    listed = np.where(files.negatives >= 0, files.negatives + FIRST_INDEX, -1)
    return {
        "valid": Candidates(user[order], movie[order], drawn, not_before[order]),
        "test": Candidates(files.test_user + FIRST_INDEX, files.test_movie + FIRST_INDEX, listed, of_test),
    }


def _statistics(files: NcfFiles, index: np.ndarray, fold: np.ndarray, train: np.ndarray, entities: int) -> torch.Tensor:
    """Users' or movies' statistics of the training rows: see `fold_statistics`."""
    place = fold[train].astype(np.int64) * entities + index[train]
    columns = (None, files.rating[train], files.timestamp[train])
    sums = np.stack([np.bincount(place, weights, FOLDS * entities) for weights in columns])
    return torch.from_numpy(fold_statistics(sums.reshape(3, FOLDS, entities)))


def settings_with(name: str, features: PaperFeatures, epochs: int | None) -> Any:
    """A model's default settings, with at most so many epochs where it is trained in epochs."""
    rows = len(features.interactions("train"))
    settings = registry.default_settings(PROTOCOL, name, features.dataset, rows).settings
    return with_changes(name, settings, {"epochs": epochs}, "--epochs") if name in NETWORKS else settings


def uses_chance(name: str) -> bool:
    """Whether another seed gives another scorer."""
    return name in NETWORKS or baselines_of(PROTOCOL)[name].uses_chance


def steps(models: list[str], seeds: int) -> int:
    """How often `judge` will report that something is done: each seed, and each search for the best epoch."""
    fitted = sum(seeds if uses_chance(name) else 1 for name in models)
    return fitted + sum(name in NETWORKS for name in models)


def judge(
    features: PaperFeatures, name: str, settings: Any, seeds: list[int], device: torch.device, advance: Advance
) -> list[dict[str, Any]]:
    """Fits one model for each seed and scores it on the test lists.

    Args:
        settings: of the model, as `models.registry.default_settings` gives them; the seed in them plays no part.

    Returns:
        For each seed `{"model", "seed", "hr@10", "ndcg@10", "others"}`, one alone where chance plays no part; where
        users are left out or metrics undefined, `left_out` and `undefined` too, as in `evaluation.json`.
    """
    epochs = _best_epochs(features, name, settings, seeds[0], device, advance) if name in NETWORKS else 0
    results = []
    for seed in seeds if uses_chance(name) else seeds[:1]:
        if name in NETWORKS:
            scorer = _trained(features, name, replace(settings, seed=seed), epochs, device, advance)
        else:
            scorer = scorer_of(registry.fit_baseline(name, features, REFIT, settings, seed))
        judged = PROTOCOLS[PROTOCOL].test(scorer, features, seeds[0])
        means, reasons = means_of(judged), left_out_and_undefined(judged)
        figures = ", ".join(f"{metric.upper()} {_figure(means[metric])}" for metric in METRICS)
        advance(1, f"{name}, seed {seed}: {figures}")
        said = {key: value for key, value in reasons.items() if value is not None}
        results.append({"model": name, "seed": seed, **{one: means[one] for one in (*METRICS, *ALL_MOVIES)}, **said})
    return results


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command line asks of every model.

    Attributes:
        epochs: at most so many, where a model is trained in epochs; None for its settings'.
        seeds: the first of which finds the number of epochs.
    """

    features: PaperFeatures
    epochs: int | None
    seeds: list[int]
    device: torch.device

    def settings(self, name: str) -> Any:
        """A model's settings."""
        return settings_with(name, self.features, self.epochs)

    def seeds_of(self, name: str) -> list[int]:
        """The seeds of a model's results."""
        return self.seeds if uses_chance(name) else self.seeds[:1]

    def made_from(self, name: str) -> str:
        """The fingerprint of what a model's results are made from, but for their number."""
        entries = NETWORKS if name in NETWORKS else BASELINES
        return fingerprint(
            features=self.features.fingerprint,
            settings=asdict(self.settings(name)),
            code=stage_code(ROOMS, compare_seeds.LIBRARIES, entries, {PROTOCOL: PROTOCOLS[PROTOCOL]}, ALL_METRICS),
            first_seed=self.seeds[0],
            device=self.device.type,
        )

    def judge(self, name: str, advance: Advance) -> list[dict[str, Any]]:
        """A model's results: see `judge`."""
        return judge(self.features, name, self.settings(name), self.seeds, self.device, advance)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _best_epochs(
    features: PaperFeatures, name: str, settings: Any, seed: int, device: torch.device, advance: Advance
) -> int:
    """How many epochs are best on validation."""
    chosen = replace(settings, seed=seed)
    model = build(name, features, chosen.network, seed).to(device)
    _, epochs = fit(model, features, chosen, device, Callbacks(advance=_notes(advance, name)))
    advance(1, f"{name}: {epochs} epochs are best on validation")
    return epochs


def _trained(
    features: PaperFeatures, name: str, settings: Any, epochs: int, device: torch.device, advance: Advance
) -> Scorer:
    """A network that was trained on train and validation rows."""
    model = build(name, features, settings.network, settings.seed, REFIT).to(device)
    callbacks = Callbacks(advance=_notes(advance, f"{name}, seed {settings.seed}"))
    refit(model, features, settings, epochs, device, callbacks)
    return network_scorer(model, device, PROTOCOL, past_of(model, features, REFIT))


def _notes(advance: Advance, what: str) -> Advance:
    """Passes on what a training says of itself, but not its samples."""
    return lambda _, note: advance(0, f"{what}: {note}" if note else "")
