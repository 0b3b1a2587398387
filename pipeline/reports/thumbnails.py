"""Small pictures of selected frames, embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.domain import Frame
from pipeline.errors import VideoError
from pipeline.progress import track

if TYPE_CHECKING:
    from pipeline.video import Reader


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG picture."""

    jpeg: bytes
    width: int
    """Pixels."""
    height: int

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no other file."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


class ThumbnailSource(Protocol):
    """Gives the pictures shown at given seconds of a video."""

    def thumbnails(self, video: str, seconds: Sequence[float]) -> Mapping[float, Thumbnail]:
        """One picture for each of the ascending ``seconds``, keyed by it.

        Raises:
            VideoError: the video cannot be read.
        """
        ...


@dataclass(frozen=True)
class VideoThumbnails:
    """Decodes pictures from the video."""

    reader: Reader
    width: int
    """Pixels; smaller videos keep their own width."""
    quality: int
    """JPEG quality, 1..95."""

    def thumbnails(self, video: str, seconds: Sequence[float]) -> Mapping[float, Thumbnail]:
        """One picture for each of the ascending ``seconds``, keyed by it."""
        with self.reader.open(video) as frames:
            pictures = (self._picture(frame) for frame in frames.frames_at(seconds))
            return dict(zip(seconds, pictures, strict=True))

    def _picture(self, frame: Frame) -> Thumbnail:
        from PIL import Image

        image = Image.fromarray(frame.pixels)
        width = min(self.width, image.width)
        height = max(1, round(image.height * width / image.width))
        # 4:2:0 at this size smears thin coloured shapes, and costs little to leave out.
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=self.quality, optimize=True, subsampling=0)
        return Thumbnail(buffer.getvalue(), width, height)


@dataclass(frozen=True)
class ThumbnailSet:
    """The pictures of a page."""

    pictures: Mapping[tuple[str, float], Thumbnail]
    """By video path and second."""
    problems: Mapping[str, str]
    """Videos without pictures, and why."""


def collect_thumbnails(wanted: Iterable[tuple[str, float]], source: ThumbnailSource) -> ThumbnailSet:
    """Fetch the picture of every ``wanted`` (video, second), opening each video once."""
    by_video: dict[str, list[float]] = {}
    for video, second in dict.fromkeys(wanted):
        by_video.setdefault(video, []).append(second)
    pictures: dict[tuple[str, float], Thumbnail] = {}
    problems: dict[str, str] = {}
    with track("thumbnails", len(by_video)) as advance:
        for video, seconds in by_video.items():
            try:
                found = source.thumbnails(video, sorted(seconds))
                pictures.update({(video, second): picture for second, picture in found.items()})
            except VideoError as error:
                problems[video] = f"{error.problem}: {error.remedy}"
            advance(1)
    return ThumbnailSet(pictures, problems)
