"""The two forms in which LLaVA-OneVision takes the frames of a video, and what each costs and tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.prompts import Words
from pipeline.answerers.time_instruction import TimeSentence
from pipeline.domain import Frame
from pipeline.models.chat import VIDEO, Content, text
from pipeline.models.llava_onevision_family import Tower
from pipeline.models.llava_onevision_pixels import Pixels, image_pixels, video_pixels

if TYPE_CHECKING:
    import torch


class LlavaForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels."""
        ...

    def placeholder_id(self, tower: Tower) -> int:
        """The token that stands for a picture."""
        ...

    def content(self, placeholder: str, frames: Sequence[Frame], words: Words) -> Content:
        """The user's turn: frames, then ``words``. Each ``placeholder`` in it stands for all tokens of its picture."""
        ...

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """How often each placeholder of the content is repeated, in order."""
        ...

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """The frames as the vision tower takes them: ``[frames, 3, image_size, image_size]``."""
        ...

    def model_inputs(self, pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """The picture arguments of ``forward``.

        Args:
            pixels: as :meth:`pixels` gives them.
            sizes: height and width of every frame, as decoded.
        """
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Each frame is an image of its own with its second in text before it, as in the model's multi-image training.

    A frame is one patch of base resolution, ``grid**2`` tokens and one newline token, in a selection of one frame too:
    it shows and costs the same whatever the budget, so that budgets can be compared.

    Source: Li et al. 2024, "LLaVA-OneVision: Easy Visual Task Transfer"; ``LlavaOnevisionModel.pack_image_features`` of
    transformers; for the pixels, :func:`pipeline.models.llava_onevision_pixels.image_pixels`.
    """

    labels: FrameLabels

    kind: ClassVar[str] = "images"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label."""
        return self.labels.most_tokens()

    def placeholder_id(self, tower: Tower) -> int:
        """``<image>``."""
        return tower.image_token_id

    def content(self, placeholder: str, frames: Sequence[Frame], words: Words) -> Content:
        """One piece of text with the placeholders in it.

        The chat template of these checkpoints moves pictures that are pieces of their own to the front, away from
        their labels.
        """
        shown = (
            f"{said}{self.labels.before(frame.time)}{placeholder}{self.labels.after}"
            for said, frame in zip(words.before(frames), frames, strict=True)
        )
        return [text("".join(shown) + words.text)]

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """730 for each frame at 384 pixels."""
        return [tower.image_tokens] * frames

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """Padded to squares, then scaled."""
        return image_pixels(processor, [frame.pixels for frame in frames])

    def model_inputs(self, pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """``pixel_values`` is ``[frames, 1 patch, 3, image_size, image_size]``."""
        from pipeline.models.llava_onevision_inputs import image_arguments

        return image_arguments(pixels, sizes)


@dataclass(frozen=True)
class VideoForm:
    """The frames are a video, and a sentence before the question tells their seconds.

    Without it they are evenly spaced for all that the model knows, as its authors' prompts leave them. The sentence is
    that of LLaVA-Video, which began as this model.

    Each is scaled to a square whatever its shape, its patches are pooled to ``ceil(grid / 2)**2`` tokens (196 at 384
    pixels), and one newline token ends the video.

    Source: as :class:`ImagesForm`; ``LlavaOnevisionModel.apply_pooling``; for the pixels,
    :func:`pipeline.models.llava_onevision_pixels.video_pixels`.
    """

    times: TimeSentence

    kind: ClassVar[str] = "video"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.times.time_told()

    def text_tokens(self) -> int:
        """Its second in the sentence."""
        return self.times.text_tokens()

    def placeholder_id(self, tower: Tower) -> int:
        """``<video>``."""
        return tower.video_token_id

    def content(self, placeholder: str, frames: Sequence[Frame], words: Words) -> Content:
        """The chat template writes the placeholder."""
        return [VIDEO, text(self.times.before_question(frames, words.video_end) + words.in_one)]

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """One placeholder for all frames."""
        return [tower.video_tokens(frames)]

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """Scaled, proportions given up."""
        return video_pixels(processor, [frame.pixels for frame in frames])

    def model_inputs(self, pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """``pixel_values_videos`` is ``[1, frames, 3, image_size, image_size]``."""
        from pipeline.models.llava_onevision_inputs import video_arguments

        return video_arguments(pixels)
