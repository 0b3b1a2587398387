"""What a VILA-1.5 checkpoint is made of, read from its ``config.json``; what the released models are not is refused.

Source: github.com/NVlabs/VILA at commit ec7fb2c, the last of the 1.5 line, and Lin et al. 2023 (arXiv 2312.07533).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.known import override, restore
from pipeline.families.loading.checkpoint import Checkpoint, model_type, raw_config
from pipeline.families.loading.checkpoint import size as size_of
from pipeline.families.vila import NAMES

SIGLIP, INTERN_VIT = "SiglipVisionModel", "InternVisionModel"
_TOWERS = (SIGLIP, INTERN_VIT)
_SAME = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
"""Keys of InternViT's ``config.json`` that mean the same in transformers' class."""


@dataclass(frozen=True)
class VilaConfig:
    """The few numbers that decide a prompt's length and the way through the vision tower."""

    tower: str
    """``SiglipVisionModel`` (3B, 8B, 13B) or ``InternVisionModel`` (40B)."""
    image_size: int
    """Pixels of a side, to which every frame is scaled."""
    grid: int
    """Patches along a side."""
    layer: int
    """Whose output is used: 0 is the embeddings', 1 the first layer's, and so on."""
    drop_class_token: bool
    """Whether the first token is not a patch and left out."""
    context_tokens: int
    """Tokens of prompt and answer together; beyond it the authors' code cuts the prompt without a word."""
    yi: bool
    """Whether the language model is Yi-34B, whose tokenizer the authors open in another way."""

    @property
    def tokens_per_frame(self) -> int:
        """2 x 2 patches become one token; an odd grid is padded."""
        return math.ceil(self.grid / 2) ** 2


def read_config(checkpoint: Checkpoint) -> VilaConfig:
    """Only from ``config.json``.

    Raises:
        CheckpointError: it is another model, or one that is put together in another way than VILA-1.5.
    """
    model_type(checkpoint, NAMES)
    raw = raw_config(checkpoint)
    llm, tower, projector = (_part(raw, name, checkpoint) for name in ("llm", "vision_tower", "mm_projector"))
    named = tower.get("architectures")
    kind = str(named[0]) if isinstance(named, list) and named else ""
    if problem := _difference(raw, llm, kind, projector):
        raise _another(checkpoint, problem)
    size = size_of(tower, "image_size", 0, checkpoint.source)
    patch = size_of(tower, "patch_size", 14, checkpoint.source)
    resolution = raw.get("vision_resolution", -1)
    if resolution not in (None, -1, size):
        raise _another(checkpoint, f"vision_resolution is {resolution}, and the tower's {size}")
    feature = raw.get("mm_vision_select_feature", "patch")
    if feature not in ("patch", "cls_patch") or (feature == "patch") != (kind == INTERN_VIT):
        raise _another(checkpoint, f"mm_vision_select_feature is {feature!r} with a {kind}")
    layers = size_of(tower, "num_hidden_layers", 0, checkpoint.source)
    selected = raw.get("mm_vision_select_layer", -2)
    if not isinstance(selected, int) or not -layers - 1 <= selected <= layers:
        raise _another(checkpoint, f"mm_vision_select_layer is {selected!r}, and the tower has {layers} layers")
    return VilaConfig(
        tower=kind,
        image_size=size,
        grid=size // patch,
        layer=selected % (layers + 1),
        drop_class_token=feature == "patch",
        context_tokens=_context(llm, checkpoint.source),
        yi=(llm.get("num_hidden_layers"), llm.get("num_attention_heads")) == (60, 56),
    )


def check_grid(tower: Mapping[str, Any], config: VilaConfig, source: str) -> None:
    """Check that  a tower's own ``config.json`` is that of which the checkpoint's speaks.

    Raises:
        CheckpointError: a frame would have another number of tokens.
    """
    grid = size_of(tower, "image_size", 0, source) // size_of(tower, "patch_size", 14, source)
    if grid != config.grid:
        raise CheckpointError(
            f"{source} has {grid} x {grid} patches, and the config.json above it says {config.grid} x {config.grid}.",
            restore("the folder"),
        )


def intern_vit_config(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The arguments of ``InternVLVisionConfig`` for an ``InternVisionModel``'s ``config.json``.

    Raises:
        CheckpointError: it has something that the class in transformers has not.
    """
    absent = [name for name in _SAME if not isinstance(raw.get(name), int)]
    if absent:
        raise CheckpointError(f"config.json of {source} has no number for {', '.join(absent)}.", restore("the file"))
    eps = raw.get("layer_norm_eps", 1e-6)
    problems = {
        "a norm of queries and keys with another epsilon than 1e-6": raw.get("qk_normalization", True) and eps != 1e-6,
        "a norm of another kind than rms_norm": raw.get("norm_type", "rms_norm") != "rms_norm",
        "a bias in qkv": bool(raw.get("qkv_bias", False)),
    }
    if found := [problem for problem, here in problems.items() if here]:
        raise CheckpointError(
            f"The vision tower of {source} has {' and '.join(found)}, which InternViT-6B has not.", _REMEDY
        )
    return {
        **{name: raw[name] for name in _SAME},
        "use_qk_norm": raw.get("qk_normalization", True),
        "norm_type": "rms_norm",
        "attention_bias": False,
        "hidden_act": raw.get("hidden_act", "gelu"),
        "layer_norm_eps": eps,
        "use_mean_pooling": True,  # no norm behind the last layer
    }


def _part(raw: Mapping[str, Any], name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """What is said of a part: in ``config.json``, and where that is silent, in the part's own.

    A hub's checkpoint is described by the former alone, since the latter are not fetched yet.
    """
    told = raw.get(f"{name}_cfg")
    folder, own = checkpoint.folder, {}
    if folder is not None and (folder / name / "config.json").is_file():
        own = raw_config(replace(checkpoint, source=str(folder / name)))
    if not isinstance(told, dict) and not own:
        raise _another(checkpoint, f"config.json does not describe {name}_cfg")
    return {**own, **(told if isinstance(told, dict) else {})}


def _context(llm: Mapping[str, Any], source: str) -> int:
    keys = ("tokenizer_model_max_length", "model_max_length", "max_position_embeddings")
    return min((size_of(llm, key, 0, source) for key in keys if llm.get(key)), default=4096)


def _difference(raw: Mapping[str, Any], llm: Mapping[str, Any], tower: str, projector: Mapping[str, Any]) -> str:
    if tower not in _TOWERS:
        return f"the vision tower is {tower or 'not named'}, and VILA-1.5 has {' or '.join(_TOWERS)}"
    wanted: tuple[tuple[str, Any, Any], ...] = (
        ("llm_cfg.model_type", llm.get("model_type"), "llama"),
        ("mm_projector_cfg.mm_projector_type", projector.get("mm_projector_type"), "mlp_downsample"),
        ("image_aspect_ratio", raw.get("image_aspect_ratio"), "resize"),
        ("s2", raw.get("s2") or False, False),
        ("mm_use_im_start_end", raw.get("mm_use_im_start_end") or False, False),
        ("mm_use_im_patch_token", raw.get("mm_use_im_patch_token") or False, False),
    )
    return "; ".join(f"{name} is {found!r} and not {want!r}" for name, found, want in wanted if found != want)


_REMEDY = (
    f"Name a checkpoint of VILA-1.5, such as Efficient-Large-Model/VILA1.5-3b: {override('source')}. "
    "NVILA is another model."
)


def _another(checkpoint: Checkpoint, problem: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint.source} is not put together as VILA-1.5 is: {problem}.", _REMEDY)
