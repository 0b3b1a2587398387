"""The cells as a YAML that ``gens check`` reads, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from scripts.speed.cells import Cell
from scripts.speed.machine import Machine


def write(folder: Path, name: str, cells: Sequence[Cell], machine: Machine) -> tuple[Path, Path]:
    """Write ``speed/NAME.yaml`` for ``gens check --config-dir FOLDER speed=NAME``, and ``NAME.json``.

    Returns:
        The two paths.
    """
    table = folder / "speed" / f"{name}.yaml"
    table.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "_target_": "pipeline.checks.speed.SpeedTable",
        "name": name,
        "about": {"what": f"measured on {machine.name}", "checkpoint": "none", "memory": "none", "extra": "none"},
        "rates": [*map(_rate, _ordered(cells))],
    }
    head = f"# gens check --config-dir {folder.name} speed={name}\n"
    table.write_text(head + yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")
    people = folder / f"{name}.json"
    told = {"machine": asdict(machine), "cells": [asdict(cell) for cell in cells]}
    people.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return table, people


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    """What a run costs, the usual case of each part first, since the first one is taken: see ``SpeedTable.of``."""
    told = [cell for cell in cells if cell.seconds is not None and cell.who != "stock" and not cell.workers]
    rank = {"ours": 0, "decoding": 1, "reader": 2, "file": 3}
    return sorted(told, key=lambda cell: (rank[cell.who], cell.of, -cell.windows, cell.questions, cell.tokens))


def _rate(cell: Cell) -> dict[str, Any]:
    assert cell.seconds is not None
    written = f"{cell.tokens} tokens an answer"
    if cell.who in ("reader", "decoding"):
        part = f"reader {'auto' if cell.who == 'decoding' else cell.of}"
        per, count, conditions = "video_second", cell.video, f"1 frame a second, {cell.note}"
    elif cell.who == "file":
        part, per, count = cell.of, "video_second", cell.video
        conditions = f"from file to relevance, {cell.video:.0f} s of video, {cell.note}, {_many(cell)}, {written}"
    elif cell.windows:
        part, per, count = cell.of, "window", float(cell.windows)
        conditions = f"{_many(cell)}, windows of {cell.frames} frames, {written}, frames decoded before"
    else:
        part, per, count = cell.of, "frame", float(cell.questions * cell.frames)
        conditions = f"{cell.questions} questions at once, {cell.frames} frames of each its own, {written}"
    return {
        "part": part,
        "per": per,
        **({"questions": cell.questions} if per == "window" else {}),
        "seconds": float(f"{cell.seconds / count:.4g}"),
        "machine": cell.machine,
        "conditions": f"{conditions}; {cell.versions}",
    }


def _many(cell: Cell) -> str:
    return f"{_number(cell.windows, 'window')} x {_number(cell.questions, 'question')}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def markdown(cells: Sequence[Cell], machine: Machine) -> str:
    """All figures, for a README."""
    lines = [
        f"{machine.name}; {machine.host}; {machine.memory / 2**30:.0f} GiB; matrix products "
        f"{machine.flops / 1e12:.0f} TFLOP/s, copies {machine.bandwidth / 1e12:.2f} TB/s (measured)",
        ", ".join(f"{name} {number}" for name, number in machine.versions.items()),
        "",
        *_samplers(cells),
        *_growth(cells),
        *_answerers(cells),
        *_files(cells),
        *_where(cells),
        *_several(cells),
        *_targets(cells),
    ]
    failed = [f"* {cell.key}: {cell.problem}" for cell in cells if cell.problem]
    return "\n".join([*lines, *(["Not measured:", "", *failed, ""] if failed else [])])


def _samplers(cells: Sequence[Cell]) -> list[str]:
    ours = [cell for cell in cells if cell.who == "ours" and cell.windows]
    if not ours:
        return []
    rows = []
    for cell in sorted(ours, key=lambda cell: (cell.of, cell.windows, cell.questions)):
        theirs, is_scaled = _stock(cells, cell)
        rows.append(
            f"| {cell.of} | {cell.windows} | {cell.questions} | {_told(cell.seconds, cell.problem)} "
            f"| {_seconds(theirs)}{' *scaled*' if is_scaled else ''} | {_ratio(theirs, cell.seconds)} "
            f"| {_seconds(cell.floor)} | {_gib(cell.peak)} | {_share(cell.idle)} |"
        )
    prompts = ", ".join(f"{of} {tokens}" for of, tokens in sorted({(cell.of, cell.prompt_tokens) for cell in ours}))
    return [
        f"Stage 1, {ours[0].frames} frames a window, {ours[0].tokens} tokens an answer; prompt tokens: {prompts}.",
        "",
        "| sampler | windows | questions | ours, s | stock, s | ratio | floor, s | peak, GiB | GPU idle |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _stock(cells: Sequence[Cell], cell: Cell) -> tuple[float | None, bool]:
    """Seconds of stock for the same, and whether they follow from another cell: a loop is linear in its rounds."""
    found = [each for each in cells if each.who == "stock" and each.of == cell.of and each.seconds is not None]
    same = [each for each in found if (each.windows, each.questions) == (cell.windows, cell.questions)]
    if same:
        return same[0].seconds, False
    if not found:
        return None, False
    largest = max(found, key=lambda each: each.windows * each.questions)
    assert largest.seconds is not None
    return largest.seconds * cell.windows * cell.questions / (largest.windows * largest.questions), True


def _growth(cells: Sequence[Cell]) -> list[str]:
    """Seconds a window, by windows and questions."""
    lines = []
    for of in sorted({cell.of for cell in cells if cell.who == "ours" and cell.windows}):
        found = {(cell.windows, cell.questions): cell.seconds for cell in cells if (cell.who, cell.of) == ("ours", of)}
        columns = sorted({questions for _, questions in found})
        lines += [
            f"Growth of {of}: seconds a window.",
            "",
            f"| windows | {' | '.join(_number(count, 'question') for count in columns)} |",
            f"|---|{'---|' * len(columns)}",
        ]
        for windows in sorted({windows for windows, _ in found}):
            seconds = [found.get((windows, questions)) for questions in columns]
            told = " | ".join(_seconds(None if spent is None else spent / windows) for spent in seconds)
            lines.append(f"| {windows} | {told} |")
        lines.append("")
    return lines


def _answerers(cells: Sequence[Cell]) -> list[str]:
    ours = [cell for cell in cells if cell.who == "ours" and not cell.windows]
    if not ours:
        return []
    rows = []
    for cell in sorted(ours, key=lambda cell: (cell.of, cell.tokens)):
        theirs = next((each for each in cells if _is_stock_of(each, cell)), None)
        stock = None if theirs is None or theirs.seconds is None else theirs.seconds / theirs.questions
        mine = None if cell.seconds is None else cell.seconds / cell.questions
        floor = None if cell.floor is None else cell.floor / cell.questions
        rows.append(
            f"| {cell.of} | {cell.prompt_tokens} | {cell.tokens} | {_told(mine, cell.problem)} | {_seconds(stock)} "
            f"| {_ratio(stock, mine)} | {_seconds(floor)} | {_gib(cell.peak)} | {_share(cell.idle)} |"
        )
    return [
        f"Stage 2, seconds a question: {ours[0].frames} frames of its own, {ours[0].questions} questions at once.",
        "",
        "| answerer | prompt tokens | tokens written | ours, s | stock, s | ratio | floor, s | peak, GiB | GPU idle |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _is_stock_of(cell: Cell, ours: Cell) -> bool:
    return (cell.who, cell.of, cell.tokens) == ("stock", ours.of, ours.tokens)


def _files(cells: Sequence[Cell]) -> list[str]:
    found = [cell for cell in cells if cell.who in ("file", "decoding", "reader")]
    if not found:
        return []
    names = {"file": "`gens sample`", "decoding": "decoding alone", "reader": "one reader,"}
    rows = []
    for cell in sorted(found, key=lambda cell: (cell.video, cell.who, cell.of)):
        alone = next((each.seconds for each in cells if (each.who, each.video) == ("decoding", cell.video)), None)
        ratio = _ratio(cell.seconds, alone) if cell.who == "file" else ""
        rows.append(
            f"| {names[cell.who]} {'' if cell.who == 'decoding' else cell.of} | {cell.video / 60:.3g} | "
            f"{_told(cell.seconds, cell.problem)} | {ratio} | {_gib(cell.peak)} | {_share(cell.idle)} | {cell.note} |"
        )
    return [
        "From a video file, 1 frame a second, one question.",
        "",
        "| what | minutes | s | of decoding alone | peak, GiB | GPU idle | |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _where(cells: Sequence[Cell]) -> list[str]:
    """What took the time of each command: the rows of its own thread add up to it."""
    lines = []
    for cell in sorted((cell for cell in cells if cell.where), key=lambda cell: (cell.of, cell.video)):
        profiled = "" if cell.idle is None else " (under the profiler)"
        lines += [
            f"Where the time goes: `gens sample` with {cell.of}, {cell.video / 60:.3g} minutes{profiled}.",
            "",
            "| | times | s | s without a kernel | first ends at s | last ends at s |",
            "|---|---|---|---|---|---|",
            *(
                f"| {row.name} | {row.count} | {row.seconds:.2f} | {'-' if row.idle is None else f'{row.idle:.2f}'} "
                f"| {row.first:.2f} | {row.last:.2f} |"
                for row in cell.where
            ),
            "",
        ]
    return lines


def _several(cells: Sequence[Cell]) -> list[str]:
    """Windows a second with several workers, against one."""
    found = [cell for cell in cells if cell.workers]
    if not found:
        return []
    rows = []
    for cell in sorted(found, key=lambda cell: (cell.of, cell.who, cell.workers)):
        alone = next((each for each in found if _is_alone(each, cell)), None)
        ratio = _ratio(_rate_of(cell), None if alone is None else _rate_of(alone))
        frames = "prepared beforehand" if cell.who == "workers_prepared" else "from the file"
        rows.append(
            f"| {cell.of} | {frames} | {cell.workers} | {cell.windows} | {_told(cell.seconds, cell.problem)} "
            f"| {_seconds(_rate_of(cell))} | {ratio} | {cell.note} |"
        )
    return [
        "Several workers, each with a GPU of its own; the host's cores decode for all of them.",
        "",
        "| sampler | frames | workers | windows | s | windows/s | times one worker | |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _is_alone(cell: Cell, several: Cell) -> bool:
    return (cell.of, cell.who, cell.workers) == (several.of, several.who, 1)


def _rate_of(cell: Cell) -> float | None:
    return None if not cell.seconds else cell.windows / cell.seconds


def _targets(cells: Sequence[Cell]) -> list[str]:
    """What was aimed at, and what came of it; a cell that is missing has a dash."""
    by_key = {cell.key: cell for cell in cells}

    def told(key: str, figure: Callable[[Cell], float | None], goal: Callable[[float], bool]) -> str:
        cell = by_key.get(key)
        found = None if cell is None or cell.seconds is None else figure(cell)
        if found is None:
            return "- | -"
        return f"{found:.2f} | {'reached' if goal(found) else 'missed'}"

    def ratio_to_decoding(cell: Cell) -> float | None:
        alone = by_key.get(f"decoding-file-{int(cell.video)}s")
        return None if alone is None or alone.seconds is None or cell.seconds is None else cell.seconds / alone.seconds

    def ratio_to_stock(cell: Cell) -> float | None:
        theirs = next((each for each in cells if _is_stock_of(each, cell)), None)
        if theirs is None or theirs.seconds is None or cell.seconds is None:
            return None
        return theirs.seconds / theirs.questions / (cell.seconds / cell.questions)

    peaks = [
        cell.peak for cell in cells if cell.who in ("ours", "file") and cell.of == "gens" and cell.peak is not None
    ]
    peak = f"{max(peaks):.1f} | {'reached' if max(peaks) <= 72 else 'missed'}" if peaks else "- | -"
    rows = {
        "gens, a window with 26 questions, s | <= 4.0": told(
            "ours-gens-1w-26q-100t", lambda cell: cell.seconds, lambda found: found <= 4.0
        ),
        "gens, a window with 1 question, s | <= 3.0": told(
            "ours-gens-1w-1q-100t", lambda cell: cell.seconds, lambda found: found <= 3.0
        ),
        "gens_3b, an hour with 2 questions, s | <= 6": told(
            "ours-gens_3b-14w-2q-100t", lambda cell: cell.seconds, lambda found: found <= 6.0
        ),
        "gens, 10 minutes from the file, GPU idle | < 0.10": told(
            "file-gens-3w-1q-100t-600s", lambda cell: cell.idle, lambda found: found < 0.1
        ),
        "gens, an hour from the file, GPU idle | < 0.10": told(
            "file-gens-15w-1q-100t-3600s", lambda cell: cell.idle, lambda found: found < 0.1
        ),
        "gens_3b, an hour from the file, times decoding alone | <= 1.2": told(
            "file-gens_3b-15w-1q-100t-3600s", ratio_to_decoding, lambda found: found <= 1.2
        ),
        "qwen2_vl_7b, 16 tokens, times stock | >= 1.5": told(
            "ours-qwen2_vl_7b-8q-16t", ratio_to_stock, lambda found: found >= 1.5
        ),
        "gens, peak memory of all cells, GiB | <= 72": peak,
    }
    return ["| target | goal | measured | |", "|---|---|---|---|", *(f"| {k} | {v} |" for k, v in rows.items()), ""]


def _told(seconds: float | None, problem: str) -> str:
    return "failed" if problem else _seconds(seconds)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _ratio(first: float | None, second: float | None) -> str:
    return "-" if first is None or not second else f"{first / second:.{1 if first / second >= 1.995 else 2}f}"


def _gib(size: float | None) -> str:
    return "-" if size is None else f"{size:.1f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
