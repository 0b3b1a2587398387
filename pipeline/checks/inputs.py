"""Checks the inputs of questions other than their videos: subtitles, and pictures as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.answerers import Answerer
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import question_fault
from pipeline.checks import Finding, Level
from pipeline.checks.videos import THREADS
from pipeline.domain import Question, SubtitleLine, Video
from pipeline.errors import MissingSubtitlesError, SubtitlesError
from pipeline.paths import local_path
from pipeline.subtitles import SubtitleFile, read


@dataclass(frozen=True)
class FoundSubtitles:
    """The subtitles of the questions whose video can be read."""

    lines: Mapping[str, tuple[SubtitleLine, ...]]
    """By question id; questions without subtitles are left out."""
    failed: Mapping[str, SubtitlesError]
    """By path of the file."""
    skipped: Mapping[str, str]
    """By path of the file: how many of its cues are left out, and why."""
    without: int
    """Questions that name no file."""


def read_subtitles(questions: Sequence[Question], videos: Mapping[str, Video]) -> FoundSubtitles:
    """Read each file once, many at a time."""
    wanted = {
        question.id: (question.subtitles, videos[question.video].duration)
        for question in questions
        if question.subtitles is not None and question.video in videos
    }
    files = list(dict.fromkeys(wanted.values()))

    def parsed(place: int) -> SubtitleFile | SubtitlesError:
        try:
            return read(*files[place])
        except SubtitlesError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(files, pool.map(parsed, range(len(files))), strict=True))
    lines = {question_id: found[file] for question_id, file in wanted.items()}
    return FoundSubtitles(
        lines={question_id: file.lines for question_id, file in lines.items() if isinstance(file, SubtitleFile)},
        failed={file[0].path: error for file, error in found.items() if isinstance(error, SubtitlesError)},
        skipped={
            named[0].path: file.skipped_summary()
            for named, file in found.items()
            if isinstance(file, SubtitleFile) and file.skipped
        },
        without=sum(question.subtitles is None for question in questions),
    )


def subtitle_findings(subtitles: FoundSubtitles, questions: Sequence[Question]) -> list[Finding]:
    """Files that are missing, files that cannot be read, and questions that have none."""
    made = []
    missing = {path: error for path, error in subtitles.failed.items() if isinstance(error, MissingSubtitlesError)}
    damaged = {path: error for path, error in subtitles.failed.items() if path not in missing}
    for failed, what in ((missing, "missing"), (damaged, "unreadable")):
        if failed:
            count = sum(question.subtitles is not None and question.subtitles.path in failed for question in questions)
            made.append(
                Finding(
                    Level.SOME_FAIL,
                    f"{what} subtitles: {len(failed)}, of {count} questions",
                    "add or repair the files, or ask without subtitles: subtitles=none",
                    tuple(failed if failed is missing else (error.problem for error in failed.values())),
                )
            )
    if subtitles.skipped:
        made.append(
            Finding(
                Level.NOTE,
                f"subtitle files with unreadable cues, which are left out: {len(subtitles.skipped)}",
                "repair the files if these cues matter",
                tuple(f"{path}: {summary}" for path, summary in subtitles.skipped.items()),
            )
        )
    if subtitles.without == len(questions):
        made.append(
            Finding(
                Level.NOTE,
                "no question names a subtitle file, so all are asked without subtitles",
                "choose a benchmark with subtitles, or switch them off: subtitles=none",
            )
        )
    elif subtitles.without:
        made.append(Finding(Level.NOTE, f"questions that name no subtitle file: {subtitles.without}", ""))
    return made


def fault_findings(questions: Sequence[Question]) -> list[Finding]:
    """Rows of the benchmark that cannot be used."""
    faults = tuple(question.fault.partition("\n")[0] for question in questions if question.fault)
    if not faults:
        return []
    problem = f"rows of the benchmark that cannot be used: {len(faults)} of {len(questions)}"
    return [Finding(Level.SOME_FAIL, problem, "correct them in the benchmark's file", faults)]


def question_findings(questions: Sequence[Question], answerer: Answerer) -> list[Finding]:
    """Questions that this answerer cannot be asked, whatever is selected."""
    made = []
    faults = [fault for question in questions if (fault := question_fault(question, ()))]
    if faults:
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"questions that cannot be asked: {len(faults)}",
                "correct them in the benchmark's file",
                tuple(fault.partition("\n")[0] for fault in faults),
            )
        )
    pictured = [question.id for question in questions if question.option_images]
    if pictured and isinstance(answerer, LocalAnswerer):
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"questions whose options are pictures, which this answerer does not take: {len(pictured)}",
                "use an answerer that takes them, such as answerer=openai, or leave these questions out",
                tuple(pictured),
            )
        )
    return made


def image_findings(questions: Sequence[Question]) -> list[Finding]:
    """Option pictures that do not exist."""
    paths = list(dict.fromkeys(path for question in questions for path in question.option_images or ()))
    with ThreadPoolExecutor(THREADS) as pool:
        exist = list(pool.map(lambda path: local_path(path).is_file(), paths))
    missing = {path for path, exists in zip(paths, exist, strict=True) if not exists}
    if not missing:
        return []
    count = sum(bool(missing & set(question.option_images or ())) for question in questions)
    return [
        Finding(
            Level.SOME_FAIL,
            f"missing option pictures: {len(missing)}, of {count} questions",
            "add the files; the benchmark's own page says where to get them",
            tuple(sorted(missing)),
        )
    ]
