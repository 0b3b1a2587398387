"""CG-Bench (arXiv 2412.12075): questions about 1219 videos of 9 to 105 minutes, and the clues that answer them.

Reads ``cgbench_mini.json`` (3000 questions over 1118 videos, also in the GitHub repository) and ``cgbench.json``
(12 129). There are 5 to 8 choices, the right one is a letter; a few rows have the same choice twice. ``clue_intervals``
are whole seconds, and are the evidence: one in seven questions of ``mini`` has 2 to 19 of them, in some rows not in
order of time or overlapping. They cover 1.4 % of a video on average.

The same questions are asked in three ways (``benchmark.task``); the paper has names for what comes out:

* ``choice``: which choice is right. With frames of the whole video that is *long-acc*; with the frames of the clues
  (``sampler=clues``), *clue-acc*.
* ``intervals``: which intervals of the video show what is needed; *mIoU*. The choices are shown.
* ``open``: the answer in words, without choices, graded by a judge.

``gens joint`` computes CRR, acc@IoU and rec@IoU from such runs.

Not every video has subtitles (``cg_subtitles/VIDEO.srt``), and no list says which. If the whole folder is missing,
every video is given a file in it, so that a run with subtitles reports what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.options import lettered
from pipeline.benchmarks.places import SubtitleFolder, VideoFolder, folder
from pipeline.benchmarks.timespans import spans_of
from pipeline.config import nearest
from pipeline.domain import AnswerForm, Question
from pipeline.errors import ConfigError
from pipeline.identity import Place

TASKS = ("choice", "intervals", "open")


@dataclass(frozen=True)
class _Row:
    qid: int | str
    video_uid: str
    question: str
    answer: str
    choices: list[str]
    clue_intervals: list[list[float]]
    domain: str
    sub_category: str
    duration: Length
    right_answer: str | None


@dataclass(frozen=True)
class CGBench(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``VIDEO.mp4`` in ``cg_videos_720p``."""

    subtitle_root: Place[str | None]
    """Folder of the subtitles, ``VIDEO.srt``; None: ``cg_subtitles`` next to the file."""
    task: Literal["choice", "intervals", "open"]
    """What is asked."""

    def __post_init__(self) -> None:
        """Check the task.

        Raises:
            ConfigError: it is another word.
        """
        if self.task not in TASKS:
            raise ConfigError(
                f"benchmark.task={self.task}: CG-Bench has no such task.{nearest(self.task, TASKS)}",
                f"one of {', '.join(TASKS)}",
            )

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "cg_videos_720p", "videos"))
        subtitles = SubtitleFolder(folder(self.subtitle_root, file.parent, "cg_subtitles", "subtitles"))

        def made(entry: Entry) -> list[Annotated]:
            row = entry.as_kind(_Row)
            choices, is_open = tuple(row.choices), self.task == "open"
            correct = lettered(row.right_answer, choices, entry.where)
            question = Question(
                id=str(row.qid),
                video=videos.search(f"{row.video_uid}.mp4"),
                text=row.question.strip(),
                options=None if is_open else choices,
                correct=correct if self.task == "choice" else None,
                groups={
                    "domain": row.domain,
                    "sub_category": row.sub_category,
                    "duration_group": half_hours(row.duration),
                },
                evidence=spans_of(row.clue_intervals, "clue_intervals", entry.where) or None,
                subtitles=subtitles.find(f"{row.video_uid}.srt"),
                reference=row.answer.strip() if is_open else "",
                answer_form=AnswerForm.INTERVALS if self.task == "intervals" else AnswerForm.WORDS,
            )
            return [Annotated(question, row.duration)]

        return of_each(read_entries(file, OVERRIDE), made)
