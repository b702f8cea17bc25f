"""Networks and baselines name tasks, not protocols: a protocol has those of its task, and no others."""

from dataclasses import replace

import pytest

from core.artifacts import new_folder
from core.errors import UserError
from core.run_folder import Run
from marquee import training
from models import registry
from models.baselines.base import BASELINES, baselines_of
from models.evaluation import compare_seeds, ncf_paper
from models.evaluation.metrics.base import TASKS
from models.networks.base import NETWORKS, Network, NetworkSettings
from models.protocols.base import PROTOCOLS
from models.tuning import names_of
from tests.names import RANKED

RANKING, STARS = "leave-one-out", "rating"


@pytest.fixture
def ranker():
    """A network for ranking alone, in the registry for one test."""
    network = Network(
        title="ranker", settings=NetworkSettings, assemble=lambda features, settings: None, tasks=("ranking",)
    )
    yield NETWORKS.add("ranker", network)
    NETWORKS.remove("ranker")


@pytest.fixture
def asked_twice():
    """Protocols of the tasks that there are, under names that no model knows."""
    names = {"first-of-the-day": RANKING, "half-stars": STARS}
    for name, like in names.items():
        PROTOCOLS.add(name, replace(PROTOCOLS[like], name=name, is_default=False))
    yield names
    for name in names:
        PROTOCOLS.remove(name)


def test_a_new_protocol_has_the_baselines_and_networks_of_its_task(asked_twice):
    for name, like in asked_twice.items():
        assert baselines_of(name) == baselines_of(like) != {}
        assert registry.baselines_for(name, 0) == registry.baselines_for(like, 0)
        assert registry.networks_of(name) == registry.networks_of(like)
        assert registry.tunable(name) == registry.tunable(like)


def test_one_name_may_stand_for_two_baselines_of_two_tasks(asked_twice):
    assert baselines_of("half-stars")["biases"] is BASELINES["rating/biases"]
    assert baselines_of("random-split")["biases"] is BASELINES["classification/biases"]
    assert BASELINES["rating/biases"].fit is not BASELINES["classification/biases"].fit


def test_what_is_registered_is_for_tasks_that_there_are():
    assert {task for baseline in BASELINES.values() for task in baseline.tasks} == set(TASKS)
    assert {protocol.task for protocol in PROTOCOLS.values()} == set(TASKS)
    assert {key.partition("/")[0] for key in BASELINES} <= set(TASKS)


def test_a_network_for_ranking_alone_is_of_no_other_protocol(ranker, tmp_path):
    run = Run(tmp_path / "ml-1m")
    for split in {about.split for about in PROTOCOLS.values()}:
        with new_folder(run.features_of(split), "features"):
            pass
    for protocol, about in PROTOCOLS.items():
        is_there = about.task == "ranking"
        lists = (
            registry.networks_of(protocol),
            registry.networks_for(protocol, 0),
            registry.compared(protocol),
            registry.tunable(protocol),
            names_of(protocol, "all"),
        )
        assert [("ranker" in names) for names in lists] == [is_there] * len(lists)
        with new_folder(run.model(protocol, "ranker"), "a training", features="features"):
            pass
        assert registry.trained(run, protocol) == (("ranker",) if is_there else ())
    assert registry.compared() == (*RANKED, "ranker")
    assert "ranker" in ncf_paper.models()


def test_settings_of_a_wrong_task_are_refused_even_where_a_study_has_found_some(ranker, tmp_path):
    run = Run(tmp_path / "ml-1m")
    folder = run.tuning(STARS, "ranker")
    folder.mkdir(parents=True)
    (folder / "best.json").write_text('{"settings": {}}')
    for ask in (
        lambda: registry.default_settings(STARS, "ranker", "ml-1m", 0),
        lambda: registry.chosen_settings(run, STARS, "ranker", 0),
    ):
        with pytest.raises(UserError, match=r"^rating has no model 'ranker'; choose one of dlrm, ncf, mf, "):
            ask()
    with pytest.raises(UserError, match=r"^'ranker' cannot be tuned for rating; choose one of dlrm, "):
        names_of(STARS, "ranker")


def test_a_single_network_is_trained_for_the_protocols_of_its_task(ranker):
    assert registry.protocols_for("ranker", (RANKING, "random-split")) == (RANKING,)
    assert registry.protocols_for("dlrm", ("random-split", STARS)) == ("random-split", STARS)
    with pytest.raises(UserError) as caught:
        registry.protocols_for("ranker", ("random-split", STARS))
    assert str(caught.value).startswith(
        "ranker cannot be trained for random-split, rating; choose a protocol of leave-one-out"
    )
    assert "\n" not in str(caught.value)


def test_what_is_compared_by_name_is_compared_by_the_protocols_of_its_task(ranker):
    assert registry.protocols_for_any((), (RANKING, "random-split")) == (RANKING, "random-split")
    assert registry.protocols_for_any(("ranker",), ("random-split", RANKING)) == (RANKING,)
    assert registry.protocols_for_any(("ranker", "dlrm"), ("random-split", RANKING)) == ("random-split", RANKING)
    assert registry.rivals_for("random-split", 0, ("ranker", "ncf", "dlrm")) == ("dlrm", "ncf")
    with pytest.raises(UserError, match=r"^ranker cannot be trained for random-split"):
        registry.protocols_for_any(("dlrm", "ranker"), ("random-split",))


def test_train_refuses_a_network_of_another_task_in_one_line(ranker, prepared, tmp_path):
    run = Run(tmp_path / prepared.root.name)
    run.root.mkdir()
    for place in ("tables", "features"):
        (run.root / place).symlink_to(prepared.root / place)
    with pytest.raises(UserError, match=r"^ranker cannot be trained for rating; choose a protocol of leave-one-out"):
        training.train(run, training.TrainOptions(model="ranker", protocols=(STARS,)))
    assert not run.models.exists()


def test_compare_counts_the_networks_of_each_protocol(ranker, prepared):
    both = [compare_seeds.steps(prepared, (protocol,), 3) for protocol in (RANKING, STARS)]
    networks = [registry.networks_of(protocol) for protocol in (RANKING, STARS)]
    assert ["ranker" in names for names in networks] == [True, False]
    assert both[0] == 3 * len(networks[0]) + len(registry.baselines_for(RANKING, 0, prepared.tables))
    assert both[1] == 3 * len(networks[1]) + len(registry.baselines_for(STARS, 0, prepared.tables))
