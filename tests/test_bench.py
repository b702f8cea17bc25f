"""The published benchmark figures: in their format, and the same in every place where they stand."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
KEYS = {"what", "unit", "ours", "peer", "theirs", "ratio", "runs", "scale"}


def load(name: str) -> ModuleType:
    """A script of the benchmarks, which import each other as scripts do."""
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(BENCH))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


@pytest.fixture(scope="module")
def records() -> ModuleType:
    return load("records")


@pytest.fixture(scope="module")
def accuracy(records) -> ModuleType:
    load("inputs")
    load("study_table")
    return load("accuracy")


@pytest.fixture(scope="module")
def results() -> list[dict]:
    return json.loads((BENCH / "results.json").read_text())


def test_the_results_are_in_their_format(results):
    assert results
    for result in results:
        assert result.keys() >= KEYS
        assert all(isinstance(result[key], (int, float)) for key in ("ours", "theirs", "ratio", "scale"))
        low, high = result["ratio_range"]
        assert low <= result["ratio"] <= high
        assert result["runs"] >= 1
        assert 0 < result["scale"] <= 1


def test_a_ratio_above_one_is_better(records, results):
    for result in results:
        if result["runs"] == 1:
            plain = result["ours"] / result["theirs"]
            assert result["ratio"] == pytest.approx(1 / plain if result["unit"] in records.LESS else plain)


def test_the_page_shows_the_figures_of_the_files(records, tmp_path, monkeypatch):
    page, front = tmp_path / "README.md", tmp_path / "front.md"
    page.write_text((BENCH / "README.md").read_text())
    front.write_text((BENCH.parent / "README.md").read_text())
    monkeypatch.setattr(records, "README", page)
    monkeypatch.setattr(records, "PAGE", front)
    monkeypatch.setattr(records, "PICTURE", tmp_path / "scaling.png")
    records.write()
    assert page.read_text() == (BENCH / "README.md").read_text()
    assert front.read_text() == (BENCH.parent / "README.md").read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_the_whole_pipeline_ran_at_three_scales(records):
    points = json.loads((BENCH / "scaling.json").read_text())
    assert [point["scale"] for point in points] == sorted(point["scale"] for point in points)
    assert len(points) == 3
    for point in points:
        assert list(point["stages"]) == list(records.STAGES)
        assert {(model["model"], model["protocol"]) for model in point["models"]} >= {
            (model, protocol) for model in ("dlrm", "ncf", "truth") for protocol in ("leave-one-out", "random-split")
        }


def test_every_peer_has_a_script_and_pinned_requirements():
    for requirements in (BENCH / "peers").glob("*.txt"):
        lines = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
        assert all("==" in line for line in lines if line), requirements.name


def test_the_pages_show_the_accuracy_and_the_studies_of_the_files(accuracy, tmp_path):
    texts = {name: (folder / "README.md").read_text() for name, folder in (("page", BENCH.parent), ("studies", BENCH))}
    pages = {name: tmp_path / f"{name}.md" for name in texts}
    for name, page in pages.items():
        page.write_text(texts[name])
    accuracy.write(**pages)
    assert {name: page.read_text() for name, page in pages.items()} == texts


@pytest.mark.parametrize("path", sorted((BENCH / "accuracy").glob("ml-*.json")), ids=lambda path: path.stem)
def test_the_published_table_has_three_seeds_and_every_model(path):
    from models.registry import baselines_for, rivals_for

    found = json.loads(path.read_text())
    for protocol, judged in found["protocols"].items():
        trained = rivals_for(protocol, 0)
        expected = [*trained, *baselines_for(protocol, 0)]
        assert [name for name in expected if name in judged["models"]] == list(judged["models"])
        is_earlier = (path.stem, protocol) == ("ml-1m", "random-split")  # the page says so
        assert is_earlier or list(judged["models"]) == expected
        for name in set(trained) & set(judged["models"]):
            assert all(len(values) >= 3 for values in judged["models"][name]["per_seed"].values())
        assert judged["verdict"].endswith(".")


def test_the_published_paper_results_are_in_their_format(accuracy):
    found = json.loads(accuracy.PAPER.read_text())
    assert {result["model"] for result in found["results"]} >= {
        "dlrm",
        "ncf",
        "mf",
        "ease",
        "als",
        "itemknn",
        "popularity",
    }
    for name in ("dlrm", "ncf", "mf"):
        assert len({result["seed"] for result in found["results"] if result["model"] == name}) >= 3
    keys = {"model", "seed", "data", "made_from", "others", "hr@10", "ndcg@10", "full_hr@10", "full_ndcg@10"}
    assert all(result.keys() == keys for result in found["results"])
    assert len({result["data"] for result in found["results"]}) == 1


def test_under_every_fault_no_answer_was_wrong_and_harmless_faults_failed_no_request(records):
    found = json.loads(records.FAULTS.read_text())["faults"]
    assert len(found) >= 25
    assert all(fault["right"] > 100 and fault["wrong"] == 0 for fault in found)
    assert {fault["fault"] for fault in found if fault["failed"] == 0} >= {
        "nothing, for a minute",
        "clients that ask nonsense, over gRPC and HTTP",
        "eight clients that cancel, or wait 0 to 8 ms",
        "malformed strings beside good ones",
        "a new version",
        "rollback",
    }


def test_histories_are_better_than_popularity_on_people_whom_training_never_saw(records):
    found = {result["dataset"]: result for result in json.loads(records.NEWCOMERS.read_text())}
    assert found["ml-1m"]["people"] > 1000
    for figures in found["ml-1m"]["models"].values():
        assert figures["hr@10"]["margin_95"][0] > 0
    assert found["ml-100k"]["models"]["dlrm"]["hr@10"]["margin_95"][0] > 0
