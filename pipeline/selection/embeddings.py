"""The embeddings of a curve's candidates, for policies that compare the frames with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artefacts.features import FeatureStore
from pipeline.errors import ConfigError, InputError
from pipeline.selection.choice import Curve, Floats

_SAME_MOMENT = 1e-3
"""Seconds; times that went through a file may have lost some digits."""


def key_of(features: str | None) -> str:
    """The key of a sampler's embeddings.

    Raises:
        ConfigError: it keeps none, so the policy cannot be used with it.
    """
    if features is None:
        raise ConfigError(
            "this policy compares the frames with each other, and the sampler kept no embeddings of them",
            "take a sampler that does, such as sampler=clip, or a policy that needs scores alone: selection=aks",
        )
    return features


def embeddings(curve: Curve, feature_store: str) -> Floats:
    """``[candidates, dimensions]``, parallel to the curve, each of unit length.

    Args:
        curve: names the embeddings that its sampler kept.
        feature_store: the folder in which they are.

    Raises:
        ConfigError: the sampler keeps none.
        InputError: they are missing, or are not those of the candidates.
    """
    key = key_of(curve.features)
    found = FeatureStore(Path(feature_store)).find(key)
    if found is None:
        raise InputError(
            f"the scores are kept in {feature_store}, but the embeddings of the frames, {key}, are missing",
            "compute both again: paths.cache=ANOTHER_FOLDER",
        )
    moments = np.asarray(found.times, dtype=np.float64)
    places = np.minimum(np.searchsorted(moments, curve.times - _SAME_MOMENT), len(moments) - 1)
    if not len(moments) or np.any(np.abs(moments[places] - curve.times) > _SAME_MOMENT):
        raise InputError(
            f"the embeddings {key} are of other moments than the scores",
            "compute both again: paths.cache=ANOTHER_FOLDER",
        )
    vectors = found.vectors[places].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.where(lengths > 0, lengths, 1.0)
    return unit
