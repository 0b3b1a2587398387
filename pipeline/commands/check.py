"""``gens check``: what is missing, what does not fit and what a run will take, before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from pipeline.answerers import Answerer
from pipeline.artefacts.folder import ANSWERS_FILE, sibling_questions
from pipeline.artefacts.rows import AnswerRow
from pipeline.artefacts.stored import StoredRows
from pipeline.benchmarks import Benchmark, MeasuredBenchmark
from pipeline.checks import estimate, limits
from pipeline.checks.admission import examine
from pipeline.checks.estimate import Estimate, Priced
from pipeline.checks.limits import Fit
from pipeline.checks.past import PastRuns
from pipeline.checks.plan import Plan
from pipeline.checks.rendering import show
from pipeline.checks.report import Names, Report, as_json
from pipeline.commands.executors import side_by_side
from pipeline.commands.questions import questions_of
from pipeline.commands.run import run_context, run_to_check
from pipeline.config import build
from pipeline.errors import InputError
from pipeline.explain import as_composed
from pipeline.paths import local_path
from pipeline.run_names import run_name
from pipeline.samplers import Sampler
from pipeline.terminal import tell

OWN_KEYS = ("hydra", "json", "speed")
"""Keys of this verb that ``gens evaluate`` does not have."""


def run(config: DictConfig) -> int:
    """Print the report; 0 if it can run, 1 if some questions will fail, 2 if it cannot run as configured."""
    report = make_report(config)
    if config.json:
        tell(as_json(report))
    else:
        show(report)
    return report.exit_code


def make_report(config: DictConfig) -> Report:
    """Run all checks and estimates.

    Raises:
        ConfigError, InputError, StorageError: nothing can be checked.
    """
    sampler = build(config.sampler, "sampler", config.plugins)
    policy = build(config.selection, "selection", config.plugins)
    answerer = build(config.answerer, "answerer", config.plugins)
    benchmark = build(config.benchmark, "benchmark", config.plugins)
    context = run_context(config)
    questions = questions_of(benchmark, config.limit)
    parts = {"sampler": sampler, "policy": policy, "answerer": answerer}
    found = examine(run_to_check(config, context, questions, durations=_durations(benchmark), **parts))
    fit = found.fit
    answered = _answered_ids(config)
    left = [load for load in fit.loads if load.question_id not in answered] if fit else []
    return Report(
        names=Names(benchmark.name, sampler.name, policy.name, policy.budget, answerer.name),
        questions=len(questions),
        answered=len(answered & {question.id for question in questions}),
        videos=found.videos,
        subtitles=found.subtitles,
        machine=found.machine,
        held=found.held,
        plan=found.plan,
        fit=fit,
        times=_shared(
            _times(config, sampler, found.plan, fit if found.videos.clips else None, left, found.machine.name),
            *(config, sampler, answerer, len({question.video for question in questions})),
        ),
        money=_money(answerer, fit if found.videos.clips else None, left),
        findings=tuple(
            replace(finding, remedy=as_composed(finding.problem, finding.remedy, config)) for finding in found.findings
        ),
    )


def _durations(benchmark: Benchmark) -> Mapping[str, float]:
    return benchmark.durations() if isinstance(benchmark, MeasuredBenchmark) else {}


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
        name, reading = sampler.name, table.of(f"reader {config.reader.backend}")
        times["sampling"] = estimate.sampling(plan, windows, video, table.of(name), table.of_windows(name), machine)
        times["decoding"] = estimate.decoding(plan, windows is not None or video is not None, reading)
    if fit is not None:
        ran = past.of_frames(config.answerer) if left else None
        times["answering"] = estimate.answering(left, ran, table.of(config.answerer.name), machine)
    return times


def _shared(
    times: Mapping[str, Estimate], config: DictConfig, sampler: Sampler, answerer: Answerer, videos: int
) -> dict[str, Estimate]:
    """The times with as many workers as there will be. Decoding is bound by the machine, however many there are."""
    sampling = estimate.shared(times["sampling"], side_by_side(config, "sampler", sampler, videos))
    answering = estimate.shared(times["answering"], side_by_side(config, "answerer", answerer, videos))
    return {**times, "sampling": sampling, "answering": answering}


def _money(answerer: Answerer, fit: Fit | None, left: Sequence[limits.Load]) -> Estimate:
    if fit is None:
        return Estimate(None, "unknown, see below")
    return estimate.money(left, fit.answer_tokens, answerer.prices if isinstance(answerer, Priced) else None)


def _answered_ids(config: DictConfig) -> set[str]:
    """Ids of the questions that the same ``gens evaluate`` has answered already."""
    same = OmegaConf.masked_copy(config, [str(name) for name in config if name not in OWN_KEYS])
    OmegaConf.set_struct(same, False)
    same.hydra = {"job": {"config_name": "evaluate"}}
    path = local_path(config.paths.runs) / run_name(same) / ANSWERS_FILE
    if not path.is_file():
        return set()
    current = AnswerRow.schema
    try:
        rows = StoredRows.opened(AnswerRow, path, sibling_questions(path))
        return {row.question.id for row in rows if row.schema == current and row.answer.is_final}
    except InputError:
        return set()  # of an unknown version; the run computes these rows again
