"""The two forms in which Qwen2-VL and Qwen2.5-VL take selected frames: labelled images, or a video at its true times.

The stock video processors take frames as evenly spaced unless told otherwise in three places, and blend two frames into
each temporal grid however far apart they are. So a video is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.answerers.labels import ORDER_ALONE, FrameLabels
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.errors import ConfigError, FramesError
from pipeline.models.chat import IMAGE, VIDEO, Content, text
from pipeline.models.qwen_family import IMAGE_PAD, QWEN2_5_VL, VIDEO_PAD
from pipeline.models.qwen_pixels import FrameScale, Patches, video_patches

if TYPE_CHECKING:
    from pipeline.models.qwen_inputs import QwenInputs

_AROUND = 2  # vision_start and vision_end


class QwenForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""
    placeholder: ClassVar[str]
    """The token that the chat template writes for a picture."""

    def time_told(self, family: str) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels."""
        ...

    def content(self, frames: Sequence[Frame], words: Words) -> Content:
        """The user's turn: the frames in order of time, then the words."""
        ...

    def counts(self, scale: FrameScale, frames: Sequence[Frame]) -> list[int]:
        """Tokens of each picture of the content.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        ...

    def pixels(self, images: Patches, times: Sequence[float]) -> Patches:
        """The frames' patches in this form.

        Args:
            images: every frame as an image.
            times: their seconds.
        """
        ...

    def inputs(self, tokenizer: Any, prompt: str, pixels: Patches, times: Sequence[float]) -> QwenInputs:
        """The rendered prompt and the frames' patches as one request.

        Args:
            tokenizer: the checkpoint's.
            prompt: of :meth:`content`.
            pixels: of :meth:`pixels`.
            times: the frames' seconds.
        """
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Every frame an image, with its second in text before it."""

    labels: FrameLabels

    kind: ClassVar[str] = "images"
    placeholder: ClassVar[str] = IMAGE_PAD

    def time_told(self, family: str) -> str:
        """Whatever the family: text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label, and the marks around the image."""
        return self.labels.most_tokens() + _AROUND

    def content(self, frames: Sequence[Frame], words: Words) -> Content:
        """See :class:`QwenForm`."""
        shown = (
            (text(said + self.labels.before(frame.time)), IMAGE, text(self.labels.after))
            for said, frame in zip(words.before(frames), frames, strict=True)
        )
        return [*(part for parts in shown for part in parts), text(words.text)]

    def counts(self, scale: FrameScale, frames: Sequence[Frame]) -> list[int]:
        """Frames may differ in size."""
        return [scale.tokens(*frame.pixels.shape[:2]) for frame in frames]

    def pixels(self, images: Patches, times: Sequence[float]) -> Patches:
        """See :class:`QwenForm`."""
        return images

    def inputs(self, tokenizer: Any, prompt: str, pixels: Patches, times: Sequence[float]) -> QwenInputs:
        """See :class:`QwenForm`."""
        from pipeline.models.qwen_inputs import encode

        return encode(tokenizer, prompt, images=pixels)


@dataclass(frozen=True)
class VideoForm:
    """One video; two frames close in time share a temporal grid, a frame by itself fills one alone.

    Qwen2.5-VL encodes each grid's position in time, and is given the true one. Qwen2-VL knows the order only.
    """

    pair_within: float
    """Seconds. Frames further apart than this are not blended; 0 gives every frame its own grid."""

    kind: ClassVar[str] = "video"
    placeholder: ClassVar[str] = VIDEO_PAD

    def __post_init__(self) -> None:
        if self.pair_within < 0:
            raise ConfigError(
                f"answerer.video.pair_within={self.pair_within} is no span of time.",
                "Take 0 or more seconds: answerer.video.pair_within=0",
            )

    def time_told(self, family: str) -> str:
        """Depends on what the family encodes."""
        return "position ids at the true second of each temporal grid" if family == QWEN2_5_VL else ORDER_ALONE

    def text_tokens(self) -> int:
        """The marks around the one video."""
        return _AROUND

    def content(self, frames: Sequence[Frame], words: Words) -> Content:
        """See :class:`QwenForm`."""
        return [VIDEO, text(words.in_one)]

    def counts(self, scale: FrameScale, frames: Sequence[Frame]) -> list[int]:
        """One number, of all grids together; frames must come out at one size."""
        sizes = {scale.size(*frame.pixels.shape[:2]) for frame in frames}
        if len(sizes) > 1:
            raise FramesError(
                "The frames differ in size, so they cannot be one video.",
                "Take answerer.form=images, or give all frames one shape: "
                f"answerer.frame_size=[{9 * scale.unit},{16 * scale.unit}].",
            )
        pairs = self.pairs([frame.time for frame in frames])
        return [len(pairs) * scale.tokens(*frames[0].pixels.shape[:2])]

    def pixels(self, images: Patches, times: Sequence[float]) -> Patches:
        """See :class:`QwenForm`."""
        return video_patches(images, self.pairs(times))

    def inputs(self, tokenizer: Any, prompt: str, pixels: Patches, times: Sequence[float]) -> QwenInputs:
        """See :class:`QwenForm`."""
        from pipeline.models.qwen_inputs import encode

        grid_times = [times[first] for first, _ in self.pairs(times)]
        return encode(tokenizer, prompt, video=pixels, grid_times=grid_times)

    def pairs(self, times: Sequence[float]) -> list[tuple[int, int]]:
        """The two frames of each temporal grid, from the ascending times; ``(i, i)`` for a frame by itself."""
        found: list[tuple[int, int]] = []
        place = 0
        while place < len(times):
            partner = place + 1
            if partner < len(times) and 0 < times[partner] - times[place] <= self.pair_within:
                found.append((place, partner))
                place += 2
            else:
                found.append((place, place))
                place += 1
        return found
