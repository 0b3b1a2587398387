"""Video-MME-v2 (arXiv 2604.05015): 3200 eight-way questions, four to each of 800 videos, which are scored together.

Reads the hub's ``test.parquet`` or the same rows as JSON. ``options`` is one text, ``A. ...`` to ``H. ...`` on lines of
their own, and the right one a letter. No column says how long a video is, and none where an answer can be seen.

The four questions of a video are a group (:mod:`pipeline.benchmarks.grouped`): the number after the dash of their ids
is their order, and ``group_type`` and ``group_structure`` say how they depend on one another. ``level`` may be missing
in a row; the group is reported under that of its last question.

Every video has a subtitle file, ``subtitle/VIDEO.jsonl``, with one word a line. A file that is missing is reported and
is not the same as no subtitles; VLMEvalKit, which does not unpack ``subtitle.zip``, then asks without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, of_each
from pipeline.benchmarks.grouped import GROUP_STRUCTURE, GROUP_TYPE, check_group
from pipeline.benchmarks.options import lettered, listed
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import Question, Subtitles
from pipeline.identity import Place
from pipeline.paths import path_text


@dataclass(frozen=True)
class _Row:
    video_id: str
    question_id: str
    question: str
    options: str
    group_type: str
    answer: str | None
    group_structure: str | None = None
    level: int | str | None = None
    second_head: str | None = None
    third_head: str | None = None


@dataclass(frozen=True)
class VideoMMEv2(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``VIDEO.mp4`` in ``videos``, in the folder or below it."""

    subtitle_root: Place[str | None]
    """Folder of the subtitles, ``VIDEO.jsonl``; None: ``subtitle`` next to the file, or a folder of that name in it."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos", "data"))
        subtitles = folder(self.subtitle_root, file.parent, "subtitle/subtitle", "subtitle")

        def made(entry: Entry) -> list[Annotated]:
            row = entry.as_kind(_Row)
            check_group(row.question_id, row.group_type, row.group_structure, entry.where)
            options = listed(row.options, entry.where)
            labels = {
                "level": row.level,
                GROUP_TYPE: row.group_type,
                GROUP_STRUCTURE: row.group_structure if row.group_type == "logic" else None,
                "second_head": row.second_head,
                "third_head": row.third_head,
            }
            question = Question(
                id=row.question_id,
                video=videos.search(f"{row.video_id}.mp4"),
                text=row.question.strip(),
                options=options,
                correct=lettered(row.answer, options, entry.where),
                groups={name: str(value) for name, value in labels.items() if value not in (None, "None")},
                subtitles=Subtitles(path_text((subtitles / f"{row.video_id}.jsonl").absolute())),
            )
            return [Annotated(question, None)]

        return of_each(read_entries(file, OVERRIDE), made)
