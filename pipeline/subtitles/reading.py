"""A file of subtitles to lines on the video's clock, whatever the file's form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from pipeline.domain import SubtitleLine, Subtitles
from pipeline.errors import MissingSubtitlesError, SubtitlesError
from pipeline.paths import local_path
from pipeline.subtitles.cues import srt_cues, webvtt_cues
from pipeline.subtitles.entries import json_lines

Form = Callable[[str, float], Sequence[SubtitleLine]]
"""The text of a file, and the second on its clock at which the video ends, to the lines on its clock.

Raises ValueError with place and fault."""

FORMS: dict[str, Form] = {
    ".json": json_lines,
    ".srt": lambda text, end: srt_cues(text),
    ".vtt": lambda text, end: webvtt_cues(text),
}
"""By the end of the file's name."""


def read(subtitles: Subtitles, video_end: float) -> tuple[SubtitleLine, ...]:
    """The lines in order of time, in seconds of the video; those of which nothing falls into it are left out.

    Args:
        subtitles: the file and its clock.
        video_end: second at which the video's last frame leaves the screen.

    Raises:
        MissingSubtitlesError: there is no such file.
        SubtitlesError: it cannot be read; the message says where and why.
    """
    path = local_path(subtitles.path)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        _refuse(f"{path} is of no form that can be read", f"give a file that ends in {', '.join(FORMS)}")
    try:
        lines = form(_text(path), video_end + subtitles.start)
    except ValueError as error:
        _refuse(f"{path}: {error}", "mend the file or fetch it again, or ask without subtitles: subtitles=none")
    moved = (replace(line, start=line.start - subtitles.start, end=line.end - subtitles.start) for line in lines)
    heard = [line for line in moved if line.text and line.end > 0 and line.start < video_end]
    return tuple(sorted(heard, key=lambda line: (line.start, line.end)))


def _text(path: Path) -> str:
    """The whole file with line feeds alone; a byte order mark is no part of it."""
    try:
        return path.read_text(encoding="utf-8-sig")  # universal newlines: CRLF and CR become line feeds
    except FileNotFoundError as error:
        raise MissingSubtitlesError(
            f"there is no file of subtitles {path}",
            "put it there, or ask without subtitles: subtitles=none; a question without subtitles names no file",
        ) from error
    except UnicodeDecodeError as error:
        _refuse(
            f"{path} is not UTF-8 text: {error}",
            f"convert it: iconv -f latin1 (or utf-16, gb18030 ...) -t utf-8 {path.name}",
        )
    except OSError as error:
        _refuse(f"{path} cannot be read: {error}", "make the file readable, or ask without subtitles: subtitles=none")


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise SubtitlesError(problem, remedy)
