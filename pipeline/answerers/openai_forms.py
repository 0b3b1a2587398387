"""The two forms in which a server takes selected frames: labelled images, or vLLM's video of frames sampled before.

Sources: OpenAI's chat completions (``image_url`` parts), which all compatible servers read; vLLM 0.33
(``vllm/multimodal/media/video.py``, ``media_io_kwargs`` of a request), which alone reads the video.

Frames travel smaller, compressed, and written into the request as data URLs.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame, Video
from pipeline.errors import ConfigError, FramesError, InputError
from pipeline.families.labels import FrameLabels
from pipeline.families.seam import Words

_LONGEST = 8192
"""Pixels of the longer side to which a selection may scale a frame up."""
Part = Mapping[str, Any]
"""One entry of a message's ``content``."""


def text_part(text: str) -> Part:
    """Words, as an entry of a message."""
    return {"type": "text", "text": text}


@dataclass(frozen=True)
class SentFrame:
    """The form in which a frame is sent. A server makes its own inputs from it, and may scale it once more."""

    max_side: int | None
    """Pixels. A larger frame is scaled down to this longer side (Lanczos); None keeps the size of the video."""
    format: Literal["jpeg", "png"]
    """``jpeg`` loses a little; ``png`` loses nothing and is several times as large."""
    quality: int
    """Of JPEG, 1 to 100, with 4:2:0 chroma as PIL writes it."""
    detail: Literal["low", "high", "auto"] | None
    """OpenAI's own setting for each image; None: not sent."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ConfigError(
                f"answerer.frame.max_side={self.max_side} leaves no picture.",
                "Take a number of pixels, or null: answerer.frame.max_side=512",
            )
        if not 1 <= self.quality <= 100:
            raise ConfigError(
                f"answerer.frame.quality={self.quality} is not a JPEG quality.",
                "Take 1 to 100: answerer.frame.quality=90",
            )

    def describe(self) -> str:
        """In a few words, for the record."""
        size = "own size" if self.max_side is None else f"longer side at most {self.max_side}"
        kind = f"jpeg {self.quality}" if self.format == "jpeg" else "png"
        return f"{kind}, {size}" + (f", detail {self.detail}" if self.detail else "")

    def encoded(self, pixels: npt.NDArray[np.uint8], scale: float | None = None) -> str:
        """Base64 of the compressed picture.

        Args:
            pixels: RGB, ``[height, width, 3]``.
            scale: factor on each side, before the limit on the longer one.

        Raises:
            FramesError: scaled, it would be larger than any server takes.
        """
        from PIL import Image

        image = Image.fromarray(pixels)
        longer = max(image.size)
        wanted = longer * (1.0 if scale is None else scale)
        if self.max_side is not None:
            wanted = min(wanted, self.max_side)
        if wanted > max(longer, _LONGEST):
            raise FramesError(
                f"A frame is to be scaled by {scale:g}, to more than {_LONGEST} pixels.",
                "Bound it: answerer.frame.max_side=1024, or take a selection with smaller scales.",
            )
        if wanted != longer:
            width, height = (max(1, round(side * wanted / longer)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        if self.format == "jpeg":
            image.save(buffer, "JPEG", quality=self.quality)
        else:
            image.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    def image_part(self, encoded: str) -> Part:
        """An encoded picture, as an entry of a message."""
        url = {"url": f"data:image/{self.format};base64,{encoded}"}
        return {"type": "image_url", "image_url": url | ({"detail": self.detail} if self.detail else {})}


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """RGB pixels of a picture file, ``[height, width, 3]``.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"The picture {path} of an option cannot be read: {error}.", "Fetch or write it again."
        ) from error


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
