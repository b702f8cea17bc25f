"""Writing the report: whole or not at all, of the run as it is now, and only where a report may be."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.artifacts import seal, verify
from core.errors import UserError
from core.registry import Registry
from core.run_folder import Run
from models.evaluation.results import judged_models, read_results, write_results
from report import made
from report.made import write_report
from report.picture import Picture
from report.style import WIDTH, figure
from tests.report.html_page import Page
from tests.report.made_run import ORIGIN, made_run

HOSTILE = "<script>alert('1')</script> & \"quotes\""
MOST_BYTES = 3_000_000


def picture(
    name: str, section: str = "data", title: str = "A title", lacking: str = "", width: float = WIDTH
) -> Picture:
    def draw(files):
        drawn, (axes,) = figure(width=width)
        axes.hist(files.ratings["rating"])
        axes.set_title(title)
        return drawn

    return Picture(
        name=name,
        section=section,
        title=title,
        draw=draw,
        text=lambda files: f"{len(files.ratings):,} ratings, seed {files.results[0].seed}.",
        lacking=lambda files: lacking,
    )


@pytest.fixture
def pictures(monkeypatch) -> Callable[..., None]:
    def put(*chosen: Picture) -> None:
        registry: Registry[Picture] = Registry("picture", "tests.report")
        registry._loaded = True
        for place, one in enumerate(chosen):
            registry.add(one.name, one, place)
        monkeypatch.setattr(made, "PICTURES", registry)

    put(picture("stars"), picture("wide", "comparison", HOSTILE, width=10), picture("none", lacking="there is none."))
    return put


@pytest.fixture
def run(tmp_path) -> Run:
    return made_run(tmp_path)


def write(run: Run, out: Path | None = None, png: bool = False) -> made.Written:
    out = out or run.report
    return write_report(run, out, lambda by, note: None, made_by="Marquee 0", paper=None, png=png)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_page_and_every_picture_are_written(run, pictures):
    written = write(run)
    assert (written.path, written.pictures) == (run.report / "report.html", 2)
    assert files_of(run.report) == {
        *("report.html", "pictures.json", "names.json", "manifest.json", "pictures/stars.svg", "pictures/wide.svg")
    }
    assert json.loads((run.report / "pictures.json").read_text()) == [
        {"name": "stars", "section": "data", "title": "A title", "text": "1,200 ratings, seed 42."},
        {"name": "wide", "section": "comparison", "title": HOSTILE, "text": "1,200 ratings, seed 42."},
    ]
    whole = Page(written.path.read_text()).root
    shown = {one.all("svg")[0].attributes["id"]: one.attributes.get("class") for one in whole.all("figure")}
    assert shown == {"picture-stars": None, "picture-wide": "wide"}
    assert "A title: there is none." in [one.text for one in whole.all("li")]
    assert not whole.all("script")
    assert "<script" not in (run.report / "pictures" / "wide.svg").read_text()
    assert written.path.stat().st_size < MOST_BYTES
    verify(run.report)


def test_pngs_are_written_on_request(run, pictures):
    write(run, png=True)
    assert (run.report / "pictures" / "stars.png").read_bytes().startswith(b"\x89PNG")
    write(run)
    assert "pictures/stars.png" not in files_of(run.report)


def test_everything_is_drawn_again(run, pictures):
    write(run)
    pictures(picture("other", title="Another title"))
    written = write(run)
    assert "pictures/stars.svg" not in files_of(run.report)
    assert "Another title" in written.path.read_text()
    assert "A title" not in written.path.read_text()


def test_a_report_that_fails_leaves_the_earlier_one(run, pictures):
    write(run)
    before = {name: (run.report / name).read_bytes() for name in files_of(run.report)}

    def fails(files):
        raise UserError("this picture cannot be drawn")

    pictures(picture("stars"), Picture(name="bad", section="data", title="Bad", draw=fails, text=lambda _: ""))
    with pytest.raises(UserError, match="cannot be drawn"):
        write(run)
    assert {name: (run.report / name).read_bytes() for name in files_of(run.report)} == before
    assert not [path for path in run.root.iterdir() if "partial" in path.name]


def test_a_first_report_that_fails_leaves_nothing(run, pictures, tmp_path):
    pictures(picture("stars"))
    (run.tables / "ratings.parquet").unlink()
    with pytest.raises(UserError, match=r"ratings\.parquet is missing; run: python -m marquee fetch"):
        write(run)
    assert not run.report.exists()


@pytest.mark.parametrize("there", ["notes.txt", "manifest.json"])
def test_a_folder_that_is_no_report_is_never_replaced(run, pictures, tmp_path, there):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    if there == "manifest.json":
        seal(other, ORIGIN)
    with pytest.raises(UserError, match="something else than a report; choose another folder with --out"):
        write(run, other)
    assert (other / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="is not a folder"):
        write(run, other / "notes.txt")


def test_an_empty_folder_and_an_earlier_report_are(run, pictures, tmp_path):
    other = tmp_path / "mine"
    other.mkdir()
    for _ in range(2):
        assert write(run, other).path == other / "report.html"


def test_results_that_evaluate_would_make_again_are_refused(run, pictures):
    command = r"run again: python -m marquee evaluate --dataset ml-latest-small --runs "
    run.evaluation.write_text(run.evaluation.read_text() + "\n")
    with pytest.raises(UserError, match=rf"evaluation\.json was changed since evaluate wrote it; {command}"):
        write(run)


def test_what_was_kept_must_be_of_the_same_evaluation(run, pictures):
    (run.judged / "manifest.json").unlink()
    seal(run.judged, "1" * 64)
    with pytest.raises(UserError, match="are of two evaluations; run again: python -m marquee evaluate"):
        write(run)


def test_a_kept_file_that_is_missing_is_named(run, pictures):
    path = run.kept("leave-one-out", "ncf") / "sampled.parquet"
    path.unlink()
    with pytest.raises(UserError, match=r"ncf/sampled\.parquet.*run again: python -m marquee evaluate"):
        write(run)


def test_a_network_that_was_trained_again_makes_results_old(run, pictures):
    folder = run.model("random-split", "dlrm")
    (folder / "manifest.json").unlink()
    (folder / "history.json").write_text("[]")
    seal(folder, ORIGIN)
    with pytest.raises(UserError, match=r"dlrm has changed since .* was written; run again: python -m marquee eval"):
        write(run)


@pytest.mark.parametrize("change", [{"model": "gone"}, {"protocol": "gone"}])
def test_a_model_of_another_version_is_named(run, pictures, change):
    results = read_results(run)
    write_results(run, [replace(results[0], **change), *results[1:]], ORIGIN, judged_models(run))
    with pytest.raises(UserError, match=r"gone.* is not known; run again: python -m marquee evaluate"):
        write(run)


def test_nothing_of_the_run_is_changed(run, pictures):
    before = {path: pq.read_table(path).num_rows for path in run.root.rglob("*.parquet")}
    names = files_of(run.root)
    write(run)
    assert {name for name in files_of(run.root) if not name.startswith("report/")} == names
    assert {path: pq.read_table(path).num_rows for path in before} == before
