"""What `similar` compares movies by: what was learned of each, beside its features."""

import numpy as np

from models.cut import Cut
from models.data.features import Features
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature
from workflows.features.vocabulary import FIRST_INDEX

LEARNED_SHARE = 0.5  # of a movie's vector, for movies that have learned anything


def similar_vectors(cut: Cut, features: Features) -> np.ndarray:
    """float32 [movies of the catalogue, dims], of length 1.

    A movie's learned embedding beside its features as they are weighed for this (genres and year); one that has learned
    nothing has its features alone.
    """
    learned = cut.embeddings[FIRST_INDEX:] - cut.embeddings[FIRST_INDEX : features.movie_embeddings].mean(axis=0)
    learned[features.movie_embeddings - FIRST_INDEX :] = 0
    parts = LEARNED_SHARE**0.5 * _unit(learned), (1 - LEARNED_SHARE) ** 0.5 * _unit(_content(features))
    return np.ascontiguousarray(_unit(np.concatenate(parts, axis=1)), np.float32)


def _content(features: Features) -> np.ndarray:
    """The features that count, float32 [movies of the catalogue, columns], each weighed as it says."""
    table = features.side.movie_features[FIRST_INDEX:].numpy()
    parts, start = [table[:, :0]], 0
    for name, columns in features.side.movie_columns.items():
        values = table[:, start : start + len(columns)]
        start += len(columns)
        feature = SIDE_FEATURES[name]
        if isinstance(feature, MovieFeature) and feature.weight:
            parts.append(feature.weight * (_unit(values) if feature.unit else values))
    return np.concatenate(parts, axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
