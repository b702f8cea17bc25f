"""Other random splits of a run's ratings, each with features of its own, as `compare --splits` judges them."""

import os

from core.artifacts import read_manifest
from core.errors import UserError
from core.progress import progress, working
from core.run_folder import Run
from models.protocols.base import PROTOCOLS
from workflows.splits.base import SPLITS


def other_splits(run: Run, protocols: tuple[str, ...], splits: int) -> dict[str, list[Run]]:
    """Prepares the splits besides the run's own, whose seeds follow that of the run's features.

    Each is a run folder inside the run, with the same tables, where its models of several training seeds are kept too.
    Nothing is prepared again that is there and up to date.

    Args:
        splits: how many there are with the run's own.

    Returns:
        For each protocol whose split uses chance, a run for each of the others. Leave-one-out has no other split: its
        test is every user's last movie.

    Raises:
        UserError: there are no features, or those of another version.
    """
    chosen = {name: PROTOCOLS[name].split for name in protocols if SPLITS[PROTOCOLS[name].split].uses_chance}
    if splits < 2 or not chosen:
        return {}
    found = {
        split: [_prepared(run, split, number) for number in range(1, splits)]
        for split in dict.fromkeys(chosen.values())
    }
    return {name: found[split] for name, split in chosen.items()}


def _prepared(run: Run, split: str, number: int) -> Run:
    with working("loading NVTabular"):
        from workflows.features.prepare import PREPARE_STEPS, PrepareSettings, prepare
    manifest = read_manifest(run.features_of(split), run.command("prepare"))
    if "freq_threshold" not in manifest:
        raise UserError(
            f"{run.features_of(split)} was written by another version of Marquee; run: {run.command('prepare')}"
        )
    settings = PrepareSettings(int(manifest["freq_threshold"]), int(manifest["seed"]) + number)
    other = run.of_split(settings.seed)
    _link_tables(run, other)
    with progress(f"features, {split}, seed {settings.seed}", len(PREPARE_STEPS), "steps") as advance:
        done = prepare(other, split, settings, advance)
        advance.finish("" if done else "unchanged, reused")
    return other


def _link_tables(run: Run, other: Run) -> None:
    """The tables are the same: a relative link, so that the run folder can be moved."""
    other.root.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(other.tables):
        other.tables.symlink_to(os.path.relpath(run.tables, other.root), target_is_directory=True)
