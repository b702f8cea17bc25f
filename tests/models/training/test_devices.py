"""Which device, precision and number of threads a training gets."""

import os

import pytest
import torch

from core.errors import UserError
from core.run_folder import Run
from models.data.load import training_rows
from models.evaluation.evaluate import threads_for_scoring
from models.training.devices import LARGE_BATCH, pick_device, pick_precision, threads_for
from models.training.settings import LARGE, settings_for
from tests.names import DEFAULT_PROTOCOLS, NETWORKS, PROTOCOLS

CPU = torch.device("cpu")


@pytest.mark.parametrize("wanted", ["float16", "half", "", "FLOAT32"])
def test_a_precision_of_another_name_is_refused(wanted):
    with pytest.raises(UserError, match=f"unknown precision '{wanted}'; choose one of auto, float32, bfloat16"):
        pick_precision(wanted, CPU)


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_precision_by_name_is_that_one(wanted):
    assert pick_precision(wanted, CPU) == wanted


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (set(), "float32"),
        ({"avx2", "avx512f"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
    ],
)
def test_auto_precision_is_what_the_cpu_has(monkeypatch, flags, expected):
    assert pick_precision("auto", CPU) in ("float32", "bfloat16")
    monkeypatch.setattr("models.training.devices._cpu_flags", lambda: flags)
    assert pick_precision("auto", CPU) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_large_datasets_have_large_batches(protocol, name):
    small, large = (settings_for(protocol, name, rows=rows) for rows in (LARGE - 1, LARGE))
    assert large.embedding_rate > 0
    assert large.batch_size >= LARGE_BATCH
    assert threads_for(small.batch_size) == 1
    assert threads_for(large.batch_size) == (os.cpu_count() or 1)


def test_a_small_run_is_scored_by_one_thread(prepared, tmp_path, monkeypatch):
    run = Run(tmp_path)
    (tmp_path / "features").symlink_to(prepared.features)
    for protocol in DEFAULT_PROTOCOLS:  # what is not trained is not scored
        run.model(protocol, "ncf").mkdir(parents=True)
    assert threads_for_scoring(run) == 1
    rows = max(training_rows(run, protocol) for protocol in DEFAULT_PROTOCOLS)
    monkeypatch.setattr("models.evaluation.evaluate.LARGE", rows)
    assert threads_for_scoring(run) == (os.cpu_count() or 1)


def test_a_device_of_another_name_is_refused():
    with pytest.raises(UserError, match="unknown device 'tpu'; choose auto, cpu or cuda"):
        pick_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_and_auto_is_the_cpu():
    with pytest.raises(UserError, match="--device cpu"):
        pick_device("cuda")
    assert pick_device("auto") == CPU


def test_cpu_is_the_cpu():
    assert pick_device("cpu") == CPU
