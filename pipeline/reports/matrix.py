"""The verdicts on one question, sampler x answerer."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reports.runs import RunArtefacts
from pipeline.reports.views import Matrix, MatrixCell, MatrixRow

_PARTS = (("sampler",), ("sampler", "budget"), ("sampler", "selection"), ("sampler", "selection", "budget"))


def matrix(found: Sequence[tuple[RunArtefacts, str, MatrixCell]], by_label: bool) -> Matrix | None:
    """None for fewer than two runs.

    Args:
        found: the runs that answer, each with its label and how its answer came out.
        by_label: each run has a row named by its label, as the two of a pair do.
    """
    if len(found) < 2:
        return None
    if by_label:
        return Matrix(("answer",), tuple(MatrixRow(label, (cell,)) for _, label, cell in found))
    columns = tuple(dict.fromkeys(run.answerer for run, _, _ in found))
    stages = list(dict.fromkeys((run.sampler, run.selection, run.budget) for run, _, _ in found))
    firsts = {(run.sampler, run.selection, run.budget): run for run, _, _ in found}
    parts = next(
        (parts for parts in _PARTS if len({_named(firsts[stage], parts) for stage in stages}) == len(stages)),
        _PARTS[-1],
    )
    rows: list[tuple[str, dict[str, MatrixCell]]] = []
    for run, _, cell in found:
        name = _named(run, parts)
        cells = next((cells for known, cells in rows if known == name and run.answerer not in cells), None)
        if cells is None:
            # A repeat of a run has a row of its own, by its name.
            repeated = any(known == name for known, _ in rows)
            cells = {}
            rows.append((f"{name} ({run.name})" if repeated else name, cells))
        cells[run.answerer] = cell
    return Matrix(columns, tuple(MatrixRow(name, tuple(map(cells.get, columns))) for name, cells in rows))


def _named(run: RunArtefacts, parts: Sequence[str]) -> str:
    words = {
        "sampler": run.sampler or "no sampler yet",
        "selection": run.selection,
        "budget": f"K={run.budget}" if run.budget else "",
    }
    return " · ".join(filter(None, (words[part] for part in parts)))
