"""The commands around Triton: export, rollback, and the questions to a running server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.columns import MOVIE_ID, USER_ID
from core.errors import UserError
from core.progress import console
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS
from ensemble.server.ports import DEFAULT_URL
from ensemble.triton_models.limits import DEFAULT_K
from marquee import pipeline
from marquee.answers import Question, recommendations
from marquee.inputs import require_repository
from marquee.options import (
    NETWORK_NAMES,
    RUNTIME_NAMES,
    STRATEGY_NAMES,
    TWIN_NAMES,
    ClientCertificateOption,
    ClientKeyOption,
    DatasetOption,
    KOption,
    RepositoryOption,
    RunsOption,
    RuntimeOption,
    SecretOption,
    ServedModelOption,
    ServerCaOption,
    SignKeyOption,
    UrlOption,
    UserOption,
    VerifyKeyOption,
    check_choice,
    listed,
)
from models.protocols.base import served_protocols

if TYPE_CHECKING:
    from core.run_folder import Run
    from ensemble.client import Access
    from marquee.exported import Exported
    from marquee.ids import Id


def export(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    protocol: Annotated[
        str, typer.Option(help=f"The models of which protocol: {listed(served_protocols())}.", metavar="NAME")
    ] = pipeline.DEFAULT_SERVED,
    default_model: Annotated[
        str | None,
        typer.Option(
            help=f"Which model answers, such as {listed(NETWORK_NAMES)}. Default: the one with the best validation.",
            metavar="NAME",
        ),
    ] = None,
    runtime: RuntimeOption = "marquee",
    saved_model: Annotated[
        bool,
        typer.Option(
            "--saved-model",
            help=f"Write something else: {listed(TWIN_NAMES, 'and')} as TensorFlow's SavedModels, from ids to scores, "
            "in repository-tensorflow/, for a Triton with TensorFlow's backend, as the Merlin container has.",
        ),
    ] = False,
    sign_key: SignKeyOption = None,
) -> None:
    """Add a version to the Triton model repository, and check that it scores as the trained models do.

    A running `serve` tests the new version and switches to it. The version before is kept for `rollback`.
    """
    run = pipeline.run_folder(dataset, runs)
    check_choice(protocol, served_protocols(), "protocol")
    check_choice(runtime, RUNTIME_NAMES, "runtime")
    if default_model is not None:
        check_choice(default_model, NETWORK_NAMES, "model")
    if runtime == "merlin" and (default_model or sign_key):
        raise UserError(
            "--default-model and --sign-key are for --runtime marquee; Merlin's runtime serves every model by name"
        )
    if saved_model and (default_model or sign_key or runtime == "merlin"):
        raise UserError(
            "--saved-model writes models for another server; leave out --default-model, --sign-key, --runtime"
        )
    with run.lock():
        if saved_model:
            pipeline.export_saved_models(run, protocol)
        elif runtime == "merlin":
            pipeline.export_reference(run, protocol)
        else:
            pipeline.export(run, protocol, default_model, sign_key)


def rollback(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    sign_key: SignKeyOption = None,
    verify_key: VerifyKeyOption = None,
) -> None:
    """Go back to the version before. A running `serve` switches to it; a second rollback undoes the first."""
    from ensemble.repository.versions import rollback as roll_back

    run = pipeline.run_folder(dataset, runs)
    require_repository(run)
    with run.lock():
        manifest = roll_back(run.repository, sign_key, verify_key, run.command("export"))
    console.print(f"{run.repository}: version {manifest['version']} serves, {manifest['previous']} is kept")


def recommend(
    user: UserOption = None,
    k: KOption = DEFAULT_K,
    history: Annotated[
        list[str] | None,
        typer.Option(
            help="Id of a movie that a new user likes. May be given several times, the latest last.", metavar="ID"
        ),
    ] = None,
    model: ServedModelOption = "",
    strategy: Annotated[
        str, typer.Option(help=f"{listed(STRATEGY_NAMES)}. Default: the network's.", metavar="NAME")
    ] = "",
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    repository: RepositoryOption = None,
    url: UrlOption = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
) -> None:
    """Ask a running Triton for a user's recommendations, or for a new user's who likes given movies."""
    if user is None and not history:
        raise UserError("give --user, or --history for a new user")
    access = _access(secret_file, ca, certificate, key)
    source = _source(dataset, runs, repository)
    liked = tuple(_id(source, MOVIE_ID, one, "--history") for one in history or ())
    question = Question(None if user is None else _id(source, USER_ID, user, "--user"), k, liked, model, strategy)
    console.print(recommendations(source, url, question, access))


def similar(
    movie: Annotated[str, typer.Option(help="Movie id.", metavar="ID")],
    k: KOption = DEFAULT_K,
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    repository: RepositoryOption = None,
    url: UrlOption = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
) -> None:
    """Ask a running Triton for the movies most like one."""
    from ensemble import client
    from marquee.tables import similar_table

    access = _access(secret_file, ca, certificate, key)
    source = _source(dataset, runs, repository)
    one = _id(source, MOVIE_ID, movie, "--movie")
    movies, scores = client.similar(url, one, k, access=access, command=source.command("serve"))
    console.print(similar_table(source, one, movies, scores))


def score(
    user: Annotated[str, typer.Option(help="User id.", metavar="ID")],
    movie: Annotated[list[str], typer.Option(help="Movie id. May be given several times.", metavar="ID")],
    model: ServedModelOption = "",
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    repository: RepositoryOption = None,
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
    source = _source(dataset, runs, repository)
    who = _id(source, USER_ID, user, "--user")
    movies = [_id(source, MOVIE_ID, one, "--movie") for one in movie]
    serve = source.command("serve")
    scores, known = client.score(url, [who] * len(movies), movies, model, access=access, command=serve)
    console.print(scores_table(source, who, movies, scores, known))


def _source(dataset: str, runs: Path, repository: Path | None) -> "Run | Exported":
    """Where the titles of movies are."""
    if repository is None:
        return pipeline.run_folder(dataset, runs)
    from marquee.exported import Exported

    return Exported(repository)


def _id(source: "Run | Exported", name: str, text: str, option: str) -> "Id":
    from marquee.ids import id_of

    return id_of(source, name, text, option)


def secret_of(path: Path | None) -> str:
    """The one line of a file; empty without a file.

    Raises:
        UserError: the file does not hold one line of text.
    """
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    if not secret or "\n" in secret:
        raise UserError(f"{path} does not hold a secret; it must be a readable file of one line")
    return secret


def _access(secret_file: Path | None, ca: Path | None, certificate: Path | None, key: Path | None) -> "Access":
    from ensemble.client import Access

    return Access(secret_of(secret_file), ca, certificate=certificate, key=key)
