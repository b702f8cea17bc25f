"""The commands that find out which model is better: `tune`, `compare` and `paper`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from core.artifacts import fingerprint
from core.errors import UserError
from core.json_files import only_writer, write_json
from core.progress import Bar, console, progress, working
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, DEFAULT_SEED, Run
from marquee import pipeline
from marquee.inputs import require_features
from marquee.options import (
    NETWORK_NAMES,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    PairOption,
    ProtocolOption,
    RunsOption,
    SameSecondOption,
    SeedOption,
    SeedsOption,
    SplitsOption,
    ThreadsOption,
    check_choice,
    chosen_protocols,
)
from marquee.result_tables import paper_table, seeds_tables
from marquee.training import train_seeds

DEFAULT_TRIALS = 40
TrialsOption = Annotated[
    int | None,
    typer.Option(
        help=f"Trials of each study, including those of earlier calls. Default: {DEFAULT_TRIALS}, or no bound with "
        "--seconds.",
        min=1,
        metavar="N",
    ),
]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds that the trials of each study take together, including those of earlier calls.",
        min=1,
        metavar="S",
    ),
]

if TYPE_CHECKING:
    from models.evaluation.ncf_paper import Asked
    from models.evaluation.paper_results import PaperResults
    from models.search import StudySettings


def tune(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    model: Annotated[
        str, typer.Option(help=f"{', '.join(NETWORK_NAMES)}, a baseline of the protocol, or all.", metavar="NAME")
    ] = "all",
    protocol: ProtocolOption = "both",
    trials: TrialsOption = None,
    seconds: SecondsOption = None,
    epochs: EpochsOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Chooses the fastest of the trials whose validation is at most this much worse than the best.",
            min=0,
            metavar="X",
        ),
    ] = 0.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study that is there; never begin a new one.")
    ] = False,
    ship: Annotated[
        bool,
        typer.Option("--ship", help="Write the best settings into the dataset's shipped defaults, and the trials."),
    ] = False,
    seed: SeedOption = DEFAULT_SEED,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Search for better settings with Optuna, on validation only.

    Each model and protocol has a study, which is kept in the run folder and resumes where it was stopped. It starts
    with the settings that `train` would use otherwise, and never ends below them by more than --tolerance. `train` uses
    the best settings, with its own number of epochs: --epochs bounds the trials alone. A picture shows which settings
    matter.

    With --seconds no trial begins once they are used up, and a network's is cut after the first epoch past them.
    """
    run = pipeline.run_folder(dataset, runs)
    protocols = chosen_protocols(protocol)
    with run.lock():
        require_features(run, protocols)
        with working("loading PyTorch, Merlin Models and Optuna"):
            from models import shipping, tuning
            from models.search import StudySettings
        if ship:
            shipping.shipped_file(run.root.name)  # fails before hours of work, not after
        trials = DEFAULT_TRIALS if trials is None and seconds is None else trials
        search = StudySettings(
            trials=trials, seconds=seconds, seed=seed, epochs=epochs, tolerance=tolerance, resume=resume
        )
        studies = [(p, name) for p in protocols for name in tuning.names_of(p, model)]
        for chosen, name in studies if resume else []:  # fails before hours of work, too
            tuning.require_study(run, chosen, name, search, _device(device))
        for chosen, name in studies:
            _set_threads(threads)
            _run_study(run, chosen, name, search, _device(device), ship)
        console.print(f"Studies, best settings and pictures: {run.root / 'tuning'}")
        if epochs is not None:
            console.print(f"No trial had more than {epochs} epochs; train is not bound by that.")


def _run_study(run: Run, protocol: str, name: str, search: "StudySettings", device: Any, ship: bool) -> None:
    """Runs one study with a bar, and ships what it found."""
    from models import shipping, tuning
    from models.search import TRIALS

    total, unit = (search.trials, "trials") if search.seconds is None else (search.seconds, "seconds")
    with progress(f"{name}, {protocol}", total, unit) as bar:
        found = tuning.tune(run, protocol, name, search, device, bar, _sentence)
        bar.finish(_study_note(found["study"]))
    if ship:
        path = shipping.ship(run.root.name, protocol, name, found, run.tuning(protocol, name) / TRIALS)
        console.print(f"shipped in {path}")


def _sentence(sentence: str) -> None:
    console.print(Text(sentence), soft_wrap=True)


def _study_note(study: dict[str, Any]) -> str:
    """What a study came to: `14 trials (5 pruned, 1 cut) in 603 s, best auc 0.7919`."""
    others = ", ".join(f"{study[state]} {state}" for state in ("pruned", "failed", "cut") if study[state])
    trials = sum(study[state] for state in ("complete", "pruned", "failed", "cut"))
    counted = f"{trials} trials ({others})" if others else f"{trials} trials"
    return f"{counted} in {study['seconds']:,.0f} s, best {study['metric']} {study['value']:.4f}"


def compare(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    protocol: ProtocolOption = "standard",
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(NETWORK_NAMES)}. May be given several times. Default: all.", metavar="NAME"),
    ] = None,
    seeds: SeedsOption = 5,
    splits: SplitsOption = 1,
    seed: SeedOption = DEFAULT_SEED,
    pair: PairOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the results as JSON. Default: comparison.json in the run folder.", metavar="FILE"
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train everything, or the networks that --model names, with several seeds, and test which model is better.

    Prints means over seeds, 95 % intervals, and paired tests, corrected for the number of pairs. With one split an
    interval covers the users; with several, training and splits too. What is already trained is reused. In the file,
    the results of a protocol replace its earlier ones. Those of other protocols stay as long as they are of the same
    data, settings and code.
    """
    run = pipeline.run_folder(dataset, runs)
    among = [check_choice(name, NETWORK_NAMES, "model") for name in dict.fromkeys(model or ())]
    protocols = chosen_protocols(protocol)
    out = out or run.root / "comparison.json"
    if pair:
        return _print_pair(run, protocols, pair, out)
    with run.lock():
        _check_writable(out)
        require_features(run, protocols)
        with working("loading PyTorch and Merlin Models"):
            from marquee.splits import other_splits
            from models import registry
            from models.evaluation import compare_seeds, comparison_file
        _set_threads(threads)
        chosen = _device(device)
        protocols = registry.protocols_for_any(among, protocols)
        comparison_file.kept(run, out, protocols, chosen)  # refuses a file of another kind before hours of work
        others = other_splits(run, protocols, splits)
        numbers = [seed + n for n in range(seeds)]
        if threads is None:
            train_seeds(run, protocols, numbers, device, others, among)
        with progress("models and seeds", compare_seeds.steps(run, protocols, seeds, others, among), "models") as bar:
            found = compare_seeds.compare(run, protocols, numbers, chosen, bar, others, among)
            bar.finish("")
        with only_writer(out):
            rest, sentences = comparison_file.kept(run, out, protocols, chosen)
            write_json(out, comparison_file.merged(found, rest))
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=True)
    for part in seeds_tables(found):
        console.print(part)
    console.print(f"Written to {out}")


def _print_pair(run: Run, protocols: tuple[str, ...], pair: tuple[str, str], out: Path) -> None:
    """A sentence on two models by each protocol that has judged both.

    Raises:
        UserError: there are no results that still hold, or none of both models.
    """
    with working("reading the results"):
        from models.evaluation.asked_pair import about_pair
    for sentence in about_pair(run, protocols, pair, out):
        console.print(Text(sentence), soft_wrap=True)


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
            help=f"{', '.join(NETWORK_NAMES)}, or a baseline. May be given several times. Default: all.",
            metavar="NAME",
        ),
    ] = None,
    seeds: SeedsOption = 3,
    seed: SeedOption = DEFAULT_SEED,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write the results as JSON, one for each model and seed.", metavar="FILE"),
    ] = None,
    epochs: EpochsOption = None,
    same_second: SameSecondOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Run the NCF paper's benchmark on the authors' files, and print HR@10 and NDCG@10 above the published figures.

    The task is to rank a user's last movie among 99 others, which the authors published. The number of epochs is chosen
    on validation rows held out from train. Then each seed trains on all of train and scores the test lists once. With
    --out, results of other models on the same files stay in the file, and a model whose results are there already is
    not trained again. The tables also have the figures among all movies.
    """
    from workflows.sources.ncf_files import read_ncf_files

    if out is not None:
        _check_writable(out)
    files = read_ncf_files(data)
    for warning in files.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    with working("loading PyTorch and Merlin Models"):
        from models.evaluation import ncf_paper
        from models.evaluation.paper_results import PaperResults
    known = ncf_paper.models()
    chosen = [check_choice(name, known, "model") for name in dict.fromkeys(model or known)]
    _set_threads(threads)
    features = ncf_paper.paper_features(files, data, seed, same_second)
    every = [seed + n for n in range(seeds)]
    asked = ncf_paper.Asked(features=features, epochs=epochs, seeds=every, device=_device(device))
    store = PaperResults.of(out, fingerprint(files=files.sha256), known) if out else None
    if store:
        for sentence in store.sentences(chosen, {name: asked.made_from(name) for name in known}):
            console.print(Text(sentence), soft_wrap=True)
    with progress("models and seeds", ncf_paper.steps(chosen, seeds), "models") as bar:
        results = _paper_results(asked, chosen, store, bar)
        bar.finish("")
    console.print(paper_table(files.name, len(files.test_user), results, ncf_paper.PUBLISHED))
    if out is not None:
        console.print(f"Written to {out}")


def _paper_results(asked: "Asked", chosen: list[str], store: "PaperResults | None", bar: Bar) -> list[dict[str, Any]]:
    """The results of the chosen models, and of those that the file keeps; written after each model, so that an
    interrupt loses one only."""
    from models.evaluation import ncf_paper

    results: list[dict[str, Any]] = []
    for name in chosen:
        made_from = asked.made_from(name)
        done = store.finished(name, made_from, asked.seeds_of(name)) if store else []
        if done:
            bar(ncf_paper.steps([name], len(asked.seeds)), f"{name}: unchanged, reused")
        found = done or asked.judge(name, bar)
        results = store.put(name, made_from, found) if store else [*results, *found]
    return results


def _check_writable(out: Path) -> None:
    """Fails before hours of work, not after."""
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"{out} cannot be written: its folder must exist, and it must not be a folder itself")
    with only_writer(out):
        pass


def _device(wanted: str) -> Any:
    from models.training.devices import pick_device

    return pick_device(wanted)


def _set_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or 1)
