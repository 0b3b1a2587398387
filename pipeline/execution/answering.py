"""Stage 2 as units: the worker that answers questions from their selected frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import takewhile

from pipeline.answer_requests import OverLimit, QuestionInput, Requests, question_input
from pipeline.answerers import Answerer, Repeats
from pipeline.artefacts.cache import AnswerCache
from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.domain import Answer, Question, Status
from pipeline.execution.units import AnswerUnit, Lost, Unit
from pipeline.subtitles import SubtitleChoice, SubtitleFinder
from pipeline.validation import checked_answer
from pipeline.video import Reader


@dataclass(frozen=True)
class Showing:
    """How questions are put to an answerer."""

    over_limit: OverLimit
    subtitles: SubtitleChoice
    batch: int
    """Questions that are in the model, or sent to a server, at once."""


class AnswerWorker:
    """Answers the questions of units with an answerer, whose model is loaded for the first of them.

    Args:
        answerer: that answers.
        reader: that reads the videos.
        cache: of answers, where new ones are kept if the answerer is repeatable.
        showing: of the questions.
    """

    def __init__(self, answerer: Answerer, reader: Reader, cache: AnswerCache, showing: Showing) -> None:
        self._answerer = answerer
        self._reader = reader
        self._showing = showing
        self._shared = cache if isinstance(answerer, Repeats) and answerer.is_repeatable else None
        self._asked: dict[str, tuple[str, SelectionRow]] = {}
        """Key and selection of each question in hand."""
        self._is_stopping = False

    def rows(self, units: Iterable[Unit | None]) -> Iterator[AnswerRow]:
        """As :class:`pipeline.execution.units.Worker`."""
        showing, finder = self._showing, SubtitleFinder(self._showing.subtitles)
        wanted = (unit for unit in units if unit is None or isinstance(unit, AnswerUnit))
        inputs = (None if unit is None else self._inputs(unit, finder) for unit in wanted)
        requests = Requests(inputs, self._answerer, self._reader, showing.over_limit, showing.batch)
        begun = takewhile(lambda _: not self._is_stopping, requests)
        with closing(self._answerer.answer(begun, showing.batch)) as answers, closing(requests):
            for given in answers:
                checked = checked_answer(given, self._question(given.question_id), self._answerer.name)
                yield self._row(requests.recorded(checked))
                for failed in requests.failures():
                    yield self._row(failed)
        for failed in requests.failures():
            yield self._row(failed)

    def stop(self) -> None:
        """As :class:`pipeline.execution.units.Worker`; requests that the answerer has drawn are answered."""
        self._is_stopping = True

    def row(self, key: str, selected: SelectionRow, given: Answer) -> AnswerRow:
        """The row of an answer, which is kept for other runs."""
        if self._shared is not None:
            self._shared.keep(key, given)
        return AnswerRow(key, selected.sampler, self._answerer.name, selected.question, given)

    def known(self, key: str, selected: SelectionRow) -> Answer | None:
        """The answer of another run."""
        return None if self._shared is None else self._shared.find(key, selected.question.id)

    def lost(self, lost: Lost) -> list[AnswerRow]:
        """The rows of a unit on which two workers died. What one of them answered and kept before is an answer."""
        assert isinstance(lost.unit, AnswerUnit)
        rows = []
        for key, row in lost.unit.selections:
            kept = self.known(key, row)
            failed = Answer(row.question.id, "", status=Status.CRASHED, detail=lost.detail)
            rows.append(self.row(key, row, replace(kept, cached=False) if kept else failed))
        return rows

    def close(self) -> None:
        """Free the answerer's model."""
        self._answerer.close()

    def _inputs(self, unit: AnswerUnit, finder: SubtitleFinder) -> list[QuestionInput | Answer]:
        self._asked |= {row.question.id: (key, row) for key, row in unit.selections}
        return [question_input(row, finder) for _, row in unit.selections]

    def _question(self, question_id: str) -> Question:
        return self._asked[question_id][1].question

    def _row(self, given: Answer) -> AnswerRow:
        return self.row(*self._asked.pop(given.question_id), given)
