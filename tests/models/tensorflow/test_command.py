"""Training in TensorFlow from the command line, and what follows it."""

import pytest

from core.json_files import read_json
from tests.marquee.test_cli import marquee, refusal_here
from tests.models.training.test_checkpoint import copy_of
from tests.names import COMPARED


@pytest.mark.slow
def test_twins_are_trained_and_all_that_follows_takes_them(prepared, tmp_path):
    run = copy_of(prepared, tmp_path)
    at = ("--dataset", run.root.name, "--runs", tmp_path)
    command = ("train", *at, "--framework", "tensorflow", "--epochs", 1, "--protocol", "leave-one-out")
    trained = marquee(*command)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert "ncf, leave-one-out: settings from" in trained.stdout
    frameworks = {
        path.parent.name: read_json(path)["settings"]["framework"] for path in run.models.rglob("config.json")
    }
    assert {name: frameworks.pop(name) for name in COMPARED} == dict.fromkeys(COMPARED, "tensorflow")
    assert set(frameworks.values()) == {"torch"}  # those without a twin
    assert marquee(*command).stdout.count("unchanged, reused") == len(COMPARED) + len(frameworks)
    for then in ("evaluate", "export"):
        done = marquee(then, *at)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_has_no_twin_is_refused(prepared, capsys):
    command = ("train", "--dataset", prepared.root.name, "--runs", prepared.root.parent)
    said = refusal_here(capsys, *command, "--model", "mf", "--framework", "tensorflow")
    assert "mf has no twin in TensorFlow, dlrm and ncf have; leave out --framework" in said
    assert "framework is \"jax\"; input should be 'torch' or 'tensorflow'" in refusal_here(
        capsys, *command, "--framework", "jax"
    )
