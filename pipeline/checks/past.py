"""Measures how long the same sampler and answerer took in earlier runs, to estimate the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.artefacts.folder import ANSWERS_FILE, CONFIG_FILE, RELEVANCE_FILE, sibling_questions
from pipeline.artefacts.journal import each_line, row_at
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, without_numbers
from pipeline.domain import Question, Video
from pipeline.errors import InputError
from pipeline.identity import configured
from pipeline.samplers import PlansWindows, Sampler
from pipeline.video.clip import clip_of
from pipeline.wellformed import loaded_yaml

MOST_RUNS = 100
"""The number of newest run folders that are read."""
ENOUGH = 3
"""The number of runs of one part that are counted. A run in which it computed nothing is not counted."""


@dataclass(frozen=True)
class PastSpeed:
    """The measured speed of a sampler or an answerer."""

    seconds: float
    units: float
    """Windows, seconds of video, or frames shown."""
    questions: int
    runs: tuple[str, ...]
    """Names of the run folders."""

    @property
    def rate(self) -> float:
        """Seconds a unit."""
        return self.seconds / self.units


@dataclass(frozen=True)
class PastRuns:
    """A folder of run folders."""

    folder: Path

    def of_windows(self, node: DictConfig, sampler: Sampler) -> PastSpeed | None:
        """Seconds a window by the sampler of this configuration; None where it plans no windows or never ran."""
        if not isinstance(sampler, PlansWindows):
            return None
        seconds, windows, questions, runs = 0.0, 0, 0, []
        for run in self._with_same_settings("sampler", node, RELEVANCE_FILE):
            rows = [row for row in _rows(RelevanceRow, run / RELEVANCE_FILE, _bare) if row.relevance.cost.seconds > 0]
            if not rows:
                continue
            by_clip: dict[Video, list[Question]] = {}
            for row in rows:
                if row.video is not None:
                    by_clip.setdefault(clip_of(row.video, row.question.span), []).append(row.question)
            windows += sum(sampler.windows(clip, group) for clip, group in by_clip.items())
            seconds += sum(row.relevance.cost.seconds for row in rows)
            questions += len(rows)
            runs.append(run.name)
            if len(runs) == ENOUGH:
                break
        return PastSpeed(seconds, windows, questions, tuple(runs)) if windows and seconds else None

    def of_video(self, node: DictConfig) -> PastSpeed | None:
        """Seconds a second of video by the sampler of this configuration."""
        seconds, length, questions, runs = 0.0, 0.0, 0, []
        for run in self._with_same_settings("sampler", node, RELEVANCE_FILE):
            rows = [row for row in _rows(RelevanceRow, run / RELEVANCE_FILE, _bare) if row.relevance.cost.seconds > 0]
            if not rows:
                continue
            length += sum({row.video.path: row.video.duration for row in rows if row.video}.values())
            seconds += sum(row.relevance.cost.seconds for row in rows)
            questions += len(rows)
            runs.append(run.name)
            if len(runs) == ENOUGH:
                break
        return PastSpeed(seconds, length, questions, tuple(runs)) if length and seconds else None

    def of_frames(self, node: DictConfig) -> PastSpeed | None:
        """Seconds a frame shown to the answerer of this configuration."""
        seconds, frames, questions, runs = 0.0, 0, 0, []
        for run in self._with_same_settings("answerer", node, ANSWERS_FILE):
            rows = [row for row in _rows(AnswerRow, run / ANSWERS_FILE) if row.answer.cost.seconds > 0]
            if not rows:
                continue
            frames += sum(len(row.answer.frame_times) for row in rows)
            seconds += sum(row.answer.cost.seconds for row in rows)
            questions += len(rows)
            runs.append(run.name)
            if len(runs) == ENOUGH:
                break
        return PastSpeed(seconds, frames, questions, tuple(runs)) if frames and seconds else None

    def _with_same_settings(self, part: str, node: DictConfig, file: str) -> Iterator[Path]:
        """The newest runs with such a file whose part has the same settings, as far as they decide what is computed."""
        wanted = _settings(part, OmegaConf.to_container(node, resolve=True))
        newest = sorted(self.folder.glob(f"*/{file}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[:MOST_RUNS]:
            if _settings(part, _config(path.parent).get(part)) == wanted:
                yield path.parent


def _settings(part: str, node: Any) -> Any:
    return configured({part: node})


def _config(run: Path) -> dict[str, Any]:
    try:
        found = loaded_yaml((run / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a folder that is not a run, or one that was begun and left
    return found if isinstance(found, dict) else {}


def _rows(kind: Any, path: Path, kept: Callable[[Any], Any] = lambda row: row) -> list[Any]:
    """The rows of a file, the last of each question; ``kept`` gives what is held of each."""
    try:
        asked = sibling_questions(path)
        rows = each_line(path, lambda line, where, _: row_at(kind, without_numbers(line), where, asked))
        found = {row.question.id: kept(row) for _, _, _, row in rows}
    except InputError:
        return []  # written by another version
    return list(found.values())


def _bare(row: RelevanceRow) -> RelevanceRow:
    """The row without scores and windows, which for thousands of questions are gigabytes."""
    return replace(row, relevance=replace(row.relevance, times=(), scores=(), indices=None, rounds=None, windows=()))
