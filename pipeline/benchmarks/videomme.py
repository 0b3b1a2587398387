"""Video-MME (arXiv 2405.21075): 2700 four-way questions, three to a video, 11 s to one hour long.

Reads the hub's ``videomme/test-00000-of-00001.parquet`` or the same rows as JSON. The options have letters
(``"A. Apples."``), the right one is a letter; ``duration`` is short, medium or long, without seconds.

744 of the 900 videos have subtitles, and no list says which. So a video has them if its file is in the subtitle folder.
If the whole folder is missing, every video is given a file in it, so that a run with subtitles reports what is missing
instead of running without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, of_each
from pipeline.benchmarks.options import lettered
from pipeline.benchmarks.places import SubtitleFolder, VideoFolder, folder
from pipeline.domain import Question
from pipeline.identity import Place
from pipeline.option_labels import without_labels


@dataclass(frozen=True)
class _Row:
    question_id: str | int
    videoID: str
    duration: str
    domain: str
    sub_category: str
    task_type: str
    question: str
    options: list[str]
    answer: str | None = None


@dataclass(frozen=True)
class VideoMME(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``YOUTUBE_ID.mp4`` in ``data``."""

    subtitle_root: Place[str | None]
    """Folder of the subtitles, ``YOUTUBE_ID.srt``; None: ``subtitle`` next to the file or one folder above."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "data", "../data"))
        subtitles = SubtitleFolder(folder(self.subtitle_root, file.parent, "subtitle", "../subtitle"))

        def made(entry: Entry) -> list[Annotated]:
            row, where = entry.as_kind(_Row), entry.where
            options = without_labels(row.options)
            question = Question(
                id=str(row.question_id),
                video=videos.find(f"{row.videoID}.mp4"),
                text=row.question,
                options=options,
                correct=lettered(row.answer, options, where),
                groups={
                    "duration": row.duration,
                    "domain": row.domain,
                    "sub_category": row.sub_category,
                    "task_type": row.task_type,
                },
                subtitles=subtitles.find(f"{row.videoID}.srt"),
            )
            return [Annotated(question, None)]

        return of_each(read_entries(file, OVERRIDE), made)
