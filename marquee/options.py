"""The command line's options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ensemble.triton_models.limits import LARGEST_K

DEFAULT_RUNS = Path("runs")

DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset", "-d", help="ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m or ml-latest-small.", metavar="NAME"
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder or zip with the dataset's files. Without it: $MARQUEE_DATA/NAME, then a download."),
]
RunsOption = Annotated[Path, typer.Option(help="Where run folders are kept.", envvar="MARQUEE_RUNS")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]
DeviceOption = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda.", metavar="DEVICE")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        help="Threads that PyTorch may use. Without it: one where small batches gain nothing from more, else all.",
        min=1,
        max=1024,
        metavar="N",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="Of the products in training: float32, bfloat16, or auto (bfloat16 where the hardware has it).",
        metavar="NAME",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        help="Dask cluster for NVTabular: a scheduler's address, or `local`, which starts one with a worker per core "
        "(per GPU where there are GPUs). Without it, this process does it.",
        metavar="ADDRESS",
    ),
]
ProtocolOption = Annotated[
    str, typer.Option(help="leave-one-out, random-split, rating (stars), both (the first two), or all.", metavar="NAME")
]
ThresholdOption = Annotated[
    int,
    typer.Option(
        help="Users and movies with fewer training ratings than this share one embedding.", min=1, metavar="N"
    ),
]
EpochsOption = Annotated[int | None, typer.Option(help="At most so many epochs.", min=1, metavar="N")]
KOption = Annotated[int, typer.Option("--k", "-k", help="How many movies.", min=1, max=LARGEST_K, metavar="N")]
SecretOption = Annotated[
    Path | None,
    typer.Option(help="File with the secret that every request must carry.", envvar="MARQUEE_SECRET_FILE"),
]
ServerCaOption = Annotated[
    Path | None,
    typer.Option(help="Root certificate (PEM) that the server's must come from; asks with TLS.", envvar="MARQUEE_CA"),
]
ClientCertificateOption = Annotated[
    Path | None, typer.Option(help="This client's certificate (PEM), where the server asks for one.")
]
ClientKeyOption = Annotated[Path | None, typer.Option(help="The key of this client's certificate (PEM).")]
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(
        help="Public key (Ed25519, PEM) that the repository must be signed with.", envvar="MARQUEE_VERIFY_KEY"
    ),
]
SignKeyOption = Annotated[
    Path | None, typer.Option(help="Private key (Ed25519, PEM) to sign the repository with.", envvar="MARQUEE_SIGN_KEY")
]
UrlOption = Annotated[str, typer.Option(help="host:port of Triton's gRPC.", envvar="MARQUEE_URL")]
