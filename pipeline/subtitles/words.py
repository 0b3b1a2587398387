"""The JSON Lines of Video-MME-v2, one word a line: ``{"text": "...", "start_time": 1.2, "end_time": 1.5}`` in seconds.

Words are joined to sentences as in ``group_subtitle_segments`` of the benchmark's ``evaluation/test_video_mme_v2.py``:
a new one begins after a pause of more than 0.5 s, or of more than 0.1 s after a full stop, an exclamation mark or a
question mark. A line that cannot be read is left out and reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from pipeline.domain import LONGEST, SubtitleLine
from pipeline.subtitles.clock import one_line
from pipeline.subtitles.file import SubtitleFile
from pipeline.wellformed import parsed, well_formed_json

PAUSE = 0.5
PAUSE_AFTER_SENTENCE = 0.1
"""Seconds; longer ones part two sentences."""


def json_words(text: str) -> SubtitleFile:
    """The sentences of a file, on its clock.

    Raises:
        ValueError: no line of it is a word.
    """
    words: list[SubtitleLine] = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                words.append(_word(line, f"line {number}"))
            except ValueError as error:
                faults.append(str(error))
    if faults and not words:
        raise ValueError(faults[0])
    return SubtitleFile(tuple(_sentences([word for word in words if word.text])), tuple(faults))


def _word(line: str, where: str) -> SubtitleLine:
    try:
        entry = well_formed_json(parsed(line))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(entry, Mapping) or not isinstance(entry.get("text"), str):
        raise ValueError(f'{where} is no word {{"text": "...", "start_time": 1.2, "end_time": 1.5}}')
    start, end = entry.get("start_time"), entry.get("end_time")
    if not _is_number(start) or not _is_number(end):
        raise ValueError(f"{where}: start_time and end_time are not numbers of seconds")
    if not -LONGEST <= start <= end <= LONGEST:
        raise ValueError(f"{where}: the word goes from {start} s to {end} s")
    return SubtitleLine(float(start), float(end), one_line(entry["text"]))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sentences(words: Sequence[SubtitleLine]) -> list[SubtitleLine]:
    sentences: list[list[SubtitleLine]] = []
    for word in words:
        before = sentences[-1][-1] if sentences else None
        pause = word.start - before.end if before else 0.0
        ended = before is not None and before.text.endswith((".", "!", "?"))
        if before is None or pause > PAUSE or (ended and pause > PAUSE_AFTER_SENTENCE):
            sentences.append([])
        sentences[-1].append(word)
    return [
        SubtitleLine(said[0].start, max(word.end for word in said), " ".join(word.text for word in said))
        for said in sentences
    ]
