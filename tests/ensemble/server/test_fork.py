"""Processes that are started while other threads ask over gRPC, as the supervisor does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import ensemble  # first, as in every program that asks
import subprocess, sys, threading
import grpc
from tests.ensemble.front_door.models import score_request
from tests.ensemble.front_door.workers import TritonInThread

triton, ending = TritonInThread(), threading.Event()

def ask():
    while not ending.is_set():
        with grpc.insecure_channel(triton.triton.url, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer", lambda request: request.SerializeToString()
            )
            for _ in range(20):
                method(score_request([1]))

threads = [threading.Thread(target=ask) for _ in range(3)]
for thread in threads:
    thread.start()
codes = {
    subprocess.Popen(
        [sys.executable, "-S", "-c", "pass"], preexec_fn=lambda: None, start_new_session=True, stderr=subprocess.DEVNULL
    ).wait()
    for _ in range(40)
}
ending.set()
for thread in threads:
    thread.join()
triton.close()
print(codes)
"""


@pytest.mark.slow
def test_a_process_that_is_started_during_calls_is_not_crashed_by_grpc():
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "{0}\n"
