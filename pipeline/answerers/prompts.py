"""What an answerer is asked, in words. Frames and chat markup are added by each answerer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.answerers import AnswerRequest
from pipeline.domain import OPTION_LETTERS, AnswerForm, Frame, Question, SubtitleLine, option_letter
from pipeline.errors import ConfigError, with_remedy
from pipeline.families.seam import Words, text_between_frames
from pipeline.identity import Label
from pipeline.option_labels import without_labels

_SLOT = re.compile(r"\{([a-z_]+)(?::(s|\.[0-9]f))?\}")
"""A slot; for seconds with the number of decimals, ``{start:.2f}``, or ``{start:s}`` for as many as there are, 4 at
most. Without, they have one."""
_SHOWN = ("duration", "frames", "times")
"""Slots that say what is shown: the seconds of the video, the number of frames, and their seconds."""
NO_FRAMES = with_remedy(
    "There is no frame to answer from.",
    "See the selection's status; selection.fill=uniform takes frames where the sampler names none.",
)
"""Detail of a request without frames."""
WITHOUT_PICTURES = with_remedy(
    "The options are pictures, and this answerer is given pictures of the video alone.",
    "Take one that is given both: answerer=openai, vllm, gpt4o or gemini; or leave such tasks out: "
    "benchmark.leave_out=[TASK] of HourVideo.",
)
"""Detail of a question whose options are pictures, for answerers that are given frames of the video alone."""


@dataclass(frozen=True)
class SubtitleForm:
    """Where the lines of subtitles go that a question comes with."""

    placement: Literal["before_question", "between_frames", "after_each_frame"]
    """``before_question``: all in one block. ``between_frames``: a line is placed before the first frame that is later
    than the line's middle, or after the last frame. ``after_each_frame``: after a frame stand all lines on screen from
    it to the next one, so that a long line stands several times. The latter two are for forms with an image a frame."""
    line: str
    """One line; holds ``{text}``, and may hold ``{start}`` and ``{end}``, its seconds."""
    block: str
    """The text that holds all ``{lines}`` and goes before the question; empty for ``between_frames``."""
    multiple_choice: str | None
    """The text of a question that comes with lines, where it is another; holds what ``multiple_choice`` holds."""
    separator: str
    """Between two lines."""

    def __post_init__(self) -> None:
        _check_slots("subtitles.line", self.line, ("text",), ("start", "end"))
        _check_slots("subtitles.block", self.block, ("lines",) if self.placement == "before_question" else ())
        if self.multiple_choice is not None:
            _check_slots(
                "subtitles.multiple_choice", self.multiple_choice, ("question", "options"), ("subtitles", *_SHOWN)
            )

    @property
    def is_parted(self) -> bool:
        """Whether lines stand among the frames."""
        return self.placement != "before_question"

    def formatted(self, line: SubtitleLine) -> str:
        """A line as the model reads it."""
        return _filled(self.line, {"text": line.text, "start": line.start, "end": line.end})

    def in_block(self, lines: Sequence[SubtitleLine]) -> str:
        """All lines as one text; empty without lines."""
        return _filled(self.block, {"lines": self.separator.join(map(self.formatted, lines))}) if lines else ""


@dataclass(frozen=True)
class AnswerPrompt:
    """The text of a question as a model is given it.

    The named ones under ``conf/answerer/prompt/`` each say whose wording they are. Slots are filled in one pass, so
    braces in a question or an option stay as they are, and a template may hold other braces (a JSON example, say).
    Where a template may hold more, these are ``{duration}``, ``{frames}`` and ``{times}``, what is shown, and
    ``{subtitles}``, which puts their block there instead of before everything.
    """

    name: Label[str]
    system: str | None
    """The system turn of a question with options; None: the answerer's own."""
    multiple_choice: str
    """Holds ``{question}`` and ``{options}``."""
    free: str
    """For a question without options; holds ``{question}``."""
    intervals: str
    """For a question that is answered with intervals of the video; holds ``{question}``, and may hold ``{options}``,
    which begin with a line feed and are empty for a question without."""
    option_line: str
    """One line of ``{options}``; holds ``{letter}`` and ``{option}``."""
    option_separator: str
    """Between two options."""
    answer_prefix: str
    """How the answer to a question with options begins: written for the model, which continues it."""
    subtitles: SubtitleForm

    def __post_init__(self) -> None:
        also = ("subtitles", *_SHOWN)
        _check_slots("multiple_choice", self.multiple_choice, ("question", "options"), also)
        _check_slots("free", self.free, ("question",), also)
        _check_slots("intervals", self.intervals, ("question",), ("options", *also))
        _check_slots("option_line", self.option_line, ("letter", "option"))

    def check_in_one(self) -> None:
        """For a form of frames that has no place between them.

        Raises:
            ConfigError: subtitles are to go there.
        """
        if self.subtitles.is_parted:
            raise text_between_frames()

    @property
    def tells_frames(self) -> bool:
        """Whether the text of a question with options says which frames are shown, and cannot be made without them."""
        return any(slot in _SHOWN for slot, _ in _SLOT.findall(self.multiple_choice))

    def words(self, request: AnswerRequest) -> Words:
        """The question with its options, lettered from A, the instruction how to answer, and the subtitles.

        A question that comes with a prompt of its own is put in those words; lines stand where this prompt has them.
        """
        lines, question = request.subtitles, request.question
        end, times = request.video.duration, [frame.time for frame in request.frames]
        if question.prompt is not None:
            text = self.subtitles.in_block(lines) + question.prompt.text
            return self._with_lines(Words(text, question.prompt.system, video_end=end), request)
        shown: dict[str, str | float] = {
            "duration": end,
            "frames": str(len(times)),
            "times": ", ".join(map(_seconds, times)),
        }
        words = Words(self.render(question, lines, shown), video_end=end)
        if question.options is not None and question.answer_form is AnswerForm.WORDS:
            words = replace(words, system=self.system, begun=self.answer_prefix)
        return self._with_lines(words, request)

    def render(
        self, question: Question, lines: Sequence[SubtitleLine] = (), shown: Mapping[str, str | float] | None = None
    ) -> str:
        """The text, with the block of subtitle lines before it where they are given in one.

        Args:
            question: what is asked.
            lines: the subtitles that go with it.
            shown: values of the slots that say what is shown; may be None for a prompt that holds none.
        """
        block = self.subtitles.in_block(lines)
        options = self.option_separator.join(
            _filled(self.option_line, {"letter": option_letter(place), "option": option})
            for place, option in enumerate(without_labels(question.options or ()))
        )
        if question.answer_form is AnswerForm.INTERVALS:
            template, options = self.intervals, f"\n{options}" if options else ""
        elif question.options is None:
            template = self.free
        else:
            template = (self.subtitles.multiple_choice if lines else None) or self.multiple_choice
        values = {**(shown or {}), "question": question.text.strip(), "options": options, "subtitles": block}
        is_placed = any(slot == "subtitles" for slot, _ in _SLOT.findall(template))
        return ("" if is_placed else block) + _filled(template, values)

    def _with_lines(self, words: Words, request: AnswerRequest) -> Words:
        """With the lines that stand among the frames; those of a block are in the text."""
        if request.subtitles and self.subtitles.placement == "between_frames":
            return self._parted(words, request.frames, request.subtitles)
        if request.subtitles and self.subtitles.placement == "after_each_frame":
            return self._after_each(words, [frame.time for frame in request.frames], request.subtitles)
        return words

    def _after_each(self, words: Words, times: Sequence[float], lines: Sequence[SubtitleLine]) -> Words:
        """With the lines after frames, as ``build_chat_messages`` of Video-MME-v2's script does it."""
        ends = [*times[1:], words.video_end]
        after = [
            self.subtitles.separator.join(
                self.subtitles.formatted(line) for line in lines if line.end >= start and line.start < end
            )
            for start, end in zip(times, ends, strict=True)
        ]
        return replace(words, between=("", *after[:-1]), text=after[-1] + words.text) if after else words

    def _parted(self, words: Words, frames: Sequence[Frame], lines: Sequence[SubtitleLine]) -> Words:
        """With the lines between the frames, as ``insert_subtitles_into_frames`` of LongVideoBench's code does it."""
        places = [""] * (len(frames) + 1)
        place = 0
        for line in lines:
            middle = (line.start + line.end) / 2
            while place < len(frames) and frames[place].time <= middle:
                place += 1
            places[place] += f"{self.subtitles.formatted(line)}\n"
        return replace(words, between=tuple(places[:-1]), text=places[-1] + words.text)


def as_words(lines: Sequence[SubtitleLine], special_tokens: Iterable[str]) -> tuple[SubtitleLine, ...]:
    """Subtitles with a space inside of everything that the model's tokenizer reads as markup: ``< |im_end|>``.

    Subtitles are plain words, and one that looks like markup must not cost the others.
    """
    tokens = sorted((token for token in special_tokens if len(token) > 1), key=len, reverse=True)
    told = []
    for line in lines:
        text = line.text
        for token in tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        told.append(replace(line, text=text))
    return tuple(told)


def question_fault(question: Question, special_tokens: Iterable[str]) -> str | None:
    """Why this question cannot be put to a model and what to do, or None if it can.

    Args:
        question: the question.
        special_tokens: strings that the model's tokenizer reads as markup (``<image>``, ``<|im_end|>``). In a question
            they would move the place of a frame or end the turn.
    """
    if question.fault or not question.text.strip():
        return question.fault or with_remedy(f"Question {question.id} has no text.", "Give it one.")
    options = question.options
    if options is not None:
        if not 2 <= len(options) <= len(OPTION_LETTERS):
            return with_remedy(
                f"Question {question.id} has {len(options)} options.",
                f"Give it 2 to {len(OPTION_LETTERS)}, or none at all.",
            )
        # A single one without text is asked as it stands: MLVU has three such questions, and its authors ask them.
        if not any(option.strip() for option in options):
            return with_remedy(f"Question {question.id} has options without any text.", "Give them one.")
    special = [token for token in special_tokens if token]
    sent = () if question.prompt is None else (question.prompt.text, question.prompt.system or "")
    words = "\n".join((question.text, *(options or ()), *sent))
    if markup := sorted({token for token in special if token in words}):
        return with_remedy(
            f"Question {question.id} holds {', '.join(markup)}, which this model reads as markup.",
            "Reword the question, or take another answerer=NAME.",
        )
    return None


def _check_slots(key: str, template: str, needed: Sequence[str], allowed: Sequence[str] = ()) -> None:
    found = {slot for slot, _ in _SLOT.findall(template)}
    if not set(needed) <= found <= {*needed, *allowed}:
        wanted = " and ".join(f"{{{slot}}}" for slot in needed) or "no slot"
        raise ConfigError(
            f"answerer.prompt.{key} has the slots {sorted(found)}, and must have {wanted}, and no other",
            f"write {wanted} once each in answerer.prompt.{key}, in your YAML under conf/answerer/prompt/",
        )


def _filled(template: str, values: Mapping[str, str | float]) -> str:
    return _SLOT.sub(lambda slot: _written(values[slot[1]], slot[2]), template)


def _written(value: str | float, decimals: str | None) -> str:
    if isinstance(value, str):
        return value
    return _seconds(value) if decimals == "s" else format(value, decimals or ".1f")


def _seconds(value: float) -> str:
    return str(round(float(value), 4))
