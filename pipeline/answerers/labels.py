"""The words that go with frames: a second before each, and how limits and records tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import ConfigError

ORDER_ALONE = "not told: a video's frames in their order"
"""How the time is told by a form that gives a video and no times."""

_LATE = 99999.9  # seconds; the longest label counts in the limits


@dataclass(frozen=True)
class FrameLabels:
    """The text around each frame that is shown as an image: true for any model and any spacing."""

    label: str
    """Text before an image; ``{time}`` is its second, as in ``{time:.1f}s: ``. Empty: no time is told."""
    after: str
    """Text after an image."""

    def __post_init__(self) -> None:
        try:
            self.before(0.0)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"answerer.images.label={self.label!r} cannot be filled in: {error}.",
                "Its only slot is {time}: \"answerer.images.label='{time:.1f}s: '\"",
            ) from error

    def before(self, time: float) -> str:
        """The text before the image of this second."""
        return self.label.format(time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        if self.before(0.0) == self.before(_LATE):
            return "not told: images in their order"
        return f"text before each image: {self.before(12.5)!r}"

    def most_tokens(self) -> int:
        """At most so many tokens go with a frame: a byte-level tokenizer makes no more than one of a byte."""
        return len((self.before(_LATE) + self.after).encode())
