"""What travels with a version: the movies' titles, and a model card whose figures are those of the run's own files."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.artifacts import read_manifest, verify
from core.json_files import read_json
from core.run_folder import Run
from ensemble.export.export import export
from ensemble.repository.versions import rollback
from ensemble.triton_models.limits import LARGEST_BATCH, LARGEST_HISTORY, LARGEST_K
from models.evaluation.results import Result, add_stages, model_digest, read_results, write_results
from tests.ensemble.export.conftest import PROTOCOL, other_than, refusal, state
from tests.names import COMPARED
from workflows.licences import LICENCES, MADE_BY_SYNTH, NOT_STATED, licence_of
from workflows.sources.datasets import DATASETS

METRICS = {"hr@10": 0.61234, "ndcg@10": 0.41234, "auc": 0.81234, "full_hr@10": 0.21234, "full_ndcg@10": None}
SECONDS = {"evaluate": {"seconds": 1.5, "peak_mb": 7}}


def card(run: Run, version: int | None = None) -> str:
    """The card of a version, or the one in front."""
    inner = "MODEL_CARD.md" if version is None else f"score/{version}/model_card.md"
    return (run.repository / inner).read_text(encoding="utf-8")


def evaluate(run: Run, *, lower: float = 0.0) -> None:
    """`evaluation.json` as `evaluate` writes it, with figures of this test."""
    judged = [
        Result(
            model=name,
            protocol=PROTOCOL,
            metrics={key: None if value is None else value - lower - 0.1 * place for key, value in METRICS.items()},
            ci95={key: None if value is None else (value - 0.05, value + 0.05) for key, value in METRICS.items()},
            seed=42,
            epochs=2,
            train_seconds=1.0,
            samples_per_second=5,
            test_users=57,
            undefined={"full_ndcg@10": "no movie is left"},
            others=(80, 99),
        )
        for place, name in enumerate((*COMPARED, "popularity"))
    ]
    models = {name: model_digest(verify(run.model(PROTOCOL, name))["files"]) for name in COMPARED}
    write_results(run, judged, "of this test", {f"{PROTOCOL}/{name}": one for name, one in models.items()})


def rows(text: str) -> dict[str, list[str]]:
    """The table of the card: each model's cells."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


# -- titles ------------------------------------------------------------------------------------------------------------


def test_the_titles_are_those_of_the_tables(exported):
    found = pq.read_table(exported.repository / "score" / "1" / "titles.parquet").to_pandas()
    assert list(found.columns) == ["movie_id", "title", "year"]
    tables = pd.read_parquet(exported.tables / "movies.parquet").sort_values("movieId")
    assert found["movie_id"].tolist() == tables["movieId"].tolist()
    assert found["title"].tolist() == tables["title"].tolist()
    assert found["year"].tolist() == tables["year"].tolist()
    assert "score/1/titles.parquet" in verify(exported.repository)["files"]


def test_tables_that_were_changed_are_refused(run):
    path = run.tables / "movies.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    message = refusal(run, PROTOCOL, None)
    assert str(path) in message
    assert message.endswith(run.command("fetch"))


# -- the card ----------------------------------------------------------------------------------------------------------


def test_the_card_says_what_serves_and_how_it_was_trained(exported):
    text = card(exported)
    assert text == card(exported, 1)
    assert {"MODEL_CARD.md", "score/1/model_card.md"} <= verify(exported.repository)["files"].keys()
    assert text.startswith(f"# Model card: ml-latest-small, {PROTOCOL}\n")
    default = read_manifest(exported.repository)["default_model"]
    assert f"Where a request names no network, {default} answers." in text
    for name in COMPARED:
        config = read_json(exported.model(PROTOCOL, name) / "config.json")
        assert f"**{name}**: seed {config['seed']}, {config['weights']:,} weights" in text
        assert json.dumps(config["settings"], indent=2, sort_keys=True) in text
        for package, version in config["versions"].items():
            assert f"{package} {version}" in text
    for limit in (LARGEST_BATCH, LARGEST_K, LARGEST_HISTORY):
        assert f"{limit:,}" in text
    assert str(exported.root.parent) not in text  # nothing of the machine that exported it


def test_the_card_says_the_size_of_the_data_and_its_licence(exported):
    text = card(exported)
    ratings, users, movies = (
        len(pd.read_parquet(exported.tables / f"{name}.parquet")) for name in ("ratings", "users", "movies")
    )
    assert f"{ratings:,} ratings, {users:,} users and {movies:,} movies, of " in text
    assert LICENCES["ml-latest-small"] in text
    assert "do not publish it" in text
    assert "titles" in text


def test_what_is_not_evaluated_is_said_so(exported):
    assert not exported.evaluation.exists()
    assert {rows(card(exported))[name][0] for name in COMPARED} == {"not evaluated"}


def test_an_evaluation_makes_a_version_with_its_figures_and_the_same_weights(run):
    first = read_manifest(run.repository)
    evaluate(run)
    second = export(run, PROTOCOL, None)
    assert (second["version"], second["previous"]) == (2, 1)
    found = rows(card(run))
    assert found[COMPARED[0]][0] == "0.2123 (0.1623 to 0.2623)"  # over all movies
    assert found[COMPARED[0]][3] == "0.6123 (0.5623 to 0.6623)"
    assert found["popularity"][3] == "0.4123 (0.5623 to 0.6623)"
    assert found["popularity"][1] == "-"
    assert "full_ndcg@10: no movie is left" in card(run)
    assert "among 80 to 99 others" in card(run)
    assert "Asked about 57 test users." in card(run)
    assert card(run, 1) != card(run, 2) == card(run)

    def content(manifest: dict, version: int) -> dict[str, str]:
        named = {name.partition(f"/{version}/"): digest for name, digest in manifest["files"].items()}
        return {f"{model}/{file}": digest for (model, _, file), digest in named.items() if file}

    before, after = content(first, 1), content(second, 2)
    assert before.keys() == after.keys()
    different = {name for name in before if before[name] != after[name]}
    assert {Path(name).name for name in different} == {"config.pbtxt", "model_card.md"}


def test_the_same_evaluation_makes_no_other_version(run):
    evaluate(run)
    manifest = export(run, PROTOCOL, None)
    before = state(run)
    add_stages(run, SECONDS)  # as `export` itself does after it
    assert read_results(run)[0].stages == SECONDS
    evaluate(run)
    assert export(run, PROTOCOL, None) == manifest
    assert state(run) == before
    evaluate(run, lower=0.1)
    assert export(run, PROTOCOL, None)["version"] == 3


def test_figures_of_other_weights_are_not_in_the_card(run):
    evaluate(run)
    stamp = run.root / ".evaluation-stamp.json"
    values = json.loads(stamp.read_bytes())
    values["models"] = dict.fromkeys(values["models"], "0" * 64)
    stamp.write_text(json.dumps(values))
    export(run, PROTOCOL, other_than(read_manifest(run.repository)["default_model"]))
    assert {rows(card(run))[name][0] for name in COMPARED} == {"not evaluated"}
    assert "popularity" not in rows(card(run))


def test_figures_that_were_edited_are_not_in_the_card(run):
    evaluate(run)
    run.evaluation.write_text(run.evaluation.read_text().replace("0.61234", "0.99999"))
    assert export(run, PROTOCOL, None)["version"] == 1
    assert "0.9999" not in card(run)


def test_a_rollback_puts_the_card_of_its_version_in_front(run):
    evaluate(run)
    export(run, PROTOCOL, None)
    rollback(run.repository)
    assert card(run) == card(run, 1) != card(run, 2)
    assert (run.repository / "score" / "2" / "titles.parquet").is_file()
    rollback(run.repository)
    assert card(run) == card(run, 2)


# -- licences ----------------------------------------------------------------------------------------------------------


def test_every_release_of_movielens_has_a_licence():
    releases = [name for name in DATASETS if name.startswith("ml-")]
    assert releases
    assert all("GroupLens" in licence_of(name) and "permission" in licence_of(name) for name in releases)


@pytest.mark.parametrize(("name", "words"), [("synth-ml-25m-0.01", MADE_BY_SYNTH), ("someone's own", NOT_STATED)])
def test_what_is_not_grouplens_s_is_not_said_to_be(name, words):
    assert licence_of(name) == words
