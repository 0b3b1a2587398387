"""One card per question, with the steps by which each run came to its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.artefacts.grades import GradedBy
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.artefacts.stored import LastRead
from pipeline.benchmarks.grounding import HERE, interval_value
from pipeline.benchmarks.metrics import span_recall
from pipeline.domain import Answer, Cost, Question, SelectedFrame, Status, option_letter
from pipeline.ledger import alone
from pipeline.reports.briefs import RECALL_TOLERANCE
from pipeline.reports.document import thousands
from pipeline.reports.judged import labelled
from pipeline.reports.matrix import matrix
from pipeline.reports.outlines import answer_note, asked_by, outcome, stage_notes, verdict, words
from pipeline.reports.policies import policy_words
from pipeline.reports.runs import RunArtefacts, without_budget
from pipeline.reports.timeline import Timeline, clock, draw, number
from pipeline.reports.views import (
    AnswerView,
    Card,
    FrameView,
    GradeView,
    MatrixCell,
    Note,
    OptionView,
    Route,
    Verdict,
    WindowView,
)

_SAME_TIME = 0.05
"""Seconds. A smaller difference between the selected time and that of the frame seen is not mentioned."""
_END_OF_A_THOUGHT, _END_OF_A_PROMPT = 1000, 10_000
"""Characters. A prompt of 256 frames with their labels is whole, and so are the subtitles of some minutes."""


@dataclass(frozen=True)
class _RunRecord:
    """One run's record of one question."""

    place: int
    run: RunArtefacts
    label: str
    relevance: RelevanceRow | None
    selection: SelectionRow | None
    answer: AnswerRow | None

    @property
    def frames(self) -> tuple[SelectedFrame, ...]:
        return self.selection.selection.frames if self.selection else ()

    @property
    def letter(self) -> str:
        """The letter of the option read from the answer; empty where there is none."""
        option = self.answer.answer.option if self.answer else None
        return "" if option is None else option_letter(option)

    def verdict(self, question: Question) -> Verdict:
        return verdict(question, self.answer.answer if self.answer else None)

    @property
    def first_stage(self) -> tuple[object, ...]:
        """Key of the first stage: runs with the same key differ only in the second stage."""
        relevance = self.relevance.relevance if self.relevance else None
        chosen = self.selection.selection if self.selection else None
        return (
            self.run.sampler,
            chosen and (chosen.policy, chosen.budget, chosen.frames, chosen.status),
            relevance and (relevance.times, relevance.scores, relevance.status),
        )


def run_labels(runs: Sequence[RunArtefacts]) -> dict[str, str]:
    """The shortest labels that distinguish the runs, by run name; empty for a single run."""
    if len(runs) < 2:
        return {run.name: "" for run in runs}
    stages = (("sampler",), ("sampler", "frames"), ("sampler", "selection"), ("sampler", "selection", "frames"))
    for parts in (*stages, *(("benchmark", *stage) for stage in stages)):
        labels = {run.name: " → ".join(filter(None, (_stage_label(run, parts), run.answerer))) for run in runs}
        if len(set(labels.values())) == len(runs) and all(labels.values()):
            return labels
    return {run.name: run.name for run in runs}


def _stage_label(run: RunArtefacts, parts: Sequence[str]) -> str:
    words = {
        "benchmark": run.benchmark,
        "sampler": run.sampler,
        "selection": policy_words(run),
        "frames": f"K={run.budget}" if run.budget else "",
    }
    return " · ".join(filter(None, (words[part] for part in parts)))


def cards(
    runs: Sequence[RunArtefacts], labels: Mapping[str, str] | None = None, numbers: Sequence[int] | None = None
) -> Iterator[Card]:
    """A card for every question of any run, made as they are drawn.

    ``labels`` by run name are the runs' names on the cards; :func:`run_labels` by default. ``numbers`` are those of the
    cards that are made, in their order; all by default.
    """
    are_rows = labels is not None
    labels = run_labels(runs) if labels is None else labels
    asked = asked_by(runs)
    for at in range(1, len(asked) + 1) if numbers is None else numbers:
        question, places = asked[at - 1]
        last = _LastRows()
        records = [_record(place, runs[place], labels[runs[place].name], question, last) for place in places]
        yield _card(at, question, records, are_rows)


@dataclass(frozen=True)
class _LastRows:
    """What was read last of one question. Runs of one sampler follow each other and have equal rows."""

    relevance: LastRead[RelevanceRow] = field(default_factory=LastRead)
    selection: LastRead[SelectionRow] = field(default_factory=LastRead)
    answer: LastRead[AnswerRow] = field(default_factory=LastRead)


def _record(place: int, run: RunArtefacts, label: str, question: Question, last: _LastRows) -> _RunRecord:
    relevance, selection, answer = run.find
    return _RunRecord(
        place,
        run,
        label,
        relevance(question.id, last.relevance),
        selection(question.id, last.selection),
        answer(question.id, last.answer),
    )


def _card(at: int, question: Question, records: Sequence[_RunRecord], are_rows: bool) -> Card:
    stages: dict[tuple[object, ...], list[_RunRecord]] = {}
    for record in records:
        stages.setdefault(record.first_stage, []).append(record)
    verdicts = tuple(
        (record.place, record.label, record.verdict(question)) for record in records if record.run.answerer
    )
    return Card(
        number=at,
        question=question,
        options=tuple(
            OptionView(letter=option_letter(index), text=text, correct=index == question.correct)
            for index, text in enumerate(question.options or ())
        ),
        routes=tuple(_route(question, same) for same in stages.values()),
        verdicts=verdicts,
        disagree=bool(question.options)
        and len({outcome(record.answer.answer) for record in records if record.answer}) > 1,
        matrix=matrix(
            [
                (record.run, record.label, MatrixCell(record.verdict(question), record.letter))
                for record in records
                if record.run.answerer
            ],
            are_rows,
        ),
    )


def _route(question: Question, records: Sequence[_RunRecord]) -> Route:
    first = records[0]
    relevance = first.relevance.relevance if first.relevance else None
    evidence = question.evidence or ()
    recall = span_recall([frame.time for frame in first.frames], evidence, RECALL_TOLERANCE) if evidence else None
    twice = {name for name, count in Counter(record.run.answerer for record in records).items() if count > 1}
    return Route(
        sampler=first.run.sampler,
        selection=_selection_line(first),
        notes=_notes(first),
        timeline=_timeline(question, first),
        frames=tuple(
            FrameView(
                second=frame.time,
                clock=clock(frame.time),
                score="" if frame.score is None else number(frame.score),
                source=frame.source.value,
                scale="" if frame.scale in (None, 1.0) else number(frame.scale),
                shows_evidence=bool(evidence)
                and any(span_recall([frame.time], [span], RECALL_TOLERANCE) for span in evidence),
            )
            for frame in first.frames
        ),
        windows=tuple(
            WindowView(f"{clock(window.start)} to {clock(window.end)}", words(window.status), window.raw)
            for window in (relevance.windows if relevance else ())
        ),
        evidence_text=_evidence_text(recall, len(evidence), bool(first.selection)),
        evidence_missed=recall is not None and recall < 1 and first.selection is not None,
        cost=_cost(alone(relevance)) if relevance else "",
        answers=tuple(
            _answer(
                question, record, f"{record.run.answerer} ({record.run.name})" if record.run.answerer in twice else ""
            )
            for record in records
            if record.run.answerer
        ),
        runs=tuple(record.place for record in records),
    )


def _timeline(question: Question, record: _RunRecord) -> Timeline | None:
    """None if nothing has a time."""
    relevance = record.relevance.relevance if record.relevance else None
    row = record.relevance or record.selection
    known = [
        *(relevance.times[-1:] if relevance else ()),
        *(frame.time for frame in record.frames),
        *(span.end for span in question.evidence or ()),
    ]
    duration = row.video.duration if row and row.video else max(known, default=0.0)
    return draw(duration, relevance, record.frames, question.evidence or ()) if duration > 0 else None


def _selection_line(record: _RunRecord) -> str:
    if record.selection is None:
        return "nothing selected yet"
    chosen = record.selection.selection
    usual = without_budget(chosen.policy) == record.run.selection
    told = policy_words(record.run) if usual else chosen.policy
    return f"{told}: {len(chosen.frames)} of at most {chosen.budget} frames"


def _notes(record: _RunRecord) -> tuple[Note, ...]:
    return stage_notes(
        record.relevance.relevance if record.relevance else None,
        record.selection.selection if record.selection else None,
    )


def _read_as(question: Question, answer: Answer) -> str:
    """The option's letter, or the intervals and how well they meet the evidence."""
    if answer.intervals:
        told = ", ".join(f"{span.start:g} to {span.end:g} s" for span in answer.intervals)
        worth = interval_value(question, answer, HERE)
        return told if worth is None else f"{told}, IoU {worth:.2f}"
    return option_letter(answer.option) if answer.option is not None and question.options else ""


def _answer(question: Question, record: _RunRecord, label: str) -> AnswerView:
    label = label or record.run.answerer
    found = record.verdict(question)
    if record.answer is None:
        return AnswerView(label, found, "", "", None, "", "")
    answer = record.answer.answer
    note = answer_note(answer, bool(record.frames), _notes(record))
    is_told_above = note is None and answer.status is not Status.OK
    seen = "nothing to answer from" if is_told_above else _frames_seen(answer, record.frames)
    return AnswerView(
        label,
        found,
        _read_as(question, answer),
        answer.text,
        note,
        seen,
        _cost(alone(answer)),
        _shortened(answer.thought.strip(), _END_OF_A_THOUGHT, ANSWERS_FILE),
        _shortened(answer.prompt, _END_OF_A_PROMPT, ANSWERS_FILE),
        tuple(_grades(question, record.run)),
    )


def _grades(question: Question, run: RunArtefacts) -> Iterator[GradeView]:
    for label, graded in labelled(run.grades).items():
        row = graded.rows.find(question.id) if question.id in graded.briefs else None
        if row is not None:
            said = row.grade
            file = graded.rows.path.name
            parts = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in said.parts.items())
            yield GradeView(
                judge=label,
                told=words(said.status) if said.score is None else _scored(said.score, graded.by) + parts,
                has_failed=said.score is None,
                detail=said.detail,
                replies=tuple(_shortened(reply.strip(), _END_OF_A_THOUGHT, file) for reply in said.replies),
            )


def _scored(score: float, by: GradedBy) -> str:
    """The score on its scale; where that is wrong or right, the word."""
    if (by.lowest, by.highest) == (0.0, 1.0) and score in (0.0, 1.0):
        return "right" if score else "wrong"
    return f"{score:g} on a scale of {by.lowest:g} to {by.highest:g}"


def _shortened(text: str, end: int, file: str) -> str:
    """A long text without its middle, since a page may hold thousands.

    ``end`` characters of each end are kept; ``file`` has all of it.
    """
    left_out = len(text) - 2 * end
    if left_out <= 0:
        return text
    note = f"[... {left_out} characters are left out here, and are in {file} ...]"
    return f"{text[:end]}\n{note}\n{text[-end:]}"


def _frames_seen(answer: Answer, frames: Sequence[SelectedFrame]) -> str:
    if not answer.frame_times:
        return answer.form
    count = len(answer.frame_times)
    parts = [answer.form] if answer.form else []
    parts.append(f"saw {count} frame{'' if count == 1 else 's'}")
    if answer.left_out:
        parts.append(f"{len(answer.left_out)} of {len(frames)} left out, because they did not fit")
    elif count != len(frames):
        parts.append(f"though {len(frames)} were selected")
    else:
        off = max(abs(seen - frame.time) for seen, frame in zip(answer.frame_times, frames, strict=True))
        if off > _SAME_TIME:
            parts.append(f"up to {off:.2f} s from the times selected")
    return ", ".join(parts)


def _evidence_text(recall: float | None, spans: int, selected: bool) -> str:
    if recall is None or not selected:
        return ""
    shown = round(recall * spans)
    if spans == 1:
        return "evidence shown" if shown else "evidence missed"
    return f"{shown} of {spans} evidence spans shown"


def _cost(cost: Cost) -> str:
    """The cost of a question alone, since what it spent depends on which questions it shared work with."""
    parts = [f"{cost.seconds:.3g} s"] if cost.seconds else []
    if cost.prompt_tokens or cost.output_tokens:
        thinking = round(cost.more.get("thinking_tokens", 0))
        of_a_thought = f" ({thousands(thinking)} of a thought)" if thinking else ""
        parts.append(f"{thousands(cost.prompt_tokens)} + {thousands(cost.output_tokens)} tokens{of_a_thought}")
    if cost.dollars:
        parts.append(f"${cost.dollars:.4f}")
    return ", ".join(parts)


def routes_with_pictures(found: Sequence[Card], limit: int) -> list[tuple[Card, int]]:
    """The routes (card and place in it) that get pictures: routes of marked cards come first.

    ``limit`` is the number of frames in total; a route has pictures of all its frames or of none.
    """
    chosen: list[tuple[Card, int]] = []
    room = limit
    for card in sorted(found, key=lambda card: not card.marks):
        for place, route in enumerate(card.routes):
            if 0 < len(route.frames) <= room:
                room -= len(route.frames)
                chosen.append((card, place))
    return chosen
