"""A sweep as it lies on the disk: real video files, two samplers x two answerers, and failures of every stage."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
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

FPS = 4
HOSTILE = "<script>alert('x')</script>"


class Sweep(NamedTuple):
    """The folder above the runs, and what is in it."""

    folder: Path
    videos: tuple[Path, ...]


def make_video(path: Path, seconds: int, seed: int) -> None:
    """A scene that drifts, with an object now and then, in H.264."""
    noise = np.random.default_rng(seed)
    backdrop = Image.fromarray(noise.integers(40, 190, (9, 16, 3), dtype=np.uint8)).resize((320, 180), Image.BICUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for index in range(seconds * FPS):
            image = backdrop.copy()
            draw = ImageDraw.Draw(image)
            x = 20 + index * 7 % 260
            draw.rectangle((x, 120, x + 26, 150), fill=(40, 60, 200))
            if index // FPS % 30 in (21, 22, 23):
                draw.ellipse((130, 50, 200, 120), fill=(220, 40, 40))
            draw.text((8, 6), f"{index / FPS:6.2f} s", fill="white")
            for packet in stream.encode(av.VideoFrame.from_image(image)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def questions(kitchen: str, street: str, gone: str) -> list[Question]:
    near = {"duration_group": "120", "category": "attribute"}
    return [
        Question(
            "kitchen-1",
            kitchen,
            "What colour is the disc that appears over the counter?",
            ("Blue", "Red", "Green", "Yellow"),
            1,
            near,
            (Span(21, 24), Span(51, 54)),
        ),
        Question(
            "kitchen-2",
            kitchen,
            "What happens immediately after the second disc has gone?",
            ("The light goes out", "The square stops", "Nothing changes", "A triangle comes in from the left"),
            2,
            near | {"category": "order"},
            (Span(54, 57),),
        ),
        Question(
            "kitchen-3", kitchen, "How many discs are there?", ("One", "Two", "Three", "Four"), 2, near, (Span(81, 84),)
        ),
        Question(
            "street-1",
            street,
            f"Which sign is seen {HOSTILE} first?",
            (f"Stop {HOSTILE}", "Give way & yield", 'No "entry"', "None"),
            0,
            {"duration_group": "600", "category": "order"},
            (Span(141, 144),),
        ),
        Question(
            "street-2",
            street,
            "Describe what passes at the very end.",
            groups={"duration_group": "600"},
            reference="A tram & a dog.",
            scoring_points=("A tram passes", "A dog follows"),
        ),
        Question("gone-1", gone, "Who leaves the room?", ("The cook", "The guest"), 0, {"duration_group": "120"}),
    ]


def _relevance(question: Question, video: Video | None, sampler: str) -> Relevance:
    if video is None:
        return Relevance(
            question.id,
            (),
            (),
            status=Status.MISSING_VIDEO,
            detail=f"{question.video}: no such file\n  what to do: put the video there, or set paths.data=...",
        )
    if sampler == "uniform":
        return Relevance(question.id, (), (), spread="midpoints")
    times = tuple(float(second) for second in range(int(video.duration)))
    peaks = {second: 5 for span in question.evidence or () for second in range(int(span.start), int(span.end) + 1)}
    peaks |= {3: 2, 4: 2, 40: 3, 41: 4, 42: 3, 70: 1}
    if question.id == "kitchen-3":
        peaks = {5: 3, 6: 3}
    cut = question.id == "street-2"
    windows = tuple(
        WindowOutput(
            start,
            min(start + 63, times[-1]),
            '{"12-14": 5, "40-42": 4, "7'
            if cut and start
            else json.dumps({"21-24": 5, "3-4": 2, "40-42": 3}) + f" {HOSTILE}",
            Status.TRUNCATED_OUTPUT if cut and start else Status.OK,
        )
        for start in range(0, len(times), 64)
    )
    return Relevance(
        question.id,
        times,
        tuple(float(peaks.get(int(time), 0)) for time in times),
        status=Status.PARTIAL_SCORES if cut else Status.OK,
        detail="2 of 3 windows were cut by the token limit; set sampler.max_new_tokens=4096" if cut else "",
        windows=windows,
        cost=Cost(1.234, 2048, 61),
    )


def _selection(question: Question, video: Video | None, relevance: Relevance, sampler: str) -> Selection:
    policy = "uniform (midpoints)" if sampler == "uniform" else "topk (ties spread, fill uniform)"
    if video is None:
        return Selection(question.id, (), policy, 8, relevance.status, relevance.detail)
    if sampler == "uniform":
        times = [(place + 0.5) * video.duration / 8 for place in range(8)]
        frames = [SelectedFrame(time, int(time * FPS), None, FrameOrigin.UNIFORM) for time in times]
    else:
        ranked = sorted(zip(relevance.times, relevance.scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
        best = [(time, score) for time, score in ranked if score > 0][:8]
        frames = [SelectedFrame(time, int(time * FPS), score, FrameOrigin.SAMPLER) for time, score in best]
        frames += [
            SelectedFrame(10.5 + 9 * at, int((10.5 + 9 * at) * FPS), None, FrameOrigin.FILL)
            for at in range(8 - len(best))
        ]
    return Selection(question.id, tuple(sorted(frames, key=lambda frame: frame.time)), policy, 8, relevance.status)


def _answer(question: Question, selection: Selection, sampler: str, answerer: str) -> Answer:
    if not selection.frames:
        return Answer(question.id, "", status=selection.status, detail=selection.detail)
    seen = tuple(frame.time for frame in selection.frames)
    form = "images, each after its time label <0:21>"
    cost = Cost(0.41, 1820, 4)
    if question.options is None:
        return Answer(
            question.id, f"A blue square passes.\nThen nothing. {HOSTILE}", form=form, frame_times=seen, cost=cost
        )
    if question.id == "kitchen-3" and answerer == "qwen2_vl_micro":
        return Answer(
            question.id,
            "I think there may be several of them.",
            status=Status.UNPARSED,
            detail="no option can be read from the answer; set answerer.max_new_tokens=64 if it was cut",
            form=form,
            frame_times=seen,
            cost=cost,
            thought=f"<think>First one.{' Then another.' * 1000} {HOSTILE} Three, then.</think>",
        )
    if question.id == "street-1" and answerer != "qwen2_vl_micro" and sampler == "gens_micro":
        return Answer(
            question.id,
            "",
            status=Status.OUT_OF_MEMORY,
            detail="8 frames do not fit in 11 GB; set selection.budget=4",
            form=form,
        )
    option = question.correct if sampler == "gens_micro" or question.id == "kitchen-2" else len(question.options) - 1
    if question.id == "kitchen-2" and answerer == "qwen2_vl_micro":
        option = 0
    assert option is not None
    text = f"{'ABCD'[option]}. {question.options[option]}"
    return Answer(question.id, text, option, form=form, frame_times=tuple(time - 0.1 for time in seen), cost=cost)


def write_run(
    folder: Path, asked: list[Question], videos: dict[str, Video], sampler: str, answerer: str, keep: int = 99
) -> None:
    """A run folder; ``keep`` answers were finished before it was stopped."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"benchmark:\n  name: two_videos\n  seed: 7\nsampler:\n  name: {sampler}\n  fps: 1.0\n"
        f"selection:\n  name: topk\n  budget: 8\nanswerer:\n  name: {answerer}\n  prompt: 'A < B & C'\nlimit: null\n"
    )
    facts = {
        "command": f"gens evaluate -m sampler={sampler} answerer={answerer} --note='<b>'",
        "python": "3.11.9",
        "versions": {"gens-videoqa": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": "Linux x86_64",
    }
    (folder / "run.json").write_text(json.dumps(facts))
    write_questions(asked, folder)
    with (
        Journal(RelevanceRow, folder / "relevance.jsonl") as relevances,
        Journal(SelectionRow, folder / "selections.jsonl") as selections,
        Journal(AnswerRow, folder / "answers.jsonl") as answers,
    ):
        for at, question in enumerate(asked):
            video = videos.get(question.video)
            relevance = _relevance(question, video, sampler)
            selection = _selection(question, video, relevance, sampler)
            relevances.append(RelevanceRow("r", sampler, question, video, relevance))
            selections.append(SelectionRow("s", sampler, question, video, selection))
            if at < keep:
                answer = _answer(question, selection, sampler, answerer)
                answers.append(AnswerRow("a", sampler, answerer, question, answer))


def make_sweep(folder: Path) -> Sweep:
    kitchen, street = folder / "kitchen.mp4", folder / "street <script>alert(1)<&>.mp4"
    make_video(kitchen, 90, 1)
    make_video(street, 150, 2)
    videos = {
        str(path): Video(str(path), "f", float(seconds), FPS, seconds * FPS, 320, 180)
        for path, seconds in ((kitchen, 90), (street, 150))
    }
    asked = questions(str(kitchen), str(street), str(folder / "gone.mp4"))
    for sampler in ("uniform", "gens_micro"):
        for answerer in ("qwen2_vl_micro", "llava_onevision_micro"):
            write_run(folder / "runs" / f"{sampler}-{answerer}", asked, videos, sampler, answerer)
    return Sweep(folder / "runs", (kitchen, street))
