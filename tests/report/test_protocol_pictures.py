"""Pictures of the protocols that `run` does not ask: `temporal`, with and without new people, and the five folds."""

import json
from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest

from core.run_folder import Run
from models.evaluation.metrics.base import columns_of
from models.evaluation.results import Result, judged_models, read_results, write_results
from report.files import RunFiles
from report.made import write_report
from report.picture import PICTURES
from tests.contracts.kept import ranking_metrics
from tests.contracts.pictures import PictureContract
from tests.names import FOLDS, TEMPORAL
from tests.report.html_page import Page
from tests.report.judged_runs import judged_run, stamp
from tests.report.made_run import ORIGIN, made_run

RANKED = ("dlrm", "ncf", "sasrec", "mf", "popularity")
OVER_ALL = ("hr@10", "ndcg@10", "mrr@10")


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr("models.evaluation.judgement.BOOTSTRAP_ROUNDS", 60)
    monkeypatch.setattr("report.calculations.differences.ROUNDS", 60)


def with_more_protocols(files: RunFiles) -> RunFiles:
    """The same run, which `temporal` has judged as leave-one-out has, and each fold as `rating`, a little worse."""
    entries = json.loads(files.run.evaluation.read_text())
    more = []
    for entry in [one for one in entries if one["protocol"] == "leave-one-out"]:
        source, folder = (files.run.kept(protocol, entry["model"]) for protocol in ("leave-one-out", TEMPORAL))
        folder.mkdir(parents=True)
        for path in source.iterdir():
            table = pd.read_parquet(path)
            if path.stem == "full":
                table["known"] = np.arange(len(table)) % 3 > 0
                of_known = ranking_metrics(table[table["known"]])
            table.to_parquet(folder / path.name)
        known = {f"known_full_{name}": float(of_known[name]) for name in OVER_ALL}
        metrics = {**entry["metrics"], **known}
        ci95 = {**entry["ci95"], **{name: [value - 0.03, value + 0.02] for name, value in known.items()}}
        more.append({**entry, "protocol": TEMPORAL, "metrics": metrics, "ci95": ci95, "known_users": 26})
    for entry in [one for one in entries if one["protocol"] == "rating"]:
        for place, fold in enumerate(FOLDS):
            metrics = {name: value + 0.01 * place**2 for name, value in entry["metrics"].items()}
            more.append({**entry, "protocol": fold, "metrics": metrics})
    files.run.evaluation.write_text(json.dumps(entries + more))
    stamp(files.run)
    return RunFiles(files.run)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> RunFiles:
    """Not to be changed."""
    skill = {"dlrm": 1.5, "ncf": 1.0, "sasrec": 1.6, "mf": 0.8, "popularity": 0.4}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.report.judged_runs.SKILL", skill)
        files = judged_run(tmp_path_factory.mktemp("judged"), ranked=RANKED, scored=(), rated=("dlrm", "ncf", "mf"))
        return with_more_protocols(files)


def said(name: str, files: RunFiles) -> str:
    return PICTURES[name].text(files)


class TestPicturesOfThreeNetworksAndOfTheFolds(PictureContract):
    names = (
        "forest-temporal",
        "paired-temporal",
        "cut-offs-temporal",
        "slices-temporal",
        "overlap-temporal",
        "one-user-temporal",
        "cost-temporal",
        "folds",
    )

    @pytest.fixture
    def files(self, judged) -> RunFiles:
        return judged


def test_figures_without_new_people_have_their_panels_after_the_others(judged):
    for name in ("forest-temporal", "paired-temporal"):
        titles = [panel.get_title() for panel in PICTURES[name].draw(judged).axes]
        assert titles[0] == "HR@10, all movies"
        assert titles[-3:] == [f"{metric}, all movies,\nknown people" for metric in ("HR@10", "NDCG@10", "MRR@10")]
    text = said("forest-temporal", judged)
    assert "NDCG@10, all movies, known people: DLRM 0." in text
    assert "26 of those known before the test" in text


def test_differences_of_known_people_are_of_them_alone(judged):
    from report.pictures.intervals import paired

    first = paired(judged, TEMPORAL)[0]
    one, other = (judged.result(TEMPORAL, model).metrics for model in (first.one, first.other))
    for metric in OVER_ALL:
        name = f"known_full_{metric}"
        assert first.metrics[name].value == pytest.approx(one[name] - other[name])


def test_three_networks_have_three_lists_and_three_pairs(judged):
    panels = PICTURES["one-user-temporal"].draw(judged).axes
    assert len(panels) == 3
    columns = {round(panel.get_subplotspec().colspan.start) for panel in panels}
    assert columns == {0, 1}  # a third beside them would leave no room for titles
    assert len(PICTURES["overlap-temporal"].draw(judged).axes) == 3
    assert said("paired-temporal", judged).count("corrected for 3 pairs") == 3


def test_the_folds_have_one_picture_of_their_means(judged):
    assert not [name for name in PICTURES if any(name.endswith(fold) for fold in FOLDS)]
    figure = PICTURES["folds"].draw(judged)
    for panel, (_, metric) in zip(figure.axes, columns_of("rating")):
        means = [line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 1]
        values = {one: [judged.result(fold, one).metrics[metric] for fold in FOLDS] for one in ("dlrm", "ncf", "mf")}
        assert means == pytest.approx([fmean(found) for found in values.values()])
        strokes = [list(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) > 1]
        assert strokes == [pytest.approx(found) for found in values.values()]
    found = [judged.result(fold, "dlrm").metrics["rmse"] for fold in FOLDS]
    assert f"DLRM {fmean(found):.3f} (sd {stdev(found):.3f})" in said("folds", judged)
    assert said("folds", judged).endswith("seed 42.")


def test_a_model_that_a_fold_lacks_has_no_mean(judged, tmp_path):
    files = judged_run(tmp_path, ranked=("dlrm", "ncf"), scored=(), rated=("dlrm", "ncf"))
    files = with_more_protocols(files)
    entries = json.loads(files.run.evaluation.read_text())
    kept = [one for one in entries if (one["protocol"], one["model"]) != (FOLDS[2], "ncf")]
    files.run.evaluation.write_text(json.dumps(kept))
    stamp(files.run)
    assert "NCF" not in said("folds", RunFiles(files.run))
    entries = [one for one in kept if one["protocol"] != FOLDS[4]]
    files.run.evaluation.write_text(json.dumps(entries))
    stamp(files.run)
    reason = PICTURES["folds"].lacking(RunFiles(files.run))
    assert reason.startswith("No model is judged by each of rating-u1 to rating-u5; run:")
    assert "train --protocol folds" in reason


def test_the_page_has_one_table_of_the_folds_and_says_nothing_of_them_where_none_is_judged(tmp_path):
    run = made_run(tmp_path)
    assert "fold" not in _page(run).root.text
    rmse = {"knn": 0.93, "biases": 0.95}
    folds = [
        Result(
            model=model,
            protocol=fold,
            metrics={"rmse": value + place / 100, "mae": value - 0.2},
            ci95={"rmse": None, "mae": None},
            undefined={"ci95": "there is one user"},
            seed=42,
            epochs=0,
            train_seconds=0.0,
            samples_per_second=0,
        )
        for place, fold in enumerate(FOLDS)
        for model, value in rmse.items()
    ]
    write_results(run, [*read_results(run), *folds], ORIGIN, judged_models(run))
    page = _page(run)
    headings = [one.text for one in page.root.all("h3")]
    assert headings.count("How many stars? (mean of 5 folds)") == 2  # the table, and the picture
    assert not [one for one in headings if "fold u" in one]
    table = next(one for one in page.root.all("table") if "folds" in one.attributes["aria-labelledby"])
    values = [float(one.attributes["value"]) for one in table.all("data")]
    assert values == pytest.approx([0.95, 0.73, 0.97, 0.75])
    assert table.text.count("folds \u00b10.016") == 2
    assert [one.text for one in table.all("th")][-2:] == ["KNN with means", "Biases"]


def _page(run: Run) -> Page:
    written = write_report(run, run.report, lambda by, note: None, made_by="Marquee 0", paper=None, png=False)
    return Page(written.path.read_text())
