"""Merlin Systems' own runtime on a real Triton: what it refuses and leaves. Its scores are in test_parity.py."""

import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.artifacts import verify
from core.errors import UserError
from core.run_folder import Run
from ensemble.merlin_systems.server import running_merlin, score_merlin
from ensemble.server.ports import free_port
from tests.names import COMPARED

pytestmark = pytest.mark.slow

PROTOCOL = "leave-one-out"


@pytest.mark.parametrize(
    ("model", "users", "movies", "words"),
    [
        ("dlrm", [], [], "0 user_id and 0 movie_id"),
        ("ncf", [1, 3], [10], "2 user_id and 1 movie_id"),
        ("svd", [1], [10], "merlin_svd"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(reference_server, model, users, movies, words):
    with pytest.raises(UserError, match=words) as refused:
        score_merlin(reference_server.url, model, users, movies)
    assert "\n" not in str(refused.value)
    assert score_merlin(reference_server.url, "dlrm", [1], [10]).shape == (1,)


def test_it_listens_on_loopback_only(reference_server):
    process = psutil.Process(reference_server.process.pid)
    listening = [
        connection.laddr
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert {address.port for address in listening} == {int(reference_server.url.rpartition(":")[2])}


# -- the repository ----------------------------------------------------------------------------------------------------


def test_serving_does_not_change_the_repository(referenced, reference_server):
    verify(referenced.reference_repository)


def test_what_is_up_to_date_is_not_written_again(reference, referenced):
    before = (referenced.reference_repository / "manifest.json").stat()
    assert reference.export_merlin(referenced, PROTOCOL, COMPARED)["protocol"] == PROTOCOL
    assert (referenced.reference_repository / "manifest.json").stat() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("merlin_dlrm/1/ensemble/ensemble.pkl", "has changed"),
        ("0_transformworkflowtriton/1/workflow/workflow.pkl", "has changed"),
        ("merlin_ncf_network/1/model.pt", "has changed"),
        ("evil/1/model.py", "not listed"),
    ],
)
def test_a_changed_or_extra_file_is_refused(referenced, tmp_path, name, words):
    repository = Path(shutil.copytree(referenced.reference_repository, tmp_path / "repository"))
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    with open(repository / name, "ab") as file:
        file.write(b"\n")
    log = tmp_path / "triton.log"
    with pytest.raises(UserError, match=words) as refused, running_merlin(repository, log, free_port(), COMPARED):
        pytest.fail("a server was started")
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not log.exists()


def test_an_ensemble_that_scores_otherwise_is_not_written(reference, referenced, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    shutil.copytree(referenced.features / PROTOCOL, run.features / PROTOCOL)
    shutil.copytree(referenced.root / "models" / PROTOCOL, run.root / "models" / PROTOCOL)
    monkeypatch.setattr(reference, "pair_scorer", lambda *_: lambda user, movie: np.full(len(user), np.nan, np.float32))
    with pytest.raises(UserError, match="not exported"):
        reference.export_merlin(run, PROTOCOL, COMPARED)
    assert not run.reference_repository.exists()
