"""The command `serve`."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.artifacts import ANY_COMMAND, read_manifest
from core.errors import UserError
from core.json_files import validated
from core.progress import console
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, Run
from core.terminal import data_text
from ensemble.server.ports import DEFAULT_URL, GRPC_PORT, LOOPBACK, Ports, address
from marquee import pipeline
from marquee.options import (
    RUNTIME_NAMES,
    DatasetOption,
    RunsOption,
    RuntimeOption,
    SecretOption,
    VerifyKeyOption,
    check_choice,
    listed,
)
from marquee.serving import secret_of

if TYPE_CHECKING:
    from ensemble.repository.serials import Serials

RepositoryOption = Annotated[
    Path | None,
    typer.Option(
        help="An exported repository, wherever it was copied to, instead of a run's. Nothing is written there.",
        metavar="FOLDER",
    ),
]
PortOption = Annotated[int, typer.Option(help="gRPC port; 0 for any that is free.", metavar="PORT")]
HttpPortOption = Annotated[int, typer.Option(help="HTTP port; 0 for none.", metavar="PORT")]
MetricsPortOption = Annotated[int, typer.Option(help="Port of the metrics for Prometheus; 0 for none.", metavar="PORT")]
HostOption = Annotated[
    str,
    typer.Option(help="Address to listen on, IPv4 or IPv6. 127.0.0.1 is for this machine only.", metavar="ADDRESS"),
]
CertificateOption = Annotated[
    Path | None, typer.Option(help="The server's certificate (PEM), for TLS.", metavar="FILE")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="The key of the server's certificate (PEM); no other user may read it.", metavar="FILE"),
]
ClientCaOption = Annotated[
    Path | None,
    typer.Option(help="Root certificates (PEM) that a client's certificate must chain to.", metavar="FILE"),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Processes that take requests. Default: one for every four processor cores, from 1 to 4.",
        min=1,
        max=64,
        metavar="N",
    ),
]
StateFileOption = Annotated[
    Path | None,
    typer.Option(
        help="With --verify-key: where the highest serial number that was served is kept, so that no older manifest is "
        "served. Default: serials.json in $STATE_DIRECTORY, or else in ~/.local/state/marquee.",
        metavar="FILE",
    ),
]
LeastSerialOption = Annotated[
    int | None,
    typer.Option(
        help="With --verify-key: the least serial number that may be served; the file may then be read-only.",
        min=0,
        metavar="N",
    ),
]
LogOption = Annotated[
    Path | None,
    typer.Option(
        help="Triton's log. Default: triton.log in the run folder; with --repository in a temporary folder.",
        metavar="FILE",
    ),
]
WorkDirOption = Annotated[
    Path | None,
    typer.Option(help="Folder for temporary copies. Default: the system's temporary folder.", metavar="FOLDER"),
]


def serve(
    context: typer.Context,
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    repository: RepositoryOption = None,
    port: PortOption = GRPC_PORT,
    http_port: HttpPortOption = 0,
    metrics_port: MetricsPortOption = 0,
    host: HostOption = LOOPBACK,
    workers: WorkersOption = None,
    secret_file: SecretOption = None,
    tls_certificate: CertificateOption = None,
    tls_key: KeyOption = None,
    tls_client_ca: ClientCaOption = None,
    verify_key: VerifyKeyOption = None,
    state_file: StateFileOption = None,
    least_serial: LeastSerialOption = None,
    log: LogOption = None,
    work_dir: WorkDirOption = None,
    runtime: RuntimeOption = "marquee",
) -> None:
    """Serve the exported repository with Triton until Ctrl-C, and keep it answering.

    Uses the tritonserver on PATH, or else the one in the nvidia-pytriton wheel. Clients ask the front door, which
    checks their requests and passes them on. Every second each model gets a test request; a model that does not answer
    is loaded again, or the server restarted, while requests wait. A new version is tested before it is served.
    """
    from ensemble.server.access import ServerAccess
    from ensemble.server.supervisor import supervised

    check_choice(runtime, RUNTIME_NAMES, "runtime")
    ports = Ports(port, http_port, metrics_port, host)
    access = ServerAccess(secret_of(secret_file), tls_certificate, tls_key, tls_client_ca)
    run = _run(context, dataset, runs, repository)
    if runtime == "merlin":
        other = (repository, verify_key, state_file, least_serial, workers, log, work_dir)
        if run is None or any(one is not None for one in other) or access != ServerAccess() or ports != Ports(port):
            raise UserError(
                "--runtime merlin is for comparison on this machine: it takes no other server option than --port"
            )
        return serve_reference(run, port)
    if work_dir is not None and not work_dir.is_dir():
        raise UserError(f"--work-dir {work_dir} is not a folder; create it first")
    command = run.command("export") if run else ANY_COMMAND
    folder = run.repository if run else Path(repository or "")
    serials = _serials(folder, verify_key, state_file, least_serial)
    read_manifest(folder, command)  # before anything heavy is imported
    with supervised(
        folder,
        log.absolute() if log else run.root / "triton.log" if run else None,
        ports,
        access,
        report=console.print,
        public_key=verify_key,
        command=command,
        serials=serials,
        work_dir=work_dir and work_dir.absolute(),
        workers=workers,
    ) as supervisor:
        user = supervisor.canary.ids["user_id"]
        _introduce(supervisor.ports, user, run or folder, secret_file, bool(tls_certificate))
        supervisor.watch()


def _introduce(ports: Ports, user: int | str, source: Run | Path, secret_file: Path | None, tls: bool) -> None:
    """Says where the server answers, and a question to begin with.

    Args:
        source: the run, or the repository, that holds the titles.
    """
    console.print("Triton answers at", data_text(ports.url, "bold"), "(gRPC). Ask it from another terminal:")
    question = f"recommend --user {shlex.quote(str(user))}"
    question += f" --url {shlex.quote(ports.url)}" if ports.url != DEFAULT_URL else ""
    question += f" --secret-file {shlex.quote(str(secret_file))}" if secret_file else ""
    question += " --ca ROOT_CERTIFICATE" if tls else ""
    if isinstance(source, Run):
        command = source.command(question)
    else:
        command = f"python -m marquee {question} --repository {shlex.quote(str(source))}"
    console.print(f"    {command}", soft_wrap=True)
    scheme = "https" if tls else "http"
    host = ports.url.rpartition(":")[0].strip("[]")
    if ports.http:
        console.print("HTTP:", data_text(f"{scheme}://{address(host, ports.http)}/v2"))
    if ports.metrics:
        console.print("Metrics:", data_text(f"{scheme}://{address(host, ports.metrics)}/metrics"))
    console.print("Ctrl-C stops it.")


def serve_reference(run: Run, port: int) -> None:
    """Serves with Merlin Systems' runtime until Ctrl-C."""
    from ensemble.merlin_systems import triton_name
    from ensemble.merlin_systems.server import running_merlin

    command = run.command("export --runtime merlin")
    manifest = read_manifest(run.reference_repository, command)
    models = validated(list[str], manifest.get("models"), f"{run.reference_repository}'s manifest, models", command)
    with running_merlin(run.reference_repository, run.root / "triton.log", port, models, command) as server:
        names = listed([triton_name(model) for model in models], "and")
        console.print("Triton answers at", data_text(server.url, "bold"), f"(gRPC), models {names}.")
        console.print("Ctrl-C stops it.")
        while True:
            server.check()
            time.sleep(0.5)


def _serials(repository: Path, verify_key: Path | None, state_file: Path | None, least: int | None) -> "Serials | None":
    """What keeps the serial numbers of a signed repository.

    Raises:
        UserError: without a key there are none to keep.
    """
    from ensemble.repository.serials import Serials, default_state_file

    if verify_key is not None:
        return Serials(repository, verify_key, state_file or default_state_file(), least)
    if state_file is not None or least is not None:
        raise UserError("--state-file and --least-serial are for signed repositories; give --verify-key too")
    return None


def _run(context: typer.Context, dataset: str, runs: Path, repository: Path | None) -> Run | None:
    """The run whose repository is served; None for a repository without a run.

    Raises:
        UserError: both were given.
    """
    if repository is None:
        return pipeline.run_folder(dataset, runs)
    if _given(context, "dataset") or _given(context, "runs"):
        raise UserError("--repository is served without a run; leave --dataset and --runs out")
    return None


def _given(context: typer.Context, option: str) -> bool:
    """Whether an option was given on the command line."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
