"""What is asked of a Triton of another release: a stand-in takes the flags of 2.35 (23.06), the Merlin image's."""

import os
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from ensemble.server.access import restrictions
from ensemble.server.flags import DISPENSABLE, fitting, listed_flags
from ensemble.server.launch import launch, prepare_wheel_server, triton_command
from ensemble.server.ports import free_port
from ensemble.server.process import exit_code, start

# Triton 2.35's, from its src/command_line_parser.cc.
FLAGS = """
    help id exit-timeout-secs model-store model-repository exit-on-error disable-auto-complete-config strict-readiness
    model-control-mode repository-poll-secs load-model model-load-thread-count model-namespacing allow-http
    http-address http-port reuse-http-port http-header-forward-pattern http-thread-count allow-grpc grpc-address
    grpc-port reuse-grpc-port grpc-header-forward-pattern grpc-infer-allocation-pool-size grpc-use-ssl
    grpc-use-ssl-mutual grpc-server-cert grpc-server-key grpc-root-cert grpc-infer-response-compression-level
    grpc-keepalive-time grpc-keepalive-timeout grpc-keepalive-permit-without-calls grpc-http2-max-pings-without-data
    grpc-http2-min-recv-ping-interval-without-data grpc-http2-max-ping-strikes grpc-restricted-protocol log-verbose
    log-info log-warning log-error log-format log-file allow-sagemaker sagemaker-port sagemaker-safe-port-range
    sagemaker-thread-count allow-vertex-ai vertex-ai-port vertex-ai-thread-count vertex-ai-default-model allow-metrics
    allow-gpu-metrics allow-cpu-metrics metrics-address metrics-port metrics-interval-ms metrics-config trace-config
    cache-config cache-directory rate-limit rate-limit-resource pinned-memory-pool-byte-size cuda-memory-pool-byte-size
    min-supported-compute-capability buffer-manager-thread-count host-policy model-load-gpu-limit backend-directory
    backend-config repoagent-directory strict-model-config response-cache-byte-size trace-file trace-level trace-rate
    trace-count trace-log-frequency
"""

# Like Triton: help and what it does not know end in its usage on standard error and exit code 1.
STAND_IN = """#!{python}
import sys, time
flags = {flags!r}
given = [argument.partition("=")[0][2:] for argument in sys.argv[1:]]
if "help" in given or not set(given) <= set(flags):
    print("Usage: tritonserver [options]", file=sys.stderr)
    for flag in flags:
        print(f"  --{{flag}} <string>\\n\\tWhat --{{flag}} does, in words.", file=sys.stderr)
    sys.exit(1)
print(*sys.argv[1:], sep="\\n", flush=True)
time.sleep(600)
"""


@pytest.fixture
def triton(tmp_path, monkeypatch):
    """Puts a stand-in on PATH that takes these flags."""

    def put(flags: list[str]) -> Path:
        path = tmp_path / "bin" / "tritonserver"
        path.parent.mkdir()
        path.write_text(STAND_IN.format(python=sys.executable, flags=flags))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return path

    return put


def begin(tmp_path: Path, secret: str = ""):
    (tmp_path / "served").mkdir()
    return start(tmp_path / "served", tmp_path / "backends", tmp_path / "triton.log", free_port(), secret)


def test_a_server_of_the_images_release_is_started_with_flags_that_it_takes(triton, tmp_path):
    triton(FLAGS.split())
    server = begin(tmp_path, "open-sesame")
    try:
        assert exit_code(server.process) is None
        taken = (tmp_path / "triton.log").read_text().splitlines()
        assert (
            "--grpc-restricted-protocol=inference,metadata,model-config,statistics:marquee-secret=open-sesame" in taken
        )
        assert any(flag.startswith("--grpc-restricted-protocol=model-repository,shared-memory,") for flag in taken)
        assert "--allow-http=false" in taken
        assert "--allow-metrics=false" in taken
        assert "--grpc-address=127.0.0.1" in taken
    finally:
        server.stop(patience=0)


def test_a_server_that_protects_nothing_is_refused(triton, tmp_path):
    triton([flag for flag in FLAGS.split() if flag != "grpc-restricted-protocol"])
    with pytest.raises(UserError, match="it cannot be protected"):
        begin(tmp_path)


def test_any_other_flag_that_matters_is_refused_by_name(triton, tmp_path):
    triton([flag for flag in FLAGS.split() if flag not in ("grpc-address", "grpc-port")])
    with pytest.raises(UserError, match="does not take --grpc-address: Marquee needs it"):
        begin(tmp_path)


def test_what_is_only_convenient_is_left_out(triton, tmp_path):
    triton([flag for flag in FLAGS.split() if f"--{flag}" not in DISPENSABLE])
    arguments, environment = triton_command(tmp_path, free_port(), tmp_path / "backends")
    process = launch(arguments, environment, tmp_path / "triton.log", tmp_path)
    try:
        kept = fitting(arguments, environment)
        assert {argument.partition("=")[0] for argument in arguments} - {
            argument.partition("=")[0] for argument in kept
        } == DISPENSABLE
        assert exit_code(process) is None
    finally:
        process.kill()
        process.wait()


def test_a_server_that_cannot_be_run_is_refused_in_one_line(triton, tmp_path):
    triton(FLAGS.split()).write_text("#!/nowhere/python\n")
    with pytest.raises(UserError, match=r"tritonserver cannot be run: ") as refused:
        begin(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_server_without_help_says_itself_what_is_wrong(triton, tmp_path):
    path = triton(FLAGS.split())
    path.write_text("#!/bin/sh\nexit 3\n")
    assert listed_flags(str(path), dict(os.environ)) == frozenset()
    assert fitting([str(path), "--anything=1"], dict(os.environ)) == [str(path), "--anything=1"]


def test_the_wheels_server_takes_all_flags(tmp_path):
    environment = dict(os.environ)
    binary = str(prepare_wheel_server(tmp_path / "backends", environment))
    flags, _ = restrictions("secret")
    assert fitting([binary, *flags], environment) == [binary, *flags]
    assert listed_flags(binary, environment) >= DISPENSABLE
