"""Frames and words as inputs of one checkpoint of Aria or GenS.

A frame is brought to 490 pixels on its longer side and put on a black square canvas: 128 tokens. GenS shrinks it first.
Source: ``inference.py`` and ``siglip_navit_490.py`` of the GenS authors (github.com/yaolinli/GenS). Their two resizes
are not one: the second stretches a 16:9 frame to 490 x 336, and starts from the rounded result of the first.

Aria's prompt has the images first, then a line break and the question: the model card and ``processing_aria.py`` of
github.com/rhymes-ai/Aria. The second before each image is ours; Aria itself is told of no times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, FramesError
from pipeline.families.aria import ARIA, CANVAS, NAMES, PATCH, YI_VL, aria_config
from pipeline.families.aria.tokenizer import IMAGE, ChunkTokenizer
from pipeline.families.chat import FrameLabels, labelled_images, render_chat, text
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type, raw_config, resolve
from pipeline.families.pixels import fixed_size
from pipeline.families.seam import FrameShape, Model, Opened, Pixels, Processor, Turn, Words

SHORTEST = 336
"""Pixels of the shorter side at least."""
_AROUND = 2  # fim_prefix and fim_suffix
_PATCHES = (CANVAS // PATCH) ** 2
_DEFAULTS: dict[str, Any] = {"image_token_index": 9, "projector_patch_to_query_dict": {"1225": 128, "4900": 256}}
"""What transformers takes for keys that are absent."""


@dataclass(frozen=True)
class AriaShape:
    """What ``config.json`` says of a checkpoint."""

    context_tokens: int
    """Tokens that prompt and answer may have together."""
    frame_tokens: int
    """Tokens of a frame on a canvas of 490 x 490 pixels."""
    image_token: int
    vocabulary: int


def shape_of(checkpoint: Checkpoint, names: Mapping[str, str]) -> AriaShape:
    """Read only from ``config.json``.

    Args:
        checkpoint: it.
        names: the model types that are meant.

    Raises:
        CheckpointError: it is another model, and which; or a value is missing.
    """
    is_yi_vl = model_type(checkpoint, names) == YI_VL
    raw = raw_config(checkpoint)
    try:
        config = aria_config(raw, checkpoint.source) if is_yi_vl else _DEFAULTS | raw
        queries = {int(patches): tokens for patches, tokens in config["projector_patch_to_query_dict"].items()}
        return AriaShape(
            context_tokens=config["text_config"]["max_position_embeddings"] if is_yi_vl else context_tokens(checkpoint),
            frame_tokens=int(queries[_PATCHES]),
            image_token=int(config["image_token_index"]),
            vocabulary=int(config["text_config"]["vocab_size"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"config.json of {checkpoint.source} is not Aria's: {error!r} is missing or no number.",
            restore("config.json of the checkpoint"),
        ) from error


@dataclass(frozen=True)
class AriaForm:
    """A label and an image for each frame, then the words in a line of their own."""

    labels: FrameLabels

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """In this order."""
        shown = labelled_images(self.labels, frames, words)
        content = [*shown, text(f"\n{words.text}")]
        return Turn(content, words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """128 each."""
        return [shape.tokens for shape in shapes]

    def text_tokens(self) -> int:
        """The label, and the marks around the image."""
        return self.labels.most_tokens() + _AROUND


@dataclass(frozen=True)
class AriaProcessor(Processor[AriaForm]):
    """One checkpoint's inputs, as Aria's own processor makes them."""

    tokenizer: ChunkTokenizer
    sizes: AriaShape

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, an image's placeholder among them."""
        return self.tokenizer.control_tokens

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has always the same number of tokens."""
        return ()

    @property
    def picture_token(self) -> int:
        """``<|img|>``."""
        return self.sizes.image_token

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """The shape of the whole canvas."""
        fixed_size(scale, "Aria")
        return FrameShape(CANVAS, CANVAS, _PATCHES, self.sizes.frame_tokens)

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """The part of the canvas that the frame covers."""
        return fitted(pixels)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames are put on one canvas."""
        return f"images on {CANVAS} x {CANVAS} pixels; time: {self.form.labels.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """The whole prompt is tokenised in one piece."""
        ids = self.tokenizer.whole(render_chat(self.tokenizer, turn.content, turn.system, turn.begun))
        if (images := ids.count(self.picture_token)) != len(pictures):
            raise _images_differ(images, len(pictures))
        return [copy for token in ids for copy in [token] * (self._repeats(token))]

    def _repeats(self, token: int) -> int:
        return self.sizes.frame_tokens if token == self.picture_token else 1


@dataclass(frozen=True)
class GensProcessor(AriaProcessor):
    """As the authors of GenS make them: every piece of the prompt between two images is tokenised by itself."""

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """By the authors' two resizes."""
        return shrink(pixels)

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """The pieces, with the images between them."""
        first, *others = self.tokenizer(render_chat(self.tokenizer, turn.content, turn.system, turn.begun))
        if len(others) != len(pictures):
            raise _images_differ(len(others), len(pictures))
        ids = list(first)
        for tokens, chunk in zip(pictures, others, strict=True):
            ids += [self.picture_token] * tokens + chunk
        return ids


@dataclass(frozen=True)
class Canvas:
    """For a sampler on Aria or GenS: 490 x 490 pixels. A frame covers 490 x 336 at least, and the rest is black."""

    pixel_mask: Literal["none", "auto"]
    """``auto`` tells the vision tower which pixels are the frame's. The released code makes that mask and does not use
    it, so ``none`` is what it computes; nobody has published which of them the weights were trained with."""

    @property
    def tokens(self) -> int:
        """As many on every canvas of this size."""
        return 128

    @property
    def smaller(self) -> str:
        """There is no smaller canvas."""
        return ""

    def context_tokens(self, checkpoint: Checkpoint) -> int:
        """Positions for prompt and answer together, by ``config.json``.

        Raises:
            CheckpointError: it is another model, or does not say.
        """
        return shape_of(checkpoint, NAMES).context_tokens

    def opened(self, checkpoint: Checkpoint) -> Opened[GensProcessor]:
        """The family's two objects.

        Raises:
            CheckpointError: it is another model, or a file is missing.
        """
        form = AriaForm(FrameLabels("", ""))
        sizes = shape_of(checkpoint, NAMES)
        tokenizer = open_tokenizer(checkpoint, sizes)
        processor = GensProcessor(tokenizer, sizes.context_tokens, form, sizes)

        def load() -> Model:
            from pipeline.families.aria.model import load_gens

            return load_gens(checkpoint, masks=self.pixel_mask == "auto")

        return Opened(processor, load)

    def check(self, checkpoint: Checkpoint) -> None:
        """Check by its ``config.json`` that a checkpoint takes frames of this form.

        Raises:
            CheckpointError: it is another model.
        """
        model_type(checkpoint, NAMES)


def open_processor(checkpoint: Checkpoint, labels: FrameLabels) -> AriaProcessor:
    """Read the tokenizer of Aria as its authors released it; no weights.

    Raises:
        CheckpointError: it is another model, or a file is missing.
    """
    sizes = shape_of(checkpoint, {ARIA: NAMES[ARIA]})  # says what another model is, before its files are taken for it
    return AriaProcessor(open_tokenizer(checkpoint, sizes), sizes.context_tokens, AriaForm(labels), sizes)


def open_tokenizer(checkpoint: Checkpoint, sizes: AriaShape) -> ChunkTokenizer:
    """The tokenizer that the authors' processor runs: SentencePiece, as transformers' slow tokenizer of version 4.

    Raises:
        CheckpointError: its files are missing, or belong to another model.
    """
    tokenizer = ChunkTokenizer(resolve(checkpoint), sizes.vocabulary)
    if tokenizer.image_token != sizes.image_token:
        raise CheckpointError(
            f"{IMAGE} is token {tokenizer.image_token} of tokenizer.model, and config.json of {checkpoint.source} has "
            f"image_token_index={sizes.image_token}.",
            restore("config.json and tokenizer.model of the checkpoint"),
        )
    return tokenizer


def shrink(pixels: Pixels) -> Pixels:
    """A frame as it is put on the canvas.

    Args:
        pixels: RGB ``[height, width, 3]`` of any size.

    Returns:
        RGB; the longer side has 490 pixels, the shorter 336 to 490.

    Raises:
        FramesError: one side is more than 490 times the other.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) > CANVAS:
        ratio = min(CANVAS / image.width, CANVAS / image.height)
        size = int(image.width * ratio), int(image.height * ratio)
        if min(size) < 1:
            raise FramesError(
                f"A frame of {image.height} x {image.width} pixels is too long a strip for GenS.",
                "Take another sampler=NAME for it, or the video out of the questions.",
            )
        image = image.resize(size, Image.Resampling.BICUBIC)
    return fitted(np.asarray(image))


def fitted(pixels: Pixels) -> Pixels:
    """A frame as Aria's own processor puts it on the canvas: in one resize.

    Args:
        pixels: RGB ``[height, width, 3]`` of any size.

    Returns:
        RGB; the longer side has 490 pixels, the shorter 336 to 490.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = CANVAS / max(image.size)
    if image.width >= image.height:
        size = CANVAS, max(int(image.height * scale), SHORTEST)
    else:
        size = max(int(image.width * scale), SHORTEST), CANVAS
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _images_differ(images: int, frames: int) -> CheckpointError:
    return CheckpointError(
        f"The prompt holds {IMAGE} {images} times for {frames} frames.",
        f"Leave {IMAGE} out of the prompt texts in the YAML. {restore('the chat template of the checkpoint')}",
    )
