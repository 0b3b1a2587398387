"""``gens recall``: how much of the benchmark's evidence the selected frames show. Loads no model, decodes nothing.

Beside recall, the share of evidence spans that a frame shows, it measures precision, the share of frames that show one,
and F1. Frames that fill a budget cost precision and never recall.

If annotations hold the durations, the videos themselves are not needed: frames are spread over the continuous duration
(a clock of 600 a second), from 0 to the end. On the validation rows of LongVideoBench, taking 24, 25 or 30
frames a second instead moves no figure by more than 0.003.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.artefacts.folder import sibling_questions
from pipeline.artefacts.rows import SelectionRow
from pipeline.artefacts.stored import StoredRows
from pipeline.benchmarks import MeasuredBenchmark
from pipeline.benchmarks.metrics import SpanScores, mean_scores, span_scores
from pipeline.commands.questions import questions_of
from pipeline.commands.run import exit_code, run_folder
from pipeline.config import build, nearest
from pipeline.domain import Question, Relevance, Selection, Span, Status, Video
from pipeline.errors import ConfigError, InputError, VideoError
from pipeline.execution.sampling import numbered
from pipeline.orchestrator import selected
from pipeline.paths import local_path, shown
from pipeline.reports.recall import RECALL_FILE, Measured, show, write
from pipeline.samplers import ChecksQuestions, Sampler, WithoutPictures
from pipeline.selection import SelectionPolicy
from pipeline.terminal import tell
from pipeline.video import Reader
from pipeline.video.clip import ClipFrames, clip_of
from pipeline.video.unseen import UnseenFrames, unseen_video

TIMELINES = ("annotations", "videos")


def run(config: DictConfig) -> int:
    """Print the table and write recall.json."""
    benchmark = build(config.benchmark, "benchmark", config.plugins)
    sampler = _sampler(config)
    policies = _policies(config)
    tolerances = _tolerances(config)
    truncate = _truncate(config)
    if config.timeline not in TIMELINES:
        raise ConfigError(
            f"timeline={config.timeline} is not a timeline.{nearest(str(config.timeline), TIMELINES)}",
            f"one of {', '.join(TIMELINES)}",
        )
    questions = questions_of(benchmark, None)
    readable = [question for question in questions if not question.fault]
    group = _group(config.group, questions)
    known = isinstance(benchmark, MeasuredBenchmark) and config.timeline == "annotations"
    reader = build(config.reader, "reader", config.plugins)
    videos = _videos(reader, readable, benchmark.durations() if known else {})
    with run_folder(config) as folder:
        counted = {question.id for question in questions if question.evidence}
        sets = {f"{sampler.name} k{policy.budget}": _Selected(counted, tolerances, truncate) for policy in policies}
        for question, relevance in _relevances(readable, videos, sampler, reader):
            for policy, noted in zip(policies, sets.values(), strict=True):
                noted.add(_selection(relevance, question, videos, policy, reader), question)
        for path in config.selections:
            sets[str(path)] = _Selected(counted, tolerances, truncate)
            _add_file(local_path(path), questions, sets[str(path)])
        measured = [noted.measured(of, questions) for of, noted in sets.items()]
        show(measured, questions, group)
        write(measured, folder / RECALL_FILE)
        tell(f"recall of {len(questions)} questions: {shown(folder / RECALL_FILE)}")
        return _report_missing(sets)


class _Selected:
    """One set of selections, of which only the figures are kept.

    Args:
        counted: ids of the questions with evidence.
        tolerances: in seconds.
        truncate: whether whole seconds are compared.
    """

    def __init__(self, counted: Collection[str], tolerances: Sequence[float], truncate: bool) -> None:
        self.statuses: dict[str, Status] = {}
        """Of counted questions that have a selection."""
        self.counted = counted
        self._truncate = truncate
        self._scores: dict[float, dict[str, SpanScores]] = {tolerance: {} for tolerance in tolerances}
        self._policies: Counter[str] = Counter()
        self._frames: dict[str, int] = {}

    def add(self, selection: Selection, question: Question) -> None:
        """Note a selection; of several for one question the last counts."""
        self._policies[selection.policy] += 1
        self._frames[question.id] = len(selection.frames)
        if question.id in self.counted and question.evidence:
            self.statuses[question.id] = selection.status
            times = [frame.time for frame in selection.frames]
            for tolerance, scores in self._scores.items():
                scores[question.id] = span_scores(times, question.evidence, tolerance, truncate=self._truncate)

    def measured(self, of: str, questions: Sequence[Question]) -> Measured:
        """The figures over ``questions``."""
        return Measured(
            of,
            self._policies.most_common(1)[0][0],
            sum(self._frames.values()) / max(1, len(self._frames)),
            [mean_scores(scores, questions, tolerance) for tolerance, scores in self._scores.items()],
        )


def _report_missing(sets: Mapping[str, _Selected]) -> int:
    """Report counted questions that have no row or failed. Returns 1 if some failed."""
    for of, found in sets.items():
        without = len(found.counted) - len(found.statuses)
        if without:
            tell(f"{of} has no row for {without} questions with evidence, which count as a recall of 0")
    return exit_code(list(next(iter(sets.values())).statuses.values()))


def _sampler(config: DictConfig) -> Sampler:
    sampler: Sampler = build(config.sampler, "sampler", config.plugins)
    if not isinstance(sampler, WithoutPictures):
        raise ConfigError(
            f"sampler={sampler.name} needs decoded frames, and gens recall opens no video",
            "run gens sample, then measure its selections: gens recall selections=[runs/.../selections.jsonl]",
        )
    return sampler


def _policies(config: DictConfig) -> list[SelectionPolicy]:
    given = config.selection.budget
    budgets = list(given) if OmegaConf.is_list(given) else [given]
    if not budgets:
        raise ConfigError("selection.budget=[] measures nothing", "set selection.budget=[8,16,32,64]")
    policies: list[SelectionPolicy] = []
    for budget in budgets:
        node = config.selection.copy()
        node.budget = budget
        policies.append(build(node, "selection", config.plugins))
    return policies


def _tolerances(config: DictConfig) -> list[float]:
    given = list(config.tolerances)
    if not given or not all(isinstance(within, int | float) and within >= 0 for within in given):
        raise ConfigError(f"tolerances={given} are not seconds", "set tolerances=[1,2,5,10]")
    return [float(within) for within in given]


def _truncate(config: DictConfig) -> bool:
    if not isinstance(config.truncate, bool):
        raise ConfigError(f"truncate={config.truncate} is neither true nor false", "set truncate=true")
    return bool(config.truncate)


def _group(wanted: str | None, questions: Sequence[Question]) -> str | None:
    """The label to group by: ``wanted``, or the first label of the benchmark."""
    if not any(question.evidence for question in questions):
        raise InputError(
            "no question has evidence, so there is nothing to find",
            "choose a benchmark with evidence; gens list benchmarks",
        )
    labels = list(dict.fromkeys(label for question in questions for label in question.groups))
    if wanted is not None and wanted not in labels:
        raise ConfigError(
            f"group={wanted}: the benchmark has no such label.{nearest(wanted, labels)}", f"one of {', '.join(labels)}"
        )
    return wanted if wanted is not None else next(iter(labels), None)


def _videos(
    reader: Reader, questions: Sequence[Question], durations: Mapping[str, float]
) -> dict[str, Video | VideoError]:
    """The facts of each video, or the error that prevents them."""
    found: dict[str, Video | VideoError] = {}
    for path in dict.fromkeys(question.video for question in questions):
        about = partial(unseen_video, path, durations[path]) if path in durations else partial(reader.probe, path)
        try:
            found[path] = about()
        except VideoError as error:
            found[path] = error
    return found


def _relevances(
    questions: Sequence[Question], videos: Mapping[str, Video | VideoError], sampler: Sampler, reader: Reader
) -> Iterator[tuple[Question, Relevance]]:
    """Every question with its relevance, clip by clip: the scores of all would not fit into memory."""
    if isinstance(sampler, ChecksQuestions):
        sampler.check(questions)
    by_clip: dict[tuple[str, Span | None], list[Question]] = {}
    for question in questions:
        by_clip.setdefault((question.video, question.span), []).append(question)
    for group in by_clip.values():
        try:
            scored = _scored(_known(videos[group[0].video]), group, sampler, reader)
        except VideoError as error:
            scored = [Relevance(each.id, (), (), status=error.status, detail=str(error)) for each in group]
        yield from zip(group, scored, strict=True)


def _scored(video: Video, questions: Sequence[Question], sampler: Sampler, reader: Reader) -> list[Relevance]:
    """The relevances of questions about one clip.

    Raises:
        VideoError: there is no such clip, or frames are not evenly spaced and their times cannot be read.
    """
    clip = clip_of(video, questions[0].span)
    with ExitStack() as held:
        whole = UnseenFrames(video) if video.is_even else held.enter_context(reader.open(video.path))
        frames = ClipFrames(clip, whole)
        return numbered(sampler.score(clip, frames, questions), frames)


def _selection(
    relevance: Relevance,
    question: Question,
    videos: Mapping[str, Video | VideoError],
    policy: SelectionPolicy,
    reader: Reader,
) -> Selection:
    """As a run selects, or the failure of a video that has no such clip."""
    try:
        return selected(relevance, question, _known(videos[question.video]), policy, reader)
    except VideoError:
        return Selection(question.id, (), policy.name, policy.budget, relevance.status, relevance.detail)


def _known(video: Video | VideoError) -> Video:
    """The facts of the video.

    Raises:
        VideoError: there are none.
    """
    if isinstance(video, VideoError):
        raise video
    return video


def _add_file(path: Path, questions: Sequence[Question], noted: _Selected) -> None:
    """Note the selections of a file, each of a question that is asked here.

    Raises:
        InputError: the file is not a selection file, or a row's question is another one.
    """
    asked = {question.id: question for question in questions}
    rows = StoredRows.opened(SelectionRow, path, sibling_questions(path))
    if not rows:
        raise InputError(f"{path} holds no selection", "name a selections.jsonl that gens sample has finished")
    for row in rows:
        question = asked.get(row.question.id)
        if question is None or question.text != row.question.text:
            what = "is not asked by this benchmark" if question is None else "has another text in this benchmark"
            raise InputError(
                f"{path}: the question {row.question.id!r} {what}.{nearest(row.question.id, asked)}",
                "measure a selection file with the benchmark that it was made for: benchmark=... benchmark.path=...",
            )
        noted.add(row.selection, question)
