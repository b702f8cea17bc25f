"""The stages of the road, as the commands run them: each imports what it needs, tells how far it is, is measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.progress import console, progress, working
from core.resources import measured
from core.run_folder import ALL_PROTOCOLS, MODELS, PROTOCOLS, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ensemble.client import Access
    from models.training.settings import TrainSettings


def fetch(run: Run, dataset: str, data: Path | None) -> None:
    from workflows.sources.datasets import get_dataset
    from workflows.sources.fetch import fetch_tables

    with measured(run, "fetch") as measure:
        measure.counts = fetch_tables(get_dataset(dataset), data, run.tables, console.print)


def prepare(run: Run, freq_threshold: int, seed: int, scheduler: str | None) -> None:
    with measured(run, "prepare") as measure:
        with working("loading NVTabular"):
            from workflows.cluster import dask_cluster
            from workflows.features.prepare import PREPARE_STEPS, PrepareSettings
            from workflows.features.prepare import prepare as prepare_features
            from workflows.features.side_tables import HAS_GPU
        console.print(f"dataframes: {'cuDF, on the GPU' if HAS_GPU else 'pandas, on the CPU'}")
        for protocol in PROTOCOLS:
            with progress(f"features, {protocol}", len(PREPARE_STEPS), "steps") as advance:
                cluster = dask_cluster(scheduler) if scheduler else None
                done = prepare_features(run, protocol, PrepareSettings(freq_threshold, seed), advance, cluster)
                advance.finish("" if done else "unchanged, reused")
                measure.counts |= done


def train(
    run: Run,
    model: str,
    protocols: tuple[str, ...],
    device: str,
    threads: int | None,
    seed: int,
    changes: dict[str, Any],
) -> None:
    """Trains a model, or with `all` what the comparison needs: DLRM, NCF and, but for large data, MF."""
    with measured(run, "train") as measure:
        with working("loading PyTorch and Merlin Models"):
            import torch

            from models import registry as contenders
            from models.training import settings
            from models.training import train as training
        chosen = settings.pick_device(device)
        for protocol in protocols:
            rows = training.training_rows(run, protocol)
            for name in contenders.models_for(rows) if model == "all" else (model,):
                defaults = contenders.chosen_settings(run, protocol, name, rows)
                changed = settings.with_changes(defaults, seed=seed, **changes)
                torch.set_num_threads(threads or settings.threads_for(changed))
                measure.counts |= _train_one(run, protocol, name, changed, rows, chosen)


def _train_one(run: Run, protocol: str, name: str, settings: "TrainSettings", rows: int, device: Any) -> bool:
    from models.training import train as training

    passes = 2 if settings.refit else 1
    total = training.samples_per_epoch(rows, protocol, settings) * settings.epochs * passes
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


def evaluate(run: Run, device: str, threads: int | None) -> None:
    with measured(run, "evaluate") as measure:
        with working("loading the models"):
            import torch

            from models.evaluation import evaluate as comparison
            from models.training import settings
            from models.training import train as training
        torch.set_num_threads(threads or training.threads_for_scoring(run))
        with progress("test sets", comparison.results_expected(run), "results") as advance:
            measure.counts = comparison.evaluate(run, settings.pick_device(device), advance)
            advance.finish("" if measure.counts else "unchanged, reused")
    _tell_stages(run)


def export(run: Run, protocol: str, default_model: str | None, sign_key: Path | None = None) -> None:
    with measured(run, "export") as measure:
        with working("writing and checking the Triton repository"):
            from ensemble.export.export import export as export_repository

            before = run.repository.stat().st_mtime_ns if run.repository.is_dir() else 0
            manifest = export_repository(run, protocol, default_model, sign_key)
        measure.counts = run.repository.stat().st_mtime_ns != before
    _tell_stages(run)
    recall = f", recall {manifest['recall@10']:.3f}" if manifest["strategy"] == "two-stage" else ""
    console.print(
        f"{run.repository}: version {manifest['version']}, {manifest['default_model']} by default, "
        f"recommend {manifest['strategy']}{recall}"
    )


def export_reference(run: Run, protocol: str) -> None:
    """The same models for Merlin Systems' runtime."""
    with working("writing and checking Merlin Systems' repository"):
        from ensemble.merlin_systems.export import export_merlin

        export_merlin(run, protocol, MODELS)
    console.print(f"{run.reference_repository}: serve it with: python -m marquee serve --runtime merlin")


def _tell_stages(run: Run) -> None:
    """Puts what the stages took into evaluation.json."""
    from core.resources import read_stages
    from models.evaluation.results import add_stages

    add_stages(run, read_stages(run))


def ask_triton(run: Run, user: int) -> "Table":
    from ensemble.server.ports import Ports, free_port
    from ensemble.server.process import running

    ports, command = Ports(free_port()), run.command("export")
    server = running(run.repository, run.root / "triton.log", ports, command=command)
    with working("starting Triton, asking it, stopping it"), server as triton:
        return recommendations(run, triton.url, user, 10)


def recommendations(
    run: Run,
    url: str,
    user: int,
    k: int,
    history: "Sequence[int]" = (),
    strategy: str = "",
    access: "Access | None" = None,
) -> "Table":
    from ensemble import client
    from marquee.tables import recommendations_table

    answer = client.recommend(url, user, k, history, strategy, access=access or client.Access())
    return recommendations_table(run, user, list(history), *answer)


def print_comparison(run: Run) -> None:
    from models.evaluation.results import comparison_tables

    for table in comparison_tables(run):
        console.print(table)


def run_folder(dataset: str, runs: Path) -> Run:
    from workflows.sources.datasets import get_dataset

    return Run(runs / get_dataset(dataset).name)


def dataset_flag(dataset: str) -> str:
    """What a command shown to the user needs to mean the same dataset."""
    return "" if dataset == "ml-100k" else f" --dataset {dataset}"


def check_choice(value: str, known: tuple[str, ...], what: str) -> str:
    """The value itself.

    Raises:
        UserError: it is not among those known.
    """
    if value not in known:
        raise UserError(f"unknown {what} {value!r}; choose one of {', '.join(known)}")
    return value


def chosen_protocols(value: str) -> tuple[str, ...]:
    """The protocols that an option names: one, `both` that a run is about, or `all`, star prediction too."""
    named = {"both": PROTOCOLS, "all": ALL_PROTOCOLS, **{name: (name,) for name in ALL_PROTOCOLS}}
    if value not in named:
        raise UserError(f"unknown protocol {value!r}; choose one of {', '.join((*ALL_PROTOCOLS, 'both', 'all'))}")
    return named[value]
