"""What an answerer is given with a question beside its frames: the part of the video it may know of, and subtitles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artefacts.rows import SelectionRow
from pipeline.config import digest
from pipeline.domain import Answer, Status, Video
from pipeline.errors import StretchError, SubtitlesError, with_remedy
from pipeline.subtitles import Listener, Said, SubtitleChoice
from pipeline.video.stretch import holds, stretch


@dataclass(frozen=True)
class Material:
    """A question that can be asked."""

    row: SelectionRow
    view: Video
    """What the question may see of its video."""
    said: Said


def material(row: SelectionRow, listener: Listener) -> Material | Answer:
    """What goes with the question of a selection, or the failure that makes asking it needless."""
    question, video = row.question, row.video
    if video is None or not row.selection.frames:
        status = row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
        return Answer(question.id, "", status=status, detail=row.selection.detail)
    times = tuple(frame.time for frame in row.selection.frames)
    try:
        view = stretch(video, question.span)
        if not holds(view, times):
            return Answer(question.id, "", status=Status.NO_FRAMES, detail=_sees_too_much(view))
        return Material(row, view, listener.said(question, video, view, times))
    except (StretchError, SubtitlesError) as error:
        return Answer(question.id, "", status=error.status, detail=str(error))


def answer_key(row: SelectionRow, given: Material | Answer, choice: SubtitleChoice, answerer: Mapping[str, Any]) -> str:
    """The name of an answer: everything that decides it, nothing else."""
    question = row.question
    shown = [(frame.time, frame.index) for frame in row.selection.frames]
    fingerprint = None if row.video is None else row.video.fingerprint
    content: dict[str, Any] = {
        "video": given.view.fingerprint if isinstance(given, Material) else fingerprint,
        "frames": shown,
        "question": (question.text, question.options),
        "answerer": answerer,
    }
    if question.option_images:
        content["option_images"] = question.option_images
    if choice is not SubtitleChoice.NONE:
        lines = given.said.lines if isinstance(given, Material) else ()
        content["subtitles"] = [choice.value, [(line.start, line.end, line.text) for line in lines]]
    return digest(content)


def _sees_too_much(view: Video) -> str:
    return with_remedy(
        f"The selection shows moments outside of {view.start:.2f} s to {view.duration:.2f} s, which is all that this "
        "question may see.",
        "Select again, with a sampler that keeps to it: gens sample, or gens evaluate.",
    )
