"""The NCF paper's benchmark, on synthetic files in the authors' format."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from marquee.app import main
from models.evaluation import ncf_paper as paper
from models.evaluation.ranking import sampled_metrics
from models.networks.base import NetworkSettings
from models.networks.dlrm import DLRMSettings
from models.networks.ncf import NCFSettings
from models.registry import default_settings
from models.training.settings import TrainSettings
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.sources.ncf_files import read_ncf_files

USERS, MOVIES = 40, 60
CPU = torch.device("cpu")
NETWORK_SETTINGS = {
    "mf": NetworkSettings(dim=8),
    "ncf": NCFSettings(dim=8, top=(16,)),
    "dlrm": DLRMSettings(dim=8, top=(16,), bottom=(8,), history=3),
}


def write_ncf(folder: Path, seed: int = 0) -> Path:
    """Users of even number watch the lower half of the movies, the others the upper half, 12 each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    train, test, negatives = [], [], []
    for user in range(USERS):
        half = np.arange(MOVIES // 2) + (user % 2) * (MOVIES // 2)
        watched = rng.choice(half, 12, replace=False)
        for time, movie in enumerate(watched[:-1]):
            train.append(f"{user}\t{movie}\t{rng.integers(1, 6)}\t{1000 + time}")
        test.append(f"{user}\t{watched[-1]}\t4\t2000")
        unseen = np.setdiff1d(np.arange(MOVIES), watched)
        negatives.append(f"({user},{watched[-1]})\t" + "\t".join(map(str, rng.choice(unseen, 30, replace=False))))
    for name, lines in (("train.rating", train), ("test.rating", test), ("test.negative", negatives)):
        (folder / f"ml-1m.{name}").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_ncf(tmp_path_factory.mktemp("ncf") / "files")


@pytest.fixture(scope="module")
def features(folder) -> paper.PaperFeatures:
    return paper.paper_features(read_ncf_files(folder), folder, seed=1)


def test_validation_is_each_user_s_last_training_movie(features, folder):
    files = read_ncf_files(folder)
    train, valid = features.interactions("train"), features.interactions("valid")
    assert len(train) == USERS * 10
    assert len(valid) == USERS
    last = {int(user): int(movie) for user, movie in zip(files.user, files.movie)}  # the file is in the order of time
    assert dict(zip((valid.user - FIRST_INDEX).tolist(), (valid.movie - FIRST_INDEX).tolist())) == last
    assert (valid.fold == FOLDS).all()
    assert (train.fold < FOLDS).all()
    assert (valid.later == 1).all()  # the test movie came after it
    assert sorted(set(train.later.tolist())) == list(range(2, 12))


def test_no_model_sees_the_test_movies(features, folder):
    files = read_ncf_files(folder)
    held_out = set(zip((files.test_user + FIRST_INDEX).tolist(), (files.test_movie + FIRST_INDEX).tolist()))
    for part in ("train", "valid"):
        rows = features.interactions(part)
        assert not held_out & set(zip(rows.user.tolist(), rows.movie.tolist()))
    counts = np.bincount(files.movie[: len(files.movie)], minlength=MOVIES)
    assert features.side.movie_statistics.shape == (FOLDS + 1, MOVIES + FIRST_INDEX, 3)
    assert counts.sum() == USERS * 11


def test_the_questions_are_the_published_ones(features, folder):
    files = read_ncf_files(folder)
    asked = features.candidates("test")
    assert (asked.user - FIRST_INDEX).tolist() == files.test_user.tolist()
    assert (asked.positive - FIRST_INDEX).tolist() == files.test_movie.tolist()
    assert (asked.negatives - FIRST_INDEX == files.negatives).all()


def test_ones_own_test_movie_among_the_negatives_counts_once(tmp_path):
    folder = write_ncf(tmp_path / "files")
    path = folder / "ml-1m.test.negative"
    lines = path.read_text().splitlines()
    own = lines[0].split("\t")[0].strip("()").split(",")[1]
    path.write_text(
        "\n".join([f"{lines[0]}\t{own}", *(f"{line}\t{line.split(chr(9))[1]}" for line in lines[1:])]) + "\n"
    )
    asked = paper.paper_features(read_ncf_files(folder), folder, 0).candidates("test")
    best = sampled_metrics(lambda user, movie: (movie == int(own) + FIRST_INDEX).astype(float), asked)
    assert best.values["hr@10"][0] == 1  # were it counted twice, it would tie with itself and still be in: so the rank
    assert best.values["ndcg@10"][0] == 1


@pytest.mark.parametrize("name", ["popularity", "itemknn", "als", "ease"])
def test_baselines_find_the_halves(features, name):
    reported = []
    settings = default_settings("leave-one-out", name, "ml-100k", 0).settings
    results = paper.judge(features, name, settings, [3, 4], CPU, lambda by, note: reported.append((by, note)))
    assert [result["seed"] for result in results] == ([3, 4] if name == "als" else [3])
    assert sum(by for by, _ in reported) == paper.steps([name], 2) == len(results)
    if name != "popularity":
        assert results[0]["hr@10"] > 0.5


@pytest.mark.parametrize("name", ["mf", "ncf", "dlrm"])
def test_trained_models_find_the_halves_and_repeat_themselves(features, name):
    settings = TrainSettings(
        network=NETWORK_SETTINGS[name], learning_rate=0.02, averaging=0.9, batch_size=128, epochs=8, patience=3
    )
    reported = []
    results = paper.judge(features, name, settings, [1, 2], CPU, lambda by, note: reported.append((by, note)))
    again = paper.judge(features, name, settings, [1], CPU, lambda *_: None)
    assert [result["seed"] for result in results] == [1, 2]
    assert results[0] == again[0]
    assert results[0]["hr@10"] > 0.5
    assert sum(by for by, _ in reported) == paper.steps([name], 2) == 3


def test_the_command_prints_the_published_figures_and_writes_json(folder, tmp_path, capsys):
    out = tmp_path / "paper.json"
    arguments = ["paper", "--data", str(folder), "--seeds", "2", "--epochs", "1", "--out", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model", "popularity", "--model", "ncf"])
    assert stopped.value.code == 0
    results = json.loads(out.read_text())
    assert [(result["model"], result["seed"]) for result in results] == [("popularity", 42), ("ncf", 42), ("ncf", 43)]
    keys = {"model", "seed", "hr@10", "ndcg@10", "full_hr@10", "full_ndcg@10", "others", "data", "made_from"}
    assert all(result.keys() == keys for result in results)
    printed = capsys.readouterr().out
    assert "0.7294" in printed
    assert "0.705" in printed
    assert "±" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "FILES", "--model", "bert"], "unknown model 'bert'"),
        (["--data", "FILES", "--out", "no/such/folder/x.json"], "cannot be written"),
        (["--data", "FILES", "--out", "/proc/x.json"], "/proc/x.json cannot be written"),
        (["--data", "FILES", "--out", "/dev/null"], "/dev/null cannot be written: it is not a file"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(folder, arguments, message, capsys):
    given = [str(folder) if argument == "FILES" else argument for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(["paper", *given])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
