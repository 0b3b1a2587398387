"""Frames and words as inputs of one VILA-1.5 checkpoint. Each frame of any shape is scaled to a square.

Source: ``process_image`` in ``mm_utils.py`` (``image_aspect_ratio: resize``) and ``intern_encoder.py`` of
github.com/NVlabs/VILA at commit ec7fb2c; ``SiglipImageProcessor`` of transformers 4.37. The order of the arithmetic is
theirs, so that the pixels are equal to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import text
from pipeline.families.known import restore
from pipeline.families.labels import ORDER_ALONE, FrameLabels, labelled_images
from pipeline.families.loading.checkpoint import Checkpoint, resolve
from pipeline.families.pixels import bicubic, fixed_size, levels_of
from pipeline.families.seam import FrameShape, Pixels, Processor, Turn, Words
from pipeline.families.vila.config import INTERN_VIT, VilaConfig
from pipeline.families.vila.tokenizer import IMAGE, ConversationName, VilaTokens

IMAGE_ID = -200
"""Stands for each token of a frame among the ids of a prompt; the authors' number, no token's own."""
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = levels_of(
            lambda image: (image * raw["rescale_factor"]).astype(np.float32),
            lambda image: _normalised(image, raw["image_mean"], raw["image_std"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has no readable image settings: {error!r}", remedy) from error
    square = {"height": config.image_size, "width": config.image_size}
    if raw.get("size") != square:
        raise CheckpointError(f"{path} scales images to {raw.get('size')}, and the tower takes {square}.", remedy)
    return found


def _normalised(image: npt.NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """``[3, height, width]``."""
    middle, spread = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    return (image - middle) / spread
