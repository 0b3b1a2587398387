"""The two forms in which a server takes selected frames: labelled images, or vLLM's video of frames sampled before.

Sources: OpenAI's chat completions (``image_url`` parts), which all compatible servers read; vLLM 0.33
(``vllm/multimodal/media/video.py``, ``media_io_kwargs`` of a request), which alone reads the video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pipeline.answerers.openai_frames import Part, SentFrame, text_part
from pipeline.domain import Frame, Video
from pipeline.errors import ConfigError, FramesError
from pipeline.families.labels import FrameLabels
from pipeline.families.seam import Words


class RequestForm(Protocol):
    """How frames and their times are put into a request."""

    kind: ClassVar[str]
    """Its name in the settings."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[Part], words: Words
    ) -> list[Part]:
        """The user's turn: frames, pictures of options, text.

        Args:
            frames: in order of time; there may be none.
            encoded: parallel to them, as :meth:`SentFrame.encoded` gives them.
            options: entries between frames and text.
            words: of the question.

        Raises:
            FramesError: these frames cannot be put in this form.
            ConfigError: these words cannot.
        """
        ...

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Further fields of the request; ``frames`` is not empty."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """Every frame an image, with its second in text before it: true for any server and any spacing."""

    sent: SentFrame
    labels: FrameLabels

    kind: ClassVar[str] = "images"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[Part], words: Words
    ) -> list[Part]:
        """Of each frame: what was said up to it, its label, the image, what follows it; empty words are left out."""
        shown: list[Part] = []
        for frame, picture, said in zip(frames, encoded, words.before(frames), strict=True):
            before, after = said + self.labels.before(frame.time), self.labels.after
            shown += [text_part(before)] if before else []
            shown.append(self.sent.image_part(picture))
            shown += [text_part(after)] if after else []
        return [*shown, *options, text_part(words.text)]

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class SampledVideo:
    """One video of JPEG frames that the server must not sample again, each with its place on the video's clock.

    The clock ticks ``fps`` times a second, so a frame's place is its true second times ``fps``: in a file of constant
    rate that is its native index, and with a variable rate, or a folder of pictures that begins in the middle of a
    film, it still tells the second. How the model gets it depends on the server: Qwen3-VL reads the seconds,
    Qwen2.5-VL takes the frames as evenly spaced.
    """

    sent: SentFrame

    kind: ClassVar[str] = "video"

    def __post_init__(self) -> None:
        if self.sent.format != "jpeg":
            raise ConfigError(
                f"answerer.form=video sends JPEG frames, and answerer.frame.format={self.sent.format} is set.",
                "Take answerer.frame.format=jpeg, or answerer.form=images.",
            )

    def time_told(self) -> str:
        """By numbers, from which a server makes what its model was trained on."""
        return "frame places and frames a second, as the server's model takes them"

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[Part], words: Words
    ) -> list[Part]:
        """All frames in one data URL."""
        if len({(frame.pixels.shape, frame.scale) for frame in frames}) > 1:
            raise FramesError("The frames differ in size, so they cannot be one video.", "Take answerer.form=images.")
        url = f"data:video/jpeg;base64,{','.join(encoded)}"
        shown = [{"type": "video_url", "video_url": {"url": url}}] if frames else []
        return [*shown, *options, text_part(words.in_one)]

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Without ``num_frames: -1`` the server would keep the first 32 frames and drop the others in silence."""
        places = [round(frame.time * video.fps) for frame in frames]
        return {
            "media_io_kwargs": {
                "video": {
                    "num_frames": -1,
                    "fps": video.fps,
                    "frames_indices": places,
                    "total_num_frames": max(video.frame_count, places[-1] + 1),
                    "duration": video.duration,
                    "do_sample_frames": False,
                }
            },
            "mm_processor_kwargs": {"videos_kwargs": {"do_sample_frames": False}},
        }
