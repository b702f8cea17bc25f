"""How a notebook begins, and how it displays a picture."""

import os

import pytest

pytest.importorskip("IPython")  # which the Merlin image has, and its lock has not

from core.errors import UserError
from report.notebooks import show as shown
from report.picture import PICTURES, Picture
from report.style import figure
from tests.report.made_run import made_run


def drawn(_):
    made, (axes,) = figure()
    axes.plot([0, 1], [1, 0])
    return made


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed: the type and metadata of each."""
    found = []
    monkeypatch.setattr(shown, "display", found.append)
    return found


@pytest.fixture
def added():
    names = []

    def add(lacking: str = "") -> str:
        name = f"made-up-{len(names)}"
        names.append(name)
        text = "It falls from 1 to 0."
        PICTURES.add(
            name,
            Picture(name=name, section="data", title="A", draw=drawn, text=lambda _: text, lacking=lambda _: lacking),
        )
        return name

    yield add
    for name in names:
        PICTURES.remove(name)


def test_a_picture_has_its_text_below_it_and_for_a_screen_reader(added, displayed):
    shown.show(added(), None)
    image, text = displayed
    data, metadata = image._repr_mimebundle_()
    assert list(data) == ["image/png"]
    assert metadata["image/png"]["alt"] == text.data == "It falls from 1 to 0."


def test_a_run_without_the_picture_says_why(added, displayed):
    shown.show(added("There are no ratings."), None)
    assert [one.data for one in displayed] == ["There are no ratings."]


def test_an_unknown_picture_is_an_error_that_lists_those_there_are(added):
    name = added()
    with pytest.raises(UserError, match=name):
        shown.show("nothing-like-it", None)


def test_the_same_figure_gives_the_same_bytes_on_white():
    from io import BytesIO

    from PIL import Image

    once, again = shown.png(drawn(None)), shown.png(drawn(None))
    assert once == again
    assert Image.open(BytesIO(once)).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_nothing_is_cut_off_where_the_layout_needs_a_second_pass():
    made, panels = figure(1, 2, height=3.8)
    for axes in panels:
        axes.plot([0, 1], [0, 1], label="a line")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal", xlabel="false positive rate", title="ROC")
    made.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", title="\n".join("abcde"))
    shown.png(made)
    edges = [axes.xaxis.label.get_window_extent().y0 for axes in panels]
    assert min(edges) >= 0


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder that is not the checkout, restored at the end with what `begin` changes."""
    for name in ("TF_CPP_MIN_LOG_LEVEL", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_run_folder_can_be_chosen_from_where_the_notebook_lies(elsewhere, monkeypatch):
    run = made_run(elsewhere)
    monkeypatch.setenv("MARQUEE_RUN", run.root.name)
    files = shown.begin()
    assert files.run == run
    assert files.results


def test_without_results_it_says_which_command_makes_them(elsewhere, monkeypatch):
    monkeypatch.setenv("MARQUEE_RUN", str(elsewhere / "ml-1m"))
    with pytest.raises(UserError, match=r"evaluation\.json is missing; run: python -m marquee run --dataset ml-1m"):
        shown.begin()


def test_what_is_entered_ends_once():
    ended = []
    stack = shown.at_the_end()
    stack.callback(ended.append, "server")
    stack.close()
    stack.close()
    assert ended == ["server"]
