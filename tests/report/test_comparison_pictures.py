"""What is drawn is what was judged: every value, interval and count, for models and protocols of every kind."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from core.errors import UserError
from models.baselines.base import BASELINES
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from report import made
from report.files import RunFiles
from report.judged import judgement
from report.picture import COMPARISON, PICTURES
from report.pictures import intervals
from report.pictures.intervals import metrics_asked, paired
from report.pictures.lists import example
from report.pictures.slices import slices_of
from report.pictures.variety import variety_of
from report.style import capitalised, heading_of, title_of
from tests.contracts.pictures import PictureContract, names_in, smallest_text
from tests.names import PROTOCOLS as JUDGED
from tests.report.judged_runs import change, judged_run

RANKED = (
    "forest-leave-one-out",
    "paired-leave-one-out",
    "cut-offs-leave-one-out",
    "slices-leave-one-out",
    "slices-sampled-leave-one-out",
    "variety-leave-one-out",
    "overlap-leave-one-out",
    "one-user-leave-one-out",
    "cost-leave-one-out",
)
SCORED = (
    "forest-random-split",
    "paired-random-split",
    "separation-random-split",
    "reliability-random-split",
    "slices-random-split",
    "cost-random-split",
)
RATED = ("forest-rating", "paired-rating", "slices-rating", "cost-rating")


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr("models.evaluation.judgement.BOOTSTRAP_ROUNDS", 60)
    monkeypatch.setattr("report.calculations.differences.ROUNDS", 60)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> RunFiles:
    """A run of the protocols that `run`'s features are for, not to be changed."""
    return judged_run(tmp_path_factory.mktemp("judged"), rated=("dlrm", "ncf"))


class TestPicturesOfTheComparison(PictureContract):
    names = tuple(name for name in names_in(COMPARISON) if PICTURES[name].protocol in JUDGED)

    @pytest.fixture
    def files(self, judged) -> RunFiles:
        return judged

    def test_its_text_can_be_read_on_a_phone(self, figure):
        assert smallest_text(figure) >= 8

    def test_its_text_names_the_protocol_and_the_seed(self, picture, name, files):
        protocol = next(one for one in PROTOCOLS if name.endswith(one))
        assert f"{protocol}, " in picture.text(files)
        assert picture.text(files).endswith("seed 42.")


ONE_USER = tuple(name for name in (*RANKED, *SCORED) if not name.startswith("paired"))
WITHOUT_NCF = tuple(name for name in (*RANKED, *SCORED) if not name.startswith(("overlap", "one-user")))
BASELINES_ONLY = ("forest", "cut-offs", "variety", "separation", "reliability")


@pytest.mark.parametrize(
    ("run", "names"),
    [
        ({"users": 1}, ONE_USER),
        ({"ranked": ("dlrm", "popularity"), "scored": ("dlrm", "popularity")}, WITHOUT_NCF),
        (
            {"ranked": ("ease", "popularity"), "scored": ("biases", "popularity")},
            tuple(name for name in (*RANKED, *SCORED) if name.startswith(BASELINES_ONLY)),
        ),
    ],
    ids=["one user", "without NCF", "baselines only"],
)
def test_a_run_of_less_has_the_pictures_that_it_can_have(tmp_path, run, names):
    files = judged_run(tmp_path, **run)
    for name, picture in PICTURES.items():
        if picture.section == COMPARISON and name in names:
            assert picture.lacking(files) == "", name
            picture.draw(files).canvas.draw()
            assert not re.search(r"\b(nan|inf|None)\b", picture.text(files)), name
        elif name in (*RANKED, *SCORED, *RATED):
            assert picture.lacking(files).endswith("."), name


@pytest.fixture
def files(tmp_path) -> RunFiles:
    """A run that a test may change."""
    return judged_run(tmp_path)


def drawn(name: str, files: RunFiles) -> Figure:
    return PICTURES[name].draw(files)


def said(name: str, files: RunFiles) -> str:
    return PICTURES[name].text(files)


def marks(panel: Axes) -> list[tuple[float, float]]:
    """Where the single points of a panel are, from the top row down."""
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if len(line.get_xdata()) == 1]
    return sorted(((float(x), float(y)) for x, y in points), key=lambda point: point[1])


def bars(panel: Axes) -> list[tuple[float, float]]:
    """The ends of a panel's intervals, from the top row down."""
    lines = [line for line in panel.lines if len(line.get_xdata()) == 2 and len(set(line.get_ydata())) == 1]
    return [tuple(line.get_xdata()) for line in sorted(lines, key=lambda line: line.get_ydata()[0])]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip()]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def trapezoids(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def rows_of(files: RunFiles, model: str) -> pd.DataFrame:
    return files.kept("random-split", model, "rows")


# -- every metric, and differences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["leave-one-out", "random-split"])
def test_the_forest_shows_every_metric_of_evaluation_json(judged, protocol):
    figure = drawn(f"forest-{protocol}", judged)
    models = judged.models(protocol)
    assert len(figure.axes) == len(metrics_asked(protocol))
    for panel, metric in zip(figure.axes, metrics_asked(protocol)):
        results = {model: judged.result(protocol, model) for model in models}
        rows = {place: one for place, one in enumerate(results.values()) if metric in one.metrics}
        assert panel.get_title() == capitalised(heading_of(protocol, metric))
        assert marks(panel) == [(one.metrics[metric], place) for place, one in rows.items()]
        assert bars(panel) == [one.ci95[metric] for one in rows.values()]
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [title_of(protocol, model) for model in models]
    shown = {f"{value:.3f}" for model in models for value in judged.result(protocol, model).metrics.values()}
    assert shown <= set(words(figure))


@pytest.mark.parametrize("name", ["forest", "paired", "variety", "slices"])
def test_ticks_keep_clear_of_the_next_panel_and_are_enough_to_read_a_scale(judged, name):
    for panel in drawn(f"{name}-leave-one-out", judged).axes:
        low, high = panel.get_xlim()
        places = (panel.get_xticks() - low) / (high - low)
        assert len(places) >= 2
        assert places.min() >= 0.08
        assert places.max() <= 0.92


def test_a_value_stands_on_its_own_side_of_the_line_of_0(judged):
    figure = drawn("paired-leave-one-out", judged)
    FigureCanvasAgg(figure).draw()
    for panel in figure.axes:
        zero = panel.transData.transform((0, 0))[0]
        for text in panel.texts:
            box = text.get_window_extent()
            assert box.x0 > zero - 5 if text.get_text().startswith("+") else box.x1 < zero + 5


def test_a_long_name_is_abbreviated_beside_a_row_and_whole_in_a_legend(tmp_path):
    files = judged_run(tmp_path, ranked=("dlrm", "ncf", "mf"))
    rows = [text.get_text() for text in drawn("paired-leave-one-out", files).axes[0].get_yticklabels()]
    assert rows == ["DLRM \u2212 NCF", "MF \u2212 DLRM"]
    assert "Matrix factorisation (MF)" in labels(drawn("cut-offs-leave-one-out", files))


def test_what_is_undefined_has_no_mark_and_what_has_no_interval_has_no_bar(files):
    metric = PROTOCOLS["leave-one-out"].deciding
    files = change(
        files, "leave-one-out", "ncf", metrics={metric: None}, ci95={metric: None}, undefined={metric: "why"}
    )
    files = change(files, "leave-one-out", "ease", ci95={metric: None}, undefined={"ci95": "why"})
    panel = drawn("forest-leave-one-out", files).axes[list(metrics_asked("leave-one-out")).index(metric)]
    assert [place for _, place in marks(panel)] == [0, 2, 3]
    assert len(bars(panel)) == 2
    assert "NCF undefined" in said("forest-leave-one-out", files)


def test_metrics_where_less_is_better_say_so(judged):
    assert all("lower is better" in panel.get_xlabel() for panel in drawn("forest-rating", judged).axes)
    assert "DLRM is better than NCF: RMSE lower by" in said("paired-rating", judged)


def test_differences_are_taken_on_the_same_users(judged):
    figure = drawn("paired-leave-one-out", judged)
    pairs = [("dlrm", "ncf"), ("ease", "dlrm"), ("popularity", "dlrm")]
    assert [(pair.one, pair.other) for pair in paired(judged, "leave-one-out")] == pairs
    metrics = list(metrics_asked("leave-one-out"))
    for pair in paired(judged, "leave-one-out"):
        assert list(pair.metrics) == metrics
        for metric, found in pair.metrics.items():
            values = [judged.result("leave-one-out", model).metrics[metric] for model in (pair.one, pair.other)]
            assert found.value == pytest.approx(values[0] - values[1])
            assert found.low <= found.value <= found.high
    first = paired(judged, "leave-one-out")[0].metrics[metrics[0]]
    assert (first.value, 0) in marks(figure.axes[0])
    assert (first.low, first.high) in bars(figure.axes[0])
    assert figure.axes[0].get_yticklabels()[0].get_text() == "DLRM \u2212 NCF"


def test_the_verdict_is_that_of_the_paired_test(judged):
    first = paired(judged, "random-split")[0].metrics["auc"]
    text = said("paired-random-split", judged)
    assert text.startswith("DLRM is better than NCF: AUC higher by")
    assert f"{first.value:.3f} (95 % interval {first.low:.3f} to {first.high:.3f}" in text


def test_a_difference_beyond_the_panel_is_an_arrow_with_its_value(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "APART", 0.5)
    files = judged_run(tmp_path)
    panel = drawn("paired-leave-one-out", files).axes[0]
    arrows = [line for line in panel.lines if line.get_marker() in ("<", ">")]
    assert arrows
    for line in arrows:
        pair = paired(files, "leave-one-out")[int(line.get_ydata()[0])]
        value = pair.metrics["full_hr@10"].value
        assert (line.get_marker() == ">") == (value > 0)
        assert f"{value:+.3f}".replace("-", "\u2212") in words(panel.figure)


@pytest.mark.parametrize(("part", "slices"), [("sampled", "slices-sampled"), ("full", "slices")])
def test_models_that_were_asked_about_others_are_not_compared(files, part, slices):
    path = files.run.kept("leave-one-out", "ncf") / f"{part}.parquet"
    table = pd.read_parquet(path)
    table.assign(user_id=table["user_id"] + 1).to_parquet(path)
    files = RunFiles(files.run)
    with pytest.raises(UserError, match="are of different users or movies; run: python -m marquee evaluate"):
        PICTURES["paired-leave-one-out"].draw(files)
    for name in ("paired-leave-one-out", f"{slices}-leave-one-out"):
        assert "are of different users or movies" in PICTURES[name].lacking(files)


def test_where_no_user_could_be_asked_nothing_is_drawn(files):
    for protocol, parts in (("leave-one-out", ("sampled", "full", "lists")), ("random-split", ("rows",))):
        for model in files.models(protocol):
            for part in parts:
                path = files.run.kept(protocol, model) / f"{part}.parquet"
                pd.read_parquet(path).iloc[:0].to_parquet(path)
            metrics = dict.fromkeys(files.result(protocol, model).metrics)
            files = change(
                files, protocol, model, metrics=metrics, ci95=metrics, undefined=dict.fromkeys(metrics, "none")
            )
    for name, picture in PICTURES.items():
        if picture.section == COMPARISON and not picture.lacking(files):
            assert name.startswith(("forest", "cut-offs", "slices"))
            assert not marks(picture.draw(files).axes[0])
            assert picture.text(files).endswith("seed 42.")


# -- curves ------------------------------------------------------------------------------------------------------------


def test_cut_offs_at_ten_are_the_metrics_of_evaluation_json(judged):
    figure = drawn("cut-offs-leave-one-out", judged)
    for panel, metric in zip(figure.axes, ("full_hr@10", "full_ndcg@10", "hr@10", "ndcg@10")):
        curves = [line.get_ydata() for line in panel.lines]
        values = [judged.result("leave-one-out", model).metrics[metric] for model in judged.models("leave-one-out")]
        assert [curve[9] for curve in curves] == pytest.approx(values)
        assert {len(curve) for curve in curves} == {50}
        assert len(panel.collections) == 2  # the networks' bands
    assert labels(figure) == ["DLRM", "NCF", "EASE", "Popularity"]
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in figure.axes[0].lines}) == 4


def test_the_legend_has_the_auc_of_evaluation_json(files):
    files = change(files, "random-split", "ncf", metrics={"auc": 0.123456}, ci95={"auc": [0.1, 0.2]})
    figure = drawn("separation-random-split", files)
    assert "NCF: AUC 0.123 (0.100 to 0.200), AP " in labels(figure)[1]
    for model, label in zip(files.models("random-split"), labels(figure)):
        assert f"AUC {files.result('random-split', model).metrics['auc']:.3f}" in label
    assert "NCF 0.123 (0.100 to 0.200)" in said("separation-random-split", files)


def test_a_png_is_laid_out_whatever_was_drawn_before(judged, tmp_path):
    """Panels of one aspect beside a legend find their places only when they are drawn several times."""
    figure = drawn("separation-random-split", judged)
    made._write_png(figure, tmp_path / "one.png")
    places = [axes.get_position().extents for axes in figure.axes]
    for _ in range(3):
        figure.canvas.draw()
    assert np.allclose(places, [axes.get_position().extents for axes in figure.axes], atol=0.005)


def test_the_drawn_roc_curve_encloses_the_auc(judged):
    panel, right = drawn("separation-random-split", judged).axes
    lines = [line for line in panel.lines if len(line.get_xdata()) > 10]
    for line, model in zip(lines, judged.models("random-split")):
        area = trapezoids(line.get_xdata(), line.get_ydata())
        assert area == pytest.approx(judged.result("random-split", model).metrics["auc"], abs=0.003)
    share = (rows_of(judged, "dlrm")["label"] > 0).mean()
    assert any(set(line.get_ydata()) == {share} for line in right.lines)


def test_a_sample_of_the_rows_is_said_to_be_one(files):
    files = change(files, "random-split", "dlrm", test_rows=1_000_000)
    kept = len(rows_of(files, "dlrm"))
    assert f"1,000,000 test rows, seed 42; drawn from {kept} of them." in said("separation-random-split", files)
    assert f"on {kept} of the rows" in said("paired-random-split", files)


def test_rows_with_one_label_have_no_curve(files):
    for model in files.models("random-split"):
        path = files.run.kept("random-split", model) / "rows.parquet"
        pd.read_parquet(path).assign(label=np.float32(1)).to_parquet(path)
    files = RunFiles(files.run)
    assert (
        PICTURES["separation-random-split"].lacking(files) == "The test rows of random-split all have the same label."
    )


def test_reliability_is_drawn_bin_by_bin(judged):
    figure = drawn("reliability-random-split", judged)
    assert [panel.get_title() for panel in figure.axes] == ["DLRM", "NCF", "Biases"]
    for panel, model in zip(figure.axes, ("dlrm", "ncf", "biases")):
        rows = rows_of(judged, model).sort_values("score")
        parts = np.array_split(rows[["score", "label"]].to_numpy(float), 15)
        line = next(line for line in panel.lines if len(line.get_xdata()) == 15)
        assert line.get_xdata() == pytest.approx([part[:, 0].mean() for part in parts], abs=0.03)
        assert line.get_ydata() == pytest.approx([part[:, 1].mean() for part in parts], abs=0.1)
        error = judged.result("random-split", model).metrics["ece"]
        assert f"ECE {error:.3f}" in [text.get_text() for text in panel.texts]
        assert f"{title_of('random-split', model)} {error:.3f}" in said("reliability-random-split", judged)
    assert "Popularity: no probabilities." in said("reliability-random-split", judged)


# -- slices ------------------------------------------------------------------------------------------------------------


def test_slices_hold_every_user_and_their_values_make_up_the_whole(judged):
    found = slices_of(judged, "leave-one-out", "sampled")
    whole = {model: judged.result("leave-one-out", model).metrics["ndcg@10"] for model in ("dlrm", "ncf")}
    for title, classes in found.items():
        if title not in ("Movie's genre", "Movie's age, years"):  # of several genres, or of an unknown year
            count = [one.count for one in classes]
            assert sum(count) == 40
            for model, value in whole.items():
                assert np.average([one.metrics[model] for one in classes], weights=count) == pytest.approx(value)
    assert list(found["Movie's genre"][0].metrics) == ["dlrm", "ncf", "ease"]  # the networks and the best other


def test_a_slice_by_hand(judged):
    rows = rows_of(judged, "dlrm")
    genres = judged.movies.set_index("movieId")["genres"]
    chosen = rows[[("War" in genres[movie]) for movie in rows["movie_id"]]]
    found = next(one for one in slices_of(judged, "random-split", "rows")["Movie's genre"] if one.name == "War")
    positive, negative = (chosen["score"][chosen["label"] == label].to_numpy() for label in (1, 0))
    assert found.count == len(chosen)
    assert found.metrics["dlrm"] == pytest.approx((positive[:, None] > negative).mean())
    others = judged.ratings["userId"].value_counts().reindex(rows["user_id"]).to_numpy() - 1
    names = [one.name for one in slices_of(judged, "random-split", "rows")["User's other ratings"]]
    assert names[0].startswith(str(others.min()))
    assert names[-1].endswith(str(others.max()))


def test_drawn_slices_are_those_that_were_computed(judged):
    figure = drawn("slices-random-split", judged)
    for panel in figure.axes:
        classes = slices_of(judged, "random-split", "rows")[panel.get_title()]
        assert [text.get_text() for text in panel.get_yticklabels()] == [f"{c.name} ({c.count:,})" for c in classes]
        values = [value for one in classes for value in one.metrics.values() if value is not None]
        assert [x for x, _ in marks(panel)] == pytest.approx(values)
        intervals_of = [pair for one in classes for pair in one.ci95.values() if pair is not None]
        assert [end for bar in bars(panel) for end in bar] == pytest.approx([e for pair in intervals_of for e in pair])


def test_new_users_and_old_movies_are_told_by_the_time_of_the_rating(judged):
    found = slices_of(judged, "leave-one-out", "sampled")
    first = judged.ratings.groupby("userId")["timestamp"].min()
    last = judged.ratings.groupby("userId")["timestamp"].max()
    new = ((last - first) < 86_400).sum()
    assert next(one.count for one in found["Days since joining"] if one.name == "1") == new == 8
    assert {one.name for one in found["Movie's age, years"]} <= {
        "0\u20131",
        "2\u20135",
        "6\u201310",
        "11\u201320",
        "over 20",
    }


# -- lists -------------------------------------------------------------------------------------------------------------


def test_variety_is_drawn_as_computed(judged):
    figure = drawn("variety-leave-one-out", judged)
    lists = judged.kept("leave-one-out", "dlrm", "lists")
    assert variety_of(judged, "leave-one-out", "dlrm").values["coverage"] == pytest.approx(
        lists["movie_id"].nunique() / judged.ratings["movieId"].nunique()
    )
    counts = judged.ratings.groupby("movieId")["userId"].nunique() / judged.ratings["userId"].nunique()
    assert variety_of(judged, "leave-one-out", "dlrm").values["novelty"] == pytest.approx(
        -np.log2(counts.reindex(lists["movie_id"])).mean()
    )
    for panel, name in zip(figure.axes, ("coverage", "novelty", "diversity")):
        found = [variety_of(judged, "leave-one-out", model) for model in judged.models("leave-one-out")]
        assert marks(panel) == [(one.values[name], place) for place, one in enumerate(found)]
        assert [list(bar) for bar in bars(panel)] == [one.ci95[name] for one in found]


def test_overlap_counts_the_movies_in_both_lists(judged):
    figure = drawn("overlap-leave-one-out", judged)
    lists = {model: judged.kept("leave-one-out", model, "lists") for model in ("dlrm", "ncf")}
    common = len(pd.merge(*lists.values(), on=["user_id", "movie_id"]))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(heights) == pytest.approx(1)
    assert np.dot(heights, np.arange(11)) == pytest.approx(common / 40)
    assert f"share {common / 40:.1f} movies on average" in said("overlap-leave-one-out", judged)


def test_the_example_is_the_user_with_the_median_number_of_ratings(judged):
    found = example(judged, "leave-one-out")
    counts = judged.ratings["userId"].value_counts()
    assert found.ratings == int(np.sort(counts)[(len(counts) - 1) // 2])
    assert found.user == min(counts.index[counts == found.ratings])
    lists = judged.kept("leave-one-out", "ncf", "lists")
    assert found.lists["ncf"] == lists["movie_id"][lists["user_id"] == found.user].tolist()
    titles = judged.movies.set_index("movieId")["title"]
    shown = " ".join(words(drawn("one-user-leave-one-out", judged)))
    assert all(titles[movie] in shown for movies in found.lists.values() for movie in movies)
    assert f"watched {titles[found.held_out]}" in said("one-user-leave-one-out", judged)


def test_a_hit_is_framed_and_a_movie_in_both_lists_is_bold(files):
    found = example(files, "leave-one-out")
    path = files.run.kept("leave-one-out", "dlrm") / "lists.parquet"
    table = pd.read_parquet(path)
    at = (table["user_id"] == found.user) & (table["place"] == 4)
    table.loc[at, "movie_id"] = found.held_out
    table.loc[(table["user_id"] == found.user) & (table["movie_id"] == found.held_out) & ~at, "movie_id"] = 10
    table.to_parquet(path)
    files = RunFiles(files.run)
    panel = drawn("one-user-leave-one-out", files).axes[0]
    framed = [text.get_text() for text in panel.texts if text.get_bbox_patch()]
    title = files.movies.set_index("movieId")["title"][found.held_out]
    assert [name.partition(" (")[0] for name in framed] == [title]
    lists = example(files, "leave-one-out").lists
    bold = {text.get_text() for text in panel.texts if text.get_weight() == "bold"} - {"DLRM"}
    assert len(bold) == len(set(lists["dlrm"]) & set(lists["ncf"]))


# -- cost --------------------------------------------------------------------------------------------------------------


def test_cost_is_the_time_of_training(judged):
    figure = drawn("cost-leave-one-out", judged)
    others, timed = figure.axes
    points = {(x, y) for x, y in marks(timed)}
    expected = {(120.0, "dlrm"), (30.0, "ncf")}
    deciding = PROTOCOLS["leave-one-out"].deciding
    assert points == {(x, judged.result("leave-one-out", model).metrics[deciding]) for x, model in expected}
    assert {"EASE", "Popularity"} <= {text.get_text() for text in others.texts}
    assert labels(figure) == ["DLRM", "NCF"]
    assert "in 120 s" in said("cost-leave-one-out", judged)


# -- any model ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _more_models():
    NETWORKS.add("third", replace(NETWORKS["ncf"], title="Third"))
    BASELINES.add("ranking/fourth", replace(BASELINES["ranking/popularity"], name="fourth", title="Fourth"))
    yield
    NETWORKS.remove("third")
    BASELINES.remove("ranking/fourth")


@pytest.mark.usefixtures("_more_models")
class TestWithMoreModels(PictureContract):
    names = ("paired-leave-one-out", "cut-offs-leave-one-out", "overlap-leave-one-out", "one-user-leave-one-out")

    @pytest.fixture
    def files(self, tmp_path, monkeypatch) -> RunFiles:
        monkeypatch.setattr("tests.report.judged_runs.SKILL", {"dlrm": 1.5, "ncf": 1.2, "third": 1.0, "fourth": 0.5})
        return judged_run(tmp_path, ranked=("dlrm", "ncf", "third", "fourth"), scored=())

    def test_every_two_networks_are_compared(self, files):
        pairs = [(pair.one, pair.other) for pair in paired(files, "leave-one-out")]
        assert pairs[:3] == [("dlrm", "ncf"), ("dlrm", "third"), ("ncf", "third")]
        assert said("paired-leave-one-out", files).count(" corrected for 3 pairs, the only split)") == 3
        assert len(drawn("overlap-leave-one-out", files).axes) == 3
        assert len(drawn("one-user-leave-one-out", files).axes) == 3
        common = set.intersection(*map(set, example(files, "leave-one-out").lists.values()))
        assert re.search(
            rf" {len(common)} of ten movies (is|are) in all lists; bold: in more than one\.",
            said("one-user-leave-one-out", files),
        )


def test_the_kept_files_give_the_metrics_of_evaluation_json(judged):
    for protocol, parts in (("leave-one-out", ("sampled", "full")), ("random-split", ("rows",))):
        for model in judged.models(protocol):
            found = {k: v for part in parts for k, v in judgement(judged, protocol, model, part).means().items()}
            assert found == pytest.approx(judged.result(protocol, model).metrics)


def test_every_protocol_has_its_pictures_in_the_order_of_the_tables():
    kinds = (*RANKED, *SCORED, *RATED)
    assert [name for name in names_in(COMPARISON) if name in kinds] == list(kinds)
