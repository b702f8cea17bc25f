"""The NCF paper's own benchmark, from the authors' files: every model tuned alike, judged on the published lists.

He et al., "Neural Collaborative Filtering", 2017: a user's last movie among 99 published others, HR@10 and NDCG@10,
ties against the model. A model's number of epochs is found on validation rows held out from train (each user's last
one); then it is trained anew on all of train, once for each seed, and scored once on the test lists. What the files do
not have (genres, ages, ...) no model sees; DLRM sees statistics of the training rows and what the user had watched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.artifacts import fingerprint
from core.columns import MOVIE_ID, USER_ID
from core.run_folder import TRAINED
from models.data.features import Candidates, Features, Interactions, SideTables
from models.evaluation.judgement import leave_one_out_metrics
from models.networks.base import build
from models.networks.scoring import scorer
from models.registry import RULES, fit_rule, settings_of
from models.training.settings import with_changes
from models.training.train import fit, refit
from workflows.features.statistics import fold_statistics
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler
from workflows.sources.ncf_files import NcfFiles, hold_out_last
from workflows.splits.base import TimeOrder

MODELS = ("popularity", "itemknn", "als", "ease", "mf", "ncf", "dlrm")
# HR@10 and NDCG@10 as published, on the authors' own test files
PUBLISHED = {
    "NeuMF, 64 factors, pretrained (He et al., 2017, as run by Rendle et al., 2020)": (0.730, 0.447),
    "NeuMF, 64 factors (the same)": (0.705, 0.426),
    "matrix factorisation (Rendle et al., 2020)": (0.7294, 0.4523),
}


@dataclass(frozen=True)
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


def paper_features(files: NcfFiles, folder: Path, seed: int) -> PaperFeatures:
    """What leave-one-out needs of the authors' files; ids become indices from `FIRST_INDEX` on."""
    from workflows.features.candidates import CANDIDATE_NEGATIVES
    from workflows.features.schema import model_schema

    rng = np.random.default_rng(seed)
    held_out = hold_out_last(files)
    later = TimeOrder.of(files.user, files.timestamp).later()
    user, movie = files.user + FIRST_INDEX, files.movie + FIRST_INDEX
    fold = np.where(held_out, FOLDS, rng.integers(0, FOLDS, len(user)))

    def rows(chosen: np.ndarray) -> Interactions:
        columns = (user, movie, np.ones(len(user)), fold, later, files.rating)
        types = (torch.int32, torch.int32, torch.float32, torch.int8, torch.int32, torch.float32)
        return Interactions(*(torch.from_numpy(c[chosen]).to(t) for c, t in zip(columns, types)))

    sampler = NegativeSampler(user, movie, FIRST_INDEX, files.movies)
    order = np.flatnonzero(held_out)[np.argsort(user[held_out], kind="stable")]
    drawn = sampler.draw_distinct(user[order], CANDIDATE_NEGATIVES, rng).astype(np.int32)
    test_negatives = np.where(files.negatives >= 0, files.negatives + FIRST_INDEX, -1)
    questions = {
        "valid": Candidates(user[order], movie[order], drawn),
        "test": Candidates(files.test_user + FIRST_INDEX, files.test_movie + FIRST_INDEX, test_negatives),
    }
    users, movies = files.users + FIRST_INDEX, files.movies + FIRST_INDEX
    train = ~held_out

    def statistics(index: np.ndarray, entities: int) -> torch.Tensor:
        place = fold[train].astype(np.int64) * entities + index[train]
        columns = (None, files.rating[train], files.timestamp[train])
        sums = np.stack([np.bincount(place, weights, FOLDS * entities) for weights in columns])
        return torch.from_numpy(fold_statistics(sums.reshape(3, FOLDS, entities)))

    side = SideTables(
        torch.zeros((users, 0), dtype=torch.int64),
        statistics(user, users),
        torch.zeros((movies, 0)),
        statistics(movie, movies),
        (),
    )
    return PaperFeatures(
        protocol="leave-one-out",
        dataset=files.name,
        folder=folder,
        schema=model_schema({USER_ID: users, MOVIE_ID: movies}, {}, 6),
        side=side,
        user_embeddings=users,
        movie_embeddings=movies,
        users=users,
        movies=movies,
        rated_movies=files.movies,
        fingerprint=fingerprint(files=files.sha256, seed=seed),
        parts={"train": rows(train), "valid": rows(held_out)},
        questions=questions,
    )


def settings_with(name: str, features: PaperFeatures, epochs: int | None) -> Any:
    """A model's default settings, with at most so many epochs where it is trained in epochs."""
    settings = settings_of("leave-one-out", name, features.dataset, len(features.interactions("train")))
    return with_changes(settings, epochs=epochs) if name in TRAINED else settings


def steps(models: list[str], seeds: int) -> int:
    """How often `judge` will tell that something is done: each seed, and each search for the best epoch."""
    chance = [name in TRAINED or RULES["leave-one-out"][name].uses_chance for name in models]
    return sum(seeds if uses else 1 for uses in chance) + sum(name in TRAINED for name in models)


def judge(
    features: PaperFeatures,
    name: str,
    settings: Any,
    seeds: list[int],
    device: torch.device,
    advance: Callable[[float, str], None],
) -> list[dict[str, Any]]:
    """Trains one model for each seed and scores it on the test lists.

    Args:
        settings: of the model, as `models.registry.settings_of` gives them; the seed in them plays no part.

    Returns:
        For each seed `{"model", "seed", "hr@10", "ndcg@10"}`; one alone where chance plays no part.
    """
    results = []
    epochs = 0
    for seed in seeds:
        if name in TRAINED:
            chosen = replace(settings, seed=seed)
            if not epochs:
                model = build(name, features, chosen.network, seed).to(device)
                _, epochs = fit(model, features, chosen, device, _notes(advance, name))
                advance(1, f"{name}: {epochs} epochs are best on validation")
            model = build(name, features, chosen.network, seed, ("train", "valid")).to(device)
            refit(model, features, chosen, epochs, device, _notes(advance, f"{name}, seed {seed}"))
            score = scorer(model, device)
        else:
            score = fit_rule(name, features, ("train", "valid"), settings, seed)
        metrics = leave_one_out_metrics(score, features.candidates("test")).means()
        advance(1, f"{name}, seed {seed}: HR@10 {metrics['hr@10']:.4f}, NDCG@10 {metrics['ndcg@10']:.4f}")
        results.append({"model": name, "seed": seed, "hr@10": metrics["hr@10"], "ndcg@10": metrics["ndcg@10"]})
        if name not in TRAINED and not RULES["leave-one-out"][name].uses_chance:
            break
    return results


def _notes(advance: Callable[[float, str], None], what: str) -> Callable[[float, str], None]:
    """Passes on what a training says of itself, but not its samples."""
    return lambda _, note: advance(0, f"{what}: {note}" if note else "")
