"""All that ``gens check`` found out, as one object; its fields are the keys of ``--json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipeline.checks import Finding, Level
from pipeline.checks.devices import Machine
from pipeline.checks.estimate import Estimate
from pipeline.checks.limits import Fit
from pipeline.checks.memory import ModelMemory, room
from pipeline.checks.plan import Plan
from pipeline.checks.videos import Videos

SCHEMA = "gens/check/1"


@dataclass(frozen=True)
class Names:
    """What is to be run."""

    benchmark: str
    sampler: str
    selection: str
    budget: int
    answerer: str


@dataclass(frozen=True)
class Report:
    """One configuration, before it runs."""

    names: Names
    questions: int
    answered: int
    """Questions that the run folder already has an answer to."""
    videos: Videos
    subtitles: str
    machine: Machine
    held: tuple[tuple[str, ModelMemory], ...]
    """Stage and checkpoint."""
    plan: Plan | None
    """None if a finding says why there is no plan."""
    fit: Fit | None
    """None if a finding says why the answerer's limits are unknown."""
    times: dict[str, Estimate]
    """Seconds by stage: ``decoding``, ``sampling``, ``answering``."""
    money: Estimate
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0: it can run; 1: it runs and some questions fail; 2: it cannot run as configured."""
        return max((int(finding.level) for finding in self.findings), default=int(Level.NOTE))


def as_json(report: Report) -> str:
    """The report for scripts."""
    content = {
        "schema": SCHEMA,
        "exit_code": report.exit_code,
        "names": asdict(report.names),
        "questions": {"asked": report.questions, "answered": report.answered},
        "videos": _videos(report.videos),
        "subtitles": report.subtitles,
        "machine": {**asdict(report.machine), "name": report.machine.name},
        "memory": [
            {"stage": stage, **asdict(model), "total": model.total, "room": _room(model, report.machine)}
            for stage, model in report.held
        ],
        "sampler": _plan(report.plan),
        "answerer": _fit(report.fit),
        "seconds": {stage: asdict(estimate) for stage, estimate in report.times.items()},
        "dollars": asdict(report.money),
        "findings": [{**asdict(finding), "level": finding.level.name.lower()} for finding in report.findings],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _videos(videos: Videos) -> dict[str, object]:
    seconds = [probe.video.duration for probe in videos.probes.values()]
    return {
        "readable": len(videos.probes),
        "seconds": sum(seconds),
        "longest": max(seconds, default=0.0),
        "missing": list(videos.missing),
        "unreadable": {path: videos.failed[path].problem for path in videos.unreadable},
        "too_short": dict(videos.short),
    }


def _room(model: ModelMemory, machine: Machine) -> int:
    return room(model.device, machine)


def _plan(plan: Plan | None) -> dict[str, object] | None:
    if plan is None:
        return None
    return {
        "questions_cached": plan.cached,
        "questions_open": plan.open,
        "videos_open": len(plan.passes),
        "windows": plan.windows,
        "reads_frames": plan.reads_frames,
    }


def _fit(fit: Fit | None) -> dict[str, object] | None:
    if fit is None:
        return None
    return {
        **asdict(fit.limits),
        "answer_tokens": fit.answer_tokens,
        "exact_words": fit.exact_words,
        "most_frames": _most([load.frames for load in fit.loads]),
        "most_frame_tokens": _most([load.frame_tokens for load in fit.loads]),
        "most_words": _most([load.words for load in fit.loads]),
        "most_tokens": _most([load.tokens for load in fit.loads]),
        "visual_tokens": {load.question_id: load.visual_tokens for load in fit.loads},
        "fitting_budget": fit.fitting,
        "over_limit": [load.question_id for load in fit.over],
    }


def _most(counts: Sequence[int]) -> int:
    return max(counts, default=0)
