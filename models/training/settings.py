"""How a model is trained, and the defaults: data, found by `tune` on validation."""

from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from core.errors import UserError
from core.json_files import STRICT, read_json, validated
from core.run_folder import DEFAULT_SEED
from models.networks.base import NETWORKS, NetworkSettings, PositiveInt, Share
from models.protocols.base import PROTOCOLS

LARGE = 3_000_000  # training ratings, from where on `large.json` holds
MEDIUM = 400_000  # from where on ML-1M's settings fit better than ML-100K's
TENSORFLOW = "tensorflow"
DEFAULTS = Path(__file__).parent / "defaults"
# The files of defaults that stand for a size, and what studies also start from. They are whole: a model that is not in
# them takes its class's own settings. Any other file, as `tune --ship` writes it, says something of some models only.
WHOLE = ("large", "ml-1m", "ml-100k", "start")

Penalty = Annotated[float, Field(ge=0)]
NotNegative = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrainSettings:
    """How a model is trained.

    Attributes:
        learning_rate: Adam's; `from_json` takes one below 1 only.
        schedule: of all learning rates over `epochs`: `constant`, or `cosine` from the full rate down to 0.
        embedding_rate: row-wise Adagrad's, for the embedding tables of `LARGE_TABLE` rows and more; 0 to leave them to
            Adam with everything else.
        weight_decay: L2 penalty per step: on all weights, and under row-wise Adagrad on the rows of the batch.
        l2: penalty per sample on the squares of the embeddings that it uses, as in matrix factorisation.
        averaging: decay per step of the running mean of the weights; 0 for the last weights alone.
        batch_size: samples per step.
        epochs: at most this many.
        patience: stop after this many epochs without a better validation metric.
        refit: once validation has found the best epoch, train again for as many epochs on train and validation
            together.
        pretraining: epochs that NCF's two branches are first trained apart, as in He et al., section 3.4.1.
        recency: half-life, in ratings, of a positive's weight in the loss: each later rating of the user takes a share
            of it, down to a twentieth; 0 for equal weights. Leave-one-out asks what comes next, and what a user watched
            lately says more about that.
        recency_draws: whether that weight is instead a positive's chance to be drawn for an epoch. What is expected of
            the loss is the same, up to a factor, of fewer and equally heavy positives.
        negatives: movies drawn per positive and epoch, where the protocol draws negatives.
        shared_negatives: movies drawn for a whole step instead, from which each of its positives is told by a sampled
            softmax (Jean et al., "On Using Very Large Target Vocabulary", 2015); 0 for negatives of each positive's own
            and the protocol's loss. `batch_size` is in positives then.
        popularity: how much likelier a movie with many ratings is to be a shared negative: its share in the draws grows
            with this power of its ratings (0.75 in word2vec, Mikolov et al., 2013), and the loss takes its chance out
            again; 0 for all alike, where nothing is to be taken out.
        precision: of the products in training, `float32` or `bfloat16`; `auto` is bfloat16 where the hardware has it.
            Weights, sums and scoring are in float32.
        framework: that computes the steps. What is kept of a model is the same in both.
        seed: of the weights, the order and the negatives.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    embedding_rate: Penalty = 0.0
    weight_decay: Penalty = 0.0
    l2: Penalty = 0.0
    averaging: Share = 0.999
    batch_size: PositiveInt = 1024
    epochs: PositiveInt = 30
    patience: PositiveInt = 5
    refit: bool = False
    pretraining: NotNegative = 0
    recency: Penalty = 0.0
    recency_draws: bool = False
    negatives: NotNegative = 4
    shared_negatives: NotNegative = 0
    popularity: Penalty = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    framework: Literal["torch", "tensorflow"] = "torch"
    seed: NotNegative = DEFAULT_SEED


@dataclass(frozen=True, config=STRICT)
class Found:
    """What a study found, in `best.json` and in the defaults: settings as JSON keeps them, and the study."""

    settings: dict[str, Any]
    study: dict[str, Any] = field(default_factory=dict)


def from_json(name: str, values: Mapping[str, Any], where: str) -> TrainSettings:
    """A network's settings from what JSON keeps of them; what is left out has its default.

    Args:
        name: of the network.
        where: the file, for the message.

    Raises:
        UserError: an unknown key or a wrong value; the message names it and what is allowed.
    """
    network = NETWORKS[name]
    rest = {key: value for key, value in values.items() if key != "network"}
    settings = validated(TrainSettings, rest, where)
    if settings.learning_rate >= 1:
        raise UserError(f"{where}: learning_rate is {settings.learning_rate:g}; it must be above 0 and below 1")
    if settings.pretraining and network.branches is None:
        raise UserError(f"{where}: pretraining is {settings.pretraining}; {name} has no branches to train apart")
    return replace(settings, network=validated(network.settings, values.get("network", {}), f"{where}, network"))


def to_json(settings: TrainSettings) -> dict[str, Any]:
    """What differs from the defaults of the classes, as JSON keeps it; the seed is left out."""

    def changed(value: Any, plain: Any) -> dict[str, Any]:
        pairs = ((f.name, getattr(value, f.name), getattr(plain, f.name)) for f in fields(value))
        return {name: one for name, one, other in pairs if one != other and name not in ("network", "seed")}

    network = changed(settings.network, type(settings.network)())
    return {**({"network": network} if network else {}), **changed(settings, TrainSettings())}


def with_changes(name: str, settings: TrainSettings, changes: Mapping[str, Any], where: str) -> TrainSettings:
    """Settings with some changed.

    Args:
        name: of the network.
        changes: a value by key, those of the network under `network`; None keeps what is there.
        where: what to call the changes in a message.

    Raises:
        UserError: an unknown key or a wrong value; the message names it and what is allowed.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    before = asdict(settings)
    network = {**before["network"], **validated(dict[str, Any], given.get("network", {}), f"{where}, network")}
    return from_json(name, {**before, **given, "network": network}, where)


def defaults_file(dataset: str, rows: int) -> Path:
    """The shipped defaults of a dataset, or of its size."""
    path = DEFAULTS / f"{dataset}.json"
    return path if path.is_file() else _file_of_size(rows)


def _file_of_size(rows: int) -> Path:
    return DEFAULTS / ("large.json" if rows >= LARGE else "ml-1m.json" if rows >= MEDIUM else "ml-100k.json")


def default_of(protocol: str, name: str, dataset: str, rows: int) -> tuple[Found, Path]:
    """What is shipped for a model of a protocol, and the file that says it.

    A dataset's own file may leave out protocols and models: those are as they would be without it. A file that says
    nothing of a protocol may say something of the one whose defaults it takes.

    Args:
        rows: training ratings.
    """
    path = defaults_file(dataset, rows)
    found = _found(path, protocol, name)
    if found is None and path.stem not in WHOLE:
        path = _file_of_size(rows)
        found = _found(path, protocol, name)
    return found or Found({}), path


def _found(path: Path, protocol: str, name: str) -> Found | None:
    defaults, like = read_defaults(path), PROTOCOLS[protocol].defaults_like
    return defaults.get(protocol, {}).get(name) or defaults.get(like, {}).get(name)


def read_defaults(path: Path) -> dict[str, dict[str, Found]]:
    """Shipped defaults: protocol to model to what a study found.

    Raises:
        UserError: the file is not of that form.
    """
    return validated(dict[str, dict[str, Found]], read_json(path), str(path))


def settings_for(protocol: str, name: str, dataset: str = "", rows: int = 0, **changes: Any) -> TrainSettings:
    """The defaults of a protocol and network, with the changes that are not None.

    Args:
        dataset: whose own defaults are taken, where it has any; else those of its size.
        rows: training ratings.
    """
    found, path = default_of(protocol, name, dataset, rows)
    return with_changes(name, from_json(name, found.settings, f"{path}, {protocol}, {name}"), changes, "the changes")
