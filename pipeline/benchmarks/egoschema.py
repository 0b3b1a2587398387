"""EgoSchema (arXiv 2308.09126): 5031 five-way questions about clips of three minutes (Ego4D).

Reads the authors' ``questions.json`` (``q_uid``, ``question``, ``option 0`` .. ``option 4``), whose answers, those of
500 rows, are in ``subset_answers.json`` beside it as ``{q_uid: index}``; and the hub's parquet of
``lmms-eval/egoschema`` (``video_idx``, ``question``, ``option`` with letters before them, ``answer``), of which the
configuration ``Subset`` has the 500 rows with answers. The answers of all others are not public: a run over them is for
``gens export form=submission``.

The clips are short, so that 16 frames see most of each: a control, and no set for samplers of long videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.artefacts.entries import Entry, checked, read_entries, read_json
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, of_each
from pipeline.benchmarks.options import indexed, lettered
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.config import nearest
from pipeline.domain import Question
from pipeline.errors import ConfigError
from pipeline.option_labels import without_labels

ANSWERS = "subset_answers.json"
OPTIONS = tuple(f"option {number}" for number in range(5))
SECONDS = 180.0
"""Length of every clip."""
PARTS = ("all", "answered")


@dataclass(frozen=True)
class _Row:
    id: str
    question: str
    option: list[str]
    answer: int | str | None = None


@dataclass(frozen=True)
class EgoSchema(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``Q_UID.mp4`` in ``videos`` next to it."""

    part: Literal["all", "answered"]
    """``answered``: the 500 questions whose answers are public."""

    def __post_init__(self) -> None:
        """Check the part.

        Raises:
            ConfigError: it is another word.
        """
        if self.part not in PARTS:
            raise ConfigError(
                f"benchmark.part={self.part}: EgoSchema has no such part.{nearest(self.part, PARTS)}",
                f"one of {', '.join(PARTS)}",
            )

    def leaves_out(self, question: Question) -> bool:
        """Whether its answer is not public, where only those are asked whose answer is."""
        return self.part == "answered" and question.correct is None

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos", "../videos"))
        answers = file.parent / ANSWERS
        known = checked(dict[str, int], read_json(answers, OVERRIDE), str(answers)) if answers.is_file() else {}

        def made(entry: Entry) -> list[Annotated]:
            row = checked(_Row, _renamed(entry.value), entry.where)
            options = without_labels(row.option)
            given = known.get(row.id) if row.answer is None else row.answer
            question = Question(
                id=row.id,
                video=videos.search(f"{row.id}.mp4"),
                text=row.question.strip(),
                options=options,
                correct=_correct(given, options, entry.where),
            )
            return [Annotated(question, SECONDS)]

        return of_each(read_entries(file, OVERRIDE), made)


def _renamed(value: Any) -> Any:
    """The row of either file with the same names of fields."""
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    for name in ("video_idx", "q_uid"):
        if name in value:
            given["id"] = value[name]
    if "option" not in value and all(name in value for name in OPTIONS):
        given["option"] = [value[name] for name in OPTIONS]
    return given


def _correct(answer: int | str | None, options: tuple[str, ...], where: str) -> int | None:
    if isinstance(answer, str) and not answer.isdecimal():
        return lettered(answer, options, where)
    return indexed(None if answer is None else int(answer), options, where)
