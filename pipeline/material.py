"""What an answerer is given with a question beside its frames: the part of the video it may know of, and subtitles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.answerers.over_limit import OverLimit
from pipeline.artefacts.rows import SelectionRow
from pipeline.domain import Answer, Status, Video
from pipeline.errors import StretchError, SubtitlesError, with_remedy
from pipeline.subtitles import Listener, Said, SubtitleChoice
from pipeline.video.fingerprint import file_fingerprint
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


def asked_of(
    row: SelectionRow, given: Material | Answer, choice: SubtitleChoice, over_limit: OverLimit
) -> dict[str, Any]:
    """All that the answerer is given for a question, as JSON values for the key of its answer.

    Labels, groups and evidence are no part of it. Scores are, where they decide which frames are left out.
    """
    question = row.question
    scored = over_limit is OverLimit.KEEP_BEST
    fingerprint = None if row.video is None else row.video.fingerprint
    content: dict[str, Any] = {
        "video": given.view.fingerprint if isinstance(given, Material) else fingerprint,
        "frames": [
            (frame.time, frame.index, frame.scale, frame.score if scored else None) for frame in row.selection.frames
        ],
        "question": (question.text, question.options),
    }
    if question.option_images:
        content["option_images"] = [_picture_content(path) for path in question.option_images]
    if choice is not SubtitleChoice.NONE:
        lines = given.said.lines if isinstance(given, Material) else ()
        content["subtitles"] = [choice.value, [(line.start, line.end, line.text) for line in lines]]
    if isinstance(given, Answer):
        content["failure"] = [given.status.value, given.detail]
    return content


def _picture_content(path: str) -> str:
    """The picture's own content, so that another picture under its name is another question."""
    try:
        return file_fingerprint(Path(path))
    except OSError:
        return path


def _sees_too_much(view: Video) -> str:
    return with_remedy(
        f"The selection shows moments outside of {view.start:.2f} s to {view.duration:.2f} s, which is all that this "
        "question may see.",
        "Select again, with a sampler that keeps to it: gens sample, or gens evaluate.",
    )
