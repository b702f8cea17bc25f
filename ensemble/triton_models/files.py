"""The names of the files in a Triton model's folder, and the code among them."""

import shutil
from pathlib import Path

CONFIG = "config.pbtxt"
MODEL_CODE = "model.py"  # what Triton loads
PACKAGE = "marquee_serving"  # the copy of this package beside it
SERVING = "serving.json"
SAMPLE = "sample.json"  # answers of the trained networks, for later checks
TITLES = "titles.parquet"  # movie_id, title and year of the catalogue
MODEL_CARD = "model_card.md"
MODEL_CARD_IN_FRONT = "MODEL_CARD.md"  # in the repository itself: that of the version that serves
OF_ALL = "score"  # the model whose folder holds what is about all models: the sample, the titles and the card
RATED = "rated.npy"
RATED_STARTS = "rated_starts.npy"
SIMILAR_VECTORS = "similar.npy"


def vocabulary_file(name: str) -> str:
    """The vocabulary of `user_id` or `movie_id`."""
    return f"{name}.parquet"


def rows_file(model: str, kind: str) -> str:
    """A network's rows of one kind: `user`, `vector` or `hidden`."""
    return f"{model}.{kind}.npy"


def network_file(model: str) -> str:
    """A network's head."""
    return f"{model}.onnx"


def newcomers_file(model: str) -> str:
    """What gives someone unknown a row of a network's users."""
    return f"{model}.newcomers.npz"


def encoder_file(model: str) -> str:
    """The network that reads such a row from a list of movies; there where the model has one, in the place of those."""
    return f"{model}.encoder.onnx"


def retrieval_network_file(model: str) -> str:
    """The first of two stages before a network."""
    return f"{model}.retrieval.onnx"


def retrieval_vectors_file(model: str) -> str:
    """The catalogue's vectors for that first stage."""
    return f"{model}.retrieval.npy"


def write_code(folder: Path, model: str) -> None:
    """Writes a Triton model's code into its version folder.

    Args:
        folder: `<model>/<version>/`, which exists.
        model: `scorer`, `recommend` or `similar`.
    """
    package = folder / PACKAGE
    package.mkdir()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        shutil.copy(source, package / source.name)
    (folder / MODEL_CODE).write_text(
        f'"""Triton\'s `{model}`."""\n\n'
        f"from {PACKAGE}.{model} import TritonPythonModel\n\n"
        '__all__ = ["TritonPythonModel"]\n',
        encoding="utf-8",
    )
