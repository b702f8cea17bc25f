"""What `docs/extending.md` says, done: its blocks are files that add one thing each, and every stage takes them."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifacts import CHECKOUT
from core.run_folder import Run
from ensemble import client
from ensemble.export.export import export
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from models import registry, tuning
from models.baselines.base import BASELINES
from models.data.load import load_features
from models.evaluation.compare_seeds import compare
from models.evaluation.evaluate import evaluate
from models.evaluation.metrics.base import METRICS
from models.evaluation.results import read_results
from models.evaluation.scorers import pair_scorer
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.training.settings import settings_for, with_changes
from models.training.train import load, train
from report.files import RunFiles
from report.made import write_report
from report.picture import PICTURES
from tests.contracts.kept import assert_kept
from tests.contracts.pictures import PictureContract, smallest_text
from tests.report.small_runs import files_of
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.side_features.base import SIDE_FEATURES
from workflows.licences import LICENCES
from workflows.sources.datasets import DATASETS, get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.sources.layouts.base import LAYOUTS
from workflows.splits.base import SPLITS

PAGE = CHECKOUT / "docs" / "extending.md"
BLOCK = re.compile(r"^`([a-z_/]+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REGISTRIES = (NETWORKS, BASELINES, SIDE_FEATURES, METRICS, PROTOCOLS, DATASETS, LAYOUTS, LICENCES, PICTURES)
CPU = torch.device("cpu")


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Every block of the page as a file outside of the packages, imported; what it added is taken out at the end."""
    folder = tmp_path_factory.mktemp("extensions")
    blocks = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    before = [set(one) for one in REGISTRIES]
    sys.path.insert(0, str(folder))
    modules = []
    try:
        for path, source in blocks.items():
            modules.append(f"extension_{Path(path).stem}")
            (folder / f"{modules[-1]}.py").write_text(source)
            importlib.import_module(modules[-1])
        yield blocks
    finally:
        sys.path.remove(str(folder))
        for name in modules:
            sys.modules.pop(name, None)
        for one, names in zip(REGISTRIES, before):
            for name in set(one) - names:
                one.remove(name)


def semicolons(movielens: Path, folder: Path) -> Path:
    """The shared data in the toy's layout."""
    folder.mkdir()
    ratings = pd.read_csv(movielens / "ratings.csv")
    lines = [";".join(str(value) for value in row) for row in ratings.itertuples(index=False)]
    (folder / "ratings.txt").write_text("\n".join(lines) + "\n")
    movies = pd.read_csv(movielens / "movies.csv")
    lines = [";".join(str(value) for value in row) for row in movies.itertuples(index=False)]
    (folder / "movies.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(added, movielens, tmp_path_factory) -> Run:
    """The toy dataset, prepared, with the toy network trained for all that is asked, and DLRM for one protocol."""
    run = Run(tmp_path_factory.mktemp("runs") / "toy")
    data = semicolons(movielens, tmp_path_factory.mktemp("raw") / "data")
    assert fetch_tables(get_dataset("toy"), data, run.tables, quiet)
    for split in SPLITS:
        prepare(run, split, PrepareSettings(), quiet)
    for protocol in PROTOCOLS:
        train(run, protocol, "dot", settings_for(protocol, "dot", epochs=2, batch_size=128), CPU, quiet)
    settings = settings_for("leave-one-out", "dlrm", epochs=1, batch_size=256)
    train(run, "leave-one-out", "dlrm", settings, CPU, quiet)
    return run


@pytest.fixture(scope="module")
def results(run) -> dict[tuple[str, str], object]:
    evaluate(run, CPU, quiet)
    return {(result.protocol, result.model): result for result in read_results(run)}


def test_the_page_shows_one_of_each(added):
    rooms = [str(Path(path).parent) for path in added]
    assert rooms == [
        "models/networks",
        "models/baselines",
        "workflows/features/side_features",
        "models/evaluation/metrics",
        "models/protocols",
        "workflows/sources/layouts",
        "report/pictures",
    ]
    assert not [path for path in added if (CHECKOUT / path).exists()]
    table = PAGE.read_text(encoding="utf-8").partition("| to add |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z_/]+)/(?:<name>|datasets)\.py`", table)
    assert {*rooms, "workflows/splits", "workflows/sources"} == set(named)
    assert all((CHECKOUT / room).is_dir() for room in named)


@pytest.mark.slow
def test_the_dataset_is_read_by_its_own_layout(run):
    ratings = pd.read_parquet(run.tables / "ratings.parquet")
    assert len(ratings) > 1000
    movies = pd.read_parquet(run.tables / "movies.parquet")
    assert movies["year"].max() > 1950


@pytest.mark.slow
def test_the_feature_is_a_column_that_the_model_sees(run):
    features = load_features(run, "leave-one-out")
    assert features.side.movie_columns["decade"] == ["decade"]
    assert features.side.movie_features.shape[1] == sum(len(names) for names in features.side.movie_columns.values())
    assert features.side.movie_features[:, -1].std() > 0.5


@pytest.mark.slow
def test_the_network_the_baseline_and_the_metrics_stand_in_every_result(results):
    for protocol in PROTOCOLS:
        assert (protocol, "dot") in results
        name = "hr@1" if PROTOCOLS[protocol].task == "ranking" else "brier"
        assert (name in results[protocol, "dot"].metrics) == (PROTOCOLS[protocol].task != "rating")
    for protocol in ("leave-one-out", "random-split"):
        assert (protocol, "mean-stars") in results
    low, high = results["leave-one-out", "dlrm"].ci95["hr@1"]
    assert low <= results["leave-one-out", "dlrm"].metrics["hr@1"] <= high
    assert "brier" not in results["random-split", "mean-stars"].metrics  # not a probability


@pytest.mark.slow
def test_the_protocol_has_its_own_label_and_question(run, results):
    rows = load_features(run, "loved").interactions("train")
    assert torch.equal(rows.label, (rows.stars >= 4.5).float())
    assert 0 < results["loved", "dot"].metrics["auc"] < 1
    from marquee.result_tables import comparison_tables

    titles = [table.title for table in comparison_tables(run)]
    assert titles[-1] == "Will they love it? (loved, the same split)"


@pytest.mark.slow
def test_what_pictures_need_is_kept_of_every_model_and_protocol(run, results):
    for (protocol, model), result in results.items():
        assert_kept(run, run.kept(protocol, model), result)


@pytest.mark.usefixtures("added")
class TestTheAddedPicture(PictureContract):
    names = ("weekdays",)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        return files_of(tmp_path)

    def test_its_text_can_be_read_on_a_phone(self, picture, files):
        assert smallest_text(picture.draw(files)) >= 8

    def test_it_counts_the_ratings_of_each_day(self, picture, files):
        bars = picture.draw(files).axes[0].patches
        assert [round(8 * bar.get_height()) for bar in bars] == [0, 0, 1, 2, 2, 2, 1]
        assert picture.text(files) == "25 % of the 8 ratings were given on a Thursday (UTC)."


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_the_report_has_the_picture_and_every_added_model(run):
    written = write_report(run, run.report, quiet, made_by="Marquee", paper=None, png=False)
    shown = json.loads((run.report / "pictures.json").read_text())
    assert "weekdays" in [one["name"] for one in shown]
    page = written.path.read_text()
    assert 'id="picture-weekdays"' in page
    assert "dot product" in page


@pytest.mark.slow
def test_the_comparison_says_which_of_each_two_networks_is_better(run):
    found = compare(run, ("loved",), [1], CPU, quiet)["protocols"]["loved"]
    assert {"dlrm_minus_ncf", "dlrm_minus_dot", "ncf_minus_dot"} <= found.keys()
    assert found["verdict"].count("dot product") == 2


@pytest.mark.slow
def test_both_can_be_tuned(run):
    for name in ("dot", "mean-stars"):
        assert name in tuning.names_of("leave-one-out", "all")
        search = tuning.StudySettings(trials=2, seed=1, epochs=1)
        found = tuning.tune(run, "leave-one-out", name, search, CPU, quiet)
        assert found["study"]["trials"] == 2
    best = registry.chosen_settings(run, "leave-one-out", "dot", 0)
    assert best.source.name == "best.json"
    assert with_changes("dot", best.settings, {"network": {"dim": 3}}, "--set").network.dim == 3


@pytest.mark.slow
def test_triton_answers_with_the_new_network(run, tmp_path):
    manifest = export(run, "leave-one-out", "dot")
    assert manifest["default_model"] == "dot"
    serving = json.loads((run.repository / "scorer" / "1" / "serving.json").read_text())
    assert serving["models"] == ["dlrm", "dot"]
    features = load_features(run, "leave-one-out")
    model, _ = load(run, features, "dot", CPU)
    users, catalogue = (
        pd.read_parquet(features.folder / "vocabulary" / f"{name}.parquet").set_index("index")[name]
        for name in ("user_id", "movie_id")
    )
    rng = np.random.default_rng(0)
    user, movie = rng.choice(users.index, 50), rng.choice(catalogue.index, 50)
    expected = pair_scorer(model, CPU, "leave-one-out")(user.astype(np.int64), movie.astype(np.int64))
    with running(run.repository, tmp_path / "triton.log", Ports(free_port())) as server:
        ids = users[user].to_numpy(), catalogue[movie].to_numpy()
        found, known = client.score(server.url, *ids, "dot")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert known.any()
        movies, scores, _ = client.recommend(server.url, int(users.iloc[0]), 5)
        assert len(movies) == 5
        assert (np.diff(scores) <= 0).all()
        for name in serving["models"]:
            known = client.recommend(server.url, int(users.iloc[0]), 5, model=name)
            newcomer = client.recommend(server.url, history=[int(movies[0])], k=5, model=name)
            assert len(known[0]) == len(newcomer[0]) == 5
            np.testing.assert_allclose(
                client.score(server.url, [int(users.iloc[0])] * 5, known[0], name)[0], known[1], atol=1e-5
            )
        assert len(client.similar(server.url, int(movies[0]), 3)[0]) == 3
