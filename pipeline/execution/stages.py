"""The two stages as the driver sees them: what is known, what is missing, and the one writer of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.answer_requests import key_content, question_input
from pipeline.answerers import Answerer
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.results import Results, Sink, results_in
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Answer, Question, Relevance, Status
from pipeline.execution.answering import AnswerWorker, Showing
from pipeline.execution.events import following
from pipeline.execution.sampling import SampleWorker
from pipeline.execution.units import Lost, Row, SampleUnit
from pipeline.identity import answer_key, digest, identity_of
from pipeline.progress import note
from pipeline.samplers import ChecksQuestions, Sampler
from pipeline.subtitles import SubtitleFinder
from pipeline.terminal import remark
from pipeline.video import Reader


class SampleStage:
    """Stage 1 of a run.

    Args:
        questions: of the run.
        sampler: that scores them.
        reader: that reads the videos.
        cache: of relevances.
        into: takes the rows.

    Attributes:
        worker: does in this process what is missing.
        missing: units of the questions that are not known, once :meth:`known` has been exhausted.

    Raises:
        InputError: the sampler cannot score these questions.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        sampler: Sampler,
        reader: Reader,
        cache: RelevanceCache,
        into: Path | Results,
    ) -> None:
        if isinstance(sampler, ChecksQuestions):
            sampler.check(questions)
        self.worker = SampleWorker(sampler, reader, cache)
        self.missing: list[SampleUnit] = []
        self._questions, self._sampler, self._reader = questions, sampler, reader
        self._cache, self._into = cache, into
        self._held = ExitStack()

    def __enter__(self) -> SampleStage:
        with ExitStack() as held:
            self._sink = held.enter_context(results_in(self._into).sink(RelevanceRow))
            held.callback(self._reader.prefetch, None, None)
            report_outdated(self._sink)
            self._finished = held.enter_context(following("sampling", len(self._questions), self._cache))
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def known(self) -> Iterator[RelevanceRow]:
        """The rows that need no sampler."""
        for question in self._questions:
            if question.fault:
                yield self._kept(_invalid(question, self._sampler))
        units = _units(question for question in self._questions if not question.fault)
        self._reader.expect([unit.video for unit in units])
        for unit in units:
            known, left = self.worker.known(unit)
            self.missing += [left] if left.questions else []
            for row in known:
                yield self._kept(row)

    def has(self, result: Row | Lost) -> bool:
        """Whether a result is of this stage."""
        return isinstance(result, RelevanceRow) or (isinstance(result, Lost) and isinstance(result.unit, SampleUnit))

    def taken(self, result: Row | Lost) -> Iterator[RelevanceRow]:
        """The rows of a result, which are in the run folder now."""
        for row in self.worker.lost(result) if isinstance(result, Lost) else [cast("RelevanceRow", result)]:
            yield self._kept(row)

    def _kept(self, row: RelevanceRow) -> RelevanceRow:
        self._finished(row.relevance.status, kept=self._sink.keep(row))
        return row


@dataclass(frozen=True)
class Unanswered:
    """What identifies a question that is to be asked."""

    key: str
    """Of its answer."""
    file: tuple[str, str]
    """Path and fingerprint of its video."""


class AnswerStage:
    """Stage 2 of a run.

    Args:
        total: number of questions.
        answerer: that answers.
        reader: that reads the videos.
        cache: of answers.
        showing: how questions are put to the answerer.
        into: takes the rows.

    Attributes:
        worker: does in this process what is missing.
    """

    def __init__(
        self,
        total: int,
        answerer: Answerer,
        reader: Reader,
        cache: AnswerCache,
        showing: Showing,
        into: Path | Results,
    ) -> None:
        self.worker = AnswerWorker(answerer, reader, cache, showing)
        self._total, self._cache, self._showing = total, cache, showing
        self._identity = {**identity_of(answerer), "over_limit": showing.over_limit.value}
        self._finder = SubtitleFinder(showing.subtitles)
        self._into = into
        self._asked: dict[str, Question] = {}
        self._known = 0
        self._held = ExitStack()

    def __enter__(self) -> AnswerStage:
        with ExitStack() as held:
            self._sink = held.enter_context(results_in(self._into).sink(AnswerRow))
            report_outdated(self._sink)
            held.callback(self._tell_known)
            self._finished = held.enter_context(following("answering", self._total, self._cache))
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def _tell_known(self) -> None:
        """Print how many answers were there before."""
        if self._known:
            note(f"{self._known} of {self._total} already answered")

    def missing(self, row: SelectionRow) -> Unanswered | None:
        """What is to be asked for a selection; None where its answer is known, which is in the run folder now."""
        self._asked[row.question.id] = row.question
        given = question_input(row, self._finder)
        showing = self._showing
        key = answer_key(self._identity, key_content(row, given, showing.subtitles, showing.over_limit))
        kept = self._sink.find(row.question, key)
        if kept is not None and self._cache.counts(kept.answer):
            self._finished(kept.answer.status, kept=True)
            self._known += 1
            return None
        known = self.worker.known(key, row)
        if known is None and not isinstance(given, Answer):
            return Unanswered(key, given.file)
        self._known += known is not None
        self.take(self.worker.row(key, row, known or cast("Answer", given)))
        return None

    def take(self, result: Row | Lost) -> None:
        """Write the rows of a result."""
        for row in self.worker.lost(result) if isinstance(result, Lost) else [cast("AnswerRow", result)]:
            self._sink.append(row)
            self._finished(row.answer.status)

    def rows(self) -> Sequence[AnswerRow]:
        """All rows, in the order of the calls of :meth:`missing`."""
        return results_in(self._into).rows(AnswerRow, self._asked)


def report_outdated(sink: Sink[Any]) -> None:
    """Report how many rows of an earlier version stay in the file and are computed again."""
    if isinstance(sink, Journal) and sink.outdated:
        remark(
            f"{sink.path}: {sink.outdated} rows of an earlier version are kept, and their questions are computed again"
        )


def _invalid(question: Question, sampler: Sampler) -> RelevanceRow:
    """The row of a question that cannot be asked, because its benchmark's row cannot be used."""
    relevance = Relevance(question.id, (), (), status=Status.INVALID_QUESTION, detail=question.fault)
    return RelevanceRow(digest({"fault": question.fault}), sampler.name, question, None, relevance)


def _units(questions: Iterable[Question]) -> list[SampleUnit]:
    """All questions of one video are one unit."""
    videos: dict[str, list[Question]] = {}
    for question in questions:
        videos.setdefault(question.video, []).append(question)
    return [SampleUnit(path, tuple(asked)) for path, asked in videos.items()]
