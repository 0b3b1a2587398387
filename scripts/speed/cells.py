"""Cells of the matrix: each is a file, so that a run that ends early goes on from there."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scripts.speed.machine import Machine, Measured, free_memory
from scripts.speed.where import Row

Who = Literal["ours", "stock", "file", "decoding", "reader", "workers", "workers_prepared"]
"""Ours on frames that are decoded already; a loop of stock ``generate``; ours from a video file, by ``gens sample``;
decoding alone, by as many processes as cores; one reader of ours; several workers from video files, and with frames
that are prepared beforehand."""

_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Cell:
    """What is measured."""

    who: Who
    of: str
    """Name of the sampler, the answerer, or the backend of the reader."""
    windows: int = 0
    questions: int = 0
    tokens: int = 0
    """Written for each answer."""
    frames: int = 0
    """Of a window, or of a question where there are no windows."""
    video: float = 0.0
    """Seconds of video that are read; of each video where there are several."""
    workers: int = 0
    """Processes that hold a model, where there are several cells of them."""
    prompt_tokens: int = 0
    seconds: float | None = None
    """None until it is measured."""
    runs: tuple[float, ...] = ()
    floor: float | None = None
    """Seconds that the machine's ceilings allow at best; None where it is not known."""
    peak: float | None = None
    """GiB."""
    reserved: float | None = None
    idle: float | None = None
    where: tuple[Row, ...] = ()
    """What took the time of a command; of the profiled run, if there was one."""
    note: str = ""
    problem: str = ""
    """Why it could not be measured."""
    machine: str = ""
    versions: str = ""

    @property
    def key(self) -> str:
        """The name of its file."""
        sizes = {"w": self.windows, "q": self.questions, "t": self.tokens, "s": int(self.video), "p": self.workers}
        return "-".join([self.who, self.of, *(f"{size}{letter}" for letter, size in sizes.items() if size)])

    def with_measured(self, found: Measured) -> Cell:
        """The same cell with its figures."""
        return replace(
            self, seconds=found.seconds, runs=found.runs, peak=found.peak, reserved=found.reserved, idle=found.idle
        )


class Store:
    """Cells in a folder.

    Args:
        folder: made if need be.
        machine: cells of other machines or versions count as not measured.
        chosen: words of which one is in the key of every cell that is measured; empty for all cells.
        until: second of the monotonic clock after which no cell begins.
    """

    def __init__(self, folder: Path, machine: Machine, chosen: Sequence[str], until: float) -> None:
        self._folder = folder
        self._machine = machine
        self._chosen = chosen
        self._until = until
        self._versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("torch", "transformers"))
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that are chosen and not measured yet, or could not be; none once the time is over."""
        done = {cell.key for cell in self.cells() if not cell.problem}
        left = [cell for cell in cells if cell.key not in done]
        if self._chosen:
            left = [cell for cell in left if any(word in cell.key for word in self._chosen)]
        if left and time.monotonic() > self._until:
            _say(f"  for the next run: {', '.join(cell.key for cell in left)}")
            return []
        return left

    def cells(self) -> list[Cell]:
        """All that were tried on this machine, with these versions."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(Row(**row) for row in content["where"])
            cell = Cell(**{**content, "runs": tuple(content["runs"]), "where": rows})
            if (cell.machine, cell.versions) == (self._machine.name, self._versions):
                found.append(cell)
        return found

    @contextmanager
    def or_reason(self, cells: Sequence[Cell]) -> Iterator[None]:
        """What fails in this context before the cells are measured is the reason of each of them."""
        problem = ""
        try:
            yield
        except Exception as error:  # whatever it is, other cells are measured
            problem = _reason(error)
        if problem:
            free_memory()
            for cell in self.open(cells):
                self._keep(replace(cell, problem=problem))

    def measure(self, cell: Cell, work: Callable[[Cell], Cell]) -> None:
        """Measure a cell and keep it; one that fails is kept with its reason.

        Args:
            cell: what.
            work: gives the cell with its figures.
        """
        if not self.open([cell]):
            return
        problem = ""
        try:
            found = work(cell)
        except Exception as error:  # whatever it is, other cells are measured
            problem = _reason(error)
        if problem:  # outside of the handler, which holds the tensors of the failed call
            free_memory()
            found = replace(cell, problem=problem)
        self._keep(found)

    def _keep(self, cell: Cell) -> None:
        found = replace(cell, machine=self._machine.name, versions=self._versions)
        path = self._folder / f"{found.key}.json"
        path.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
        figures = [
            *([] if found.seconds is None else [f"{found.seconds:.3f} s"]),
            *([] if found.floor is None else [f"floor {found.floor:.3f} s"]),
            *([] if found.peak is None else [f"peak {found.peak:.1f} GiB"]),
            *([] if found.idle is None else [f"GPU idle {found.idle:.0%}"]),
            *([found.problem] if found.problem else []),
        ]
        _say(f"  {found.key}: {', '.join(figures)}")


def _say(line: str) -> None:
    print(f"{time.monotonic() - _BEGAN:4.0f} s{line}", flush=True)


def _reason(error: Exception) -> str:
    """What happened, and where."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {message} ({Path(at.filename).name}:{at.lineno})"
