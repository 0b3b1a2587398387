"""Checks that videos exist, can be read, and are as long as they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.checks import Finding, Level
from pipeline.domain import Question, Video
from pipeline.errors import ClipError, MissingVideoError, VideoError
from pipeline.paths import local_path
from pipeline.progress import track
from pipeline.video import Reader
from pipeline.video.clip import clip_of
from pipeline.video.probing import Probe

THREADS = 16
"""Probing a file mostly waits for the disk, and hashing it lets other threads run."""
CUT = 0.05
"""Seconds that may be missing from the end of a file before it counts as cut."""
SHORTER, SHORTER_SHARE = 2.0, 0.02
"""Seconds, and share of the length, by which a video may be shorter than annotations say: these are rounded."""


@dataclass(frozen=True)
class Videos:
    """The videos that a benchmark names, as probed."""

    probes: Mapping[str, Probe]
    """By path: those that can be read."""
    failed: Mapping[str, VideoError]
    """By path: the others."""
    short: Mapping[str, str]
    """By path: those that can be read and are shorter than they should be, and by how much."""
    clips: Mapping[str, Video]
    """Clips by question id; a question whose clip is outside of its video is left out."""

    @property
    def damaged(self) -> Mapping[str, tuple[float, ...]]:
        """By path: seconds of the frames that cannot be decoded, of videos that are otherwise readable."""
        return {path: probe.damaged for path, probe in self.probes.items() if probe.damaged}

    @property
    def missing(self) -> tuple[str, ...]:
        """Paths without a file."""
        return tuple(path for path, error in self.failed.items() if isinstance(error, MissingVideoError))

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Paths of files that are not videos, or are damaged."""
        return tuple(path for path, error in self.failed.items() if not isinstance(error, MissingVideoError))


def probe_all(questions: Sequence[Question], reader: Reader, durations: Mapping[str, float]) -> Videos:
    """Probe each video once, many at a time.

    Args:
        questions: the questions whose videos are probed.
        reader: the reader that probes them.
        durations: seconds by path, where annotations give them.
    """
    questions_of: dict[str, list[Question]] = {}
    for question in questions:
        questions_of.setdefault(question.video, []).append(question)
    found = _probes(list(questions_of), reader)
    probes = {path: probe for path, probe in found.items() if isinstance(probe, Probe)}
    short = {path: _missing_part(probe, durations.get(path), questions_of[path]) for path, probe in probes.items()}
    return Videos(
        probes=probes,
        failed={path: error for path, error in found.items() if isinstance(error, VideoError)},
        short={path: why for path, why in short.items() if why},
        clips=_clips(questions, probes),
    )


def findings(videos: Videos, questions: Sequence[Question]) -> list[Finding]:
    """What is wrong with the videos, and how many questions that affects."""
    made = []
    if videos.missing:
        count = _of_questions(videos.missing, questions)
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"missing videos: {len(videos.missing)}, of {count} questions",
                _where_they_may_be(videos.missing),
                videos.missing,
            )
        )
    if videos.unreadable:
        count = _of_questions(videos.unreadable, questions)
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"unreadable videos: {len(videos.unreadable)}, of {count} questions",
                "fetch or convert them, as each line says",
                tuple(_with_its_remedy(videos.failed[path]) for path in videos.unreadable),
            )
        )
    if videos.damaged:
        count = _of_questions(tuple(videos.damaged), questions)
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"videos with damaged parts: {len(videos.damaged)}, of {count} questions",
                "fetch them again: a question that needs one of these frames fails",
                tuple(
                    f"{path}: {len(seconds)} frames between {seconds[0]:.1f} s and {seconds[-1]:.1f} s"
                    for path, seconds in videos.damaged.items()
                ),
            )
        )
    if videos.short:
        count = _of_questions(tuple(videos.short), questions)
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"videos that are too short: {len(videos.short)}, of {count} questions",
                "fetch them again: the missing part may show the answer",
                tuple(f"{path}: {why}" for path, why in videos.short.items()),
            )
        )
    return made


def _with_its_remedy(error: VideoError) -> str:
    remedy = error.remedy.replace("\n", "\n      ")
    return f"{error.problem}\n      what to do: {remedy}"


def _probes(paths: Sequence[str], reader: Reader) -> dict[str, Probe | VideoError]:
    def probe(path: str) -> Probe | VideoError:
        try:
            return reader.look(path)
        except VideoError as error:
            return error

    found: dict[str, Probe | VideoError] = {}
    with ThreadPoolExecutor(THREADS) as pool, track("probing videos", len(paths)) as advance:
        for path, result in zip(paths, pool.map(probe, paths), strict=True):
            found[path] = result
            advance(1)
    return found


def _missing_part(probe: Probe, annotated: float | None, questions: Sequence[Question]) -> str:
    """By how much a video is too short; empty if it is not."""
    duration = probe.video.duration
    if probe.readable < duration - CUT:
        return f"the file ends at {probe.readable:.1f} s of the {duration:.1f} s that it announces"
    if annotated is not None and duration < annotated - max(SHORTER, SHORTER_SHARE * annotated):
        return f"{duration:.1f} s, and the annotations say {annotated:.1f} s"
    starts = [(span.start, question.id) for question in questions for span in question.evidence or ()]
    latest, question_id = max(starts, default=(0.0, ""))
    if latest > duration + SHORTER:
        return f"{duration:.1f} s, and the question {question_id} is about second {latest:.1f}"
    for question in questions:
        try:
            clip_of(probe.video, question.span)
        except ClipError as error:
            return f"{error.problem}: question {question.id}"
    return ""


def _clips(questions: Sequence[Question], probes: Mapping[str, Probe]) -> dict[str, Video]:
    clips = {}
    for question in questions:
        if question.video in probes:
            with suppress(ClipError):
                clips[question.id] = clip_of(probes[question.video].video, question.span)
    return clips


def _of_questions(paths: Sequence[str], questions: Sequence[Question]) -> int:
    wanted = set(paths)
    return sum(question.video in wanted for question in questions)


def _where_they_may_be(missing: Sequence[str]) -> str:
    """Where to put missing files, or under which other names they exist."""
    named = {local_path(path) for path in missing}
    there: dict[tuple[Path, str], str] = {}
    for folder in {path.parent for path in named}:
        if folder.is_dir():
            there.update({(folder, file.stem): file.name for file in folder.iterdir() if file.is_file()})
    other = [(path.name, there[path.parent, path.stem]) for path in named if (path.parent, path.stem) in there]
    if other:
        wanted, found = min(other)
        return f"found under another name: {len(other)}, such as {found} for {wanted}; rename or link them"
    return "add the files (gens download benchmark=... says where from), or name their folder: benchmark.video_root=..."
