"""Networks as ONNX, beside the tables of rows that they look up."""

import io
import logging
import warnings
from inspect import signature
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ensemble.triton_models.files import network_file, rows_file
from models.cut import Cut
from workflows.features.vocabulary import OUT_OF_VOCABULARY

OPSET = 17


def write_network(name: str, cut: Cut, folder: Path, *, one_user: bool) -> None:
    """Writes a network's tables and its head.

    Args:
        one_user: whether the head is for a single row of users with all movies, or for pairs.
    """
    tables = {"user": cut.users, "vector": cut.vectors, "hidden": cut.hidden}
    for kind, rows in tables.items():
        np.save(folder / rows_file(name, kind), rows)
    head = cut.head.for_one_user() if one_user else cut.head
    example = {kind: rows[: 1 if one_user and kind == "user" else 2] for kind, rows in tables.items()}
    write_onnx(head, example, folder / network_file(name))


def write_encoder(encoder: nn.Module, path: Path) -> None:
    """Writes what reads a user's row from a list of movies: `movies` int64 [1, m] to `user` float32 [1, width]."""
    example = np.full((1, 3), OUT_OF_VOCABULARY)
    _write(encoder, {"movies": example}, path, "user", {"movies": {1: "m"}})


def write_onnx(network: nn.Module, inputs: dict[str, np.ndarray], path: Path) -> None:
    """Writes a network as ONNX, with inputs like these of any number of rows: it runs without training code."""
    axes = {name: {0: "users" if name == "user" else "n"} for name in (*inputs, "score")}
    _write(network, inputs, path, "score", axes)


def _write(
    network: nn.Module, inputs: dict[str, np.ndarray], path: Path, output: str, axes: dict[str, dict[int, str]]
) -> None:
    buffer = io.BytesIO()
    # The newer exporter cannot trace all of Merlin's blocks; PyTorch before 2.5, as in Merlin's image, has no other.
    tracing = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so at length
        torch.onnx.export(
            network,
            tuple(torch.from_numpy(rows) for rows in inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=OPSET,
            **tracing,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
