"""A folder of images as a video, such as the ``sec012.png`` of the GenS example."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError, EmptyVideoError, TruncatedVideoError, UnsupportedVideoError
from pipeline.video.fingerprint import files_fingerprint
from pipeline.video.timeline import Timeline, is_rate

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_SECOND = re.compile(r"sec[_-]?(\d+(?:\.\d+)?)$", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)$")
# Seconds between the first and the last image. Numbers that span more are dates or identifiers.
_LONGEST = 7 * 24 * 3600.0
_NAMING = "name the images sec000.png, sec001.png, ... after their seconds, or number them one after another"


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
    are a second. Hidden files are ignored, for instance the ``._sec012.png`` that macOS writes beside an image on a
    foreign disk, and so is everything that is not a file.

    Raises:
        EmptyVideoError: there are no images.
        UnsupportedVideoError: names without a number, two with the same, or numbers that span more than a week.
        TruncatedVideoError: the first image is damaged, or a link to an image leads nowhere.
    """
    if not is_rate(image_fps):
        raise ConfigError(f"reader.image_fps={image_fps} is not a rate", "set a positive rate: reader.image_fps=1")
    files = [file for file in path.iterdir() if _is_image(file)]
    if not files:
        raise EmptyVideoError(f"the folder {path} holds no images", "give a folder of numbered PNG or JPEG files")
    seconds = [_SECOND.search(file.stem) for file in files]
    if all(seconds):
        places = [float(match.group(1)) for match in seconds if match]
        step = 1.0
    else:
        numbers = [_NUMBER.search(file.stem) for file in files]
        unnumbered = sorted(file.name for file, match in zip(files, numbers, strict=True) if match is None)
        if unnumbered:
            raise UnsupportedVideoError(
                f"{path}: {unnumbered[0]} does not end in a number, so its place in time is not known",
                f"move it out of the folder, or {_NAMING}",
            )
        places = [float(match.group(1)) for match in numbers if match]
        step = 1 / image_fps
    order = sorted(range(len(files)), key=lambda k: (places[k], files[k].name))
    ordered = np.asarray([places[k] for k in order])
    in_time = tuple(files[k] for k in order)
    if (ordered[-1] - ordered[0]) * step > _LONGEST:
        raise UnsupportedVideoError(
            f"{path}: from {in_time[0].name} to {in_time[-1].name} the images span more than a week, so the numbers "
            "in their names are not places in time",
            _NAMING,
        )
    repeated = np.flatnonzero(np.diff(ordered) == 0)
    if len(repeated):
        first, second = in_time[repeated[0]].name, in_time[repeated[0] + 1].name
        raise UnsupportedVideoError(f"{path}: {first} and {second} have the same number", "leave one image a number")
    times = ordered if all(seconds) else (ordered - ordered[0]) * step
    end = float(times[-1]) + step
    height, width = _pixels(in_time[0]).shape[:2]
    return ImageFolder(path, in_time, Timeline(times, end, end), width, height)


def images_fingerprint(path: Path) -> str:
    """BLAKE2b over names and bytes of the images of a folder, none of which is opened as an image."""
    files = sorted(file for file in path.iterdir() if _is_image(file))
    return files_fingerprint(files, range(len(files)))


def _is_image(file: Path) -> bool:
    if file.name.startswith(".") or file.suffix.lower() not in _SUFFIXES:
        return False
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError as error:  # a link whose target is gone; without it, another image would be shown at its second
        raise _unreadable(file, error) from error


def _pixels(file: Path) -> npt.NDArray[np.uint8]:
    """``[height, width, 3]`` as a viewer shows it: upright and without transparency."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            upright = _upright(image)
            if upright.mode.startswith("I"):  # grey of 16 bits, which Pillow clips instead of scaling
                grey = (np.clip(np.asarray(upright), 0, 65535) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.asarray(upright.convert("RGB"))
    except Exception as error:  # decoders of images raise more than they document
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> TruncatedVideoError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TruncatedVideoError(f"the image {file} cannot be read ({reason})", "fetch or write it again")


def _upright(image: Any) -> Any:
    """The picture rotated by its EXIF orientation. Damaged metadata is ignored."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # where the pixels are damaged too, converting them fails
        return image


class ImageDecoder:
    """Reads each image when it is asked for."""

    name = "images"

    def __init__(self, folder: ImageFolder) -> None:
        self._folder = folder
        self.walked = 0

    def packets_to(self, indices: Sequence[int]) -> int:
        """The images themselves: none depends on another."""
        return len(indices)

    def close(self) -> None:
        """Nothing stays open between two images."""

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`."""
        for index in indices:
            self.walked += 1
            yield _pixels(self._folder.files[index])
