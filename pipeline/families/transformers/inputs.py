"""The inputs of one request, where its frames are in them, and the pictures that questions share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.families.chat import frame_mark

if TYPE_CHECKING:
    import torch
    from PIL import Image

_LATE = 9000.0
"""Seconds; the times of frames whose tokens are told before a video is known."""


@dataclass(frozen=True)
class Pictures:
    """The frames of a set of questions, as the model takes them."""

    images: tuple[Image.Image, ...]
    times: tuple[float, ...]
    video_end: float
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    """What the processor gives beside the text, by the name of the model's argument."""
    features: list[Any] = field(default_factory=list)
    """What its part for pictures gave."""

    def measured(self) -> dict[str, float]:
        """Pixels as the vision tower gets them, or as the processor was given them; patches where grids tell them."""
        grids = [value for name, value in self.tensors.items() if name.endswith("grid_thw")]
        found = {"patches": float(sum(int(grid.prod(-1).sum()) for grid in grids))} if grids else {}
        pictures = [value for name, value in self.tensors.items() if name.startswith("pixel_values")]
        if pictures and all(getattr(each, "ndim", 0) >= 4 and each.shape[-3] == 3 for each in pictures):
            return {**found, "image_pixels": float(sum(each.numel() // 3 for each in pictures))}
        return {**found, "image_pixels": float(sum(image.width * image.height for image in self.images))}


@dataclass(frozen=True)
class Shown:
    """Frames that questions are about, scaled; each end of their video is prepared once, as some types tell it."""

    images: tuple[Image.Image, ...]
    times: tuple[float, ...]
    prepared: dict[float, Pictures] = field(default_factory=dict)
    """By the second at which the video ends."""


@dataclass(frozen=True)
class NativeInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``."""
    per_token: Mapping[str, torch.Tensor]
    """``[L]`` each: which tokens are of a picture, for models that want to be told."""
    frames: Pictures
    """The same object for all questions about the same frames."""
    frames_end: int
    """Tokens up to the last one of a picture, that one included."""
    picture_tokens: frozenset[int] = frozenset()
    """The ids of which pictures consist."""

    @property
    def tokens(self) -> int:
        """Length of the prompt."""
        return len(self.input_ids)

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds of the frames."""
        return self.frames.times


class RemembersPictures:
    """An image or video processor that gives the features of a set of pictures again, where these are at hand."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._at_hand: Pictures | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the processor itself gives, or gave."""
        known = self._at_hand
        if known is None:
            return self._own(*args, **kwargs)
        if not known.features:
            known.features.append(self._own(*args, **kwargs))
        made = known.features[0]
        return type(made)(dict(made))  # processors take entries out of it

    def __getattr__(self, name: str) -> Any:
        if name == "_own":  # while a copy is made, before it has one
            raise AttributeError(name)
        return getattr(self._own, name)

    @contextmanager
    def holding(self, pictures: Pictures) -> Iterator[None]:
        """Within, these are the pictures that are asked for."""
        self._at_hand = pictures
        try:
            yield
        finally:
            self._at_hand = None


def blanks(size: tuple[int, int], times: tuple[float, ...], video_end: float) -> Pictures:
    """Blank pictures of this height and width."""
    from PIL import Image

    return Pictures(tuple(Image.new("RGB", (size[1], size[0])) for _ in times), times, video_end)


def blanks_late(size: tuple[int, int], count: int) -> Pictures:
    """So many of them, at times that are as long to write as those of a long video."""
    return blanks(size, tuple(_LATE + 100 * place for place in range(count)), 2 * _LATE)


def marks_found(ids: Sequence[int], is_picture: Collection[int], times: Sequence[float]) -> list[tuple[str, int]]:
    """The marks of a prompt whose processor does not say which frames are where, each with the ids that it covers.

    A processor may put two frames, or all, into one run of ids, or cut each frame into as many runs, with separators
    of its own between them.
    """
    runs: list[tuple[int, int]] = []
    for place, token in enumerate(ids):
        if token in is_picture:
            is_new = not runs or runs[-1][1] < place
            runs[len(runs) - (not is_new) :] = [(place if is_new else runs[-1][0], place + 1)]
    frames, pictures = len(times), len(runs)
    if frames and pictures and pictures % frames == 0:
        parts = pictures // frames
        marks = [frame_mark(range(at, at + 1), times) for at in range(frames)]
        return [(mark, runs[(at + 1) * parts - 1][1] - runs[at * parts][0]) for at, mark in enumerate(marks)]
    together = -(-frames // pictures) if pictures else 0
    if together and -(-frames // together) == pictures:
        marks = [frame_mark(range(at, min(at + together, frames)), times) for at in range(0, frames, together)]
    else:
        marks = [f"<picture {number} of {pictures}>" for number in range(1, pictures + 1)]
    return [(mark, end - start) for mark, (start, end) in zip(marks, runs, strict=True)]
