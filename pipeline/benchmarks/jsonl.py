"""Questions of the user's own, from a JSON Lines file or from the command line.

One JSON object a line::

    {"video": "kitchen.mp4", "question": "What is put on the table?", "options": ["a cup", "a plate"], "answer": "B"}
    {"video": "walk.mp4", "question": "What does the man do after he sits down?"}

``video`` and ``question`` are required. The other fields:

* ``options``: a list of two or more texts. Letters before them (``"A. a cup"``) are removed.
* ``answer``: the right option as its text, its letter, or its index from 0. With options it is required, so that
  no accuracy silently skips rows; ``null`` says that it is not known, and the row is not counted. An ambiguous answer
  (options ``["1", "2"]`` and the answer ``1``) is refused.
* ``id``: unique in the file; the line number if there is none.
* ``evidence``: where the answer can be seen, a list of ``[start, end]`` in seconds.
* ``groups``: labels to report by, ``{"task": "counting"}``.
* ``subtitles``: a file of them (``.srt``, ``.vtt``, LongVideoBench's ``.json``, Video-MME-v2's ``.jsonl``), given to
  the answerer where ``subtitles=at_frames`` or ``full``.
* ``span``: the part of the video that may be seen, ``[start, end]`` in seconds; without it the whole video.
* ``reference``: the right answer to a question without options, in words. Free answers are graded against it.
* ``scoring_points``: a list of texts, what a full answer mentions.
* ``answer_form``: ``intervals`` for a question that is answered with intervals of the video, such as when something
  happens; they are compared with ``evidence``. Such a question has no options.

A row that cannot be used, for instance because its answer is none of the options, becomes a question that ends as
``invalid_question``, with its line and its fault, and the others are asked. The command ends if no row can be used,
with the fault of the first, and if two rows have the same id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import read_text
from pipeline.benchmarks.faults import unusable
from pipeline.domain import LONGEST, OPTION_LETTERS, AnswerForm, Question, Span, Subtitles, option_letter
from pipeline.errors import InputError
from pipeline.identity import Place, RowFile
from pipeline.option_labels import without_labels
from pipeline.paths import local_path, path_text
from pipeline.wellformed import parsed, well_formed, well_formed_json

NEEDED = ("video", "question")
PATHS = ("video", "subtitles")
OPTIONAL = (
    "options",
    "answer",
    "id",
    "evidence",
    "groups",
    "subtitles",
    "span",
    "reference",
    "scoring_points",
    "answer_form",
)


@dataclass(frozen=True)
class JsonlBenchmark:
    """A file of questions in the form above."""

    name: str
    path: RowFile[str]
    video_root: Place[str | None]
    """Folder that relative paths of videos and subtitles start from; None: the file's own folder."""

    def questions(self) -> Sequence[Question]:
        """All rows, in the order of the file; empty lines are skipped.

        Raises:
            InputError: there is no such file, it holds no row that can be used, or two rows have the same id; the
                message names the line.
        """
        file = local_path(self.path)
        root = local_path(self.video_root) if self.video_root is not None else file.parent
        questions: list[Question] = []
        faults: list[InputError] = []
        lines: dict[str, int] = {}
        for number, line in _lines(file):
            row: Any = None
            try:
                row = _row(line)
                question = _question(row, str(number), root)
            except InputError as error:
                faults.append(InputError(f"{file}:{number}: {error.problem}", error.remedy))
                question = unusable(row, str(number), faults[-1])
            if question.id in lines:
                raise InputError(
                    f"{file}:{number}: the id {question.id!r} is that of line {lines[question.id]} already",
                    "give each row its own id",
                )
            lines[question.id] = number
            questions.append(question)
        if not questions:
            raise InputError(f"{file} holds no question", "it needs one JSON object a line, with video and question")
        if len(faults) == len(questions):
            raise faults[0]
        return questions


def question_from_fields(
    *,
    id: str,
    video: str,
    text: object,
    options: object = None,
    answer: object = None,
    evidence: object = None,
    groups: object = None,
    subtitles: str | None = None,
    span: object = None,
    reference: object = None,
    scoring_points: object = None,
    answer_form: object = None,
) -> Question:
    """A question from values as a user wrote them, in a file or on the command line.

    ``video`` and ``subtitles`` are paths that can be opened; an ``answer`` of None is not known.

    Raises:
        InputError: a value cannot be used.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"the question has no text: question={text!r}", 'set the question: question="..."')
    choices = None if options is None else _options(options)
    if choices is None and answer is not None:
        raise InputError(
            f"there is an answer ({answer!r}) but no options, and free text is not marked right or wrong",
            'give the options, or leave it out; in a file of questions, free answers are graded against "reference"',
        )
    if choices is not None and (reference is not None or scoring_points is not None):
        raise InputError(
            "there are options, and a reference or scoring points, which are for answers in free text",
            "leave out one of them",
        )
    form = _answer_form(answer_form)
    if form is AnswerForm.INTERVALS and (choices is not None or reference is not None or scoring_points is not None):
        raise InputError(
            "the question asks for intervals, and has options, a reference or scoring points",
            "leave them out; its right answer is the evidence",
        )
    return Question(
        id=id,
        video=video,
        text=well_formed(text.strip()),
        options=choices,
        correct=None if choices is None or answer is None else _correct(answer, choices),
        groups=_groups(groups),
        evidence=None if evidence is None else _evidence(evidence),
        subtitles=None if subtitles is None else Subtitles(subtitles),
        span=None if span is None else span_of(span),
        reference="" if reference is None else _words(reference, "reference"),
        scoring_points=() if scoring_points is None else _scoring_points(scoring_points),
        answer_form=form,
    )


def span_of(value: object) -> Span:
    """The part of a video that a question may see.

    Raises:
        InputError: it is not ``[start, end]`` in seconds.
    """
    try:
        return _evidence([value])[0]
    except InputError as error:
        raise InputError(error.problem, 'write its start and end in seconds: "span": [12, 15.5]') from error


def question_of(fields: Mapping[str, Any], name: str) -> Question:
    """The question of a row that a program gives, or one that ends as ``invalid_question`` with what is wrong with it.

    Args:
        fields: as in a line of a file. Relative paths start in the working folder.
        name: the question's id if the row has none.
    """
    try:
        return _question(_told(dict(fields)), name, Path.cwd())
    except InputError as error:
        return unusable(fields, name, error)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    # Not splitlines: that also cuts at separators which JSON allows inside a string.
    for number, line in enumerate(read_text(file, "benchmark.path", "surrogateescape").split("\n"), start=1):
        if line.strip():
            yield number, line


def _row(line: str) -> dict[str, Any]:
    try:
        row = parsed(line)
        told = well_formed_json(row)
    except (ValueError, RecursionError) as error:
        raise InputError(
            str(error),
            "each line must be one whole JSON object in UTF-8; a JSON list becomes lines with: jq -c '.[]' list.json",
        ) from error
    if not isinstance(row, dict):
        raise InputError(
            f"not a JSON object: {_shortened(told)}", 'each line must look like {"video": "...", "question": "..."}'
        )
    return _told(row)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """The row with texts that can be written."""
    # In a path halves of surrogate pairs are the bytes of a file name that is not UTF-8, as Python's json writes it.
    return {**well_formed_json(row), **{field: row[field] for field in PATHS if isinstance(row.get(field), str)}}


def _question(row: Mapping[str, Any], name: str, root: Path) -> Question:
    _check_fields(row)
    if row.get("options") is not None and "answer" not in row:
        raise InputError(
            "options without the answer",
            'add "answer": its text, letter or index; or "answer": null if it is not known',
        )
    return question_from_fields(
        id=_id(row.get("id"), name),
        video=_path(row["video"], "video", root),
        text=row["question"],
        options=row.get("options"),
        answer=row.get("answer"),
        evidence=row.get("evidence"),
        groups=row.get("groups"),
        subtitles=None if row.get("subtitles") is None else _path(row["subtitles"], "subtitles", root),
        span=row.get("span"),
        reference=row.get("reference"),
        scoring_points=row.get("scoring_points"),
        answer_form=row.get("answer_form"),
    )


def _check_fields(row: Mapping[str, Any]) -> None:
    known = (*NEEDED, *OPTIONAL)
    for field in row:
        if field not in known:
            # Ignored silently, "choices" for "options" would turn the question into one of free text.
            close = get_close_matches(field, known, n=1)
            meant = f", perhaps meant as {close[0]!r}" if close else ""
            raise InputError(
                f"unknown field {field!r}{meant}", f"the fields are {', '.join(known)}; labels go in groups"
            )
    for field in NEEDED:
        if row.get(field) is None:
            raise InputError(f"the field {field!r} is missing", f'add "{field}": "..."')


def _id(value: object, name: str) -> str:
    if value is None:
        return name
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(
            f"{value!r} is not an id", "an id is text or a whole number; without one it is the line number"
        )
    return str(value)


def _path(value: object, field: str, root: Path) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputError(
            f"{value!r} is not the path of {'a video' if field == 'video' else field}",
            f'write it as text: "{field}": "clip..."',
        )
    # Absolute, so that the rows can be answered from another folder later.
    return path_text((root / local_path(value)).absolute())


_LIST = 'write them between brackets: options=\'[a cup, a plate]\'; in a file, "options": ["a cup", "a plate"]'


def _options(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"the options are not a list: {_shortened(value)}", _LIST)
    if not 2 <= len(value) <= len(OPTION_LETTERS):
        raise InputError(
            f"there are {len(value)} options", f"give 2 to {len(OPTION_LETTERS)}, or none for an answer in free text"
        )
    options = without_labels([_text(option) for option in value])
    for option in options:
        if options.count(option) > 1:
            raise InputError(f"the option {option!r} stands twice", "options must differ from each other")
    return options


def _answer_form(value: object) -> AnswerForm:
    forms = [form.value for form in AnswerForm]
    if value is None:
        return AnswerForm.WORDS
    if value not in forms:
        raise InputError(f"answer_form: {_shortened(value)} is none of {', '.join(forms)}", 'write "intervals"')
    return AnswerForm(value)


def _words(value: object, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise InputError(f"{_shortened(value)} is not a {field}", f'write it as text: "{field}": "..."')
    return well_formed(str(value).strip())


def _scoring_points(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InputError(
            f"the scoring points are not a list: {_shortened(value)}",
            'write "scoring_points": ["He waves", "She leaves"]',
        )
    return tuple(_words(each, "scoring point") for each in value)


def _text(option: object) -> str:
    if isinstance(option, bool) or not isinstance(option, str | int | float) or not str(option).strip():
        raise InputError(f"{option!r} is not an option", "an option is a text or a number; put it in quotation marks")
    return well_formed(str(option).strip())


def _correct(answer: object, options: Sequence[str]) -> int:
    """The option that the answer means: its text, its letter or its index from 0, if these agree."""
    listed = ", ".join(f"{option_letter(i)}. {option}" for i, option in enumerate(options))
    letters = f"write its letter, {option_letter(0)} to {option_letter(len(options) - 1)}: answer={option_letter(0)}"
    meant: set[int] = set()
    if isinstance(answer, str | int | float) and not isinstance(answer, bool):
        text = str(answer).strip()
        meant = {i for i, option in enumerate(options) if option == text}
        meant = meant or {i for i, option in enumerate(options) if _alike(option, text)}
        meant |= {i for i, option in enumerate(options) if _letters(i, option).fullmatch(text)}
        if re.fullmatch("[0-9]{1,2}", text) and int(text) < len(options):
            meant.add(int(text))
    if not meant:
        raise InputError(f"the answer {answer!r} is none of the options ({listed})", f"correct it, or {letters}")
    if len(meant) > 1:
        raise InputError(f"the answer {answer!r} can mean several of the options ({listed})", letters)
    return meant.pop()


def _letters(position: int, option: str) -> re.Pattern[str]:
    """``B``, ``b``, ``(B)``, ``B.`` or ``B. a plate``."""
    letter = option_letter(position)
    return re.compile(rf"\(?{letter}(?:[.):](?:\s+{re.escape(option)})?)?", re.IGNORECASE)


def _alike(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one.casefold() == other.casefold()


def _evidence(value: object) -> tuple[Span, ...]:
    remedy = "write it in seconds, as a list of [start, end]: [[12, 15.5], [40, 40]]"
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"the evidence is not a list: {_shortened(value)}", remedy)
    spans = []
    for pair in value:
        numbers = pair if isinstance(pair, Sequence) and not isinstance(pair, str) else ()
        bad = [n for n in numbers if isinstance(n, bool) or not isinstance(n, int | float)]
        if len(numbers) != 2 or bad or not 0 <= numbers[0] <= numbers[1] <= LONGEST:
            raise InputError(f"{_shortened(pair)} is not a span of time", remedy)
        spans.append(Span(float(numbers[0]), float(numbers[1])))
    return tuple(spans)


def _groups(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(isinstance(label, Mapping | list) for label in value.values()):
        raise InputError(f"the groups are not labels: {_shortened(value)}", 'write "groups": {"task": "counting"}')
    return {str(name): str(label) for name, label in value.items()}


def _shortened(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
