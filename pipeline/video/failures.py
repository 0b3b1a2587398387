"""Turns every failure while a video is read into an error that names the video."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError, VideoError

FETCH_AGAIN = "fetch or copy the file again"


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn any exception into a :class:`pipeline.errors.VideoError` that names ``path``.

    Decoders and demuxers raise undocumented exceptions (IndexError, RuntimeError, MemoryError) when a file is damaged.
    One such file must not end the work on the others. Errors of settings and missing packages pass unchanged.
    """
    try:
        yield
    except VideoError as error:
        if Path(path).name in error.problem:
            raise
        raise type(error)(f"{path}: {error.problem}", error.remedy) from error
    except PipelineError:
        raise
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise VideoError(
            f"{path} cannot be read ({type(error).__name__}: {reason})", f"{FETCH_AGAIN}, or {convert(path)}"
        ) from error


def convert(path: str | Path, options: str = "", rate: int | None = None) -> str:
    """A command that re-encodes the video, as a remedy.

    Args:
        path: of the video.
        options: for ffmpeg, between input and codec.
        rate: pictures a second, for an input that stores no times.
    """
    target = Path(path).with_suffix(".converted.mp4")
    given = f"-r {rate}" if rate else ""
    words = ["ffmpeg", given, "-i", shlex.quote(str(path)), options, "-c:v libx264", shlex.quote(str(target))]
    return f"convert it: {' '.join(word for word in words if word)}"
