"""A VILA-1.5 checkpoint's ``config.json``, and frames and words as its inputs.

Source: github.com/NVlabs/VILA at commit ec7fb2c, the last of the 1.5 line, and Lin et al. 2023 (arXiv 2312.07533). What
the released models are not is refused.

Each frame of any shape is scaled to a square: ``process_image`` in ``mm_utils.py`` (``image_aspect_ratio: resize``) and
``intern_encoder.py`` of that commit; ``SiglipImageProcessor`` of transformers 4.37. The order of the arithmetic is
theirs, so that the pixels are equal to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import ORDER_ALONE, FrameLabels, labelled_images, text
from pipeline.families.known import override, restore
from pipeline.families.loading.checkpoint import Checkpoint, model_type, raw_config, resolve
from pipeline.families.loading.checkpoint import size as size_of
from pipeline.families.pixels import bicubic, fixed_size, levels_of
from pipeline.families.seam import FrameShape, Pixels, Processor, Turn, Words
from pipeline.families.vila import NAMES
from pipeline.families.vila.tokenizer import IMAGE, ConversationName, VilaTokens
from pipeline.wellformed import loaded_object

SIGLIP, INTERN_VIT = "SiglipVisionModel", "InternVisionModel"
_TOWERS = (SIGLIP, INTERN_VIT)
_SAME = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
"""Keys of InternViT's ``config.json`` that mean the same in transformers' class."""


IMAGE_ID = -200
"""Stands for each token of a frame among the ids of a prompt; the authors' number, no token's own."""
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    """Check that a tower's own ``config.json`` is that of which the checkpoint's speaks.

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
        "use_mean_pooling": True,  # no norm after the last layer
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


@dataclass(frozen=True)
class VilaForm:
    """How frames and their times are put to the model."""

    kind: str
    """Its name in the settings."""
    labels: FrameLabels

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        return self.labels.time_told() if self.kind == "images" else ORDER_ALONE

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels; one for the word's beginning."""
        return self.labels.most_tokens() + 1

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """A label and an image for each frame, then the words."""
        shown = labelled_images(self.labels, frames, words)
        return Turn([*shown, text(words.text)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """As many each."""
        return [shape.tokens for shape in shapes]


@dataclass(frozen=True)
class VilaProcessor(Processor[VilaForm]):
    """One checkpoint's inputs."""

    tokenizer: VilaTokens
    config: VilaConfig
    levels: npt.NDArray[np.float32]
    """``[3, 256]``: normalised grey levels."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholder of frames, and what the tokenizer reads as one token."""
        return self.tokenizer.markup

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has one size; only its label can go."""
        return ()

    @property
    def picture_token(self) -> int:
        """:data:`IMAGE_ID`."""
        return IMAGE_ID

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """All frames have the vision tower's size."""
        fixed_size(scale, "VILA-1.5")
        side = self.config.image_size
        return FrameShape(side, side, self.config.grid**2, self.config.tokens_per_frame)

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """To a square, its proportions given up."""
        return bicubic(pixels, shape)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        side, conversation = self.config.image_size, self.tokenizer.conversation.name
        return f"{self.form.kind} of {side} x {side} pixels in {conversation}; time: {self.form.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """The pieces between the frames, each tokenised by itself."""
        whole = "".join(IMAGE if part["type"] == "image" else part["text"] for part in turn.content)
        if whole.count(IMAGE) != len(pictures):
            raise ConfigError(
                f"The prompt holds {IMAGE} {whole.count(IMAGE)} times for {len(pictures)} frames.",
                f"Take {IMAGE} out of the prompt texts in the YAML: it is written for each frame.",
            )
        return self.tokenizer.ids(whole, [IMAGE_ID] * self.config.tokens_per_frame, turn.system, turn.begun)


def open_processor(
    checkpoint: Checkpoint, config: VilaConfig, form: VilaForm, conversation: ConversationName
) -> VilaProcessor:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: a file is missing, or its settings are not those of the model.
        ConfigError: the conversation is not one of this checkpoint.
    """
    folder = resolve(checkpoint)
    tokenizer = VilaTokens.open(folder / "llm", conversation, config.yi)
    levels = _levels(folder / "vision_tower", config)
    return VilaProcessor(tokenizer, config.context_tokens, form, config, levels)


def _levels(folder: Path, config: VilaConfig) -> npt.NDArray[np.float32]:
    """By the image settings of the tower in ``folder``. For InternViT they are in the authors' code.

    Raises:
        CheckpointError: the settings are missing, or not the tower's.
    """
    if config.tower == INTERN_VIT:
        return levels_of(
            lambda image: image.astype(np.float32) / np.float32(255),
            lambda image: _normalised(image, _IMAGENET_MEAN, _IMAGENET_STD),
        )
    path = folder / "preprocessor_config.json"
    remedy = restore("the files of the checkpoint")
    try:
        raw: dict[str, Any] = loaded_object(path.read_text(encoding="utf-8"))
        found = levels_of(
            lambda image: (image * raw["rescale_factor"]).astype(np.float32),
            lambda image: _normalised(image, raw["image_mean"], raw["image_std"]),
        )
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{path} has no readable image settings: {error!r}", remedy) from error
    square = {"height": config.image_size, "width": config.image_size}
    if raw.get("size") != square:
        raise CheckpointError(f"{path} scales images to {raw.get('size')}, and the tower takes {square}.", remedy)
    return found


def _normalised(image: npt.NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """``[3, height, width]``."""
    middle, spread = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    return (image - middle) / spread
