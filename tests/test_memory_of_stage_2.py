"""Stage 2 holds the selections of one video at a time, and reads its answers from the disk again."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from made import write_video

from pipeline.answer_requests import OverLimit
from pipeline.answerers import AnswerRequest
from pipeline.artefacts.cache import AnswerCache
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import SelectionRow
from pipeline.artefacts.stored import StoredRows
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection
from pipeline.orchestrator import answer
from pipeline.progress import silently
from pipeline.subtitles import SubtitleChoice

EACH, FRAMES = 40, 32


@dataclass(frozen=True)
class Quick:
    """Says nothing of what it sees."""

    name: str = "quick"
    is_repeatable: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "quick"}

    def capacity(self, request: AnswerRequest) -> int:
        return FRAMES

    def answer(self, requests: Iterator[AnswerRequest], batch: int) -> Iterator[Answer]:
        for request in requests:
            assert len(request.frames) == FRAMES
            assert all(np.any(frame.pixels) for frame in request.frames[:1])
            yield Answer(request.question.id, "A", 0, frame_times=tuple(frame.time for frame in request.frames))

    def close(self) -> None:
        pass


def peak(folder: Path, videos: int) -> int:
    """Most bytes that stage 2 holds at once beside the questions."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        reader = build(compose("evaluate", []).reader, "reader")
    folder.mkdir()
    asked = {}
    with Journal(SelectionRow, folder / "selections.jsonl") as journal:
        for number in range(videos):
            video = reader.probe(write_video(folder / f"{number}.mp4", seed=number))
            times = np.linspace(0, video.duration - 0.1, FRAMES)
            frames = tuple(
                SelectedFrame(float(time), int(time * video.fps), 1.0, FrameOrigin.SAMPLER) for time in times
            )
            for place in range(EACH):
                question = Question(f"{number}-{place}", video.path, "what?", ("a", "b"), 0)
                asked[question.id] = question
                chosen = Selection(question.id, frames, "topk", FRAMES)
                journal.append(SelectionRow(f"k{number}", "gens", question, video, chosen))
    selections = StoredRows.opened(SelectionRow, folder / "selections.jsonl", asked)
    tracemalloc.start()
    with silently():
        cache = AnswerCache(folder / "cache")
        rows = answer(selections, Quick(), reader, cache, OverLimit.REFUSE, SubtitleChoice.NONE, 4, folder)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.question.id for row in rows] == list(asked)
    assert all(row.answer.option == 0 for row in rows)
    return found


def test_many_videos_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    peak(tmp_path / "imports", 1)
    few, many = peak(tmp_path / "few", 2), peak(tmp_path / "many", 10)
    one_selection = FRAMES * 200
    assert many - few < 8 * EACH * one_selection / 3, (few, many)
