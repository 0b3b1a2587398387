"""Types whose own video tells each frame's true time, so that frames may be shown as one video.

Every processor writes times in its own way, and most of them not truly: five of twelve put two frames into one patch,
with the mean of their times, and others write none. The table below is what was found by giving each type's processor
frames at 3.24, 62.5, 754.9 and 3725.0 seconds, in transformers 5.24. A type that blends two frames is given each twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError, FramesError


@dataclass(frozen=True)
class NativeVideo:
    """How one type shows a video."""

    told: str
    """How its processor writes the second 12.5."""
    is_doubled: bool
    """Two frames share a patch, so each is given twice, at its one time."""
    bare: tuple[str, str] = ("", "")
    """Marks that the template writes around a video and the processor around each frame: left out of the template's."""

    def describe(self) -> str:
        """The form in a few words."""
        twice = ", each frame twice" if self.is_doubled else ""
        return f"one video{twice}"

    def time_told(self) -> str:
        """How the model learns the times, in one line."""
        return f"by the model's own video: {self.told!r}"

    def shown(self, frames: Sequence[Any]) -> list[Any]:
        """The frames, or their times, as the processor gets them."""
        return [frame for frame in frames for _ in range(1 + self.is_doubled)]

    def metadata(self, times: Sequence[float], video_end: float) -> dict[str, Any]:
        """Times in milliseconds: as indices of frames at a rate of 1000."""
        indices = [round(1000 * time) for time in self.shown(times)]
        end = max(video_end, max(times, default=0.0))
        total = max(round(1000 * end), indices[-1] + 1)
        return {"fps": 1000.0, "frames_indices": indices, "total_num_frames": total, "duration": end}

    def in_prompt(self, prompt: str, video: str) -> str:
        """The rendered prompt, without marks that would stand twice."""
        begin, end = self.bare
        return prompt.replace(f"{begin}{video}{end}", video) if begin else prompt


_QWEN = NativeVideo("<12.5 seconds>", is_doubled=True, bare=("<|vision_start|>", "<|vision_end|>"))
_TRUTHFUL: Mapping[str, NativeVideo] = {
    "gemma4": NativeVideo("00:12", is_doubled=False),
    "glm46v": NativeVideo("12.5 seconds", is_doubled=True),
    "qwen3_5": _QWEN,
    "qwen3_5_moe": _QWEN,
    "qwen3_vl": _QWEN,
    "qwen3_vl_moe": _QWEN,
    "smolvlm": NativeVideo("Frame from 00:12:", is_doubled=False),
}


def video_of(model_type: str, source: str) -> NativeVideo:
    """The video of a type.

    Raises:
        ConfigError: its video would tell times that are not true, or none.
    """
    found = _TRUTHFUL.get(model_type)
    if found is None:
        raise ConfigError(
            f"answerer.form=video: the video of {source} (model_type {model_type}) is not known to tell each frame's "
            f"true time, as that of {', '.join(_TRUTHFUL)} does.",
            "Show the frames as labelled images: answerer.form=images",
        )
    return found


def one_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of all frames of a video.

    Raises:
        FramesError: they differ.
    """
    if len(set(sizes)) > 1:
        raise FramesError(
            f"The frames have {len(set(sizes))} sizes, and a video has one.",
            "Show them as images: answerer.form=images",
        )
    return sizes[0]
