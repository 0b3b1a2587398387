"""A folder of images as a video, such as the ``sec012.png`` of the GenS example."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError, EmptyVideoError, TruncatedVideoError, UnsupportedVideoError
from pipeline.video.timeline import Timeline

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_SECOND = re.compile(r"sec[_-]?(\d+(?:\.\d+)?)$", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class ImageFolder:
    """Images in order of time."""

    path: Path
    files: tuple[Path, ...]
    timeline: Timeline
    width: int
    """Pixels of the first image."""
    height: int


def read_image_folder(path: Path, image_fps: float) -> ImageFolder:
    """List the images of a folder and place them in time.

    ``sec012.png`` is at second 12. Other names end in a number that orders them, and ``image_fps`` says how many there
    are a second.

    Raises:
        EmptyVideoError: there are no images.
        UnsupportedVideoError: names without a number, or two with the same.
        TruncatedVideoError: the first image is damaged.
    """
    if image_fps <= 0:
        raise ConfigError(f"reader.image_fps={image_fps} is not a rate", "set a positive rate: reader.image_fps=1")
    files = [file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES]
    if not files:
        raise EmptyVideoError(f"the folder {path} holds no images", "give a folder of numbered PNG or JPEG files")
    seconds = [_SECOND.search(file.stem) for file in files]
    if all(seconds):
        places = [float(match.group(1)) for match in seconds if match]
        step = 1.0
    else:
        numbers = [_NUMBER.search(file.stem) for file in files]
        unnumbered = [file.name for file, match in zip(files, numbers, strict=True) if match is None]
        if unnumbered:
            raise UnsupportedVideoError(
                f"{path}: {unnumbered[0]} does not end in a number, so its place in time is not known",
                "name the images sec000.png, sec001.png, ... after their seconds, or number them",
            )
        places = [float(match.group(1)) for match in numbers if match]
        step = 1 / image_fps
    order = sorted(range(len(files)), key=lambda k: (places[k], files[k].name))
    ordered = [places[k] for k in order]
    repeated = [files[order[k]].name for k in range(1, len(order)) if ordered[k] == ordered[k - 1]]
    if repeated:
        raise UnsupportedVideoError(f"{path}: two images have the number of {repeated[0]}", "leave one image a number")
    times = np.asarray(ordered) if all(seconds) else (np.asarray(ordered) - ordered[0]) * step
    end = float(times[-1]) + step
    in_time = tuple(files[k] for k in order)
    height, width = _pixels(in_time[0]).shape[:2]
    return ImageFolder(path, in_time, Timeline(times, end, end), width, height)


def _pixels(file: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise TruncatedVideoError(f"the image {file} cannot be read ({error})", "fetch or write it again") from error


class ImageDecoder:
    """Reads each image when it is asked for."""

    name = "images"

    def __init__(self, folder: ImageFolder) -> None:
        self._folder = folder

    def close(self) -> None:
        """Nothing stays open between two images."""

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As every decoder."""
        for index in indices:
            yield _pixels(self._folder.files[index])
