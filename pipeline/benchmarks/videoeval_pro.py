"""VideoEval-Pro (arXiv 2505.14640): short free answers to questions of Video-MME, MLVU, LVBench and LongVideoBench.

Reads the hub's parquet of ``TIGER-Lab/VideoEval-Pro`` or the same rows as JSON. The authors ask without the options
(``benchmark.task=open``), and a judge compares the answer with ``answer_text``, the question's reference. The rows also
have lettered options and the right letter: ``benchmark.task=choice`` is their arm of multiple choice, which needs no
judge. Rows have no id: a question's is its number from 0 in the order of the file, as for lmms-eval.

The authors' folder of videos is ``videos``, lmms-eval's ``videos_filtered``; both are looked for. No row says where the
answer can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, of_each
from pipeline.benchmarks.options import lettered
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.config import nearest
from pipeline.domain import Question
from pipeline.errors import ConfigError
from pipeline.option_labels import without_labels

TASKS = ("open", "choice")


@dataclass(frozen=True)
class _Row:
    video: str
    question: str
    options: list[str]
    answer: str
    answer_text: str
    source: str
    qa_type: str
    qa_subtype: str | None = None


@dataclass(frozen=True)
class VideoEvalPro(AnnotatedBenchmark):
    """The questions of one annotation file."""

    task: Literal["open", "choice"]
    """What is asked."""

    def __post_init__(self) -> None:
        """Check the task.

        Raises:
            ConfigError: it is another word.
        """
        if self.task not in TASKS:
            raise ConfigError(
                f"benchmark.task={self.task}: VideoEval-Pro has no such task.{nearest(self.task, TASKS)}",
                f"one of {', '.join(TASKS)}",
            )

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        usual = ("videos", "../videos", "videos_filtered", "../videos_filtered")
        videos = VideoFolder(folder(self.video_root, file.parent, *usual))

        def made(entry: Entry) -> list[Annotated]:
            row = entry.as_kind(_Row)
            options = without_labels(row.options)
            correct = lettered(row.answer, options, entry.where)
            labels = {"qa_type": row.qa_type, "qa_subtype": row.qa_subtype, "source": row.source}
            is_open = self.task == "open"
            question = Question(
                id=str(numbers[entry.where]),
                video=videos.search(row.video),
                text=row.question.strip(),
                options=None if is_open else options,
                correct=None if is_open else correct,
                groups={name: value for name, value in labels.items() if value is not None},
                reference=row.answer_text.strip() if is_open else "",
            )
            return [Annotated(question, None)]

        entries = read_entries(file, OVERRIDE)
        numbers = {entry.where: number for number, entry in enumerate(entries)}
        return of_each(entries, made)
