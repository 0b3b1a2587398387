"""The second stage before it begins: the words of every question, and whether they fit with the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.checks.limits import CountsFrameTokens, Fit, fit
from pipeline.checks.memory import local_folder
from pipeline.checks.remedies import checkpoints
from pipeline.checks.words import word_counter
from pipeline.config import build
from pipeline.domain import Question, SubtitleLine, Video
from pipeline.errors import PipelineError
from pipeline.selection.sizes import Size
from pipeline.subtitles import SubtitleChoice, at_times, within

HALVINGS = 4
"""Of a frame's area, in search of one with which all frames fit."""


def fitted(
    questions: Sequence[Question],
    clips: Mapping[str, Video],
    sizes: Mapping[str, Sequence[Size]],
    answerer: Answerer,
    answer_tokens: int,
    lines: Mapping[str, tuple[SubtitleLine, ...]],
) -> Fit:
    """Lay every question beside the answerer's limits.

    Args:
        questions: all of the run.
        clips: clips by question id.
        sizes: frames at most, by question id.
        answerer: whose limits and prompt.
        answer_tokens: kept for the answer.
        lines: the subtitles that go with a question, by its id.

    Raises:
        CheckpointError: the limits stand in a checkpoint that cannot be found.
    """
    limits = answerer.limits()
    folders = [local_folder(checkpoint) for _, _, checkpoint in checkpoints(answerer, "answerer")]
    counter = word_counter(next(iter(folders), None))
    here = [question for question in questions if question.id in clips and question.id in sizes]
    texts = [_words(answerer, question, clips[question.id], lines.get(question.id, ())) for question in here]
    words = dict(zip([question.id for question in here], counter.count(texts), strict=True))
    frames = answerer if isinstance(answerer, CountsFrameTokens) else None
    return fit(here, clips, sizes, limits, frames, words, answer_tokens, counter.exact)


def given_lines(
    clips: Mapping[str, Video],
    lines: Mapping[str, tuple[SubtitleLine, ...]],
    choice: SubtitleChoice,
    budget: int,
) -> dict[str, tuple[SubtitleLine, ...]]:
    """The lines of each question that the answerer will be given; at frames, as if these were spread evenly."""
    given = {}
    for question_id, said in lines.items():
        if question_id in clips:
            clip = clips[question_id]
            heard = within(said, clip.start, clip.duration)
            if choice is SubtitleChoice.AT_FRAMES:
                apart = (clip.duration - clip.start) / budget
                heard = at_times(heard, [clip.start + apart * (place + 0.5) for place in range(budget)])
            given[question_id] = heard
    return given


def smaller_frames(
    node: DictConfig,
    plugins: Sequence[str],
    questions: Sequence[Question],
    clips: Mapping[str, Video],
    sizes: Mapping[str, Sequence[Size]],
    found: Fit,
) -> list[str]:
    """The override of the frames' area with which everything fits, where the answerer has one and it is enough.

    Args:
        node: the answerer's configuration.
        plugins: as in :func:`pipeline.config.build`.
        questions: all of the run.
        clips: clips by question id.
        sizes: frames at most, by question id.
        found: what does not fit as configured.
    """
    if node.get("max_pixels") is None or node.get("frame_size") is not None:
        return []
    smallest = node.get("min_pixels") or 1
    for halving in range(1, HALVINGS + 1):
        pixels = max(smallest, node.max_pixels >> halving)
        smaller = node.copy()
        smaller.max_pixels = pixels
        try:
            answerer = build(smaller, "answerer", plugins)
        except PipelineError:
            return []
        if not isinstance(answerer, CountsFrameTokens):
            return []
        words = {load.question_id: load.words for load in found.loads}
        here = [question for question in questions if question.id in words]
        tried = fit(here, clips, sizes, found.limits, answerer, words, found.answer_tokens, found.exact_words)
        if not tried.over:
            return [f"answerer.max_pixels={pixels}"]
    return []


def _words(answerer: Answerer, question: Question, video: Video, lines: tuple[SubtitleLine, ...]) -> str:
    """All that goes to the model beside frames and their labels."""
    prompt = getattr(answerer, "prompt", None)
    if isinstance(prompt, AnswerPrompt):
        words = prompt.words(AnswerRequest(question, video, (), lines))
        return "".join([words.system or "", words.text, words.begun])
    return "\n".join([*(line.text for line in lines), question.text, *(question.options or ())])
