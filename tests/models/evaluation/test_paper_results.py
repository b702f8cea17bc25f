"""The file of `paper --out`: a rerun keeps what is there of the same files, and two at once lose nothing."""

import io
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from core.errors import UserError
from core.json_files import only_writer, write_json
from marquee.app import main
from marquee.result_tables import paper_table
from models.baselines.base import NoSettings
from models.evaluation import ncf_paper
from models.evaluation.paper_results import PaperResults
from tests.models.evaluation.test_ncf_paper import write_ncf
from workflows.sources.ncf_files import read_ncf_files

ORDER = ("popularity", "ease", "mf", "ncf")


def row(model: str, seed: int = 1, value: float = 0.5) -> dict:
    return {"model": model, "seed": seed, "hr@10": value, "ndcg@10": value}


def store(path: Path, data: str = "files") -> PaperResults:
    return PaperResults.of(path, data, ORDER)


def models(path: Path) -> list[str]:
    return [one["model"] for one in json.loads(path.read_text())]


def test_models_are_put_beside_each_other_in_their_order(tmp_path):
    path = tmp_path / "paper.json"
    assert store(path).put("ncf", "a", [row("ncf", 1), row("ncf", 2)])[0]["model"] == "ncf"
    store(path).put("popularity", "b", [row("popularity")])
    assert models(path) == ["popularity", "ncf", "ncf"]
    store(path).put("ncf", "c", [row("ncf", 7)])
    assert [(one["model"], one["seed"], one["made_from"]) for one in json.loads(path.read_text())] == [
        ("popularity", 1, "b"),
        ("ncf", 7, "c"),
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["paper.json"]


def test_a_model_is_finished_where_every_seed_is_made_from_the_same(tmp_path):
    path = tmp_path / "paper.json"
    store(path).put("ncf", "a", [row("ncf", 1), row("ncf", 2)])
    assert [one["seed"] for one in store(path).finished("ncf", "a", [1, 2])] == [1, 2]
    assert store(path).finished("ncf", "b", [1, 2]) == []
    assert store(path).finished("ncf", "a", [1, 2, 3]) == []
    assert store(path).finished("mf", "a", [1]) == []
    assert store(path, "other files").finished("ncf", "a", [1, 2]) == []


def test_results_of_other_files_are_dropped_with_a_word(tmp_path):
    path = tmp_path / "paper.json"
    store(path, "old").put("mf", "a", [row("mf")])
    new = store(path)
    assert new.sentences(["ncf"], {}) == [f"{path}: mf: dropped, as its results are of other files"]
    new.put("ncf", "a", [row("ncf")])
    assert models(path) == ["ncf"]
    write_json(path, [row("mf")])
    assert store(path).sentences(["mf"], {}) == [
        f"{path}: mf: dropped, as its results do not say which files they are of"
    ]


def test_what_is_kept_is_said_and_whether_it_would_be_made_alike(tmp_path):
    path = tmp_path / "paper.json"
    for model in ("popularity", "ease", "mf"):
        store(path).put(model, f"{model} as it is", [row(model)])
    now = {"popularity": "popularity as it is", "ease": "ease as it is", "mf": "other settings"}
    assert store(path).sentences(["ncf"], now) == [
        f"{path}: popularity, ease: kept",
        f"{path}: mf: kept, with other seeds, settings or code",
    ]
    assert store(path).sentences(["popularity", "ease", "mf"], now) == []


def test_results_of_other_files_that_come_meanwhile_are_not_overwritten(tmp_path):
    path = tmp_path / "paper.json"
    mine, other = store(path), store(path, "other")
    other.put("mf", "a", [row("mf")])
    with pytest.raises(UserError, match="another command writes results of other files"):
        mine.put("ncf", "a", [row("ncf")])
    assert models(path) == ["mf"]


@pytest.mark.parametrize("text", ["{}", "[3]", '[{"model": "mf"}]', '[{"model": "mf", "seed": 1, "hr@10": "x"}]'])
def test_a_file_of_another_kind_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not what paper writes"):
        store(path)
    assert path.read_text() == text


def put_again_and_again(path: Path, model: str) -> None:
    mine = store(path)
    for seed in range(50):
        mine.put(model, "a", [row(model, seed)])


def test_two_at_once_lose_nothing(tmp_path):
    path = tmp_path / "paper.json"
    started = [multiprocessing.get_context("fork").Process(target=put_again_and_again, args=(path, m)) for m in ORDER]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0, 0]
    assert [(one["model"], one["seed"]) for one in json.loads(path.read_text())] == [(model, 49) for model in ORDER]
    assert [one.name for one in tmp_path.iterdir()] == ["paper.json"]


def test_what_is_locked_is_a_file_beside_and_it_is_removed(tmp_path):
    path = tmp_path / "a.json"
    with only_writer(path):
        assert [one.name for one in tmp_path.iterdir()] == [".a.json.lock"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="it is not a file"), only_writer(tmp_path):
        pass


# -- the command -------------------------------------------------------------------------------------------------------


def paper(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["paper", *arguments])
    return int(stopped.value.code)


def test_a_rerun_keeps_the_others_and_goes_on_with_what_is_finished(tmp_path, capsys, monkeypatch):
    folder, out = write_ncf(tmp_path / "files"), tmp_path / "paper.json"
    given = ["--data", str(folder), "--seeds", "2", "--out", str(out)]
    judged = []
    judge = ncf_paper.judge
    monkeypatch.setattr(ncf_paper, "judge", lambda f, name, *rest: judged.append(name) or judge(f, name, *rest))
    assert paper(*given, "--model", "popularity") == 0
    capsys.readouterr()
    assert paper(*given, "--model", "ease") == 0
    text = capsys.readouterr().out
    assert f"{out}: popularity: kept\n" in text
    assert "a user's last movie among 30 others, 40 users" in text
    assert models(out) == ["popularity", "ease"]
    before = out.read_text()
    assert paper(*given, "--model", "popularity", "--model", "ease") == 0
    assert judged == ["popularity", "ease"]
    assert out.read_text() == before
    assert paper(*given, "--seed", "7", "--model", "ease") == 0
    assert judged == ["popularity", "ease", "ease"]
    assert f"{out}: popularity: kept, with other seeds, settings or code\n" in capsys.readouterr().out


def test_new_files_forget_the_old_results(tmp_path, capsys):
    out = tmp_path / "paper.json"
    assert paper("--data", str(write_ncf(tmp_path / "a", 1)), "--out", str(out), "--model", "popularity") == 0
    first = json.loads(out.read_text())
    assert paper("--data", str(write_ncf(tmp_path / "b", 2)), "--out", str(out), "--model", "popularity") == 0
    second = json.loads(out.read_text())
    assert len(first) == len(second) == 1
    assert first[0]["data"] != second[0]["data"]
    assert "popularity: dropped, as its results are of other files" in capsys.readouterr().out


def test_short_lists_are_left_out_and_counted(tmp_path):
    """User 0 has five movies to be ranked among, the others 30."""
    folder = write_ncf(tmp_path / "files")
    files = read_ncf_files(folder)
    negatives = files.negatives.copy()
    negatives[0, 5:] = -1
    features = ncf_paper.paper_features(replace(files, negatives=negatives), folder, 1)
    results = ncf_paper.judge(features, "popularity", NoSettings(), [1], torch.device("cpu"), lambda *_: None)
    assert results[0]["left_out"] == {"test_users": 1}
    assert results[0]["others"] == (30, 30)
    console = Console(file=io.StringIO(), width=110)
    console.print(paper_table("ml-1m", 40, results, {}))
    assert "among 30 others, 39 users" in console.file.getvalue()
    assert "1 user is left out: among fewer than 10 others any movie is a hit." in console.file.getvalue()


def test_a_figure_that_is_undefined_is_a_dash():
    console = Console(file=io.StringIO(), width=110)
    console.print(paper_table("ml-1m", 2, [{**row("mf"), "hr@10": None, "ndcg@10": None}], {}))
    assert "None" not in console.file.getvalue()
    assert "-" in console.file.getvalue().split("mf")[-1]
