"""Shared by the verbs that compute: their run folder and the two stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline.answer_requests import OverLimit
from pipeline.answerers import Answerer, PreparesAhead
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.artefacts.stored import StoredRows
from pipeline.artefacts.writing import check_writable
from pipeline.checks.admission import Run
from pipeline.checks.remedies import own_overrides
from pipeline.commands.executors import executor_of, overlapping, workplaces
from pipeline.commands.outcome import running
from pipeline.commands.record import record, typed
from pipeline.config import build, nearest
from pipeline.domain import Question, Status
from pipeline.errors import ConfigError
from pipeline.execution.answering import Showing
from pipeline.execution.decoding import DecodeSettings, decoding_reader
from pipeline.execution.recipes import decoding
from pipeline.execution.settings import execution_settings
from pipeline.execution.stages import AnswerStage, SampleStage
from pipeline.orchestrator import answer, sample, sample_and_answer, select
from pipeline.paths import local_path
from pipeline.progress import silently
from pipeline.samplers import Sampler
from pipeline.selection import SelectionPolicy
from pipeline.stopping import ExitCode
from pipeline.subtitles import SubtitleChoice
from pipeline.terminal import remark
from pipeline.video import Reader

if TYPE_CHECKING:
    from pipeline.execution.candidates import CandidateStore

MOST_AT_ONCE = 10_000
"""Questions."""
MOST_PREPARED = 1e6
"""GB."""
_TOLD = 10
"""Videos that are named where they could not be read."""


@dataclass(frozen=True)
class RunContext:
    """What both stages need in addition to sampler, policy and answerer."""

    reader: Reader
    relevances: RelevanceCache
    answers: AnswerCache
    answer_batch: int
    prepared_bytes: int
    has_store: bool
    """Whether prepared candidates are stored for other jobs."""
    over_limit: OverLimit
    subtitles: SubtitleChoice


def run_context(config: DictConfig, more_will_be_asked: bool = False) -> RunContext:
    """Build the reader, open the caches and check the settings of both stages.

    Args:
        config: of the command.
        more_will_be_asked: whether questions about the same videos come later, so that prepared frames are stored.

    Raises:
        ConfigError, StorageError: a setting cannot be used, or a folder cannot be written.
    """
    batch = config.execution.answer_batch
    if not isinstance(batch, int) or not 1 <= batch <= MOST_AT_ONCE:
        raise ConfigError(
            f"execution.answer_batch={batch}: at least one question, at most {MOST_AT_ONCE}",
            "set execution.answer_batch=1 or more",
        )
    prepared = config.execution.prepared_gb
    if not isinstance(prepared, int | float) or not 0 < prepared <= MOST_PREPARED:
        raise ConfigError(f"execution.prepared_gb={prepared}: some memory is needed", "set execution.prepared_gb=4")
    decode = decoding(config)
    retries = decode.retry == "crashed"
    cache = RelevanceCache(Path(config.paths.cache), retries)
    cache.check_writable()
    check_writable(local_path(config.paths.runs), "paths.runs=...")
    execution_settings(config)
    reader = build(config.reader, "reader", config.plugins)
    candidates = _shared_candidates(config, decode) if more_will_be_asked or _is_of_sweep() else None
    return RunContext(
        decoding_reader(reader, decode, Path(config.paths.cache), candidates),
        cache,
        AnswerCache(Path(config.paths.cache), retries),
        batch,
        int(prepared * 1e9),
        candidates is not None,
        _over_limit(config),
        _subtitles(config),
    )


def _shared_candidates(config: DictConfig, decode: DecodeSettings) -> CandidateStore | None:
    """The store for the jobs of a sweep or the questions of a server, several of which may have the same candidates."""
    if not decode.candidates_gb:
        return None
    from pipeline.execution.candidates import CandidateStore

    return CandidateStore(Path(config.paths.cache), int(decode.candidates_gb * 1e9))


def _is_of_sweep() -> bool:
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def _over_limit(config: DictConfig) -> OverLimit:
    """The rule; the default for verbs without a second stage."""
    rule = config.get("over_limit", OverLimit.REFUSE.value)
    if rule not in list(OverLimit):
        raise ConfigError(f"over_limit={rule} is not a rule.", f"one of {', '.join(OverLimit)}: over_limit=keep_best")
    return OverLimit(rule)


def _subtitles(config: DictConfig) -> SubtitleChoice:
    """The choice; the default for verbs without a second stage."""
    choice = config.get("subtitles", SubtitleChoice.NONE.value)
    if choice not in list(SubtitleChoice):
        raise ConfigError(
            f"subtitles={choice}: no such choice.{nearest(str(choice), map(str, SubtitleChoice))}",
            f"one of {', '.join(SubtitleChoice)}: subtitles=at_frames",
        )
    return SubtitleChoice(choice)


def run_to_check(config: DictConfig, context: RunContext, questions: Sequence[Question], **parts: Any) -> Run:
    """The run for :func:`pipeline.checks.admission.admit`; ``parts`` are further fields of :class:`Run`."""
    return Run(
        config=config,
        questions=questions,
        reader=context.reader,
        relevances=context.relevances,
        answers=context.answers,
        over_limit=context.over_limit,
        subtitles=context.subtitles,
        workplaces=partial(workplaces, config, len({question.video for question in questions})),
        **parts,
    )


@contextmanager
def run_folder(config: DictConfig) -> Iterator[Path]:
    """Lock the run folder that Hydra named and write into it what runs there, and what happens to it."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with running(folder) as events:
        events.write("start", **record(config, folder, typed()))
        yield folder


def first_stage(
    config: DictConfig,
    questions: Sequence[Question],
    sampler: Sampler,
    policy: SelectionPolicy,
    context: RunContext,
    folder: Path,
    seen: Seen,
) -> StoredRows[SelectionRow]:
    """Relevance and selection of all questions, noted in ``seen``. The sampler's model is freed on return."""
    write_questions(questions, folder)

    def counted(rows: Iterable[RelevanceRow]) -> Iterator[RelevanceRow]:
        for row in rows:
            seen.note(row)
            yield row

    videos = len({question.video for question in questions})
    executor = executor_of(config, "sampler", sampler, videos, has_store=context.has_store)
    with own_overrides("sampler", sampler), closing(sampler):
        rows = sample(questions, sampler, context.reader, context.relevances, folder, executor)
        selected = select(counted(rows), policy, context.reader, folder)
    assert isinstance(selected, StoredRows)  # of the folder
    return selected.in_order(question.id for question in questions)


class Seen:
    """What failed in stage 1 and no status of a question says: windows, and why videos could not be read."""

    def __init__(self) -> None:
        self._windows: Counter[Status] = Counter()
        self._unreadable: dict[str, str] = {}

    def note(self, row: RelevanceRow) -> None:
        """Count a row."""
        if row.relevance.status is Status.UNREADABLE_VIDEO:
            self._unreadable[row.question.video] = row.relevance.detail.partition("\n")[0]
        self._windows.update(window.status for window in row.relevance.windows)

    def tell(self) -> None:
        """Print what failed."""
        _tell_windows(self._windows)
        _tell_unreadable(self._unreadable)


def _tell_windows(counts: Counter[Status]) -> None:
    """Print windows by status where some failed. A window that names nothing was read and is not a failure."""
    if set(counts) - {Status.OK, Status.NOTHING_RELEVANT}:
        names = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        remark(f"sampler, windows: {names}")


def _tell_unreadable(videos: Mapping[str, str]) -> None:
    """Print which videos could not be read, and why."""
    for reason in islice(videos.values(), _TOLD):
        remark(f"sampler, videos: {reason}")
    if len(videos) > _TOLD:
        remark(f"sampler, videos: {len(videos) - _TOLD} more that could not be read, in relevance.jsonl")


def second_stage(
    config: DictConfig, selections: Sequence[SelectionRow], answerer: Answerer, context: RunContext, folder: Path
) -> Sequence[AnswerRow]:
    """Answers to all questions. The answerer's model is freed on return."""
    questions = [row.question for row in selections]
    write_questions(questions, folder)
    if isinstance(answerer, PreparesAhead):
        answerer.hold_at_most(context.prepared_bytes)
    videos = len({question.video for question in questions})
    executor = executor_of(config, "answerer", answerer, videos, has_store=context.has_store)
    with own_overrides("answerer", answerer), closing(answerer):
        return answer(
            selections,
            answerer,
            context.reader,
            context.answers,
            context.over_limit,
            context.subtitles,
            context.answer_batch,
            folder,
            executor,
        )


def both_stages(
    config: DictConfig,
    questions: Sequence[Question],
    sampler: Sampler,
    policy: SelectionPolicy,
    answerer: Answerer,
    context: RunContext,
    folder: Path,
) -> Sequence[AnswerRow]:
    """Answers to all questions: one stage after the other, or both at once where that is configured."""
    executor = overlapping(config, sampler, answerer, has_store=context.has_store)
    seen = Seen()
    if executor is None:
        selections = first_stage(config, questions, sampler, policy, context, folder, seen)
        seen.tell()
        return second_stage(config, selections, answerer, context, folder)
    write_questions(questions, folder)
    reader, showing = context.reader, Showing(context.over_limit, context.subtitles, context.answer_batch)
    with ExitStack() as held:
        for stage, part in (("sampler", sampler), ("answerer", answerer)):
            held.enter_context(own_overrides(stage, part))
            held.enter_context(closing(part))
        with silently():  # a terminal shows the progress of the answers
            sampling = held.enter_context(SampleStage(questions, sampler, reader, context.relevances, folder))
        answering = held.enter_context(AnswerStage(len(questions), answerer, reader, context.answers, showing, folder))
        rows = sample_and_answer(questions, sampling, policy, answering, reader, folder, executor, seen.note)
    seen.tell()
    return rows


def report_run(folder: Path, context: RunContext) -> None:
    """Write the page about a run and print its table; the jobs of a sweep are in one table at its end."""
    from pipeline.reports.page import page_on, report_on

    if _is_of_sweep():
        page_on([folder], context.reader, folder)
    else:
        report_on([folder], context.reader, folder)


def exit_code(statuses: Sequence[Status]) -> int:
    """0 on success, 1 if some questions failed, which are counted on standard error."""
    failed = Counter(status for status in statuses if status is not Status.OK)
    if not failed:
        return ExitCode.SUCCESS
    names = ", ".join(f"{count} {status}" for status, count in sorted(failed.items()))
    remark(f"questions: {failed.total()} of {len(statuses)} failed: {names}")
    return ExitCode.QUESTIONS_FAILED
