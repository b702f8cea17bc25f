"""Where a run keeps its files, and that only one process writes there at a time."""

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.artifacts import missing_folders, remove_empty
from core.errors import UserError, naming
from core.locks import names
from core.partial import recover_all

DEFAULT_SEED = 42
DEFAULT_DATASET = "ml-100k"
DEFAULT_RUNS = Path("runs")
LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """The folder `runs/<dataset>/` and the names in it."""

    root: Path

    def command(self, name: str) -> str:
        """A command line for this run, for messages: `python -m marquee train --dataset ml-1m --runs elsewhere`.

        Options that have their default values are left out.

        Args:
            name: the command, with any options of its own.
        """
        words = ["python -m marquee", name]
        if self.root.name != DEFAULT_DATASET:
            words.append(f"--dataset {shlex.quote(self.root.name)}")
        if self.root.parent != DEFAULT_RUNS:
            words.append(f"--runs {shlex.quote(str(self.root.parent))}")
        return " ".join(words)

    @property
    def tables(self) -> Path:
        """The canonical tables in Parquet: ratings, movies, users."""
        return self.root / "tables"

    @property
    def stages(self) -> Path:
        """Seconds and peak memory of each stage, from the last time that it had something to do."""
        return self.root / "stages.json"

    @property
    def features(self) -> Path:
        """The transformed splits, schema, vocabularies, side tables and fitted workflows, one folder per split."""
        return self.root / "features"

    def features_of(self, split: str) -> Path:
        """The features of a split, which several protocols may be asked of."""
        return self.features / split

    @property
    def models(self) -> Path:
        """The trained models, a folder per protocol."""
        return self.root / "models"

    def model(self, protocol: str, name: str) -> Path:
        """Weights, configuration and history of one trained model."""
        return self.models / protocol / name

    def tuning(self, protocol: str, name: str) -> Path:
        """The study of one model, and its best settings."""
        return self.root / "tuning" / protocol / name

    def of_seed(self, protocol: str, name: str, seed: int) -> Path:
        """One model trained with one of the seeds of `compare`."""
        return self.root / "seeds" / str(seed) / protocol / name

    def of_split(self, seed: int) -> "Run":
        """Another random split of `compare`, as a run of its own: its features, and its models of several seeds."""
        return Run(self.root / "splits" / str(seed) / self.root.name)

    @property
    def evaluation(self) -> Path:
        """The list of results."""
        return self.root / "evaluation.json"

    @property
    def judged(self) -> Path:
        """What `evaluate` keeps of the models besides the list of results, a folder per protocol."""
        return self.root / "evaluation"

    def kept(self, protocol: str, name: str) -> Path:
        """The ranks of users, lists and scores of rows that one model was judged by."""
        return self.judged / protocol / name

    @property
    def report(self) -> Path:
        """The pictures and `report.html`."""
        return self.root / "report"

    @property
    def latency(self) -> Path:
        """How long a server took to answer with each network."""
        return self.root / "latency.json"

    @property
    def people(self) -> Path:
        """The people who use the page, their ratings, and what was recommended to them (SQLite)."""
        return self.root / "people.sqlite3"

    @property
    def repository(self) -> Path:
        """The Triton model repository."""
        return self.root / "repository"

    @property
    def reference_repository(self) -> Path:
        """The same models as Merlin Systems exports them, for comparison."""
        return self.root / "repository-merlin"

    @property
    def saved_models(self) -> Path:
        """The same models as SavedModels, for a Triton with TensorFlow's backend."""
        return self.root / "repository-tensorflow"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder for this process, and recovers what a killed one left half done in it.

        A folder that was made for it and stayed empty is removed at the end.

        Raises:
            UserError: another process holds it, or the folder cannot be written, now or later (a full disk).
        """
        missing = missing_folders(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            remove_empty(missing)
            raise UserError(
                f"cannot write to {self.root}: {error.strerror}; choose another folder with --runs"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not names(self.root / LOCK, handle):  # its holder has just removed it, and a third may hold the next
                    raise BlockingIOError
            except OSError:
                raise UserError(
                    f"another marquee process writes to {self.root}; wait for it, or choose another folder with --runs"
                ) from None
            recover_all(self.root)
            try:
                with naming(self.root):
                    yield
            finally:
                if missing and [path.name for path in self.root.iterdir()] == [LOCK]:
                    (self.root / LOCK).unlink()
                    remove_empty(missing)
        finally:
            os.close(handle)
