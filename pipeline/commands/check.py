"""``gens check``: what is missing, what does not fit and what a run will take, before any model is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.answerers import Answerer
from pipeline.artefacts.cache import RelevanceCache
from pipeline.artefacts.folder import ANSWERS_FILE, questions_beside
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks import Benchmark, MeasuredBenchmark
from pipeline.checks import Finding, Level, estimate, limits, material, memory, stage_two, videos
from pipeline.checks.devices import Machine, this_machine
from pipeline.checks.estimate import Estimate, Priced
from pipeline.checks.limits import Fit
from pipeline.checks.memory import Held, Prompts
from pipeline.checks.past import PastRuns
from pipeline.checks.plan import Plan, planned
from pipeline.checks.rendering import show
from pipeline.checks.report import Names, Report, as_json
from pipeline.commands.questions import asked_of
from pipeline.commands.run import Surroundings, check_second_stage, surroundings
from pipeline.config import build
from pipeline.domain import Question, SubtitleLine, Video
from pipeline.errors import InputError, PipelineError
from pipeline.paths import local_path
from pipeline.run_names import run_folder
from pipeline.samplers import HoldsPrefix, Sampler
from pipeline.selection import SelectionPolicy
from pipeline.subtitles import SubtitleChoice
from pipeline.terminal import tell

OWN_KEYS = ("hydra", "json", "speed")
"""What this verb has and ``gens evaluate`` has not."""


def run(config: DictConfig) -> int:
    """Print the report; 0 if it can run, 1 if some questions will fail, 2 if it cannot run as configured."""
    report = checked(config)
    if config.json:
        tell(as_json(report))
    else:
        show(report)
    return report.exit_code


def checked(config: DictConfig) -> Report:
    """Find out everything.

    Raises:
        ConfigError, InputError, StorageError: there is nothing that could be checked.
    """
    sampler = build(config.sampler, "sampler", config.plugins)
    policy = build(config.selection, "selection", config.plugins)
    answerer = build(config.answerer, "answerer", config.plugins)
    benchmark = build(config.benchmark, "benchmark", config.plugins)
    around = surroundings(config)
    all_questions = asked_of(benchmark, config.limit)
    questions = [question for question in all_questions if not question.fault]
    found: list[Finding] = material.fault_findings(all_questions)

    looked = videos.look_at_all(questions, around.reader, _durations(benchmark))
    found += videos.findings(looked, questions)
    found += material.question_findings(questions, answerer)
    found += material.image_findings(questions)
    lines, spoken = _subtitles(around.subtitles, questions, looked, policy.budget, found)

    parts = {"sampler": sampler, "answerer": answerer}
    faults = memory.unusable(parts)
    found += [_fatal(error) for error in faults.values()]
    usable = {stage: part for stage, part in parts.items() if stage not in faults}

    plan = _plan(questions, looked.views, sampler, around.relevances, found) if "sampler" in usable else None
    if not looked.views:
        plan = None  # of no question is anything known: not that nothing is left to do
    fit = _fit(config, questions, looked.views, policy, answerer, lines, found) if "answerer" in usable else None
    if fit is not None and fit.over:
        smaller = stage_two.smaller_frames(config.answerer, config.plugins, questions, looked.views, fit)
        found += limits.findings(fit, policy.budget, around.over_limit, smaller)
    if "answerer" in usable:
        _second_stage(answerer, around, found)
    machine = this_machine()
    held = _memory(config, parts, faults.keys(), fit, machine, found)

    answered = _answered(config)
    left = [load for load in fit.loads if load.question_id not in answered] if fit else []
    return Report(
        names=Names(benchmark.name, sampler.name, policy.name, policy.budget, answerer.name),
        questions=len(all_questions),
        answered=len(answered & {question.id for question in all_questions}),
        videos=looked,
        subtitles=spoken,
        machine=machine,
        held=tuple(held),
        plan=plan,
        fit=fit,
        times=_times(config, sampler, plan, fit if looked.views else None, left, machine.name),
        money=_money(answerer, fit if looked.views else None, left),
        findings=tuple(dict.fromkeys(found)),  # a checkpoint that is missing is missed by several
    )


def _durations(benchmark: Benchmark) -> Mapping[str, float]:
    return benchmark.durations() if isinstance(benchmark, MeasuredBenchmark) else {}


def _subtitles(
    choice: SubtitleChoice,
    questions: Sequence[Question],
    looked: videos.Videos,
    budget: int,
    found: list[Finding],
) -> tuple[dict[str, tuple[SubtitleLine, ...]], str]:
    """The lines that go with each question, and a word on them all."""
    if choice is SubtitleChoice.NONE:
        return {}, "not given to the answerer"
    spoken = material.read_subtitles(questions, {path: probe.video for path, probe in looked.probes.items()})
    found += material.subtitle_findings(spoken, questions)
    return (
        stage_two.given_lines(looked.views, spoken.lines, choice, budget),
        f"{choice}; {len(spoken.lines)} questions have some, {len(spoken.failed)} files cannot be read",
    )


def _plan(
    questions: Sequence[Question],
    views: Mapping[str, Video],
    sampler: Sampler,
    cache: RelevanceCache,
    found: list[Finding],
) -> Plan | None:
    try:
        return planned(questions, views, sampler, cache)
    except PipelineError as error:
        found.append(_fatal(error))
        return None


def _fit(
    config: DictConfig,
    questions: Sequence[Question],
    views: Mapping[str, Video],
    policy: SelectionPolicy,
    answerer: Answerer,
    lines: Mapping[str, tuple[SubtitleLine, ...]],
    found: list[Finding],
) -> Fit | None:
    room = int(config.answerer.get("max_new_tokens") or 0)
    try:
        fit = stage_two.fitted(questions, views, policy.budget, answerer, room, lines)
    except PipelineError as error:
        found.append(_fatal(error))
        return None
    return fit


def _second_stage(answerer: Answerer, around: Surroundings, found: list[Finding]) -> None:
    """A key or a package that is missing, or a form without a place for subtitles."""
    try:
        check_second_stage(answerer, around)
    except PipelineError as error:
        found.append(_fatal(error))


def _memory(
    config: DictConfig,
    parts: Mapping[str, Any],
    unusable: Collection[str],
    fit: Fit | None,
    machine: Machine,
    found: list[Finding],
) -> list[tuple[str, Held]]:
    """Both stages' models; one stage's are gone before the other's are loaded."""
    longest = max((load.tokens for load in fit.loads), default=0) + fit.answer_tokens if fit else 0
    held: list[tuple[str, Held]] = []
    for stage, part in parts.items():
        models: list[Held] = []
        for key, holder, checkpoint in memory.checkpoints(part, stage):
            if stage == "answerer":
                prompts = Prompts(longest, config.execution.answer_batch)
            else:
                prompts = Prompts(holder.prefix_tokens() if isinstance(holder, HoldsPrefix) else 0, 1)
            stated = str((config[stage].get("about") or {}).get("memory", "nothing"))
            if stage in unusable:
                models.append(memory.not_here(key, checkpoint, stated, machine))
                continue
            try:
                models.append(memory.held(key, checkpoint, prompts, stated, machine))
            except PipelineError as error:
                found.append(_fatal(error))
        found += memory.findings(models, machine)
        held += [(stage, model) for model in models]
    return held


def _times(
    config: DictConfig,
    sampler: Sampler,
    plan: Plan | None,
    fit: Fit | None,
    left: Sequence[limits.Load],
    machine: str,
) -> dict[str, Estimate]:
    unknown = Estimate(None, "unknown, see below")
    table = build(config.speed, "speed", config.plugins)
    past = PastRuns(local_path(config.paths.runs))
    times = {"decoding": unknown, "sampling": unknown, "answering": unknown}
    if plan is not None:
        needed = bool(plan.open) and plan.reads_frames
        windows = past.of_windows(config.sampler, sampler) if needed else None
        video = past.of_video(config.sampler) if needed and windows is None else None
        rate = table.of(f"reader {config.reader.backend}")
        times["sampling"] = estimate.sampling(plan, windows, video, table.of(sampler.name), machine)
        times["decoding"] = estimate.decoding(plan, windows is not None or video is not None, rate)
    if fit is not None:
        ran = past.of_frames(config.answerer) if left else None
        times["answering"] = estimate.answering(left, ran, table.of(config.answerer.name), machine)
    return times


def _money(answerer: Answerer, fit: Fit | None, left: Sequence[limits.Load]) -> Estimate:
    if fit is None:
        return Estimate(None, "unknown, see below")
    return estimate.money(left, fit.answer_tokens, answerer.prices if isinstance(answerer, Priced) else None)


def _answered(config: DictConfig) -> set[str]:
    """Ids of the questions that the same ``gens evaluate`` has answered already."""
    same = OmegaConf.masked_copy(config, [str(name) for name in config if name not in OWN_KEYS])
    OmegaConf.set_struct(same, False)
    same.hydra = {"job": {"config_name": "evaluate"}}
    path = local_path(config.paths.runs) / run_folder(same) / ANSWERS_FILE
    if not path.is_file():
        return set()
    try:
        rows = read_rows(AnswerRow, path, questions_beside(path))
    except InputError:
        return set()  # of a version that is not known, and made anew by the run
    current = AnswerRow.schema
    return {row.question.id for row in rows if row.schema == current and row.answer.status.is_final}


def _fatal(error: PipelineError) -> Finding:
    return Finding(Level.CANNOT_RUN, error.problem, error.remedy)
