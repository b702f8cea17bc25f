"""The stages that the commands run. Each checks that its input is there, imports what it needs, and is measured."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path

from core.columns import USER_ID
from core.errors import UserError
from core.libraries import quiet_libraries
from core.progress import console, progress, stage, working
from core.resources import measured, read_stages, stages_line
from core.run_folder import DEFAULT_SEED, Run
from core.side_by_side import side_by_side
from core.terminal import data_text
from marquee import answers, own_tables
from marquee.inputs import require_models, require_tables, require_writable
from marquee.options import listed
from marquee.training import TrainOptions, train
from models.protocols.base import PROTOCOLS, default_protocols

ONE_SEED = (
    "± covers the choice of users, not training: another seed, or this one on another processor, gives a network other "
    "figures (sampled HR@10 of ml-100k moves by about .01). `compare` gives means over several seeds."
)
DEFAULT_SERVED = "leave-one-out"  # the protocol whose models are exported


@dataclass(frozen=True)
class PrepareOptions:
    """What `prepare` needs besides its tables.

    Attributes:
        protocols: whose features are prepared.
        freq_threshold: users and movies with fewer training ratings share one embedding.
        scheduler: a Dask scheduler's address, `local`, or None for this process alone.
        same_second: see `PrepareSettings`.
    """

    freq_threshold: int = 1
    _: KW_ONLY
    seed: int = DEFAULT_SEED
    scheduler: str | None = None
    same_second: bool = False
    protocols: tuple[str, ...] = field(default_factory=default_protocols)


def run_folder(dataset: str, runs: Path) -> Run:
    """The run folder of a dataset, or of a table: by the table's path, or by its name where it was fetched before.

    Raises:
        UserError: there is no such dataset or table, or the folder's name is not text.
    """
    from workflows.sources.datasets import get_dataset

    try:
        str(runs).encode()
    except UnicodeEncodeError:
        raise UserError(f"--runs {str(runs)!r} is not in UTF-8; choose another folder") from None
    return own_tables.run_of(dataset, runs) or Run(runs / get_dataset(dataset).name)


# -- stages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """What `fetch` reads.

    Attributes:
        dataset: a dataset's name, or the path of a table, or the name of one that was fetched before.
        data: where the dataset's files are, a path or an address; None to look for them.
        more_ratings: a file of ratings to read beside the dataset's own; None for none.
        columns: of a table, as `--columns` gives them; empty for those that it was fetched with before.
    """

    dataset: str
    data: str | None = None
    more_ratings: Path | None = None
    columns: str = ""


def fetch(run: Run, options: FetchOptions) -> None:
    """Reads a dataset, or a table, into the canonical tables."""
    from workflows.sources.datasets import get_dataset
    from workflows.sources.fetch import fetch_tables
    from workflows.sources.fetch_table import fetch_any_table
    from workflows.sources.find import is_raw
    from workflows.sources.remote import at_hand
    from workflows.sources.table_columns import is_table

    say = partial(console.print, soft_wrap=True)
    others = {"--data": options.data, "--more-ratings": options.more_ratings}
    table = own_tables.asked_for(run, options.dataset, options.columns, others, say)
    with measured(run, "fetch") as measure:
        if table:
            where, columns = table
            path = at_hand(where, is_table, say)
            measure.counts = fetch_any_table(path, columns, run.tables, say, where=where)
            return
        dataset = get_dataset(options.dataset)
        data = None if options.data is None else at_hand(options.data, is_raw, say)
        measure.counts = fetch_tables(dataset, data, run.tables, say, options.more_ratings)


def prepare(run: Run, options: PrepareOptions) -> None:
    """Turns the tables into features, for the protocols asked for, and again for others that have some already."""
    require_tables(run)
    with measured(run, "prepare") as measure:
        with working("loading NVTabular"):
            from core.gpu import DATA_FRAMES

            from workflows.cluster import dask_cluster
            from workflows.features.prepare import PREPARE_STEPS, PrepareSettings
            from workflows.features.prepare import prepare as prepare_features
        console.print(f"dataframes: {DATA_FRAMES}")
        settings = PrepareSettings(options.freq_threshold, options.seed, options.same_second)
        for split in _splits(run, options.protocols):
            with progress(f"features, {split}", len(PREPARE_STEPS), "steps") as advance:
                cluster = dask_cluster(options.scheduler) if options.scheduler else None
                done = prepare_features(run, split, settings, advance, cluster)
                advance.finish("" if done else "unchanged, reused")
                measure.counts |= done


def _splits(run: Run, protocols: Sequence[str]) -> list[str]:
    """The splits of some protocols, and those that have features already: none is left over of other tables."""
    splits = {name: protocol.split for name, protocol in PROTOCOLS.items()}
    there = (name for name, split in splits.items() if run.features_of(split).is_dir())
    return list(dict.fromkeys(splits[name] for name in (*protocols, *there)))


def evaluate(run: Run, device: str, threads: int | None) -> None:
    """Scores the trained models and the baselines on the test sets."""
    require_models(run)
    with measured(run, "evaluate") as measure:
        with working("loading the models"):
            import torch

            from models.evaluation import evaluate as evaluation
            from models.training.devices import pick_device
        torch.set_num_threads(threads or evaluation.threads_for_scoring(run))
        with progress("test sets", evaluation.results_expected(run), "results") as advance:
            measure.counts = evaluation.evaluate(run, pick_device(device), advance)
            advance.finish("" if measure.counts else "unchanged, reused")
    _record_stages(run)


def export(run: Run, protocol: str, default_model: str | None, sign_key: Path | None = None) -> None:
    """Writes a version of the Triton model repository."""
    require_models(run, protocol)
    with measured(run, "export") as measure:
        with working("writing and checking the Triton repository"):
            from ensemble.export.export import export as export_repository

            before = run.repository.stat().st_mtime_ns if run.repository.is_dir() else 0
            manifest = export_repository(run, protocol, default_model, sign_key)
        measure.counts = run.repository.stat().st_mtime_ns != before
    _record_stages(run)
    recall = f", recall {manifest['recall@10']:.3f}" if manifest["strategy"] == "two-stage" else ""
    console.print(
        f"{run.repository}: version {manifest['version']}, {manifest['default_model']} by default, "
        f"recommend {manifest['strategy']}{recall}"
    )


def export_reference(run: Run, protocol: str) -> None:
    """Writes the same models for Merlin Systems' runtime."""
    from marquee.ids import refuse_own_ids

    require_models(run, protocol)
    refuse_own_ids(run, "Merlin's runtime")
    with working("writing and checking Merlin Systems' repository"):
        from ensemble.export.export import served
        from ensemble.merlin_systems.export import export_merlin

        export_merlin(run, protocol, served(run, protocol))
    serve = run.command("serve --runtime merlin")
    console.print(f"{run.reference_repository}: serve it with: {serve}", soft_wrap=True)


def export_saved_models(run: Run, protocol: str) -> None:
    """Writes the networks that have a twin in TensorFlow as SavedModels."""
    require_models(run, protocol)
    with working("writing and checking the SavedModels"):
        found = side_by_side(_write_saved_models, [(run, protocol)], 1, lambda *_: None, first=quiet_libraries)
    (names,) = found.values
    console.print(
        f"{run.saved_models}: {listed(names, 'and')}, for a Triton with TensorFlow's backend: "
        f"tritonserver --model-repository {run.saved_models}",
        soft_wrap=True,
    )


def _write_saved_models(run: Run, protocol: str, say: Callable[..., None]) -> list[str]:
    """In a process of its own, which alone imports TensorFlow."""
    from ensemble.export.saved_models import write_saved_models

    return write_saved_models(run, protocol, say)


def _record_stages(run: Run) -> None:
    """Writes the measurements of the stages into evaluation.json."""
    from models.evaluation.results import add_stages

    add_stages(run, read_stages(run))


# -- results -----------------------------------------------------------------------------------------------------------


def print_comparison(run: Run) -> None:
    """Prints what `evaluate` found."""
    from marquee.result_tables import comparison_tables

    for table in comparison_tables(run):
        console.print(table)
    console.print(ONE_SEED, style="dim")


# -- everything --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `run` needs.

    Attributes:
        user: whose recommendations are displayed at the end, as on the command line; None for the first user's.
    """

    fetch: FetchOptions
    user: str | None
    prepare: PrepareOptions
    train: TrainOptions


def run_everything(run: Run, options: RunOptions) -> None:
    """All stages in order, then the comparison and recommendations."""
    from ensemble.server.launch import require_triton
    from marquee.ids import id_of, movielens_id
    from marquee.tables import known_user

    require_triton()
    if options.user is not None and own_tables.run_of(options.fetch.dataset, run.root.parent) is None:
        movielens_id(options.user, "--user")  # refused before anything is fetched
    with run.lock():
        require_writable(options.train.tensorboard, "--tensorboard")
        with stage("fetch"):
            fetch(run, options.fetch)
            user = known_user(run, None if options.user is None else id_of(run, USER_ID, options.user, "--user"))
        protocols = own_tables.with_labels(run, options.train.protocols)
        with stage("prepare"):
            prepare(run, replace(options.prepare, protocols=protocols))
        with stage("train"):
            train(run, replace(options.train, protocols=protocols))
        with stage("evaluate"):
            evaluate(run, options.train.device, options.train.threads)
        with stage("export"):
            export(run, DEFAULT_SERVED, None)
        with stage("serve"):
            recommended = answers.ask_triton(run, user)
    console.print()
    print_comparison(run)
    console.print(recommended)
    console.print(stages_line(run))
    serve = data_text(run.command("serve"), "bold")
    console.print(f"Results: {run.evaluation}. Serve them:", serve, soft_wrap=True)
