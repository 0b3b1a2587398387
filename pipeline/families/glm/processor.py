"""Frames and words as inputs of one GLM-4.6V checkpoint.

Sources: ``processing_glm46v.py`` and ``image_processing_pil_glm46v.py`` of transformers 5.24; the chat template is the
checkpoint's. A token is 28 x 28 pixels. The type's limits of pixels count both frames of a patch in time; those here
count one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import (
    IMAGE,
    FrameLabels,
    check_placeholder,
    labelled_images,
    load_tokenizer,
    render_chat,
    special_tokens,
    text,
    variables_read,
)
from pipeline.families.glm import GLM46V, NAMES
from pipeline.families.known import override, restore
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type, raw_config, settings_folder
from pipeline.families.pixels import (
    MERGE,
    FrameScale,
    ScaledProcessor,
    check_patches,
    read_image_processor,
    stock_levels,
)
from pipeline.families.seam import FrameShape, Opened, Turn, Words
from pipeline.families.thinking import Switch, ThinkingSettings, switch_of
from pipeline.wellformed import loaded_object

IMAGE_TOKEN = "<|image|>"
"""Stands for frames of a video, too."""
VIDEO_TOKEN = "<|video|>"
_VIDEO_BEGIN, _VIDEO_END = "<|begin_of_video|>", "<|end_of_video|>"
_READ_AS_MARKS = (IMAGE_TOKEN, VIDEO_TOKEN, "<|begin_of_box|>", "<|end_of_box|>", "/nothink")
"""Not all of them are control tokens in every checkpoint."""
_PLACEHOLDER_KEY, _RELEASED = "image_token_id", 151343
"""A key of ``config.json``, and what its absence means."""
_AROUND = 2  # the marks around an image
_LATE = 99999.9  # seconds; the longest time text counts in the limits
_PATCH = FrameScale.unit // MERGE


class GlmScale(FrameScale):
    """Frames that are narrower than a token are enlarged first."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """As the type's ``smart_resize``."""
        if min(height, width) < self.unit:
            enlarge = max(self.unit / height, self.unit / width)
            height, width = int(height * enlarge), int(width * enlarge)
        return super().size(height, width)


class GlmForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels."""
        ...

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The user's turn: the frames in order of time, then the words."""
        ...

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Tokens of each picture of the turn."""
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Every frame an image, with its second in text before it."""

    labels: FrameLabels

    kind: ClassVar[str] = "images"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label, and the marks around the image."""
        return self.labels.most_tokens() + _AROUND

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """A label, an image and what goes after it, for each frame."""
        shown = labelled_images(self.labels, frames, words)
        return Turn([*shown, text(words.text)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Frames may differ in size."""
        return [shape.tokens for shape in shapes]


@dataclass(frozen=True)
class VideoForm:
    """One video, with the second of each frame in text after it, as in the model's training.

    The type puts two frames into a patch and tells the time of the first alone. So each frame fills a patch by itself,
    as if the video showed it twice. To the model that is what an image is: the vision tower sees the same pixels, and
    the positions are the same.
    """

    kind: ClassVar[str] = "video"

    def time_told(self) -> str:
        """The same for all checkpoints."""
        return f"text after each frame of the video: {_time_text(12.5)!r}"

    def text_tokens(self) -> int:
        """The time and the marks around a frame; a byte-level tokenizer makes no more than one token of a byte."""
        return len(_time_text(_LATE).encode()) + _AROUND

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The marks of a video, and in them frames and seconds."""
        shown = (part for frame in frames for part in (IMAGE, text(_time_text(frame.time))))
        content = [text(_VIDEO_BEGIN), *shown, text(_VIDEO_END), text(words.in_one)]
        return Turn(content, words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Each frame is written by itself."""
        return [shape.tokens for shape in shapes]


@dataclass(frozen=True)
class GlmProcessor(ScaledProcessor[GlmForm]):
    """One checkpoint's inputs, in one form."""

    switch: Switch
    """How thinking stands in the prompts."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, the marks of a picture and a box, and the word that switches thoughts off."""
        return tuple(sorted({*special_tokens(self.tokenizer), *_READ_AS_MARKS}))

    @property
    def placeholders(self) -> tuple[str, str]:
        """Frames of a video are written as images."""
        return IMAGE_TOKEN, VIDEO_TOKEN

    @property
    def variables(self) -> Mapping[str, Any]:
        """Those of the switch."""
        return self.switch.variables

    def describe(self, frames: Sequence[Frame]) -> str:
        """With the size of the first frame as the model sees it, and what was decided about thinking."""
        return f"{self.form.kind}{self.size_text(frames)}; time: {self.form.time_told()}; {self.switch.told}"


def open_processor(
    checkpoint: Checkpoint, scale: FrameScale, form: GlmForm, system: str | None, thinking: ThinkingSettings
) -> GlmProcessor:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: it is another model, or a file is missing or does not go with the others; or its template
            cannot do what ``thinking`` wants.
        ConfigError: its own video does not tell the seconds in the way of ``form``.
    """
    kind = model_type(checkpoint, NAMES)
    folder, context = settings_folder(checkpoint), context_tokens(checkpoint)
    tokenizer = load_tokenizer(folder)
    named = raw_config(checkpoint).get(_PLACEHOLDER_KEY, _RELEASED)
    check_placeholder(tokenizer, IMAGE_TOKEN, _PLACEHOLDER_KEY, named, checkpoint.source)
    if isinstance(form, VideoForm):
        _check_video(folder, kind, checkpoint.source)
    levels = stock_levels(_load_image_processor(folder), folder)

    def render(variables: Mapping[str, Any]) -> str:
        return render_chat(tokenizer, [text("?")], system, variables=variables)

    render({})  # says that there is no template
    switch = switch_of(thinking, variables_read(tokenizer.chat_template), render, checkpoint.source)
    return GlmProcessor(tokenizer, context, form, kind, scale, levels, system, switch)


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[GlmProcessor]:
    """For a sampler that shows one frame at a time, in its own shape, as an image.

    Raises:
        CheckpointError: a file is missing, or is another model's; or the model always thinks first.
        ConfigError: ``max_pixels``, the largest area of a frame, is less than one token.
    """
    from pipeline.families.glm.model import load_glm

    scale, form = GlmScale.up_to(max_pixels), ImagesForm(FrameLabels("", ""))
    # What is read off is the first token of a reply.
    remedy = f"Name one that can answer at once: {override('source', 'zai-org/GLM-4.6V-Flash')}."
    processor = open_processor(checkpoint, scale, form, None, ThinkingSettings("never", None, 1, remedy))
    return Opened(processor, lambda: load_glm(checkpoint, processor))


def _check_video(folder: Path, kind: str, source: str) -> None:
    """Check that tenths of seconds stand in the checkpoint's own video: GLM-4.1V and GLM-4.5V have whole seconds.

    Raises:
        ConfigError: they do not.
    """
    named = set()
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                settings = loaded_object((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{folder / name} cannot be read: {error}", restore("the folder")) from error
            named.add(settings.get("processor_class"))
    if kind != GLM46V and "Glm46VProcessor" not in named:
        raise ConfigError(
            f"answerer.form=video: the video of {source} is not that of GLM-4.6V, which tells tenths of seconds.",
            "Show the frames as images with a label: answerer.form=images",
        )


def _load_image_processor(folder: Path) -> Any:
    """The checkpoint's image processor in its PIL form.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or cuts other patches than this family does.
    """
    from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil

    processor = read_image_processor(Glm46VImageProcessorPil, folder)
    check_patches(processor, _PATCH, folder)
    return processor


def _time_text(seconds: float) -> str:
    return f"{seconds:.1f} seconds"
