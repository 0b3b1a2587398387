"""Answers as the files that benchmarks with hidden answers take.

* ``mlvu_test``: a list of ``{"question_id": "AR_0", "question_type": "anomaly_reco", "option": "B"}``, as the web form
  of github.com/JUNJIE99/MLVU takes it. The answers have been public since March 2025, and ``benchmark=mlvu_test``
  counts them.
* ``longvideobench_lmms_eval``: one object, ``{id: the model's text as it came}``, the file that lmms-eval 0.7 writes
  for LongVideoBench's test set (``longvideobench_test_for_submission.json``). Where it can be sent, and in which form,
  the benchmark's authors have not said (github.com/longvideobench/LongVideoBench, issue 14).
* ``egoschema``: one object, ``{q_uid: 0 to 4}``, for ``validate.py`` of github.com/egoschema/EgoSchema.

None of them has a blank for a question without an answer, and a guess would look like an answer. So such questions are
named and refused, unless ``missing`` says what to write for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import OPTION_LETTERS, Answer, Question, Status, option_letter
from pipeline.errors import ConfigError, InputError

Layout = Literal["mlvu_test", "longvideobench_lmms_eval", "egoschema"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_TASKS = {"needle": "needleQA"}
"""MLVU's names of tasks in its test set, where they are others than in its dev set."""
_MOST_NAMED = 20
"""Questions that a message names."""


@dataclass(frozen=True)
class SubmissionForm:
    """Writes a file to send in."""

    layout: Layout | None
    """The form of the file; required."""
    missing: str | int | None
    """Written for a question without an answer; None refuses such a run."""
    complete: Mapping[str, int] | None
    """How many questions a set has, by layout; a run over another number is refused. None allows a part."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: there is no such layout, or ``missing`` is nothing that it can hold.
        """
        if self.layout is not None and self.layout not in LAYOUTS:
            raise self._no_layout()
        if self.missing is None:
            return
        is_index = isinstance(self.missing, int) and not isinstance(self.missing, bool)
        if self.layout == "egoschema" and not (is_index and 0 <= int(self.missing) <= 4):
            raise ConfigError(f"form.missing={self.missing} is no option of EgoSchema", "write 0 to 4: form.missing=0")
        if self.layout == "mlvu_test" and (is_index or str(self.missing) not in tuple(OPTION_LETTERS)):
            raise ConfigError(f"form.missing={self.missing} is no letter of an option", "form.missing=A")

    @property
    def suffix(self) -> str:
        """One JSON value."""
        return ".json"

    def samples(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> str:
        """One entry a question, in the order of ``questions``.

        Raises:
            ConfigError: there is no layout.
            InputError: questions have no answer and ``missing`` is None, or the run is not over the whole set.
        """
        self._check(questions)
        said = self._all_said(rows, questions)
        unanswered = self.filled(rows, questions)
        if unanswered and self.missing is None:
            named = ", ".join(unanswered[:_MOST_NAMED]) + (" ..." if len(unanswered) > _MOST_NAMED else "")
            raise InputError(
                f"{len(unanswered)} of {len(questions)} questions have no answer, and the file has no blank: {named}",
                f"run the command of the answers again, or say what to write for them: form.missing={self._example}",
            )
        filled = {id: self.missing if value is None else value for id, value in said.items()}
        if self.layout == "mlvu_test":
            entries = [_mlvu_entry(question, filled[question.id]) for question in questions]
            return json.dumps(entries, ensure_ascii=False, indent=1) + "\n"
        return json.dumps(filled, ensure_ascii=False, indent=1) + "\n"

    def filled(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> tuple[str, ...]:
        """Ids of the questions without an answer that the file could hold."""
        return tuple(id for id, value in self._all_said(rows, questions).items() if value is None)

    def _all_said(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> dict[str, str | int | None]:
        answers = {row.question.id: row.answer for row in rows}
        return {question.id: self._said(question, answers.get(question.id)) for question in questions}

    def _no_layout(self) -> ConfigError:
        layout = "null" if self.layout is None else self.layout
        return ConfigError(
            f"form.layout={layout}: a submission has the layout of its benchmark",
            f"one of {', '.join(LAYOUTS)}: form.layout={LAYOUTS[0]}",
        )

    @property
    def _example(self) -> str:
        return {"mlvu_test": "A", "egoschema": "0"}.get(str(self.layout), '""')

    def _check(self, questions: Sequence[Question]) -> None:
        if self.layout is None:
            raise self._no_layout()
        whole = (self.complete or {}).get(str(self.layout))
        if whole is not None and len(questions) != whole:
            raise InputError(
                f"the run asks {len(questions)} questions, and the set of layout {self.layout} has {whole}",
                "run it over the whole set, without limit and ids; to write a part all the same: form.complete=null",
            )
        if self.layout == "longvideobench_lmms_eval":
            return
        other = next((each.id for each in questions if each.options is None), None)
        if other is None and self.layout == "mlvu_test":
            other = next((each.id for each in questions if "task" not in each.groups), None)
        if other is not None:
            raise InputError(
                f"the question {other!r} is none of those that a submission of layout {self.layout} holds",
                "name a run over the benchmark of that layout, without its free questions: answers=runs/...",
            )

    def _said(self, question: Question, answer: Answer | None) -> str | int | None:
        """What the file holds for a question; None if there is no answer."""
        if answer is None:
            return None
        if self.layout == "longvideobench_lmms_eval":
            return answer.text if answer.text.strip() else None
        if answer.option is None or answer.status is not Status.OK:
            return None
        return answer.option if self.layout == "egoschema" else option_letter(answer.option)


def _mlvu_entry(question: Question, option: str | int | None) -> dict[str, str | int | None]:
    task = question.groups["task"]
    return {"question_id": question.id, "question_type": _TASKS.get(task, task), "option": option}
