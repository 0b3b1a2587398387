"""What a session gives: the selected frames of a question, and its answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Cost, FrameOrigin, Question, SelectedFrame, Status, option_letter
from pipeline.errors import ChangedVideoError
from pipeline.progress import silently
from pipeline.video import Reader

if TYPE_CHECKING:
    from PIL.Image import Image

_CARD_HEIGHT = "44rem"
_TIMELINE_HEIGHT = "9rem"


@dataclass(frozen=True)
class Drawing:
    """A drawing for notebooks: ``html`` needs no other file and no script. As text it says what it shows."""

    summary: str
    html: str

    def __str__(self) -> str:
        return self.summary

    def _repr_html_(self) -> str:
        return _framed(self.html, self.summary, _TIMELINE_HEIGHT)


class _Pictures:
    """The pictures of selected frames, decoded together when the first of them is asked for."""

    def __init__(self, reader: Reader, selected: SelectionRow) -> None:
        self._reader = reader
        self._selected = selected
        self._found: Sequence[Image] | None = None
        self._lock = threading.Lock()

    def at(self, place: int) -> Image:
        with self._lock:
            if self._found is None:
                self._found = self._decoded()
            return self._found[place]

    def _decoded(self) -> Sequence[Image]:
        from PIL.Image import fromarray

        video = self._selected.video
        assert video is not None  # it has selected frames
        if self._reader.probe(video.path).fingerprint != video.fingerprint:
            raise ChangedVideoError(f"{video.path} has changed since its frames were selected", "ask again")
        times = [frame.time for frame in self._selected.selection.frames]
        with self._reader.open(video.path) as frames:
            return [fromarray(frame.pixels) for frame in frames.frames_at(times)]


@dataclass(frozen=True)
class Moment:
    """A selected frame."""

    time: float
    """Seconds on the clock that players show."""
    index: int
    """Native frame index."""
    score: float | None
    """The sampler's; None where the frame was not chosen for its score."""
    source: FrameOrigin
    """Why it was selected."""
    scale: float | None
    """Factor on each side at which the answerer sees it; None leaves the size to the answerer."""
    _place: int = field(repr=False)
    _pictures: _Pictures = field(repr=False, compare=False)

    @property
    def image(self) -> Image:
        """The picture as a PIL image, at the video's own size.

        All selected frames are decoded when the first picture is asked for, and kept with the result. This works after
        the session is closed, too.

        Raises:
            VideoError: the video is gone or has changed since.
        """
        return self._pictures.at(self._place)


@dataclass(frozen=True, repr=False)
class Selected:
    """The frames of one question: what stage 1 gives, and what stage 2 takes.

    In a notebook it shows itself as the card of a report does.
    """

    row: SelectionRow
    """As in ``selections.jsonl``."""
    relevance: RelevanceRow | None
    """The sampler's scores; None for a selection that was read from a file."""
    _reader: Reader = field(compare=False)

    @property
    def question(self) -> Question:
        """The question."""
        return self.row.question

    @property
    def status(self) -> Status:
        """``ok``, or the name of what prevented a selection. ``frames`` may be there all the same, by a fallback."""
        return self.row.selection.status

    @property
    def detail(self) -> str:
        """For a failure, what happened and what to do."""
        return self.row.selection.detail

    @cached_property
    def frames(self) -> tuple[Moment, ...]:
        """The selected frames in order of time, each with its ``time``, ``score`` and ``image``."""
        pictures = _Pictures(self._reader, self.row)
        return tuple(_moment(frame, place, pictures) for place, frame in enumerate(self.row.selection.frames))

    @property
    def scores(self) -> tuple[tuple[float, float], ...]:
        """Second and score of each candidate frame; empty for a sampler without scores, and for a row of a file."""
        said = None if self.relevance is None else self.relevance.relevance
        return () if said is None else tuple(zip(said.times, said.scores, strict=True))

    def timeline(self) -> Drawing:
        """The video's time axis as the report draws it: scores of all candidate frames, evidence, selected frames.

        It is HTML with an inline SVG, which a notebook shows and ``.html`` holds; ``str()`` says the same in words. The
        figures themselves are :attr:`scores`.
        """
        return _drawing(self, None)

    def __repr__(self) -> str:
        return f"<Selected: {self.status}, {len(self.frames)} frames for {self.question.text!r}>"

    def _repr_html_(self) -> str:
        return _card(self, None)


@dataclass(frozen=True, repr=False)
class Result:
    """The answer to one question. In a notebook it shows itself as the card of a report does."""

    selected: Selected
    """The frames that it rests on."""
    row: AnswerRow
    """As in ``answers.jsonl``."""

    @property
    def question(self) -> Question:
        """The question."""
        return self.row.question

    @property
    def status(self) -> Status:
        """``ok``, or the name of what prevented an answer."""
        return self.row.answer.status

    @property
    def detail(self) -> str:
        """For a failure, what happened and what to do."""
        return self.row.answer.detail

    @property
    def answer(self) -> str | None:
        """The text of the option that was read, or what the model answered to a free question; None for a failure."""
        if self.status is not Status.OK:
            return None
        options, option = self.question.options, self.option
        return self.text if options is None or option is None else options[option]

    @property
    def option(self) -> int | None:
        """The option that was read, as its place in ``options``; None for free questions and failures."""
        return self.row.answer.option if self.status is Status.OK else None

    @property
    def letter(self) -> str | None:
        """The option as a letter."""
        return None if self.option is None else option_letter(self.option)

    @property
    def text(self) -> str:
        """What the model said, word for word; of a failure, too."""
        return self.row.answer.text.strip()

    @property
    def right(self) -> bool | None:
        """Whether the right option was read; None where it was not given with the question."""
        return self.row.correct

    @property
    def cost(self) -> Cost:
        """The cost of the answer."""
        return self.row.answer.cost

    @property
    def prompt(self) -> str:
        """The text that the answerer was sent, with a mark in the place of each frame."""
        return self.row.answer.prompt

    @property
    def frames(self) -> tuple[Moment, ...]:
        """The selected frames in order of time, each with its ``time``, ``score`` and ``image``."""
        return self.selected.frames

    def timeline(self) -> Drawing:
        """As :meth:`Selected.timeline`."""
        return _drawing(self.selected, self.row)

    def __repr__(self) -> str:
        said = "" if self.answer is None else f" {self.letter}. {self.answer}" if self.letter else f" {self.answer}"
        return f"<Result: {self.status}{said}>"

    def _repr_html_(self) -> str:
        return _card(self.selected, self.row)


def _moment(frame: SelectedFrame, place: int, pictures: _Pictures) -> Moment:
    return Moment(frame.time, frame.index, frame.score, frame.source, frame.scale, place, pictures)


def _drawing(selected: Selected, answered: AnswerRow | None) -> Drawing:
    from pipeline.reports.single import timeline_page

    return Drawing(*timeline_page(selected.row, selected.relevance, answered))


def _card(selected: Selected, answered: AnswerRow | None) -> str:
    from pipeline.reports.single import card_page

    with silently():
        page = card_page(selected.row, selected.relevance, answered, selected._reader)
    return _framed(page, f"Card of the question: {selected.question.text}", _CARD_HEIGHT)


def _framed(page: str, title: str, height: str) -> str:
    """A page inside another one: neither's style reaches the other."""
    style = f"width: 100%; height: {height}; border: 0; resize: vertical"
    return f'<iframe sandbox title="{escape(title)}" style="{style}" srcdoc="{escape(page)}"></iframe>'
