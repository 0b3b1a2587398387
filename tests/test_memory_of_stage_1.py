"""Stage 1 holds the scores of one video at a time, however many videos there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from made import write_video

from pipeline.artefacts.cache import RelevanceCache
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import FrameSource, Question, Relevance, Video
from pipeline.orchestrator import sample, select

CANDIDATES, EACH = 2700, 6


@dataclass(frozen=True)
class Dense:
    """Names many moments of a short video."""

    name: str

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "dense"}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        return [
            Relevance(
                each.id,
                tuple(0.001 * place for place in range(CANDIDATES)),
                tuple(1.0 + place / 7 for place in range(CANDIDATES)),
            )
            for each in questions
        ]

    def close(self) -> None:
        pass


def peak(folder: Path, videos: int) -> int:
    """Most bytes that stage 1 and selection hold at once; the second time, from the cache."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", [])
    reader, policy = build(config.reader, "reader"), build(config.selection, "selection")
    questions = [
        Question(f"{video}-{number}", str(folder / f"{video}.mp4"), f"what is {number}?")
        for video in range(videos)
        for number in range(EACH)
    ]
    cache = RelevanceCache(folder / "cache")
    found = 0
    for run in ("first", "again"):
        tracemalloc.start()
        rows = select(sample(questions, Dense("dense"), reader, cache, folder / run), policy, reader, folder / run)
        found = max(found, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(rows) == len(questions)
        assert all(len(row.selection.frames) == 8 for row in rows)
    return found


def test_many_videos_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    for number in range(12):
        write_video(tmp_path / f"{number}.mp4", seed=number)
    few = peak(tmp_path, 2)
    many = peak(tmp_path, 12)
    one_video = EACH * CANDIDATES * 2 * 32
    assert many - few < 2 * one_video, (few, many, one_video)
