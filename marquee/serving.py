"""The commands around Triton: export, roll back, serve, and the questions to a running server."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UserError
from core.progress import console
from core.run_folder import MODELS, PROTOCOLS, Run
from ensemble.server.ports import DEFAULT_URL, GRPC_PORT, LOOPBACK
from ensemble.triton_models.limits import DEFAULT_K
from marquee import pipeline as road
from marquee.options import (
    DEFAULT_RUNS,
    ClientCertificateOption,
    ClientKeyOption,
    DatasetOption,
    KOption,
    RunsOption,
    SecretOption,
    ServerCaOption,
    SignKeyOption,
    UrlOption,
    VerifyKeyOption,
)

if TYPE_CHECKING:
    from ensemble.client import Access

NOBODY = -1  # an id that no user has
RUNTIMES = ("marquee", "merlin")
RuntimeOption = Annotated[
    str,
    typer.Option(
        help="marquee, or merlin: Merlin Systems' own, of the same models, to compare with. It unpickles what it "
        "serves and has neither supervisor nor versions.",
        metavar="NAME",
    ),
]


def export(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    protocol: Annotated[str, typer.Option(help="Whose models are served.", metavar="NAME")] = "leave-one-out",
    default_model: Annotated[
        str | None,
        typer.Option(
            help="Which model answers: dlrm or ncf. Without it, the one that validated better.", metavar="NAME"
        ),
    ] = None,
    runtime: RuntimeOption = "marquee",
    sign_key: SignKeyOption = None,
) -> None:
    """Add a version to the Triton model repository, and check that it scores as the trained models do.

    A running `serve` rehearses it and switches to it; the version before is kept for `rollback`.
    """
    run = road.run_folder(dataset, runs)
    road.check_choice(protocol, PROTOCOLS, "protocol")
    road.check_choice(runtime, RUNTIMES, "runtime")
    if default_model is not None:
        road.check_choice(default_model, MODELS, "model")
    if runtime == "merlin" and (default_model or sign_key):
        raise UserError("--default-model and --sign-key are for --runtime marquee; Merlin's serves every model by name")
    with run.lock():
        if runtime == "merlin":
            road.export_reference(run, protocol)
        else:
            road.export(run, protocol, default_model, sign_key)


def rollback(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    sign_key: SignKeyOption = None,
    verify_key: VerifyKeyOption = None,
) -> None:
    """Let the version before serve again. A running `serve` switches to it; a second rollback takes it back."""
    from ensemble.repository.versions import rollback as roll_back

    run = road.run_folder(dataset, runs)
    with run.lock():
        manifest = roll_back(run.repository, sign_key, verify_key, run.command("export"))
    console.print(f"{run.repository}: version {manifest['version']} serves, {manifest['previous']} is kept")


def serve(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    port: Annotated[int, typer.Option(help="gRPC port.", metavar="PORT")] = GRPC_PORT,
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 for none.", metavar="PORT")] = 0,
    metrics_port: Annotated[int, typer.Option(help="Metrics port; 0 for none.", metavar="PORT")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Only this machine can ask 127.0.0.1.", metavar="ADDRESS")
    ] = LOOPBACK,
    secret_file: SecretOption = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="The server's certificate (PEM), for TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The key of the server's certificate (PEM).")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Root certificate (PEM) that a client's own must come from.")
    ] = None,
    verify_key: VerifyKeyOption = None,
    runtime: RuntimeOption = "marquee",
) -> None:
    """Serve the exported repository with Triton until Ctrl-C, and keep it answering.

    Uses the tritonserver on PATH, else the one in the nvidia-pytriton wheel. Asks every model a question each second;
    what has died is loaded again, or the server started again. A new version is served once it has passed a rehearsal.
    """
    from ensemble.server.access import ServerAccess
    from ensemble.server.ports import Ports
    from ensemble.server.supervisor import supervised
    from marquee.tables import known_user

    run = road.run_folder(dataset, runs)
    road.check_choice(runtime, RUNTIMES, "runtime")
    ports = Ports(port, http_port, metrics_port, host)
    access = ServerAccess(secret_of(secret_file), tls_certificate, tls_key, tls_client_ca)
    if runtime == "merlin":
        if access != ServerAccess() or verify_key or http_port or metrics_port or host != LOOPBACK:
            raise UserError("--runtime merlin is for comparing on this machine: it takes --port alone")
        serve_reference(run, port)
        return
    with supervised(
        run.repository,
        run.root / "triton.log",
        ports,
        access,
        report=console.print,
        public_key=verify_key,
        command=run.command("export"),
    ) as supervisor:
        console.print(f"Triton answers at [bold]{ports.url}[/bold] (gRPC). Ask it from another terminal:")
        asked = road.dataset_flag(dataset) + (f" --url {ports.url}" if port != GRPC_PORT else "")
        asked += f" --secret-file {secret_file}" if secret_file else ""
        asked += " --ca ROOT_CERTIFICATE" if tls_certificate else ""
        console.print(f"    python -m marquee recommend --user {known_user(run)}{asked}", soft_wrap=True)
        console.print("Ctrl-C stops it.")
        supervisor.watch()


def serve_reference(run: Run, port: int) -> None:
    """Merlin Systems' runtime, until Ctrl-C."""
    from ensemble.merlin_systems.server import running_merlin

    command = run.command("export --runtime merlin")
    with running_merlin(run.reference_repository, run.root / "triton.log", port, MODELS, command) as server:
        console.print(f"Triton answers at [bold]{server.url}[/bold] (gRPC), models merlin_dlrm and merlin_ncf.")
        console.print("Ctrl-C stops it.")
        while True:
            server.check()
            time.sleep(0.5)


def recommend(
    user: Annotated[int | None, typer.Option(help="MovieLens user id.", metavar="ID")] = None,
    k: KOption = DEFAULT_K,
    history: Annotated[
        list[int] | None,
        typer.Option(
            help="A movie that someone unknown likes; may be given several times, the latest last.", metavar="ID"
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="exact or two-stage. Without it, the repository's default.", metavar="NAME")
    ] = "",
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    url: UrlOption = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
) -> None:
    """Ask a running Triton for a user's best movies, or for those of someone unknown who likes some movies."""
    if user is None and not history:
        raise UserError("whose movies? give --user, or --history for someone unknown")
    access = _access(secret_file, ca, certificate, key)
    run = road.run_folder(dataset, runs)
    console.print(road.recommendations(run, url, NOBODY if user is None else user, k, history or [], strategy, access))


def similar(
    movie: Annotated[int, typer.Option(help="MovieLens movie id.", metavar="ID")],
    k: KOption = DEFAULT_K,
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    url: UrlOption = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
) -> None:
    """Ask a running Triton for the movies most like one."""
    from ensemble import client
    from marquee.tables import similar_table

    movies, scores = client.similar(url, movie, k, access=_access(secret_file, ca, certificate, key))
    console.print(similar_table(road.run_folder(dataset, runs), movie, movies, scores))


def score(
    user: Annotated[int, typer.Option(help="MovieLens user id.", metavar="ID")],
    movie: Annotated[list[int], typer.Option(help="MovieLens movie id; may be given several times.", metavar="ID")],
    model: Annotated[str, typer.Option(help="dlrm or ncf. Without it, the repository's default.", metavar="NAME")] = "",
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    url: UrlOption = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
) -> None:
    """Ask a running Triton how likely a user is to watch given movies next."""
    from ensemble import client
    from marquee.tables import scores_table

    access = _access(secret_file, ca, certificate, key)
    scores, known = client.score(url, [user] * len(movie), movie, model, access=access)
    console.print(scores_table(road.run_folder(dataset, runs), user, movie, scores, known))


def secret_of(path: Path | None) -> str:
    """The one line of a file.

    Raises:
        UserError: there is none.
    """
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    if not secret or "\n" in secret:
        raise UserError(f"{path} holds no secret; it must be a readable file of one line")
    return secret


def _access(secret_file: Path | None, ca: Path | None, certificate: Path | None, key: Path | None) -> "Access":
    from ensemble.client import Access

    return Access(secret_of(secret_file), ca, certificate=certificate, key=key)
