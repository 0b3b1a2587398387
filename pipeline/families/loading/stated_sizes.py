"""Whether the sizes of a model's configuration are those of its weights, seen before anything is allocated.

A size that ``config.json`` leaves out is the default of transformers' class. Where that is another one than the weights
have, the class makes tensors of its own, of billions of random numbers, before it finds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.loading.remedies import restore

_EMBEDDINGS = "embed_tokens.weight"
_DOWN = {"down_proj.weight": 1, "experts.fc2.weight": 1}
"""The last linear layer of an MLP, and of Aria's experts ``[experts, inner, outer]``, with the axis of its input."""
_PATCHES = "embeddings.patch_embedding.weight"


def check_sizes(config: Any, raw: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """See that the language model and the vision tower are as wide and as deep as their tensors.

    Args:
        config: transformers' configuration, in which every size has a value.
        raw: ``config.json``.
        shapes: of the tensors, by name.
        source: of the checkpoint, for the error.

    Raises:
        CheckpointError: they are not; the message names the key.
    """
    parts = [
        (config.get_text_config(), _of_text(shapes)),
        (getattr(config, "vision_config", config), _of_vision(shapes)),
    ]
    for part, sizes in parts:
        for key, stored in sizes:
            configured = getattr(part, key, stored)
            if configured != stored:
                says = f"says {key}={configured!r}" if _states(raw, key) else f"does not say {key}"
                raise CheckpointError(
                    f"config.json of {source} {says}, and its tensors have {stored}.",
                    restore("config.json of the checkpoint"),
                )


def _of_text(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    """Sizes of a language model by the key of each; none of a model whose tensors have other names."""
    name = next((name for name in shapes if name.endswith(_EMBEDDINGS)), None)
    if name is None:
        return
    yield "hidden_size", shapes[name][-1]
    layer = re.compile(re.escape(name.removesuffix(_EMBEDDINGS)) + r"layers\.([0-9]+)\.")
    numbers = {int(found[1]) for found in map(layer.match, shapes) if found}
    if numbers:
        yield "num_hidden_layers", max(numbers) + 1
    for last, axis in _DOWN.items():
        down = f"{name.removesuffix(_EMBEDDINGS)}layers.0.mlp.{last}"
        if down in shapes:
            yield "intermediate_size", shapes[down][axis]


def _of_vision(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    name = next((name for name in shapes if name.endswith(_PATCHES)), None)
    if name is not None:
        yield "hidden_size", shapes[name][0]


def _states(raw: Mapping[str, Any], key: str) -> bool:
    return key in raw or any(isinstance(part, Mapping) and key in part for part in raw.values())
