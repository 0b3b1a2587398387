"""The two forms in which Qwen2-VL and Qwen2.5-VL take selected frames: labelled images, or a video at its true times.

The stock video processors take frames as evenly spaced unless told otherwise in three places, and blend two frames into
each temporal grid however far apart they are. So a video is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.domain import Frame
from pipeline.errors import ConfigError
from pipeline.models.chat import IMAGE, VIDEO, render_chat, text
from pipeline.models.qwen_family import QWEN2_5_VL
from pipeline.models.qwen_pixels import FrameScale, image_patches, video_patches

if TYPE_CHECKING:
    from pipeline.models.qwen_inputs import QwenInputs

_LATE = 99999.9  # seconds; the longest label counts in the limits
_AROUND = 2  # vision_start and vision_end


@dataclass(frozen=True)
class QwenReader:
    """What turns words and pixels into this checkpoint's inputs."""

    tokenizer: Any
    processor: Any
    scale: FrameScale
    system: str | None


class QwenForm(Protocol):
    """How frames and their times are put to the model."""

    def time_told(self, family: str) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def extra_tokens(self) -> int:
        """Tokens that a frame takes beside those of its pixels, at most."""
        ...

    def encode(self, reader: QwenReader, frames: Sequence[Frame], words: str) -> QwenInputs:
        """One request's inputs: the frames in order of time, then the words.

        Raises:
            ValueError: these frames cannot be put in this form.
        """
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Every frame an image, with its second in text before it: true for any model and any spacing."""

    label: str
    """Text before an image; ``{time}`` is its second, as in ``{time:.1f}s: ``. Empty: no time is told."""
    after: str
    """Text after an image."""

    def __post_init__(self) -> None:
        try:
            self._label(0.0)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"answerer.images.label={self.label!r} cannot be filled in: {error}",
                "Its only slot is {time}: answerer.images.label='{time:.1f}s: '",
            ) from error

    def time_told(self, family: str) -> str:
        """Whatever the family: text, or nothing."""
        if self._label(0.0) == self._label(_LATE):
            return "not told: images in their order"
        return f"text before each image: {self._label(12.5)!r}"

    def extra_tokens(self) -> int:
        """A byte-level tokenizer makes at most one token of a byte."""
        return len((self._label(_LATE) + self.after).encode()) + _AROUND

    def encode(self, reader: QwenReader, frames: Sequence[Frame], words: str) -> QwenInputs:
        """See :class:`QwenForm`."""
        from pipeline.models.qwen_inputs import encode

        content: list[Any] = []
        for frame in frames:
            content += [text(self._label(frame.time)), IMAGE, text(self.after)]
        prompt = render_chat(reader.tokenizer, [*content, text(words)], reader.system)
        patches = image_patches(reader.processor, [frame.pixels for frame in frames], reader.scale)
        return encode(reader.tokenizer, prompt, images=patches)

    def _label(self, time: float) -> str:
        return self.label.format(time=time)


@dataclass(frozen=True)
class VideoForm:
    """One video; two frames close in time share a temporal grid, a frame by itself fills one alone.

    Qwen2.5-VL encodes each grid's position in time, and is given the true one. Qwen2-VL knows the order only.
    """

    pair_within: float
    """Seconds. Frames further apart than this are not blended; 0 gives every frame its own grid."""

    def __post_init__(self) -> None:
        if self.pair_within < 0:
            raise ConfigError(
                f"answerer.video.pair_within={self.pair_within} is no span of time.",
                "Take 0 or more seconds: answerer.video.pair_within=0",
            )

    def time_told(self, family: str) -> str:
        """Depends on what the family encodes."""
        if family == QWEN2_5_VL:
            return "position ids at the true second of each temporal grid"
        return "not told: a video's frames in their order"

    def extra_tokens(self) -> int:
        """The marks around the one video."""
        return _AROUND

    def encode(self, reader: QwenReader, frames: Sequence[Frame], words: str) -> QwenInputs:
        """See :class:`QwenForm`."""
        from pipeline.models.qwen_inputs import encode

        prompt = render_chat(reader.tokenizer, [VIDEO, text(words)], reader.system)
        images = image_patches(reader.processor, [frame.pixels for frame in frames], reader.scale)
        times = [frame.time for frame in frames]
        pairs = self.pairs(times)
        grid_times = [times[first] for first, _ in pairs]
        return encode(reader.tokenizer, prompt, video=video_patches(images, pairs), grid_times=grid_times)

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
