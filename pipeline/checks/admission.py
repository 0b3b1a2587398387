"""Decides whether a run can start as it is configured, for ``gens check`` and before stage 1 of every run.

No model is loaded. Videos are probed, as the run would do next in any case, and the probes are cached. A stage whose
results are all cached needs no weights, memory or device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from pipeline.answer_requests import OverLimit
from pipeline.answerers import Answerer, ChecksSubtitles, LimitsOutput, TakesScales
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.rows import SelectionRow
from pipeline.checks import Finding, Level, inputs, limits, memory, remedies, seams, sizes, stage_two, videos
from pipeline.checks.devices import Machine, this_machine
from pipeline.checks.limits import Fit
from pipeline.checks.memory import ModelMemory, Prompts
from pipeline.checks.plan import Plan, planned
from pipeline.domain import Question, Relevance, Status, SubtitleLine, Video
from pipeline.errors import ConfigError, PipelineError, with_remedy
from pipeline.identity import identity_of
from pipeline.orchestrator import prefetch, sample, select, unanswered
from pipeline.progress import silently
from pipeline.samplers import ChecksCheckpoint, HoldsPrefix, KeepsEmbeddings, Sampler, WithoutPictures
from pipeline.selection import SelectionPolicy
from pipeline.selection.embeddings import key_of
from pipeline.spans import span
from pipeline.subtitles import SubtitleChoice
from pipeline.terminal import remark
from pipeline.video import Reader
from pipeline.video.clip import ClipFrames
from pipeline.video.timeline import is_rate
from pipeline.video.unseen import UnseenFrames


@dataclass(frozen=True)
class Run:
    """The parts of a run. A command without one of the stages leaves out its parts."""

    config: DictConfig
    questions: Sequence[Question]
    """Empty where they come later: then both models are needed."""
    reader: Reader
    relevances: RelevanceCache
    answers: AnswerCache
    over_limit: OverLimit
    subtitles: SubtitleChoice
    sampler: Sampler | None = None
    policy: SelectionPolicy | None = None
    answerer: Answerer | None = None
    selections: Sequence[SelectionRow] | None = None
    """What an earlier run has selected, where there is no sampler."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the videos by path, where annotations tell them."""
    workplaces: Callable[[str, Any, Machine], Sequence[Machine]] = lambda stage, part, machine: (machine,)
    """What the processes that compute a stage have of a machine, each kind once: the stage, its sampler or answerer."""


@dataclass(frozen=True)
class Examination:
    """The result of examining a run."""

    findings: tuple[Finding, ...]
    videos: videos.Videos
    subtitles: str
    """A summary of those that were read."""
    machine: Machine
    plan: Plan | None
    """None if there is no sampler, or a finding says why it has no plan."""
    fit: Fit | None
    """None if there is no answerer, or a finding says why its limits are unknown."""
    held: tuple[tuple[str, ModelMemory], ...]
    """Stage and checkpoint."""


def admit(run: Run) -> Examination:
    """Refuse a run that cannot start, before anything is written or computed. A fault of one question is its status.

    Returns:
        What was found out about a run that can start.

    Raises:
        ConfigError: the first finding that prevents the run.
    """
    if run.sampler is not None:
        prefetch(run.questions, run.sampler, run.reader)
    with span("checks"):
        examined = examine(run)
    _admit(run, examined.findings)
    return examined


def admit_together(run: Run) -> None:
    """As :func:`admit`, for one whose models are all in memory at once, and whose questions come later.

    Raises:
        ConfigError: the first finding that prevents it.
    """
    examined = examine(run)
    _admit(run, [*examined.findings, *memory.findings([model for _, model in examined.held], examined.machine)])


def _admit(run: Run, findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.level is Level.CANNOT_RUN:
            run.reader.prefetch(None, None)
            raise ConfigError(finding.problem, finding.remedy)
    for note in seams.unkeyed_settings(run.sampler, run.policy, run.answerer):
        remark(with_remedy(f"note: {note.problem}", note.remedy))


def examine(run: Run) -> Examination:
    """Run all checks."""
    questions = [question for question in run.questions if not question.fault]
    found = inputs.fault_findings(run.questions)
    found_videos = videos.probe_all(questions, run.reader, run.durations)
    lacking = list(seams.lacking(run.sampler, run.policy, run.answerer))
    if lacking:
        return Examination(tuple(lacking), found_videos, "not checked", this_machine(), None, None, ())
    found += [*_rates(run), *_raised(run.reader.check)]
    found += videos.findings(found_videos, questions)
    found += seams.unkeyed_settings(run.sampler, run.policy, run.answerer)
    plan = None
    if run.sampler is not None:
        plan = _plan(run, questions, found_videos, found)
        found += _embeddings(run, questions)
        found += _predicted_failures(run, questions, found_videos)
    machine = this_machine()
    needed = plan is None or plan.open > 0 or not run.questions
    sampling = _Stage("sampler", run.sampler, machine, needed=needed, is_here=_is_here(run))
    found += sampling.faults
    told = len(sampling.faults)
    answering, fit, summary = _answering(run, questions, found_videos, machine, found)
    held = _held(run, [sampling, answering], fit, machine)
    found += sampling.faults[told:]
    if any(finding.level is Level.CANNOT_RUN for finding in answering.faults) and _is_answered(run, plan):
        answering.faults.clear()
    found += answering.faults
    return Examination(
        findings=tuple(dict.fromkeys(found)),  # several checks report the same missing checkpoint
        videos=found_videos,
        subtitles=summary,
        machine=machine,
        plan=plan
        if found_videos.clips
        else None,  # without a readable video, nothing is known: an empty plan would say that no work is left
        fit=fit,
        held=tuple(held),
    )


class _Stage:
    """The models of a sampler or an answerer, and what prevents their use where they are needed."""

    def __init__(self, name: str, part: Any, machine: Machine, *, needed: bool, is_here: bool) -> None:
        self.name = name
        self.part = part
        self.needed = needed and part is not None
        self.faults: list[Finding] = []
        self.checkpoints = list(remedies.checkpoints(part, name))
        self.is_usable = True
        if self.needed:
            missing = memory.unusable({name: part})
            self.is_usable = not missing
            self.faults += [self.fault(error) for error in missing.values()]
            for key, holder, checkpoint in self.checkpoints:
                if self.is_usable and isinstance(holder, ChecksCheckpoint):
                    self.faults += self.raised(holder.check_checkpoint)
                self.faults += memory.attention_findings(key, checkpoint, machine) if is_here else []

    def fault(self, error: PipelineError) -> Finding:
        """An error of this stage."""
        return remedies.finding(error, self.name, self.part)

    def raised(self, check: Callable[[], Any]) -> list[Finding]:
        """The error of a check of this stage."""
        try:
            check()
        except PipelineError as error:
            return [self.fault(error)]
        return []


def _answering(
    run: Run, questions: Sequence[Question], found_videos: videos.Videos, machine: Machine, found: list[Finding]
) -> tuple[_Stage, Fit | None, str]:
    """The second stage, whether frames and words fit, and a summary of the subtitles."""
    answerer = run.answerer
    stage = _Stage("answerer", answerer, machine, needed=True, is_here=_is_here(run))
    if answerer is None:
        return stage, None, "not given to the answerer"
    found += inputs.question_findings(questions, answerer)
    found += inputs.image_findings(questions)
    budget = run.policy.budget if run.policy is not None else _most_frames(run.selections or ())
    lines, summary = _subtitles(run, questions, found_videos, budget, found)
    if run.subtitles is not SubtitleChoice.NONE and isinstance(answerer, ChecksSubtitles):
        stage.faults[:0] = stage.raised(answerer.check_subtitles)
    stage.faults += stage.raised(answerer.identity)
    wanted = _sizes(run, found_videos, found)
    refused: list[Finding] = []
    if stage.is_usable or not isinstance(answerer, TakesScales):
        refused = stage.raised(lambda: sizes.check_taken(answerer, run.policy, wanted))
        stage.faults += refused
    if refused or not stage.is_usable:
        return stage, None, summary
    try:
        if isinstance(answerer, LimitsOutput):
            room = answerer.output_tokens()
        else:
            room = int(run.config.answerer.get("max_new_tokens") or 0)
        fit = stage_two.fitted(questions, found_videos.clips, wanted, answerer, room, lines)
        stage.faults += sizes.law_findings(run.policy, answerer, found_videos.clips, wanted)
    except PipelineError as error:
        stage.faults.append(stage.fault(error))
        return stage, None, summary
    if fit.over and run.policy is not None:
        smaller = stage_two.smaller_frames(
            run.config.answerer, run.config.plugins, questions, found_videos.clips, wanted, fit
        )
        found += limits.findings(fit, budget, run.over_limit, smaller, _always_full(run))
    return stage, fit, summary


def _always_full(run: Run) -> bool:
    """Whether each selection has as many frames as it may: not where a sampler may name fewer."""
    return getattr(run.policy, "fill", None) == "uniform" or getattr(run.sampler, "spread", None) is not None


def _sizes(run: Run, found_videos: videos.Videos, found: list[Finding]) -> sizes.Sizes:
    """The frames that the answerer will be shown at most."""
    if run.policy is not None:
        return sizes.of_policy(run.policy, found_videos.clips, found)
    return sizes.of_rows(run.selections or ())


def _most_frames(rows: Sequence[SelectionRow]) -> int:
    return max((len(row.selection.frames) for row in rows), default=1) or 1


def _subtitles(
    run: Run, questions: Sequence[Question], found_videos: videos.Videos, budget: int, found: list[Finding]
) -> tuple[dict[str, tuple[SubtitleLine, ...]], str]:
    """The subtitle lines of each question, and a summary of them."""
    if run.subtitles is SubtitleChoice.NONE:
        return {}, "not given to the answerer"
    subtitles = inputs.read_subtitles(questions, {path: probe.video for path, probe in found_videos.probes.items()})
    found += inputs.subtitle_findings(subtitles, questions)
    return (
        stage_two.given_lines(found_videos.clips, subtitles.lines, run.subtitles, budget),
        f"{run.subtitles}; {len(subtitles.lines)} questions have some, {len(subtitles.failed)} files cannot be read",
    )


def _plan(run: Run, questions: Sequence[Question], found_videos: videos.Videos, found: list[Finding]) -> Plan | None:
    assert run.sampler is not None
    try:
        return planned(questions, found_videos.clips, run.sampler, run.relevances)
    except PipelineError as error:
        found.append(remedies.finding(error, "sampler", run.sampler))
        return None


def _embeddings(run: Run, questions: Sequence[Question]) -> list[Finding]:
    """A policy that compares frames with each other needs a sampler that keeps their embeddings."""
    compares = any(getattr(part, "needs_embeddings", False) for _, part in _parts(run.policy, "selection"))
    sampler = run.sampler
    if not compares or not isinstance(sampler, KeepsEmbeddings) or sampler.keeps_embeddings(questions):
        return []
    return _raised(lambda: key_of(None))


def _predicted_failures(run: Run, questions: Sequence[Question], found_videos: videos.Videos) -> list[Finding]:
    """Questions for which a sampler without pictures gives no frames. It costs nothing to run it now."""
    sampler = run.sampler
    if not isinstance(sampler, WithoutPictures) or not isinstance(sampler, Sampler):
        return []
    by_clip: dict[Video, list[Question]] = {}
    for question in questions:
        if question.id in found_videos.clips:
            by_clip.setdefault(found_videos.clips[question.id], []).append(question)
    try:
        relevances: list[Relevance] = []
        for clip, group in by_clip.items():
            whole = UnseenFrames(found_videos.probes[group[0].video].video)
            relevances += sampler.score(clip, ClipFrames(clip, whole), group)
    except PipelineError as error:
        return [remedies.finding(error, "sampler", sampler)]
    failed = [relevance for relevance in relevances if relevance.status is not Status.OK]
    if not failed:
        return []
    shown = getattr(run.policy, "fallback", "none") != "none"
    return [
        Finding(
            Level.NOTE if shown else Level.SOME_FAIL,
            f"questions without frames from the sampler: {len(failed)}",
            "they are shown uniform frames" if shown else "show them uniform frames: selection.fallback=uniform",
            tuple(f"{each.question_id}: {each.status}: {each.detail}" for each in failed),
        )
    ]


def _rates(run: Run) -> Iterator[Finding]:
    """Invalid rates of candidate frames, in any part of the sampler."""
    for key, part in _parts(run.sampler, "sampler"):
        fps = getattr(part, "fps", None)
        if isinstance(fps, int | float) and not is_rate(fps):
            yield Finding(
                Level.CANNOT_RUN,
                f"{key}.fps={fps} is not a rate of candidate frames",
                f"set a positive one: {key}.fps=1",
            )


def _parts(part: Any, key: str) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        yield key, part
        for each in dataclasses.fields(part):
            yield from _parts(getattr(part, each.name, None), f"{key}.{each.name}")


def _is_here(run: Run) -> bool:
    """Whether models are on this machine. Of the nodes of a cluster nothing is known before the run."""
    return bool(run.config.execution.get("executor") != "ray")


def _held(run: Run, stages: Sequence[_Stage], fit: Fit | None, machine: Machine) -> list[tuple[str, ModelMemory]]:
    """The memory of both stages' models. The first stage frees its models before the second loads its own.

    Where stages overlap, all of them are in memory together.
    """
    longest = max((load.tokens for load in fit.loads), default=0) + fit.answer_tokens if fit else 0
    held: list[tuple[str, ModelMemory]] = []
    together: list[ModelMemory] = []
    workplaces: Sequence[Machine] = ()
    for stage in stages:
        models: list[ModelMemory] = []
        for key, holder, checkpoint in stage.checkpoints:
            if stage.name == "answerer":
                prompts = Prompts(longest, run.config.execution.answer_batch)
            else:
                prompts = Prompts(holder.prefix_tokens() if isinstance(holder, HoldsPrefix) else 0, 1)
            stated = str((run.config[stage.name].get("about") or {}).get("memory", "nothing"))
            if not stage.is_usable:
                models.append(memory.not_downloaded(key, checkpoint, stated, machine))
                continue
            try:
                models.append(memory.model_memory(key, checkpoint, prompts, stated, machine))
            except PipelineError as error:
                if stage.needed:
                    stage.faults.append(stage.fault(error))
        if stage.needed and _is_here(run):
            workplaces = run.workplaces(stage.name, stage.part, machine)
            stage.faults += [each for workplace in workplaces for each in memory.findings(models, workplace)]
            together += models
        held += [(stage.name, model) for model in models]
    if run.config.execution.overlap_stages and all(stage.needed and not stage.faults for stage in stages):
        found = [each for workplace in workplaces for each in memory.findings(together, workplace)]
        too_much = [each for each in found if each.level is not Level.NOTE]
        instead = "execution.overlap_stages=false"
        stages[-1].faults += [replace(each, level=Level.CANNOT_RUN, remedy=instead) for each in too_much]
    return held


def _is_answered(run: Run, plan: Plan | None) -> bool:
    """Whether every answer is cached, so that faults of the answerer do not matter.

    Selections are known in advance only where stage 1 costs nothing.
    """
    if run.answerer is None or not run.questions:
        return False
    try:
        identity_of(run.answerer)
        if run.selections is not None:
            return _all_cached(run, run.answerer, run.selections)
        if run.sampler is None or run.policy is None or plan is None or (plan.open and plan.reads_frames):
            return False
        with TemporaryDirectory() as name, silently():
            folder = Path(name)
            rows = sample(run.questions, run.sampler, run.reader, run.relevances, folder)
            return _all_cached(run, run.answerer, select(rows, run.policy, run.reader, folder))
    except PipelineError:
        return False


def _all_cached(run: Run, answerer: Answerer, selections: Iterable[SelectionRow]) -> bool:
    return next(unanswered(selections, answerer, run.answers, run.over_limit, run.subtitles), None) is None


def _raised(check: Callable[[], Any]) -> list[Finding]:
    try:
        check()
    except PipelineError as error:
        return [Finding(Level.CANNOT_RUN, error.problem, error.remedy)]
    return []
