"""The lines in which InternVL3 is shown frames.

Its own video is ``Frame1: `` and an image, a line for each frame (``processing_internvl.py`` of transformers, and the
model card): numbers and no times. The second is added to this line.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import ConfigError

_LATE = 9999, 99999.9  # number and second; the longest label counts in the limits


@dataclass(frozen=True)
class FrameLines:
    """The text around each frame."""

    label: str
    """Text before an image; ``{frame}`` is its number from 1, ``{time}`` its second."""
    after: str
    """Text after an image."""

    def __post_init__(self) -> None:
        try:
            self.before(1, 0.0)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"answerer.images.label={self.label!r} cannot be filled in: {error}.",
                "Its slots are {frame} and {time}: \"answerer.images.label='Frame{frame} ({time:.1f}s): '\"",
            ) from error

    def before(self, number: int, time: float) -> str:
        """The text before the image of this number and second."""
        return self.label.format(frame=number, time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        if self.before(1, 0.0) == self.before(1, _LATE[1]):
            return f"not told: {self.before(1, 12.5)!r} before the first image"
        return f"text before each image: {self.before(1, 12.5)!r}"

    def most_tokens(self) -> int:
        """At most so many tokens go with a frame: a byte-level tokenizer makes no more than one of a byte."""
        return len((self.before(*_LATE) + self.after).encode())
