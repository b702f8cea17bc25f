"""The commands that settle which model is better: `tune`, `compare` and `paper`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import UserError
from core.json_files import write_json
from core.progress import console, progress, working
from core.run_folder import DEFAULT_SEED
from marquee import pipeline as road
from marquee.options import (
    DEFAULT_RUNS,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    ProtocolOption,
    RunsOption,
    SeedOption,
    ThreadsOption,
)

SeedsOption = Annotated[int, typer.Option("--seeds", help="How many training seeds.", min=1, max=100, metavar="N")]


def tune(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    model: Annotated[
        str, typer.Option(help="dlrm, ncf, mf, a baseline of the protocol, or all.", metavar="NAME")
    ] = "all",
    protocol: ProtocolOption = "both",
    trials: Annotated[
        int, typer.Option(help="Trials of each study, those of earlier calls included.", min=1, metavar="N")
    ] = 40,
    epochs: EpochsOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Of trials that validated at most so much worse than the best, the fastest wins.",
            min=0,
            metavar="X",
        ),
    ] = 0.0,
    ship: Annotated[bool, typer.Option("--ship", help="Make what is found the dataset's shipped defaults.")] = False,
    seed: SeedOption = DEFAULT_SEED,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Search for better settings with Optuna, on validation only.

    A study for each model and protocol, kept in the run folder and continued where it was stopped, with its best
    settings (which `train` then takes) and a picture of what mattered.
    """
    run = road.run_folder(dataset, runs)
    protocols = road.chosen_protocols(protocol)
    with run.lock():
        with working("loading PyTorch, Merlin Models and Optuna"):
            from models import tuning
        studies = [(p, name) for p in protocols for name in tuning.names_of(p, model)]
        for chosen, name in studies:
            _set_threads(threads)
            with progress(f"{name}, {chosen}", trials, "trials") as bar:
                found = tuning.tune(run, chosen, name, trials, seed, _device(device), bar, epochs, tolerance)
                study = found["study"]
                bar.finish(f"{study['trials']} trials, best {study['metric']} {study['value']:.4f}")
            if ship:
                console.print(f"shipped in {tuning.ship(run.root.name, chosen, name, found)}")
        console.print(f"Studies, best settings and pictures: {run.root / 'tuning'}")


def compare(
    dataset: DatasetOption = "ml-100k",
    runs: RunsOption = DEFAULT_RUNS,
    protocol: ProtocolOption = "all",
    seeds: SeedsOption = 5,
    seed: SeedOption = DEFAULT_SEED,
    out: Annotated[Path | None, typer.Option(help="Where the results are written as JSON.", metavar="FILE")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train everything with several seeds, and say which of DLRM and NCF is better, and how sure that is.

    Means over seeds, 95 % intervals over users, and a paired test. Seeds already trained are used again; a protocol's
    results take the place of its former ones in the file.
    """
    run = road.run_folder(dataset, runs)
    protocols = road.chosen_protocols(protocol)
    out = out or run.root / "comparison.json"
    with run.lock():
        _check_writable(out)
        with working("loading PyTorch and Merlin Models"):
            from models.evaluation import compare_seeds as several
            from models.evaluation.results import seeds_tables
        _set_threads(threads)
        with progress("models and seeds", several.steps(run, protocols, seeds), "models") as bar:
            found = several.compare(run, protocols, [seed + n for n in range(seeds)], _device(device), bar)
            bar.finish("")
        write_json(out, several.merged(out, found))
    for part in seeds_tables(found):
        console.print(part)
    console.print(f"Written to {out}")


def paper(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with the authors' NAME.train.rating, NAME.test.rating and NAME.test.negative.",
            metavar="FOLDER",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="popularity, itemknn, als, ease, mf, ncf or dlrm; may be given several times. Without it, all.",
            metavar="NAME",
        ),
    ] = None,
    seeds: SeedsOption = 3,
    seed: SeedOption = DEFAULT_SEED,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the results are written as JSON, one for each model and seed.", metavar="FILE"),
    ] = None,
    epochs: EpochsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Run the NCF paper's own benchmark on the authors' files: HR@10 and NDCG@10 beside the published figures.

    A user's last movie among 99 published others. The number of epochs is found on validation rows held out of train;
    then every seed trains on all of train and scores the test lists once.
    """
    from workflows.sources.ncf_files import read_ncf_files

    if out is not None:
        _check_writable(out)
    files = read_ncf_files(data)
    with working("loading PyTorch and Merlin Models"):
        from models.evaluation import ncf_paper as benchmark
        from models.evaluation.results import paper_table
    chosen = [road.check_choice(name, benchmark.MODELS, "model") for name in dict.fromkeys(model or benchmark.MODELS)]
    _set_threads(threads)
    features = benchmark.paper_features(files, data, seed)
    results: list[dict[str, Any]] = []
    with progress("models and seeds", benchmark.steps(chosen, seeds), "models") as bar:
        for name in chosen:
            settings = benchmark.settings_with(name, features, epochs)
            every = [seed + n for n in range(seeds)]
            results += benchmark.judge(features, name, settings, every, _device(device), bar)
            if out is not None:  # what is done is kept, whatever becomes of the rest
                write_json(out, results)
        bar.finish("")
    console.print(paper_table(files.name, len(files.test_user), results, benchmark.PUBLISHED))
    if out is not None:
        console.print(f"Written to {out}")


def _check_writable(out: Path) -> None:
    """Before hours of work, not after."""
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"{out} cannot be written: its folder must exist, and it must not be a folder itself")


def _device(wanted: str) -> Any:
    from models.training.settings import pick_device

    return pick_device(wanted)


def _set_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or 1)
