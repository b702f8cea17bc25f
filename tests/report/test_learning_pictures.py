"""The learning curves show what training has written, and mark the epoch that was chosen where it was chosen."""

import json

import numpy as np
import pytest
from matplotlib.axes import Axes

from core.errors import UserError
from report.files import RunFiles
from report.picture import LEARNING, PICTURES
from report.pictures.learning import CHOSEN
from tests.contracts.pictures import PictureContract, names_in, smallest_text
from tests.names import EVERY_PROTOCOL, FOLDS
from tests.report.small_runs import add_network, files_of, learned_files

NAME = "learning-random-split"
RANKING = ("hr@10", "ndcg@10", "mrr@10", "auc")


class TestLearning(PictureContract):
    names = (NAME, *(one for one in names_in(LEARNING) if one not in {f"learning-{name}" for name in EVERY_PROTOCOL}))

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        return learned_files(tmp_path)

    def test_its_text_can_be_read_on_a_phone(self, figure):
        assert smallest_text(figure) >= 8


class TestLearningForOneEpoch(PictureContract):
    names = ("learning-leave-one-out",)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        files = files_of(tmp_path)
        row = {"train_loss": 0.5, **dict.fromkeys(RANKING, 0.25)}
        add_network(files, "leave-one-out", "ncf", [row], best_epoch=1, monitor="ndcg@10")
        return files


@pytest.fixture
def files(tmp_path) -> RunFiles:
    return learned_files(tmp_path)


def panels(files: RunFiles, name: str = NAME) -> dict[str, Axes]:
    found = PICTURES[name].draw(files).axes
    axes = {axis.get_title(): axis for axis in found}
    assert len(axes) == len(found)
    return axes


def curves(axis: Axes) -> dict[str, list[tuple[float, float]]]:
    """Points by the model that they are of."""
    return {line.get_label(): list(zip(*line.get_data())) for line in axis.lines if line.get_label() != CHOSEN}


def chosen(axis: Axes) -> list[tuple[float, float]]:
    return [point for line in axis.lines if line.get_label() == CHOSEN for point in zip(*line.get_data())]


def test_every_protocol_has_a_picture_but_for_the_folds():
    learning = {name for name in PICTURES if name.startswith("learning-")}
    assert learning == {f"learning-{name}" for name in EVERY_PROTOCOL if name not in FOLDS}


def test_curves_are_the_history_and_only_the_metric_that_chose_is_marked(files):
    axes = panels(files)
    assert list(axes) == ["Validation AUC", "Training loss", "Validation log loss"]
    assert curves(axes["Training loss"]) == {"dlrm": [(1, 0.6), (2, 0.5), (3, 0.4)], "ncf": [(1, 0.7), (2, 0.6)]}
    assert curves(axes["Validation log loss"])["ncf"] == [(1, 0.66), (2, 0.64)]
    assert curves(axes["Validation AUC"])["dlrm"] == [(1, 0.70), (2, 0.80), (3, 0.79)]
    assert chosen(axes["Validation AUC"]) == [(2, 0.80), (2, 0.66)]
    assert chosen(axes["Training loss"]) == chosen(axes["Validation log loss"]) == []  # the third epoch's was lower


def test_the_epoch_is_that_of_the_configuration_whatever_looks_best(tmp_path):
    """Of two equal epochs the first was kept; and another metric may choose."""
    files = files_of(tmp_path)
    history = [
        {"train_loss": 1 / (1 + epoch), "auc": auc, "log_loss": 0.5} for epoch, auc in enumerate((0.8, 0.8, 0.7))
    ]
    add_network(files, "random-split", "dlrm", history, best_epoch=3, monitor="log_loss")
    axes = panels(files)
    assert next(iter(axes)) == "Validation log loss"
    assert chosen(axes["Validation log loss"]) == [(3, 0.5)]
    assert chosen(axes["Validation AUC"]) == []


@pytest.mark.parametrize("epochs", [1, 2, 3, 20, 300])
def test_ticks_are_whole_epochs(epochs, tmp_path):
    files = files_of(tmp_path)
    history = [{"train_loss": 0.5, "auc": 0.5, "log_loss": 0.5}] * epochs
    add_network(files, "random-split", "dlrm", history, best_epoch=1, monitor="auc")
    figure = PICTURES[NAME].draw(files)
    figure.canvas.draw()
    for axis in figure.axes:
        low, high = axis.get_xlim()
        ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == int(tick) and 1 <= tick <= epochs for tick in ticks)


def test_models_differ_by_more_than_their_colour(files):
    for axis in panels(files).values():
        lines = [line for line in axis.lines if line.get_label() != CHOSEN]
        for look in ("get_color", "get_marker", "get_linestyle"):
            assert len({getattr(line, look)() for line in lines}) == len(lines) == 2


def test_the_text_says_what_chose_which_epoch(files):
    assert PICTURES[NAME].text(files) == (
        "Validation AUC chose epoch 2 of 3 for DLRM (0.800) and epoch 2 of 2 for NCF (0.660). All then started again "
        "and learned for as many epochs from the validation rows too. Training losses are of each network's own kind "
        "and do not compare; random-split, seed 42."
    )


def test_a_network_without_history_is_left_out(files):
    (files.run.model("random-split", "ncf") / "history.json").unlink()
    assert set(curves(panels(files)["Training loss"])) == {"dlrm"}
    assert "NCF" not in PICTURES[NAME].text(files)


def test_without_networks_the_picture_says_how_to_get_them(tmp_path):
    files = files_of(tmp_path)
    reason = PICTURES[NAME].lacking(files)
    command = f"python -m marquee train --protocol random-split --runs {tmp_path}"
    assert reason == f"No network has been trained for random-split yet; run: {command}"


def test_a_metric_that_is_undefined_chose_nothing(tmp_path):
    files = files_of(tmp_path)
    history = [{"train_loss": loss, **dict.fromkeys(RANKING)} for loss in (0.5, 0.4)]
    monitored = {"best_epoch": 2, "monitor": "ndcg@10", "trained_on": ["train"]}
    add_network(files, "leave-one-out", "dlrm", history, **monitored)
    name = "learning-leave-one-out"
    figure = PICTURES[name].draw(files)
    assert [axis.get_title() for axis in figure.axes] == ["Training loss"]
    assert chosen(figure.axes[0]) == []
    assert CHOSEN not in [text.get_text() for text in figure.legends[0].get_texts()]
    assert PICTURES[name].text(files) == (
        "DLRM kept the last of 2 epochs, as validation NDCG@10, sampled is undefined; leave-one-out, seed 42."
    )


def test_some_epochs_may_be_undefined(tmp_path):
    files = files_of(tmp_path)
    history = [{"train_loss": 0.5, "auc": auc, "log_loss": 0.5} for auc in (None, 0.7)]
    add_network(files, "random-split", "dlrm", history, best_epoch=2, monitor="auc")
    (first, second) = curves(panels(files)["Validation AUC"])["dlrm"]
    assert np.isnan(first[1])
    assert second == (2, 0.7)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("history.json", "[]", "has no epochs"),
        ("history.json", '[{"train_loss": 0.5}]', "has no epochs"),
        ("history.json", '[{"epoch": "one"}]', "valid number"),
        ("config.json", "[]", "should be an object"),
        ("config.json", "{}", "seed is missing"),
        (
            "config.json",
            json.dumps({"seed": 1, "epochs": 2, "best_epoch": 1.5, "monitor": "auc", "trained_on": []}),
            "best_epoch",
        ),
    ],
)
def test_files_that_were_changed_are_refused_with_their_name(file, content, said, files):
    path = files.run.model("random-split", "dlrm") / file
    path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        PICTURES[NAME].draw(files)
    assert str(path) in str(error.value)
    assert "python -m marquee train" in str(error.value)
