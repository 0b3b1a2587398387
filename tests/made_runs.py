"""Run folders of made rows, of any size."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow, to_line
from pipeline.domain import (
    Answer,
    Cost,
    FrameOrigin,
    Question,
    Relevance,
    SelectedFrame,
    Selection,
    Span,
    Status,
    Video,
    WindowOutput,
)

FPS = 29.97
OPTIONS = ("a red square", "a green circle", "a blue star", "a yellow ring")


def made_questions(count: int, videos: int, seconds: int) -> list[Question]:
    chance = random.Random(count)
    found = []
    for number in range(count):
        start = chance.uniform(0, seconds - 20)
        found.append(
            Question(
                f"q{number:05d}",
                f"/videos/video-{number * videos // count:03d}.mp4",
                f"What is on the table in scene {number}, after the door opens?",
                OPTIONS,
                chance.randrange(4),
                {"duration_group": "3600", "kind": ("S2E", "T3O", "E2O")[number % 3]},
                (Span(start, start + 12),),
            )
        )
    return found


def made_relevances(questions: list[Question], seconds: int) -> Iterator[RelevanceRow]:
    """GenS over a candidate a second, with windows and native indices."""
    chance = random.Random(1)
    times = tuple(map(float, range(seconds)))
    indices = tuple(int(time * FPS) for time in times)
    said = json.dumps({f"{at}-{at + 3}": 4 for at in range(0, 64, 4)})
    windows = tuple(WindowOutput(start, start + 255.0, said, Status.OK) for start in times[::256])
    for question in questions:
        video = Video(question.video, f"f{question.video[-7:-4]}", float(seconds), FPS, int(seconds * FPS), 1280, 720)
        scores = tuple(round(chance.uniform(0.1, 0.35), 6) for _ in times)
        relevance = Relevance(
            question.id, times, scores, indices, named_above=None, windows=windows, cost=Cost(2.5, 24000, 300)
        )
        yield RelevanceRow(f"{chance.getrandbits(256):064x}", "gens", question, video, relevance)


def made_run(folder: Path, count: int, videos: int, seconds: int, fails: int = 0) -> Path:
    """A finished run of ``count`` questions; the last ``fails`` answers are failures, and all others right."""
    folder.mkdir(parents=True)
    questions = made_questions(count, videos, seconds)
    write_questions(questions, folder)
    with (
        (folder / "relevance.jsonl").open("wb") as relevances,
        (folder / "selections.jsonl").open("wb") as selections,
        (folder / "answers.jsonl").open("wb") as answers,
    ):
        for place, row in enumerate(made_relevances(questions, seconds)):
            relevances.write(to_line(row))
            said, question = row.relevance, row.question
            assert said.indices is not None
            assert question.evidence is not None
            first = round(question.evidence[0].start)
            frames = tuple(
                SelectedFrame(said.times[at], said.indices[at], said.scores[at], FrameOrigin.SAMPLER)
                for at in (first + offset for offset in range(16))
            )
            selection = Selection(question.id, frames, "topk budget=16", 16)
            selections.write(to_line(SelectionRow(row.key, "gens", question, row.video, selection)))
            answer = Answer(question.id, "A", question.correct, frame_times=tuple(each.time for each in frames))
            if place >= count - fails:
                answer = Answer(question.id, "", status=Status.OUT_OF_MEMORY, detail="16 frames do not fit")
            answers.write(to_line(AnswerRow(row.key, "gens", "qwen", question, answer)))
    return folder
