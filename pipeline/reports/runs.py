"""Reads run folders for a report, also those of unfinished runs."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

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
from pipeline.artefacts.stored import StoredRows
from pipeline.domain import Cost, Question, Status
from pipeline.errors import InputError
from pipeline.terminal import remark
from pipeline.wellformed import loaded, loaded_yaml

Find: TypeAlias = Callable[[str], KeyedRow | None]
"""Gives the row of a question by its id."""
_FACTS = ("command", "python", "machine", "gpu", "commit")
"""Of ``run.json``. When and on which host it ran is not shown: a page may be sent to others."""
_JOURNALS = (QUESTIONS_FILE, RELEVANCE_FILE, SELECTIONS_FILE, ANSWERS_FILE)


class RelevanceBrief(NamedTuple):
    """What is needed of a relevance without its scores."""

    status: Status
    detail: str
    seconds: float
    prompt_tokens: int
    output_tokens: int
    dollars: float

    @property
    def cost(self) -> Cost:
        """Without further figures."""
        return Cost(self.seconds, self.prompt_tokens, self.output_tokens, self.dollars)


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
    asked: tuple[Question, ...] = ()
    """The questions of the run. Empty if they are not known: then those with a row count as asked."""
    noted: Mapping[str, RelevanceBrief] | None = None
    """Of every relevance, by question, where they were noted as the rows were read."""

    @cached_property
    def briefs(self) -> Mapping[str, RelevanceBrief]:
        """Of every relevance, by question."""
        return {row.question.id: _brief(row) for row in self.relevance} if self.noted is None else self.noted

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

    @cached_property
    def selection(self) -> str:
        """The usual policy of its selections in one line, without the budget; empty where nothing was selected.

        Single questions may differ, for instance where the whole video fits the budget.
        """
        policies, _ = self._usual
        # Told by itself: runs that differ in the number of frames alone are points of one curve.
        return re.sub(r" ?\bbudget=\d+", "", policies.most_common(1)[0][0]) if policies else ""

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
        policies: Counter[str] = Counter()
        budgets: Counter[int] = Counter()
        for row in self.selections:
            policies[row.selection.policy] += 1
            budgets[row.selection.budget] += 1
        return policies, budgets

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
            noted={question_id: brief for question_id, brief in self.briefs.items() if question_id in ids},
        )

    def loaded(self) -> RunArtefacts:
        """The run with its selections and answers in memory, for many passes over them."""
        return replace(self, selections=tuple(self.selections), answers=tuple(self.answers), noted=self.briefs)

    @cached_property
    def find(self) -> tuple[Find[RelevanceRow], Find[SelectionRow], Find[AnswerRow]]:
        """What gives the relevance, the selection and the answer of a question, or None."""
        return _finder(self.relevance), _finder(self.selections), _finder(self.answers)

    @property
    def _rows(self) -> Iterator[RelevanceRow | SelectionRow | AnswerRow]:
        return itertools.chain(self.relevance, self.selections, self.answers)

    def _named_in_settings(self, group: str) -> str:
        node = self.parsed_settings.get(group)
        return str(node.get("name", "")) if isinstance(node, dict) else ""


def read_run(folder: Path, name: str, sets: Collection[tuple[Question, ...]] = ()) -> RunArtefacts:
    """Read one run folder. Rows of questions that it no longer asks, or asks differently now, are passed over.

    Questions that are one of ``sets``, those of other runs, are held once.

    Raises:
        InputError: a row in it cannot be used.
    """
    facts = _facts(folder / RUN_FILE)
    known = sibling_questions(folder / ANSWERS_FILE)
    asked = read_questions(folder)
    for others in sets:
        if asked and asked == others:
            asked, known = others, {question.id: question for question in others}
    noted: dict[str, RelevanceBrief] = {}

    def note(row: RelevanceRow) -> None:
        noted[row.question.id] = _brief(row)

    return RunArtefacts(
        name=name,
        relevance=_rows(RelevanceRow, folder / RELEVANCE_FILE, known, note),
        selections=_rows(SelectionRow, folder / SELECTIONS_FILE, known),
        answers=_rows(AnswerRow, folder / ANSWERS_FILE, known),
        settings=_text(folder / CONFIG_FILE),
        command=facts.pop("command", ""),
        versions=facts,
        asked=asked,
        noted=noted,
    )


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
    sets: dict[int, tuple[Question, ...]] = {}
    unreadable: list[InputError] = []
    for place in places:
        try:
            runs.append(read_run(place, place.relative_to(base).as_posix(), list(sets.values())))
            sets[id(runs[-1].asked)] = runs[-1].asked
        except InputError as error:
            unreadable.append(error)
        except OSError as error:
            unreadable.append(InputError(f"{error.filename}: {error.strerror}", "ask its owner to let you read it"))
    if not runs:
        raise unreadable[0]
    for reason in unreadable:
        remark(f"left out: {reason.problem}")
    return sorted(runs, key=lambda run: (run.benchmark, run.sampler, run.selection, run.budget or 0, run.answerer))


def _rows(
    kind: type[Row], path: Path, known: Mapping[str, Question], note: Callable[[Row], None] = lambda row: None
) -> Sequence[Row]:
    return StoredRows(kind, path, known, note) if path.is_file() else ()


def _brief(row: RelevanceRow) -> RelevanceBrief:
    said, cost = row.relevance, row.relevance.cost
    return RelevanceBrief(said.status, said.detail, cost.seconds, cost.prompt_tokens, cost.output_tokens, cost.dollars)


def _within(rows: Sequence[KeyedRow], ids: Collection[str]) -> Sequence[KeyedRow]:
    if isinstance(rows, StoredRows):
        return rows.within(ids)
    return tuple(row for row in rows if row.question.id in ids)


def _finder(rows: Sequence[KeyedRow]) -> Find[KeyedRow]:
    return rows.find if isinstance(rows, StoredRows) else {row.question.id: row for row in rows}.get


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _facts(path: Path) -> dict[str, str]:
    """What decided the results of a run in one flat mapping, with the packages' versions by name."""
    content = _mapping(_text(path), loaded)
    versions = content.get("versions")
    facts = {name: content[name] for name in _FACTS if content.get(name) is not None}
    facts |= versions if isinstance(versions, Mapping) else {}
    return {str(name): str(value) for name, value in facts.items()}


def _mapping(text: str, parsed: Callable[[str], Any]) -> Mapping[str, Any]:
    """Empty where a file that describes a run is missing or damaged, since only its rows are needed."""
    try:
        content = parsed(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
