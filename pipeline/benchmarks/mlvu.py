"""MLVU (arXiv 2406.04264): questions of nine tasks about videos of 3 minutes to 9 hours.

Reads the authors' files (repository JUNJIE99/MLVU): a folder of ``1_plotQA.json`` .. ``9_summary.json``, or a file of
the test set; and the re-packs of the hub, ``sy1998/MLVU_dev`` and ``sy1998/MLVU_Test``, which lmms-eval uses. Apart
from the names of its fields, a re-pack differs in three things: the options stand in the question's text too, the
answer is a letter and not a text, and rows have ids. The authors' dev rows get ``TASK_N``, N counting from 0 in the
task's file.

The answers of the test set have been public since March 2025 (JUNJIE99/MLVU, issue 12): ``test_mcq_gt.json`` in the
folder ``test-ground-truth`` of ``MLVU/MLVU_Test`` has the questions with their answers, and is what is read. The file
without answers, ``test_multi_choice_tasks.json``, takes them from there, by ``question_id``.

Known oddities of the authors' files, and how they are handled:

* Two needle rows (``needle_4.mp4``, ``needle_5.mp4``) have an answer that is not among the options. They are asked, and
  cannot be counted. In any other row that is an error.
* One topic row has four empty options. It is left out, as in the re-pack; 2174 multiple-choice rows remain.
* In three rows (``plotQA_23``, ``ego_119``, ``ego_313``) one or two of the options are empty, in two of them the right
  one. They are asked as they stand, as by the authors' script.
* In some rows an option stands twice. The last of those equal to the answer is right, as in the authors' script.
* One task has three names: ``findNeedle`` in the rows, ``needle`` in the re-pack, ``needleQA`` in the test set. It is
  ``needle`` here; ``subPlot`` and ``subsummary`` are ``sub_scene``.

The two generation tasks (418 dev rows) are questions without options, judged by a language model in the paper: the
answer is their reference, and those about scenes have scoring points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.options import lettered, parted
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.config import nearest
from pipeline.domain import OPTION_LETTERS, Question
from pipeline.errors import ConfigError, InputError

FOLDERS = {
    "plotQA": "1_plotQA",
    "needle": "2_needle",
    "ego": "3_ego",
    "count": "4_count",
    "order": "5_order",
    "anomaly_reco": "6_anomaly_reco",
    "topic_reasoning": "7_topic_reasoning",
    "sub_scene": "8_sub_scene",
    "summary": "9_summary",
}
"""Folders of the dev videos, and stems of the dev files, by task."""
OTHER_NAMES = {"findNeedle": "needle", "needleQA": "needle", "subPlot": "sub_scene", "subsummary": "sub_scene"}
DETAILS = {
    "holistic": ("topic_reasoning", "anomaly_reco", "summary"),
    "single detail": ("needle", "ego", "plotQA", "sub_scene", "sportsQA"),
    "multi detail": ("order", "count", "tutorialQA"),
}
"""The three kinds of tasks in the paper; sports and tutorials as the repository's news of the test set name them."""
WITHOUT_ANSWER = ("needle_4.mp4", "needle_5.mp4")
GROUND_TRUTH = "test-ground-truth/test_mcq_gt.json"
"""The answers of the test set, relative to the folder of its questions."""


@dataclass(frozen=True)
class _Row:
    question: str
    duration: Length
    video: str | None = None
    question_type: str | None = None
    candidates: list[str] | None = None
    answer: str | None = None
    question_id: str | int | None = None
    scoring_points: list[str] | None = None
    # the re-pack's names
    video_name: str | None = None
    task_type: str | None = None


@dataclass(frozen=True)
class MLVU(AnnotatedBenchmark):
    """The questions of a folder of task files, of the test set, or of the re-pack."""

    leave_out: tuple[str, ...]
    """Tasks whose questions are not asked."""

    def __post_init__(self) -> None:
        """Check the names of tasks.

        Raises:
            ConfigError: a name in ``leave_out`` is not a task.
        """
        tasks = [task for of_kind in DETAILS.values() for task in of_kind]
        for name in self.leave_out:
            if name not in tasks:
                raise ConfigError(
                    f"benchmark.leave_out: MLVU has no task {name!r}.{nearest(name, tasks)}",
                    f"one of {', '.join(tasks)}",
                )

    def leaves_out(self, question: Question) -> bool:
        """Whether its task is left out."""
        return question.groups.get("task") in self.leave_out

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row but the one with empty options, task by task."""
        files = _task_files(file) if file.is_dir() else [file]
        usual = ("../video", "video", "MLVU_Test/video", "../MLVU_Test/video")
        videos = VideoFolder(folder(self.video_root, files[0].parent, *usual))
        for part in files:
            yield from _of_file(part, videos, file.is_dir())


def _of_file(file: Path, videos: VideoFolder, one_of_many: bool) -> Iterator[Annotated]:
    entries = read_entries(file, OVERRIDE)
    if one_of_many:
        entries = [replace(entry, name=f"{file.stem}, {entry.name}") for entry in entries]
    numbers = {entry.where: number for number, entry in enumerate(entries)}
    known = _ground_truth(file)

    def made(entry: Entry) -> Iterator[Annotated]:
        row = entry.as_kind(_Row)
        if row.answer is None and row.candidates is not None:
            row = replace(row, answer=known.get(str(row.question_id)))
        task = _given(row.question_type or row.task_type, "question_type", entry.where)
        task = OTHER_NAMES.get(task, task)
        if row.candidates is None or any(row.candidates):
            yield _annotated(row, task, f"{task}_{numbers[entry.where]}", entry.where, videos)

    return of_each(entries, made)


def _ground_truth(file: Path) -> dict[str, str]:
    """Answers of the test set by question id, where its file of them is there and is not ``file`` itself."""
    truth = file.parent / GROUND_TRUTH
    if not truth.is_file():
        return {}
    rows = [entry.as_kind(_Row) for entry in read_entries(truth, OVERRIDE)]
    return {str(row.question_id): row.answer for row in rows if row.answer is not None}


def _task_files(place: Path) -> list[Path]:
    """The nine files, in the layout of the hub's repository or directly in ``place``."""
    for pattern in ("*.json", "json/*.json", "*/json/*.json"):
        found = sorted(file for file in place.glob(pattern) if file.stem in FOLDERS.values())
        if found:
            return found
    raise InputError(
        f"{place} holds none of the task files 1_plotQA.json .. 9_summary.json",
        "gens download benchmark=mlvu says where to get them; if they are elsewhere: benchmark.path=FOLDER",
    )


def _annotated(row: _Row, task: str, id: str, where: str, videos: VideoFolder) -> Annotated:
    video = _given(row.video or row.video_name, "video", where)
    text, options, correct = row.question.strip(), None, None
    if row.task_type is not None:
        text, parts = parted(row.question, where)
        options = tuple(row.candidates or parts)
        correct = lettered(row.answer, options, where)
    elif row.candidates is not None:
        options = tuple(row.candidates)
        correct = _index(row.answer, options, video, where)
    # The test set's videos are in no folders by task; its rows are those with ids, the re-pack's set aside.
    of_test_set = row.question_id is not None and row.task_type is None
    path = videos.search(video) if of_test_set else videos.find(f"{FOLDERS.get(task, task)}/{video}", video)
    question = Question(
        id=id if row.question_id is None else str(row.question_id),
        video=path,
        text=text,
        options=options,
        correct=correct,
        groups={
            "task": task,
            "detail": next((detail for detail, tasks in DETAILS.items() if task in tasks), "other"),
            "duration_group": half_hours(row.duration),
        },
        reference="" if options is not None else (row.answer or "").strip(),
        scoring_points=() if options is not None else tuple(row.scoring_points or ()),
    )
    return Annotated(question, row.duration)


def _index(answer: str | None, options: Sequence[str], video: str, where: str) -> int | None:
    """The last option with the answer's text; None if the answer is not known."""
    equal = [index for index, option in enumerate(options) if option == answer]
    if answer is None or (not equal and video in WITHOUT_ANSWER):
        return None
    if not equal:
        listed = ", ".join(f"{letter}. {option}" for letter, option in zip(OPTION_LETTERS, options, strict=False))
        raise InputError(
            f"{where}: answer: {answer!r} is none of the options ({listed})",
            "correct the row, or fetch the annotations again",
        )
    return equal[-1]


def _given(value: str | None, field: str, where: str) -> str:
    if value is None:
        raise InputError(
            f"{where}: {field}: Field required", "check that the file is one of MLVU's, or correct the entry"
        )
    return value
