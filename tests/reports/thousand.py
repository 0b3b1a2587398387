"""A made run of many questions: rows by a generator, a few small real videos that many questions share."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep_on_disk import FPS, make_video

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

SECONDS = 60
OPTIONS = ("a bowl of rice", "the blue square", "nobody is to be seen", "it falls from the table")


def make_thousand(
    folder: Path,
    samplers: Sequence[str],
    answerers: Sequence[str],
    budgets: Sequence[int],
    count: int = 1000,
    videos: int = 6,
    told_seconds: int = 3600,
) -> Path:
    """Runs of every combination under ``folder``/runs; the rows say that the videos last ``told_seconds``."""
    paths = [folder / f"video-{at}.mp4" for at in range(videos)]
    for at, path in enumerate(paths):
        make_video(path, SECONDS, at)
    asked = list(_questions(paths, count, told_seconds))
    known = {str(path): Video(str(path), f"f{at}", told_seconds, FPS, 4, 320, 180) for at, path in enumerate(paths)}
    for sampler in samplers:
        for budget in budgets:
            for answerer in answerers:
                _write_run(folder / "runs" / f"{sampler}-{budget}-{answerer}", asked, known, sampler, answerer, budget)
    return folder / "runs"


def _questions(paths: Sequence[Path], count: int, told_seconds: int) -> Iterator[Question]:
    chance = random.Random(7)
    for at in range(count):
        start = chance.randrange(SECONDS - 4)
        yield Question(
            id=f"question-{at:04d}",
            video=str(paths[at % len(paths)]),
            text=f"Number {at}: what is to be seen on the left while the disc crosses the table for the last time?",
            options=OPTIONS,
            correct=chance.randrange(4),
            groups={
                "duration_group": ("15", "60", "600", "3600")[at // 2 % 4],
                "question_category": f"C{at % 17:02d}",
                "level": ("L1-Perception", "L2-Relation")[at % 2],
            },
            evidence=(Span(start, start + 3),),
        )


def _write_run(
    folder: Path, asked: Sequence[Question], known: dict[str, Video], sampler: str, answerer: str, budget: int
) -> None:
    folder.mkdir(parents=True)
    write_questions(asked, folder)
    (folder / "config.yaml").write_text(
        f"sampler: {{name: {sampler}}}\nselection: {{name: topk, budget: {budget}}}\nanswerer: {{name: {answerer}}}\n"
    )
    (folder / "run.json").write_text(json.dumps({"command": "gens evaluate", "versions": {"torch": "2.13.0"}}))
    first = random.Random(f"{sampler} {budget}")
    second = random.Random(f"{sampler} {budget} {answerer}")
    lines: dict[str, list[bytes]] = {"relevance": [], "selections": [], "answers": []}
    for question in asked:
        video = known[question.video]
        relevance = _relevance(question, video, sampler, first)
        selection = _selection(question, sampler, budget, first)
        answer = _answer(question, selection, sampler, answerer, second)
        lines["relevance"].append(to_line(RelevanceRow("r", sampler, question, video, relevance)))
        lines["selections"].append(to_line(SelectionRow("s", sampler, question, video, selection)))
        lines["answers"].append(to_line(AnswerRow("a", sampler, answerer, question, answer)))
    for stem, rows in lines.items():
        (folder / f"{stem}.jsonl").write_bytes(b"".join(rows))


def _relevance(question: Question, video: Video, sampler: str, chance: random.Random) -> Relevance:
    if sampler == "uniform":
        return Relevance(question.id, (), (), spread="linspace")
    times = tuple(float(second) for second in range(int(video.duration)))
    if sampler.startswith("clip"):
        return Relevance(
            question.id,
            times,
            tuple(round(chance.uniform(0.1, 0.35), 4) for _ in times),
            named_above=None,
            cost=Cost(0.4),
        )
    named = {float(chance.randrange(len(times))): float(chance.randint(1, 5)) for _ in range(80)}
    windows = tuple(
        WindowOutput(start, start + 255.0, json.dumps({f"{at}-{at + 3}": 4 for at in range(0, 64, 4)}), Status.OK)
        for start in times[::256]
    )
    scores = tuple(named.get(time, 0.0) for time in times)
    return Relevance(question.id, times, scores, windows=windows, cost=Cost(2.5, 24000, 300))


def _selection(question: Question, sampler: str, budget: int, chance: random.Random) -> Selection:
    if sampler == "uniform":
        places = range(0, SECONDS * FPS, -(-SECONDS * FPS // budget))
        frames = [SelectedFrame(place / FPS, place, None, FrameOrigin.UNIFORM) for place in places]
    else:
        places = range(SECONDS * FPS)
        chosen = sorted(chance.sample(places, budget))
        frames = [SelectedFrame(at / FPS, at, float(chance.randint(1, 5)), FrameOrigin.SAMPLER) for at in chosen]
    policy = f"uniform linspace budget={budget}" if sampler == "uniform" else f"topk budget={budget} ties=spread"
    return Selection(question.id, tuple(frames), policy, budget)


def _answer(question: Question, selection: Selection, sampler: str, answerer: str, chance: random.Random) -> Answer:
    draw = chance.random()
    cost = Cost(0.8, 260 * len(selection.frames), 3, 0.0021 if "gpt" in answerer else 0.0)
    seen = tuple(frame.time for frame in selection.frames)
    if draw < 0.02:
        return Answer(
            question.id,
            "",
            status=Status.OUT_OF_MEMORY,
            detail=f"{len(seen)} frames do not fit in 11 GB\n  what to do: set selection.budget={len(seen) // 2}",
            cost=cost,
        )
    if draw < 0.04:
        return Answer(
            question.id,
            "There are several of them, I think.",
            status=Status.UNPARSED,
            detail="no option can be read from the answer\n  what to do: set answerer.prompt.ending=...",
            form="images",
            frame_times=seen,
            cost=cost,
        )
    assert question.correct is not None
    skill = 0.4 + 0.02 * len(seen) ** 0.5 + (0.12 if sampler != "uniform" else 0.0)
    option = question.correct if draw < skill else chance.randrange(4)
    text = f"{'ABCD'[option]}. {OPTIONS[option]}"
    return Answer(question.id, text, option, form="images with time labels", frame_times=seen, cost=cost)
