"""The stage `train`: models one after the other, or, where that is worth it, side by side on the processor's cores."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import torchrun
from core.libraries import quiet_libraries, set_up_libraries
from core.progress import Bar, bars, console, progress, working
from core.resources import measured
from core.run_folder import DEFAULT_SEED, Run
from core.side_by_side import side_by_side
from marquee.changes import settings_line
from marquee.inputs import require_features, require_writable
from models.protocols.base import default_protocols

if TYPE_CHECKING:
    from models.training.events import Events
    from models.training.settings import TrainSettings

ALL_MODELS = "all"
REUSED = "unchanged, reused"
WORTH_PROCESSES = 1_000_000  # samples that are trained beside others; a process takes seconds to start
BYTES_EACH = 2 << 30  # of memory that a process may need


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is trained, and how.

    Attributes:
        model: a model's name, or `all`.
        threads: PyTorch's, of one model after the other; None for as many as the settings gain from.
        changes: settings that differ from the chosen ones, as nested dictionaries.
        tensorboard: a folder for TensorBoard events; None for none.
    """

    model: str = ALL_MODELS
    protocols: tuple[str, ...] = field(default_factory=default_protocols)
    device: str = "auto"
    threads: int | None = None
    seed: int = DEFAULT_SEED
    changes: dict[str, Any] = field(default_factory=dict)
    tensorboard: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Training:
    """One model of one protocol.

    Attributes:
        samples: of all epochs, at most.
        threads: PyTorch's.
        events: a folder for TensorBoard events; None for none.
        source: a line that says where the settings come from.
        target: the folder of the trained model; None for its place in the run.
    """

    run: Run
    protocol: str
    name: str
    settings: "TrainSettings"
    device: str
    samples: int
    threads: int
    events: Path | None = None
    source: str = ""
    target: Path | None = None

    @property
    def title(self) -> str:
        return f"{self.name}, {self.protocol}"


def train(run: Run, options: TrainOptions) -> None:
    """Trains a model, or with `all` what the comparison needs: DLRM, NCF and, except for large data, MF."""
    require_features(run, options.protocols)
    require_writable(options.tensorboard, "--tensorboard")  # before hours of work, not after
    with measured(run, "train") as measure:
        with working("loading PyTorch and Merlin Models"):
            found = _trainings(run, options)
        if torchrun.processes() > 1:
            measure.counts = _several(found)
            return
        together, at_once = _together(found) if options.threads is None else ([], 1)
        if together:
            measure.others_mb = _side_by_side(together, at_once)
            measure.counts = True
        others = [one for one in found if one not in together]
        apart = [one for one in others if one.settings.framework == "tensorflow" and _is_new(one)]
        if apart:  # TensorFlow is imported in processes of their own alone
            measure.others_mb = max(measure.others_mb, _side_by_side(apart, 1))
            measure.counts = True
        for one in others:
            if one not in apart:
                measure.counts |= _alone(one)


def train_seeds(
    run: Run,
    protocols: tuple[str, ...],
    seeds: list[int],
    device: str,
    others: Mapping[str, Sequence[Run]],
    among: Collection[str],
) -> None:
    """Trains what `compare` needs side by side, where that is worth it; else nothing, as `compare` trains it then.

    Args:
        others: runs of other random splits, by protocol.
        among: the networks that are asked for; empty for all.
    """
    from models.data.load import training_rows
    from models.evaluation.compare_seeds import to_train

    needed = [
        _training(
            one.split,
            training_rows(run, one.protocol),
            protocol=one.protocol,
            name=one.name,
            settings=one.settings,
            device=device,
            target=one.target,
        )
        for one in to_train(run, protocols, seeds, others, among)
    ]
    together, processes = _together(needed)
    if not together:
        return
    with progress(f"training, {processes} models at a time", len(together), "models") as bar:

        def heard(number: int, _: float, note: str, ends: bool = False) -> None:
            if ends:
                bar(1, f"{together[number].title}, seed {together[number].settings.seed}: {note}")

        _in_processes(together, processes, heard)
        bar.finish("")


def _trainings(run: Run, options: TrainOptions) -> list[_Training]:
    from models import registry
    from models.data.load import training_rows
    from models.training.frameworks import TWIN_NAMES, require_framework
    from models.training.settings import with_changes

    def one(protocol: str, name: str, rows: int) -> _Training:
        chosen, changes = registry.chosen_settings(run, protocol, name, rows), options.changes
        if everything and name not in TWIN_NAMES:  # what has no twin is trained all the same
            changes = {key: value for key, value in changes.items() if key != "framework"}
        settings = with_changes(name, chosen.settings, {**changes, "seed": options.seed}, f"{name}, {protocol}")
        require_framework(name, settings)
        found = _training(run, rows, protocol=protocol, name=name, settings=settings, device=options.device)
        return replace(
            found,
            threads=options.threads or found.threads,
            events=options.tensorboard / protocol / name if options.tensorboard else None,
            source=settings_line(name, protocol, chosen.source, changes),
        )

    everything = options.model == ALL_MODELS
    found = []
    for protocol in options.protocols if everything else registry.protocols_for(options.model, options.protocols):
        rows = training_rows(run, protocol)
        names = registry.networks_for(protocol, rows) if everything else (options.model,)
        found += [one(protocol, name, rows) for name in names]
    return found


def _training(
    run: Run,
    rows: int,
    *,
    protocol: str,
    name: str,
    settings: "TrainSettings",
    device: str,
    target: Path | None = None,
) -> _Training:
    """A training with as many threads as it gains from.

    Args:
        rows: training ratings.
    """
    from models.training.devices import threads_for
    from models.training.loop import samples_per_epoch

    epochs = settings.epochs * (2 if settings.refit else 1)
    return _Training(
        run=run,
        protocol=protocol,
        name=name,
        settings=settings,
        device=device,
        samples=samples_per_epoch(rows, protocol, settings) * epochs,
        threads=threads_for(settings.batch_size),
        target=target,
    )


def _together(trainings: list[_Training]) -> tuple[list[_Training], int]:
    """Which are worth to be trained side by side, perhaps none, and in how many processes.

    Those that gain nothing from a second core: on a GPU, and with large batches, one training uses all that is there.
    """
    import psutil
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    from models.training.devices import pick_device

    found = [one for one in trainings if one.threads == 1 and pick_device(one.device).type == "cpu" and _is_new(one)]
    beside = sum(sorted(one.samples for one in found)[:-1])
    fitting = min(psutil.virtual_memory().available, MEMORY_LIMIT) // BYTES_EACH
    processes = min(len(found), CPU_COUNT, fitting)
    return (found, processes) if processes > 1 and beside >= WORTH_PROCESSES else ([], 1)


def _several(trainings: list[_Training]) -> bool:
    """Trains models one after the other, each in all the processes that torchrun started; as `_alone` otherwise."""
    from models.training.devices import pick_device
    from models.training.several import joined

    with joined(pick_device(trainings[0].device)):
        trained = [_alone(one) for one in trainings]
    return any(trained) and not torchrun.rank()


def _is_new(one: _Training) -> bool:
    """Whether there is anything to train."""
    from models.training.devices import pick_device
    from models.training.train import is_trained

    return not is_trained(one.run, one.protocol, one.name, one.settings, pick_device(one.device), one.target)


def _alone(one: _Training) -> bool:
    """Trains one model here. Returns whether there was anything to do."""
    console.print(one.source, soft_wrap=True)
    with progress(one.title, one.samples, "samples") as bar:
        note = _train(one, bar)
        bar.finish(note)
    return note != REUSED


def _side_by_side(trainings: list[_Training], processes: int) -> float:
    """Trains models, so many at once; returns the memory of their processes, in MB."""
    if processes > 1:
        console.print(
            f"{processes} models at a time, each in a process of its own; --threads 1 trains one after the other"
        )
    for one in trainings:
        console.print(one.source, soft_wrap=True)
    with bars("samples") as add:
        shown: dict[int, Bar] = {}

        def heard(number: int, by: float, note: str, ends: bool = False) -> None:
            if number not in shown:
                shown[number] = add(trainings[number].title, trainings[number].samples)
            if ends:
                shown[number].finish(note)
            else:
                shown[number](by, note)

        return _in_processes(trainings, processes, heard)


def _in_processes(trainings: list[_Training], processes: int, heard: Callable[..., None]) -> float:
    """The same; `heard` is given the number of a training, and what `_train_beside` says of it."""
    with_tensorflow = any(one.settings.framework == "tensorflow" for one in trainings)
    first = quiet_libraries if with_tensorflow else set_up_libraries
    return side_by_side(_train_beside, [(one,) for one in trainings], processes, heard, first=first).peak_mb


def _train_beside(one: _Training, say: Callable[..., None]) -> None:
    """Trains one model in a process of its own."""
    say(0, "loading PyTorch and Merlin Models")
    say(0, _train(one, say), True)


def _train(one: _Training, advance: Callable[[float, str], None]) -> str:
    """Trains one model, and says how that ended."""
    import torch

    from models.training.devices import pick_device
    from models.training.train import train as train_model

    torch.set_num_threads(one.threads)
    with _events(one.events) as events:
        device = pick_device(one.device)
        config = train_model(
            one.run, one.protocol, one.name, one.settings, device, advance, target=one.target, events=events
        )
    if config is None:
        return REUSED
    best = config.validation[config.monitor]
    if best is None:
        reason = config.undefined[config.monitor]
        validated = f"the last of {config.epochs} epochs, as validation {config.monitor} is undefined: {reason}"
    else:
        validated = f"best epoch {config.best_epoch} of {config.epochs}, validation {config.monitor} {best:.3f}"
    return f"{validated}, {config.samples_per_second:,} samples/s"


@contextmanager
def _events(folder: Path | None) -> Iterator["Events | None"]:
    """TensorBoard events in a folder; None where there is none."""
    if folder is None:
        yield None
        return
    from models.training.events import Events

    require_writable(folder, "--tensorboard")
    with closing(Events(folder)) as events:
        yield events
