"""The report as text: what will run, what it takes, and what is wrong, with a remedy for each."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.answerers import NO_LIMIT
from pipeline.checks import Finding, Level, memory
from pipeline.checks.estimate import Estimate
from pipeline.checks.limits import Fit, at_most
from pipeline.checks.memory import GIB, ModelMemory
from pipeline.checks.plan import Plan
from pipeline.checks.report import Report
from pipeline.checks.videos import Videos
from pipeline.terminal import draw, styled

MOST_PLACES = 10
"""The number of files or questions that are listed for a finding; ``--json`` has them all."""
VERDICTS = {
    0: "this can run",
    1: "this runs, and some questions will fail",
    2: "this cannot run as it is configured",
}
_STYLES = {Level.NOTE: "dim", Level.SOME_FAIL: "yellow", Level.CANNOT_RUN: "bold red"}


def show(report: Report) -> None:
    """Print it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, said in _rows(report):
        table.add_row(name, styled(said))
    draw(table)
    for finding in sorted(report.findings, key=lambda each: -each.level):
        draw("", *(styled(line, style) for line, style in _lines(finding)))
    style = _STYLES[Level(report.exit_code)] if report.exit_code else ""
    draw("", styled(VERDICTS[report.exit_code], style))


def _rows(report: Report) -> list[tuple[str, str]]:
    names = report.names
    rows = [
        ("run", f"{names.benchmark}, {names.sampler}, {names.selection} of {names.budget}, {names.answerer}"),
        ("questions", f"{report.questions}" + (f", {report.answered} answered already" if report.answered else "")),
        ("videos", _videos(report.videos)),
        ("subtitles", report.subtitles),
        ("sampler", _plan(report.plan)),
        ("answerer", _fit(report.fit)),
        ("machine", f"{report.machine.name}, {report.machine.memory / GIB:.0f} GiB of main memory"),
    ]
    rows += [(f"memory, {stage}", _held(model, report)) for stage, model in report.held]
    rows += [(f"time, {stage}", _estimate(estimate, _clock)) for stage, estimate in report.times.items()]
    rows.append(("money", _estimate(report.money, lambda dollars: f"${dollars:.2f}")))
    return rows


def _videos(videos: Videos) -> str:
    seconds = [probe.video.duration for probe in videos.probes.values()]
    counts = [f"{len(videos.probes)} readable ({_clock(sum(seconds))} in all)"]
    counts += [
        f"{len(paths)} {what}"
        for paths, what in ((videos.missing, "missing"), (videos.unreadable, "unreadable"), (videos.short, "too short"))
        if paths
    ]
    return ", ".join(counts)


def _plan(plan: Plan | None) -> str:
    if plan is None:
        return "unknown, see below"
    if not plan.reads_frames:
        return "needs no frames"
    windows = "an unknown number of windows" if plan.windows is None else _counted(plan.windows, "window")
    left = f"{windows} of {_counted(len(plan.passes), 'video')} for {_counted(plan.open, 'question')}"
    return f"{left if plan.open else 'nothing left'}; in the relevance cache: {_counted(plan.cached, 'question')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _fit(fit: Fit | None) -> str:
    if fit is None:
        return "unknown, see below"
    limits = fit.limits
    most = max(fit.loads, key=lambda load: load.tokens, default=None)
    cap = "" if limits.max_frames is None else f", {limits.max_frames} frames at most"
    known = limits.context_tokens < NO_LIMIT
    context = f"{limits.context_tokens if known else 'an unknown number of'} tokens of context{cap}"
    if most is None:
        return context
    words = f"{'' if fit.exact_words else 'about '}{most.words} for the question"
    room = f"{fit.answer_tokens} for the answer; {context}"
    frames = f"up to {most.shown} frames of {most.frame_tokens} tokens{at_most(most)}"
    return ", ".join([frames, *_visual(fit), words, room])


def _visual(fit: Fit) -> list[str]:
    """The visual tokens of a question, by which runs are compared; nothing where they are not known."""
    counts = [load.visual_tokens for load in fit.loads if load.visual_tokens is not None]
    if not counts:
        return []
    few, many = min(counts), max(counts)
    return [f"{many if few == many else f'{few} to {many}'} visual tokens a question"]


def _held(model: ModelMemory, report: Report) -> str:
    if model.weights is None:
        return f"{model.source} is not on this machine; its settings say: {model.stated}"
    cache = "" if not model.cache else f" and {model.prompts} x {_size(model.cache)} of keys and values"
    most = memory.room(model.device, report.machine)
    return f"{model.source}: {_size(model.weights)} of weights{cache}, of {_size(most)} on {model.device}"


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _estimate(estimate: Estimate, written: Callable[[float], str]) -> str:
    if estimate.amount is None:
        return estimate.source
    return f"{written(estimate.amount)} ({estimate.source})"


def _lines(finding: Finding) -> list[tuple[str, str]]:
    style = _STYLES[finding.level]
    lines = [(finding.problem, style)]
    lines += [(f"    {place}", "dim") for place in finding.places[:MOST_PLACES]]
    if len(finding.places) > MOST_PLACES:
        lines.append((f"    and {len(finding.places) - MOST_PLACES} more: --json lists all", "dim"))
    if finding.remedy:
        lines.append((f"  what to do: {finding.remedy}", ""))
    return lines


def _clock(seconds: float) -> str:
    """``75.2`` is ``"1 min"``, ``3675`` is ``"1 h 1 min"``; even a run of months is given in hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
