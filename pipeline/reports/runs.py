"""Reads run folders for a report, also those of unfinished runs."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pipeline.artefacts.folder import (
    ANSWERS_FILE,
    CONFIG_FILE,
    QUESTIONS_FILE,
    RELEVANCE_FILE,
    RUN_FILE,
    SELECTIONS_FILE,
    read_questions,
    sibling_questions,
)
from pipeline.artefacts.rows import AnswerRow, KeyedRow, RelevanceRow, Row, SelectionRow
from pipeline.artefacts.stored import KnownLines, LastNotes, LastRead, StoredRows
from pipeline.benchmarks.grounding import interval_rules_for
from pipeline.benchmarks.official import rules_for
from pipeline.domain import Question
from pipeline.errors import InputError
from pipeline.reports.briefs import (
    AnswerNote,
    RelevanceNote,
    RunBriefs,
    Sampled,
    SelectionBrief,
    answer_note,
    relevance_note,
    run_briefs,
    sampled,
    selection_note,
)
from pipeline.reports.judged import RunGrades, read_grades
from pipeline.terminal import remark
from pipeline.wellformed import loaded, loaded_yaml

N = TypeVar("N")
Find: TypeAlias = Callable[[str, LastRead[KeyedRow]], KeyedRow | None]
"""Gives the row of a question by its id, or what was read last if another run has the same."""
_File: TypeAlias = tuple[int, int, int, int]
"""Device, number, size and time of change: links to one file have the same."""
_FACTS = ("command", "python", "machine", "gpu", "commit")
"""Of ``run.json``. On which host it ran is not shown: a page may be sent to others."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_JOURNALS = (QUESTIONS_FILE, RELEVANCE_FILE, SELECTIONS_FILE, ANSWERS_FILE)


@dataclass(frozen=True)
class RunArtefacts:
    """All results of one run; any part may be empty. Rows may be read from the disk whenever they are used."""

    name: str
    """Unique among the runs of a report."""
    relevance: Sequence[RelevanceRow] = ()
    selections: Sequence[SelectionRow] = ()
    answers: Sequence[AnswerRow] = ()
    settings: str = ""
    """The resolved configuration as YAML text."""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    day: str = ""
    """When it was started, as 2026-11-26; empty if that is not known."""
    asked: tuple[Question, ...] = ()
    """The questions of the run. Empty if they are not known: then those with a row count as asked."""
    grades: tuple[RunGrades, ...] = ()
    """Of its free answers, judge by judge."""

    @cached_property
    def briefs(self) -> RunBriefs:
        """The briefs of every row."""
        rules, of_intervals = rules_for(self.benchmark), interval_rules_for(self.benchmark)
        scored = {row.question.id: relevance_note(row) for row in _without_numbers(self.relevance)}
        return run_briefs(
            sampled(scored, {question_id: place for place, question_id in enumerate(scored)}),
            {row.question.id: selection_note(row) for row in self.selections},
            {row.question.id: answer_note(row, rules, of_intervals) for row in self.answers},
        )

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Every question that was asked or has a row, by id, in the order of the benchmark as far as it is known."""
        found = {question.id: question for question in self.asked}
        if self.asked and any(isinstance(rows, StoredRows) for rows in (self.relevance, self.selections, self.answers)):
            return self.asked  # rows of other questions are not read
        for row in self._rows:
            found.setdefault(row.question.id, row.question)
        return tuple(found.values())

    @cached_property
    def sampler(self) -> str:
        """The sampler's name, from the rows or else from the settings."""
        for row in self._rows:
            return row.sampler
        return self._named_in_settings("sampler")

    @cached_property
    def answerer(self) -> str:
        """The answerer's name; empty for a run of the first stage alone."""
        for row in self.answers:
            return row.answerer
        return self._named_in_settings("answerer")

    @cached_property
    def benchmark(self) -> str:
        """The benchmark's name from the settings; empty where they do not name it."""
        return self._named_in_settings("benchmark")

    @property
    def is_ask(self) -> bool:
        """Whether it is a run of ``gens ask``: one question of somebody's, and no part of a measurement."""
        return "question" in self.parsed_settings and "benchmark" not in self.parsed_settings

    @cached_property
    def selection(self) -> str:
        """The usual policy of its selections in one line, without the budget; empty where nothing was selected.

        Single questions may differ, for instance where the whole video fits the budget.
        """
        policies, _ = self._usual
        # Told by itself: runs that differ in the number of frames alone are points of one curve.
        return without_budget(policies.most_common(1)[0][0]) if policies else ""

    @cached_property
    def budget(self) -> int | None:
        """Frames a question may have, as most of its selections say, or else the settings; None if neither does."""
        _, budgets = self._usual
        if budgets:
            return budgets.most_common(1)[0][0]
        node = self.parsed_settings.get("selection")
        told = node.get("budget") if isinstance(node, dict) else None
        return told if isinstance(told, int) else None

    @cached_property
    def _usual(self) -> tuple[Counter[str], Counter[int]]:
        """Policies and budgets of the selections."""
        chosen = [brief.selection for brief in self.briefs.of.values() if brief.selection]
        return Counter(brief.policy for brief in chosen), Counter(brief.budget for brief in chosen)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The parts that are missing, one sentence each."""
        total = len(self.questions)
        if not total:
            return ("No question has been worked on yet.",)
        stages: list[tuple[str, Sequence[object]]] = [(SELECTIONS_FILE, self.selections)]
        # A run that answers from a selection file has no sampler of its own, and nothing to miss.
        if self.relevance or not self.parsed_settings or "sampler" in self.parsed_settings:
            stages.insert(0, (RELEVANCE_FILE, self.relevance))
        if self.answerer:
            stages.append((ANSWERS_FILE, self.answers))
        return tuple(
            f"{file} has no rows." if not rows else f"{file} holds {len(rows)} of {total} questions."
            for file, rows in stages
            if len(rows) < total
        )

    @cached_property
    def parsed_settings(self) -> Mapping[str, Any]:
        """The settings as a mapping; empty where they are missing or cannot be read."""
        return _mapping(self.settings, loaded_yaml)

    def within(self, ids: Collection[str]) -> RunArtefacts:
        """The run restricted to these questions."""
        return replace(
            self,
            relevance=_within(self.relevance, ids),
            selections=_within(self.selections, ids),
            answers=_within(self.answers, ids),
            asked=tuple(question for question in self.asked if question.id in ids),
            grades=tuple(each.within(ids) for each in self.grades),
        )

    @cached_property
    def find(self) -> tuple[Find[RelevanceRow], Find[SelectionRow], Find[AnswerRow]]:
        """What gives the relevance, the selection and the answer of a question, or None."""
        return _finder(self.relevance), _finder(self.selections), _finder(self.answers)

    @property
    def _rows(self) -> Iterator[RelevanceRow | SelectionRow | AnswerRow]:
        return itertools.chain(_without_numbers(self.relevance), self.selections, self.answers)

    def _named_in_settings(self, group: str) -> str:
        node = self.parsed_settings.get(group)
        return str(node.get("name", "")) if isinstance(node, dict) else ""


@dataclass
class _Alike:
    """What runs over the same questions have alike, which is read and held once."""

    asked: tuple[Question, ...]
    by_id: Mapping[str, Question]
    relevances: KnownLines[RelevanceNote] = field(default_factory=KnownLines)
    selections: KnownLines[SelectionBrief] = field(default_factory=KnownLines)
    scored: dict[_File, tuple[StoredRows[RelevanceRow], Sampled]] = field(default_factory=dict)
    chosen: dict[_File, tuple[StoredRows[SelectionRow], Mapping[str, SelectionBrief]]] = field(default_factory=dict)
    """By the file: the folders of a sweep may have links to one."""


@dataclass
class _Shared:
    """What runs that are read together have alike."""

    questions: dict[bytes, _Alike] = field(default_factory=dict)
    """By the content of the file: all runs of a sweep have the same."""
    ids: list[dict[str, int]] = field(default_factory=list)
    """Of files with rows of the same questions in the same order."""

    def of(self, folder: Path) -> _Alike:
        path = folder / QUESTIONS_FILE
        key = hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest()
        if key not in self.questions:
            asked = read_questions(folder)
            if not asked:
                # Without questions of their own, runs may ask others under the same ids.
                return _Alike((), sibling_questions(folder / ANSWERS_FILE))
            self.questions[key] = _Alike(asked, {question.id: question for question in asked})
        return self.questions[key]


def read_run(folder: Path, name: str) -> RunArtefacts:
    """Read one run folder. Rows of questions that it no longer asks, or asks differently now, are passed over.

    Raises:
        InputError: a row in it cannot be used.
    """
    return _read_run(folder, name, _Shared())


def _read_run(folder: Path, name: str, shared: _Shared) -> RunArtefacts:
    facts, day = _facts(folder / RUN_FILE)
    alike = shared.of(folder)
    run = RunArtefacts(
        name,
        settings=_text(folder / CONFIG_FILE),
        command=facts.pop("command", ""),
        versions=facts,
        day=day,
        asked=alike.asked,
    )
    rules, of_intervals = rules_for(run.benchmark), interval_rules_for(run.benchmark)

    def rows(
        kind: type[Row], path: Path, note: Callable[[Row], N], lines: KnownLines[N] | None = None
    ) -> tuple[StoredRows[Row], dict[str, N]]:
        stored, notes = StoredRows.noted(kind, path, alike.by_id, note, lines)
        stored.share_ids(shared.ids)
        return stored, notes

    def relevances(path: Path) -> tuple[StoredRows[RelevanceRow], Sampled]:
        stored, notes = rows(RelevanceRow, path, relevance_note, alike.relevances)
        found = sampled(notes, stored.order)
        return stored, next((same for _, same in alike.scored.values() if same.is_same(found)), found)

    def selections(path: Path) -> tuple[StoredRows[SelectionRow], Mapping[str, SelectionBrief]]:
        return rows(SelectionRow, path, selection_note, alike.selections)

    def answers(path: Path) -> tuple[Sequence[AnswerRow], Mapping[str, AnswerNote]]:
        # Not shared: what an answer is worth depends on the benchmark that a run names.
        return rows(AnswerRow, path, lambda row: answer_note(row, rules, of_intervals)) if path.is_file() else ((), {})

    scored, of_scored = _once(folder / RELEVANCE_FILE, relevances, alike.scored) or ((), sampled({}, {}))
    chosen, of_chosen = _once(folder / SELECTIONS_FILE, selections, alike.chosen) or ((), {})
    given, of_given = answers(folder / ANSWERS_FILE)
    grades = read_grades(folder, alike.by_id, given)
    run = replace(run, relevance=scored, selections=chosen, answers=given, grades=grades)
    # The property's value is known by now. A run that is made from this one, with other rows, finds its own.
    vars(run)["briefs"] = run_briefs(of_scored, of_chosen, of_given)
    return run


def collect(folders: Sequence[Path]) -> list[RunArtefacts]:
    """Every run at or below ``folders``: by benchmark, sampler, selection, number of frames and answerer.

    A run with a row that cannot be used, or a file that may not be read, is left out and named on standard error.

    Raises:
        InputError: there is no run, or none that can be used.
    """
    places = sorted({path.resolve().parent for folder in folders for file in _JOURNALS for path in folder.rglob(file)})
    if not places:
        raise InputError(
            f"no run in {', '.join(str(folder) for folder in folders)}",
            f"name a run folder, or one above it: a run folder holds {', '.join(_JOURNALS[:-1])} or {_JOURNALS[-1]}",
        )
    base = Path(os.path.commonpath([place.parent for place in places]))
    runs: list[RunArtefacts] = []
    shared = _Shared()
    unreadable: list[InputError] = []
    for place in places:
        try:
            runs.append(_read_run(place, place.relative_to(base).as_posix(), shared))
        except InputError as error:
            unreadable.append(error)
        except OSError as error:
            unreadable.append(InputError(f"{error.filename}: {error.strerror}", "ask its owner to let you read it"))
    if not runs:
        raise unreadable[0]
    for reason in unreadable:
        remark(f"left out: {reason.problem}")
    return sorted(runs, key=lambda run: (run.benchmark, run.sampler, run.selection, run.budget or 0, run.answerer))


def _once(path: Path, read: Callable[[Path], N], known: dict[_File, N]) -> N | None:
    """What ``read`` gives of a file, taken from ``known`` for a link to one that was read; None for no file."""
    if not path.is_file():
        return None
    found = path.stat()
    file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if file not in known:
        known[file] = read(path)
    return known[file]


def _without_numbers(rows: Sequence[RelevanceRow]) -> Iterable[RelevanceRow]:
    return rows.without_numbers() if isinstance(rows, StoredRows) else rows


def _within(rows: Sequence[KeyedRow], ids: Collection[str]) -> Sequence[KeyedRow]:
    if isinstance(rows, StoredRows):
        return rows.within(ids)
    return tuple(row for row in rows if row.question.id in ids)


def _finder(rows: Sequence[KeyedRow]) -> Find[KeyedRow]:
    if isinstance(rows, StoredRows):
        return rows.find
    by_id = {row.question.id: row for row in rows}
    return lambda question_id, _: by_id.get(question_id)


def notes_of(
    rows: Sequence[KeyedRow], ids: Iterable[str], note: Callable[[KeyedRow], N], last: LastNotes[N] | None = None
) -> Iterator[N | None]:
    """As :meth:`pipeline.artefacts.stored.StoredRows.notes_of`, also of rows in memory."""
    if isinstance(rows, StoredRows):
        return rows.notes_of(ids, note, last)
    by_id = {row.question.id: row for row in rows}
    return (note(by_id[question_id]) if question_id in by_id else None for question_id in ids)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _facts(path: Path) -> tuple[dict[str, str], str]:
    """What decided the results of a run in one flat mapping, with the packages' versions by name; and its day."""
    content = _mapping(_text(path), loaded)
    versions = content.get("versions")
    facts = {name: content[name] for name in _FACTS if content.get(name) is not None}
    facts |= versions if isinstance(versions, Mapping) else {}
    day = _DAY.match(str(content.get("started", "")))
    return {str(name): str(value) for name, value in facts.items()}, day.group() if day else ""


def without_budget(policy: str) -> str:
    """A policy's line without its number of frames."""
    return re.sub(r"(?:^| )budget=\d+(?= |$)", "", policy)


def without_asked(runs: Sequence[RunArtefacts]) -> list[RunArtefacts]:
    """The runs without those of ``gens ask``, unless there are no others."""
    measured = [run for run in runs if not run.is_ask]
    return measured or list(runs)


def _mapping(text: str, parsed: Callable[[str], Any]) -> Mapping[str, Any]:
    """Empty where a file that describes a run is missing or damaged, since only its rows are needed."""
    try:
        content = parsed(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
