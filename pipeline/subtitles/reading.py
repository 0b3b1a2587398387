"""Reads subtitle files of all formats into lines on the video's clock."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from pipeline.domain import Subtitles
from pipeline.errors import MissingSubtitlesError, SubtitlesError
from pipeline.paths import local_path
from pipeline.subtitles.cues import srt_cues, webvtt_cues
from pipeline.subtitles.entries import json_lines
from pipeline.subtitles.file import SubtitleFile
from pipeline.subtitles.words import json_words
from pipeline.wellformed import check_utf8, decoded, is_well_formed

Form = Callable[[str, float], SubtitleFile]
"""From a file's text, and the second on its clock at which the video ends, to its lines on its own clock.

Raises ValueError if the file as a whole is of another kind."""

FORMS: dict[str, Form] = {
    ".json": json_lines,
    ".srt": lambda text, end: srt_cues(text),
    ".vtt": lambda text, end: webvtt_cues(text),
    ".jsonl": lambda text, end: json_words(text),
}
"""By the file's suffix."""

_CONVERT = "convert it: iconv -f latin1 (or gb18030, cp1251 ...) -t utf-8 {name}"
_REMEDY = "repair the file or fetch it again, or ask without subtitles: subtitles=none"


def read(subtitles: Subtitles, video_end: float) -> SubtitleFile:
    """The lines in order of time, in seconds of the video; lines entirely outside it are left out.

    Cues that cannot be read are left out and reported in ``skipped``.

    Args:
        subtitles: the file and its clock.
        video_end: second at which the video's last frame leaves the screen.

    Raises:
        MissingSubtitlesError: there is no such file.
        SubtitlesError: it cannot be read, or none of its cues can, or it is in another encoding; the message says where
            and why.
    """
    path = local_path(subtitles.path)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        _refuse(f"{path} is of an unknown form", f"give a file that ends in {', '.join(FORMS)}")
    text = _text(path)
    remedy = _REMEDY if is_well_formed(text) else _CONVERT.format(name=shlex.quote(path.name))
    try:
        file = form(text, video_end + subtitles.start)
    except ValueError as error:
        _refuse(f"{path}: {error}", remedy)
    if file.skipped and not file.lines:
        _refuse(f"{path}: {file.skipped[0]}", remedy)
    moved = (replace(line, start=line.start - subtitles.start, end=line.end - subtitles.start) for line in file.lines)
    in_video = [line for line in moved if line.text and line.end > 0 and line.start < video_end]
    return SubtitleFile(tuple(sorted(in_video, key=lambda line: (line.start, line.end))), file.skipped)


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, with line feeds only.

    A single line that is not UTF-8 counts as damaged. Several such lines in a file that is ASCII otherwise mean that
    the file is in another, unknown encoding.
    """
    try:
        text = decoded(path.read_bytes(), "surrogateescape")
        damaged = [line for line in text.split("\n") if not is_well_formed(line)]
        if len(damaged) > 1 and all(letter.isascii() or not is_well_formed(letter) for letter in set(text)):
            check_utf8(text)
        return text
    except FileNotFoundError as error:
        raise MissingSubtitlesError(
            f"there is no file of subtitles {path}",
            "put it there, or ask without subtitles: subtitles=none; a question without subtitles names no file",
        ) from error
    except ValueError as error:
        _refuse(f"{path} cannot be read as text: {error}", _CONVERT.format(name=shlex.quote(path.name)))
    except OSError as error:
        _refuse(f"{path} cannot be read: {error}", "make the file readable, or ask without subtitles: subtitles=none")


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise SubtitlesError(problem, remedy)
