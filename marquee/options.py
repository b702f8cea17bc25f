"""The command line's options that several commands share, and how their values are checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from core.errors import UserError
from core.registry import names_of_files
from ensemble.triton_models.limits import LARGEST_K
from models.protocols.base import PROTOCOLS, default_protocols, prepared_protocols, protocol_groups
from workflows.sources.datasets import DATASETS

# Every list of choices that help texts and messages name. None of them imports a heavy package.
DATASET_NAMES = tuple(DATASETS)
SYNTHETIC_NAMES = ("ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "netflix")  # the releases that `synth` imitates
NETWORK_NAMES = names_of_files("models.networks")
RUNTIME_NAMES = ("marquee", "merlin")
STRATEGY_NAMES = ("exact", "two-stage")
DEVICE_NAMES = ("auto", "cpu", "cuda")
FRAMEWORK_NAMES = ("torch", "tensorflow")
TWIN_NAMES = names_of_files("models.tensorflow.twins")
PRECISION_NAMES = ("auto", "float32", "bfloat16")
PROTOCOL_GROUPS = {  # what else --protocol takes
    "both": default_protocols(),
    "standard": prepared_protocols(),
    **protocol_groups(),
    "all": tuple(PROTOCOLS),
}


def listed(names: Sequence[str], last: str = "or") -> str:
    """Names as a phrase.

    >>> listed(["a", "b", "c"])
    'a, b or c'
    """
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


TWINS = listed(TWIN_NAMES, "and")


def _protocol_help() -> str:
    """The protocols, those of a group from the first to the last, and the groups."""
    others = listed([name for name in prepared_protocols() if name not in default_protocols()], "and")
    groups = {group: f"{names[0]} to {names[-1]}" for group, names in protocol_groups().items()}
    each = [name for name, protocol in PROTOCOLS.items() if not protocol.group]
    words = [
        *each,
        *groups.values(),
        f"both ({listed(default_protocols(), 'and')})",
        f"standard (both and {others})",
        *(f"{group} ({names})" for group, names in groups.items()),
    ]
    return f"{', '.join(words)} or all. rating predicts stars."


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help=f"{listed(DATASET_NAMES)}, a synthetic one from `synth`, or a table of your own: the path or address of a "
        "CSV or Parquet file at first, then its name.",
        metavar="NAME",
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        help="Which columns of --dataset FILE say what: user=NAME,item=NAME, and as far as there are any "
        "rating=NAME,time=NAME,title=NAME,genres=NAME.",
        metavar="PAIRS",
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder, zip or tar with the dataset's files, or its ratings file; or the address of one of these, such "
        "as s3://bucket/ml-25m.zip. Default: $MARQUEE_DATA/NAME, then a download.",
        metavar="PATH",
    ),
]
MoreRatingsOption = Annotated[
    Path | None,
    typer.Option(
        help="File of more ratings, as `ratings export` writes it, to read beside the dataset's own.", metavar="FILE"
    ),
]
RunsOption = Annotated[
    Path, typer.Option(help="Folder that holds the run folders.", envvar="MARQUEE_RUNS", metavar="FOLDER")
]
RepositoryOption = Annotated[
    Path | None,
    typer.Option(
        help="Exported repository, or a copy of one, that movies' titles are taken from. Default: the run's tables.",
        envvar="MARQUEE_REPOSITORY",
        metavar="FOLDER",
    ),
]
SeedOption = Annotated[int, typer.Option(help="Random seed.", min=0, max=2**31 - 1, metavar="N")]
DeviceOption = Annotated[
    str, typer.Option(help=f"{listed(DEVICE_NAMES)}; auto takes a GPU if there is one.", metavar="DEVICE")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        help="PyTorch threads. Default: 1 for small batches, which gain nothing from more, else one per core. Without "
        "it, `train` and `run` train several models at a time where there are cores for it.",
        min=1,
        max=1024,
        metavar="N",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help=f"Precision of matrix products in training: {listed(PRECISION_NAMES)}. "
        "auto is bfloat16 where the hardware supports it.",
        metavar="NAME",
    ),
]
FrameworkOption = Annotated[
    str | None,
    typer.Option(
        help=f"What computes the steps of training: {listed(FRAMEWORK_NAMES)}. TensorFlow trains twins of {TWINS}, "
        "from the same weights over the same batches; all else is as with torch, which is the default.",
        metavar="NAME",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        help="Dask cluster for NVTabular: a scheduler's address, or `local` to start one with a worker per core (per "
        "GPU). Default: no cluster.",
        metavar="ADDRESS",
    ),
]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help=_protocol_help(),
        metavar="NAME",
    ),
]
ThresholdOption = Annotated[
    int,
    typer.Option(
        help="Users and movies with fewer training ratings than this share one embedding.", min=1, metavar="N"
    ),
]
SameSecondOption = Annotated[
    bool,
    typer.Option(
        "--same-second",
        help="Count ratings of the same second that come first in the file as given before a rating. Without, only "
        "those of earlier seconds are its history.",
    ),
]
TensorboardOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for TensorBoard events: loss and validation metrics as each epoch ends, a sub-folder per protocol "
        "and model.",
        metavar="FOLDER",
    ),
]
EpochsOption = Annotated[int | None, typer.Option(help="Maximum number of epochs.", min=1, metavar="N")]
ServedModelOption = Annotated[
    str, typer.Option("--model", help=f"Such as {listed(NETWORK_NAMES)}. Default: the repository's.", metavar="NAME")
]
KOption = Annotated[int, typer.Option("--k", "-k", help="Number of movies.", min=1, max=LARGEST_K, metavar="N")]
SecretOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the secret that every request must carry.", envvar="MARQUEE_SECRET_FILE", metavar="FILE"
    ),
]
ServerCaOption = Annotated[
    Path | None,
    typer.Option(
        help="Root certificate (PEM) that the server's certificate must chain to. Turns on TLS.",
        envvar="MARQUEE_CA",
        metavar="FILE",
    ),
]
ClientCertificateOption = Annotated[
    Path | None, typer.Option(help="This client's certificate (PEM), if the server asks for one.", metavar="FILE")
]
ClientKeyOption = Annotated[
    Path | None, typer.Option(help="The key of this client's certificate (PEM).", metavar="FILE")
]
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(
        help="Public key (Ed25519, PEM) to check the repository's signature with; an unsigned one is refused.",
        envvar="MARQUEE_VERIFY_KEY",
        metavar="FILE",
    ),
]
SignKeyOption = Annotated[
    Path | None,
    typer.Option(
        help="Private key (Ed25519, PEM) to sign the repository with.", envvar="MARQUEE_SIGN_KEY", metavar="FILE"
    ),
]
UrlOption = Annotated[
    str, typer.Option(help="host:port of Triton's gRPC endpoint.", envvar="MARQUEE_URL", metavar="URL")
]
UserOption = Annotated[str | None, typer.Option(help="User id.", metavar="ID")]
SeedsOption = Annotated[int, typer.Option("--seeds", help="Number of training seeds.", min=1, max=100, metavar="N")]
SplitsOption = Annotated[
    int,
    typer.Option(
        "--splits",
        help="Number of random splits, each judged with every seed: N times the trainings. A protocol whose split is "
        "not random keeps its one.",
        min=1,
        max=100,
        metavar="N",
    ),
]
PairOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--pair",
        help="Trains nothing: says of any two models in the results that are there which is better.",
        metavar="ONE OTHER",
    ),
]
RuntimeOption = Annotated[
    str,
    typer.Option(
        help=f"{listed(RUNTIME_NAMES)}. merlin is Merlin Systems' own runtime with the same models, for comparison: it "
        "unpickles what it serves, and has neither supervisor nor versions.",
        metavar="NAME",
    ),
]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Changes any setting of the model, such as network.dim=64. May be given several times.",
        metavar="KEY=VALUE",
    ),
]


# -- checks ------------------------------------------------------------------------------------------------------------


def check_choice(value: str, known: Sequence[str], what: str) -> str:
    """The value itself.

    Raises:
        UserError: it is not one of those known.
    """
    if value not in known:
        raise UserError(f"unknown {what} {value!r}; choose one of {', '.join(known)}")
    return value


def chosen_protocols(value: str) -> tuple[str, ...]:
    """The protocols that --protocol names: one, or a group.

    Raises:
        UserError: there is no such protocol.
    """
    check_choice(value, (*PROTOCOLS, *PROTOCOL_GROUPS), "protocol")
    return PROTOCOL_GROUPS.get(value, (value,))
