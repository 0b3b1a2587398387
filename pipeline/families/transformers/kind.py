"""Which model a checkpoint is, by ``config.json`` alone, and whether transformers loads it as a multimodal model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.known import known_model
from pipeline.families.loading.checkpoint import Checkpoint, raw_config

_LOG = logging.getLogger(__name__)

_SERVER = "answerer=vllm answerer.model={source}"

_SEES_BOTH_WAYS = ("gemma3", "gemma4", "molmo2")
"""Tokens of a picture see each other in both directions, by a mask that flash attention drops. Transformers 5.24
refuses it for these; 5.23 does not."""

_PICTURE_TOKENS = ("image_token_id", "image_token_index", "video_token_id")


@dataclass(frozen=True)
class Kind:
    """A type of model that transformers loads by itself."""

    model_type: str
    class_name: str
    """The class of transformers that is loaded."""
    context_tokens: int
    """Tokens of prompt, thought and answer together."""
    takes_flash_attention: bool
    """Gemma's and Molmo's classes do not: it would drop the mask over image tokens."""
    picture_tokens: Mapping[str, int]
    """The tokens of pictures, by their keys in ``config.json``; empty where it does not say."""


def kind_of(checkpoint: Checkpoint) -> Kind:
    """What the checkpoint is.

    Raises:
        CheckpointError: it needs code of its authors, reads no pictures, or is unknown to the installed transformers.
    """
    raw = raw_config(checkpoint)
    config, model_class = _class_of(raw, checkpoint.source)
    named = [str(name) for name in raw.get("architectures") or ()]
    if named and model_class.__name__ not in named:
        raise CheckpointError(
            f"config.json of {checkpoint.source} says that its class is {named[0]}, and transformers loads its "
            f"model_type {config.model_type} as {model_class.__name__}.",
            "Restore config.json of the checkpoint: one of the two is wrong.",
        )
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(context, int) or context < 1:
        raise CheckpointError(
            f"config.json of {checkpoint.source} does not say how many tokens its model takes "
            "(max_position_embeddings of its text model).",
            "Restore config.json of the checkpoint, or add the number.",
        )
    flash = bool(getattr(model_class, "_supports_flash_attn", False)) and str(config.model_type) not in _SEES_BOTH_WAYS
    numbers = {key: getattr(config, key, None) for key in _PICTURE_TOKENS}
    pictures = {key: number for key, number in numbers.items() if isinstance(number, int)}
    if "image_token_index" in raw:
        pictures.pop("image_token_id", None)  # to most classes another name of it
    return Kind(str(config.model_type), model_class.__name__, context, flash, pictures)


def class_of(checkpoint: Checkpoint) -> Any:
    """The class of transformers that loads the checkpoint.

    Raises:
        CheckpointError: as :func:`kind_of`.
    """
    return _class_of(raw_config(checkpoint), checkpoint.source)[1]


def _class_of(raw: Mapping[str, Any], source: str) -> tuple[Any, Any]:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise _not_native(raw, source)
    try:
        config = CONFIG_MAPPING[model_type].from_dict(dict(raw))
    except Exception as error:  # each config class checks in its own way
        raise CheckpointError(
            f"config.json of {source} describes no {model_type}: {error}.", "Restore config.json of the checkpoint."
        ) from error
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return config, MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    reads_text = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    raise CheckpointError(
        f"{source} is a {'text model' if reads_text else 'model without text output'} (model_type {model_type}): "
        "it takes no pictures.",
        "Name a checkpoint that does, such as answerer.checkpoint.source=Qwen/Qwen3.5-4B",
    )


def _not_native(raw: Mapping[str, Any], source: str) -> CheckpointError:
    import transformers

    model_type, family = raw.get("model_type"), known_model(raw)
    if family is not None and family.instead is None:
        return CheckpointError(
            f"transformers does not load {source} by itself (model_type {model_type}); it is {family.name}.",
            f"It has a family of its own here: {family.choices[0]} answerer.checkpoint.source={source}",
        )
    if raw.get("auto_map"):
        return CheckpointError(
            f"{source} (model_type {model_type}) needs its authors' code, which is not run.",
            f"Ask a server that runs it: {_SERVER.format(source=source)}; or name a checkpoint in transformers' own "
            "form, often one whose name ends in -hf.",
        )
    return CheckpointError(
        f"transformers {transformers.__version__} does not know the model_type {model_type!r} of {source}.",
        "Install a newer one (pip install -U transformers), or ask a server that runs it: "
        f"{_SERVER.format(source=source)}.",
    )


@lru_cache(maxsize=64)
def tell_of_family(source: str, model_type: str) -> None:
    """Say once that this project has a family for the type: it prepares frames in the way its authors did."""
    family = known_model({"model_type": model_type})
    choice = next((each for each in family.choices if each.startswith("answerer=")), None) if family else None
    if family is not None and choice is not None:
        _LOG.warning(
            "%s is %s, which has a family of its own here: %s answerer.checkpoint.source=%s. answerer=transformers "
            "goes on with the checkpoint's own processor.",
            source,
            family.name,
            choice,
            source,
        )
