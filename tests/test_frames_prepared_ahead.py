"""Stage 2's frames, resized where they are decoded: prompts are those of frames that are prepared in this process."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_glm
import tiny_internvl
from hydra import compose, initialize_config_dir
from made import write_video

from pipeline.answer_requests import OverLimit, QuestionInput, Requests
from pipeline.answerers import AnswerRequest
from pipeline.artefacts.rows import SelectionRow
from pipeline.config import build, conf_dir
from pipeline.domain import FrameOrigin, Question, SelectedFrame, Selection, Status, Video
from pipeline.errors import FramesError
from pipeline.execution.crashes import Crashes
from pipeline.execution.processes import Limits, Pool
from pipeline.execution.reader import WorkerReader, in_workers
from pipeline.families.qwen.processor import FrameScale3
from pipeline.subtitles import GivenSubtitles, SubtitleChoice
from pipeline.video import Reader

HERE = Reader("test", "auto", 1, 1.0)
SIDE = 512
"""Of the video: more than the answerers show, or frames would travel as they were decoded."""
CONTEXT = 2000
FAMILIES = {
    "qwen2_5_vl": ("qwen2_5_vl_7b", tiny.write_qwen2_5_vl, ("answerer.max_pixels=25088",)),
    "qwen2_vl-video": ("qwen2_vl_7b", tiny.write_qwen2_vl, ("answerer.form=video", "answerer.max_pixels=25088")),
    "glm": ("glm4_6v_flash", tiny_glm.write_glm46v, ("answerer.max_pixels=25088",)),
    "llava_onevision": ("llava_onevision_0_5b", tiny.write_llava_onevision, ()),
    "llava_onevision-video": ("llava_onevision_0_5b", tiny.write_llava_onevision, ("answerer.form=video",)),
    "internvl": ("internvl3_8b", tiny_internvl.write_internvl, ()),
    "aria": ("aria", tiny_aria.write_aria, ()),
}
SCALED = "qwen2_5_vl"


class InProcess:
    """An answerer of which no one knows how it prepares frames."""

    def __init__(self, answerer: Any) -> None:
        self.capacity = answerer.capacity


@pytest.fixture(scope="module")
def there() -> Iterator[WorkerReader]:
    pool = Pool(Limits(workers=1, deadline=60.0, memory_bytes=2 << 30, waiting_bytes=1 << 28))
    yield in_workers(HERE, pool, Crashes(None, "auto", False))
    pool.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = write_video(tmp_path_factory.mktemp("video") / "clip.mp4", seconds=8, size=SIDE)
    return HERE.probe(str(path))


@pytest.fixture(scope="module")
def answerers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = {}
    for family, (name, write, more) in FAMILIES.items():
        folder = write(tmp_path_factory.mktemp(family), context=CONTEXT)
        settings = [f"answerer.checkpoint.source={folder}", "answerer.checkpoint.device=cpu", *more]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose(f"answerer/{name}", overrides=settings)
        made[family] = build(config.answerer, "answerer")
    return made


def row(video: Video, number: int, scales: Sequence[float | None], first: float = 0.0) -> SelectionRow:
    frames = tuple(
        SelectedFrame(first + place, int(4 * (first + place)), float(place), FrameOrigin.SAMPLER, scale=scale)
        for place, scale in enumerate(scales)
    )
    question = Question(f"q{number}", video.path, f"What is {number}?")
    return SelectionRow("k", "uniform", question, video, Selection(question.id, frames, "uniform", len(frames)))


def requests_of(
    rows: Sequence[SelectionRow], answerer: Any, reader: Reader, over_limit: OverLimit = OverLimit.REFUSE
) -> list[AnswerRequest]:
    inputs = [
        QuestionInput(one, one.video, GivenSubtitles(SubtitleChoice.NONE, False, ()))
        for one in rows
        if one.video is not None
    ]
    return list(Requests([inputs], answerer, reader, over_limit, 8))


def assert_same_prompts(answerer: Any, found: Sequence[AnswerRequest], wanted: Sequence[AnswerRequest]) -> list[Any]:
    prompts = [answerer.encode(request) for request in found]
    others = [answerer.encode(request) for request in wanted]
    assert [request.question for request in found] == [request.question for request in wanted]
    for prompt, other in zip(prompts, others, strict=True):
        assert np.array_equal(prompt.input_ids, other.input_ids)
        assert prompt.times == other.times
        assert prompt.frames_end == other.frames_end
        for one, another in zip(prompt.frames, other.frames, strict=True):
            assert one.shape == another.shape
            assert one.pixels.dtype == another.pixels.dtype == np.uint8
            assert np.array_equal(one.pixels, another.pixels)
    return prompts


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_those_of_frames_prepared_here(
    family: str, answerers: dict[str, Any], there: WorkerReader, video: Video
) -> None:
    answerer = answerers[family]
    rows = [row(video, number, [None] * 3, first=float(number)) for number in range(3)]
    found = requests_of(rows, answerer, there)
    wanted = requests_of(rows, InProcess(answerer), HERE)
    assert all(frame.prepared is None for request in wanted for frame in request.frames)
    assert all(frame.prepared is not None for request in found for frame in request.frames)
    assert_same_prompts(answerer, found, wanted)


def test_what_prepares_frames_is_small_and_needs_no_torch(answerers: dict[str, Any]) -> None:
    """Neither in stage 2 nor in the samplers that embed frames."""
    made = [answerers[family].frame_preparation() for family in FAMILIES]
    packed = [pickle.dumps(each) for each in [*made, FrameScale3(4096, 65536, None).prepare]]
    assert max(map(len, packed)) < 20_000
    code = """
import pickle, sys
for packed in pickle.load(sys.stdin.buffer):
    pickle.loads(packed)
    print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(packed), capture_output=True, check=True)
    assert told.stdout.decode().split() == ["[]"] * len(packed)


def test_a_picture_is_shown_at_every_scale_that_is_asked_for(
    answerers: dict[str, Any], there: WorkerReader, video: Video
) -> None:
    """A larger one than was decoded is made here, when it is known that it fits."""
    answerer = answerers[SCALED]
    rows = [row(video, 0, [0.125, 0.25, None, 1.5]), row(video, 1, [0.25, 0.125, None, 0.125])]
    found = requests_of(rows, answerer, there)
    wanted = requests_of(rows, InProcess(answerer), HERE)
    prompts = assert_same_prompts(answerer, found, wanted)
    assert [frame.pixels.shape[0] for frame in prompts[0].frames] == [56, 140, 140, 756]
    assert [frame.prepared is not None for frame in found[0].frames] == [True, True, True, False]
    assert found[0].frames[2].prepared is found[1].frames[2].prepared  # held once
    assert found[0].frames[2].pixels is found[0].frames[2].prepared.pixels


def test_questions_about_the_same_frames_share_one_prefill(
    answerers: dict[str, Any], there: WorkerReader, video: Video
) -> None:
    answerer = answerers[SCALED]
    found = requests_of([row(video, number, [None, 0.5]) for number in range(3)], answerer, there)
    first, *others = [answerer.encode(request) for request in found]
    assert all(other.frames is first.frames for other in others)


def test_frames_that_do_not_fit_are_left_out_by_what_they_were_before(
    answerers: dict[str, Any], there: WorkerReader, video: Video
) -> None:
    answerer = answerers[SCALED]
    short = dataclasses.replace(answerer, max_new_tokens=CONTEXT - 200)
    rows = [row(video, 0, [None] * 7)]
    found = requests_of(rows, short, there, OverLimit.KEEP_BEST)
    wanted = requests_of(rows, InProcess(short), HERE, OverLimit.KEEP_BEST)
    assert 0 < len(found[0].frames) < 7
    assert found[0].times == wanted[0].times
    assert_same_prompts(short, found, wanted)
    refused = requests_of(rows, short, there)
    [answer] = short.answer(refused, 1)
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert f"selection.budget={len(found[0].frames)}" in answer.detail
    assert short.is_loaded is False


def test_a_frame_that_the_family_cannot_take_costs_its_own_question(
    answerers: dict[str, Any], there: WorkerReader, video: Video
) -> None:
    """Scales go with no frames of one fixed size."""
    fixed = dataclasses.replace(answerers[SCALED], frame_size=(56, 84))
    found = requests_of([row(video, 0, [None, 0.5]), row(video, 1, [None, None])], fixed, there)
    assert fixed.capacity(found[0]) == 2
    with pytest.raises(FramesError, match=r"answerer\.frame_size=null"):
        fixed.encode(found[0])
    assert [frame.shape.height for frame in fixed.encode(found[1]).frames] == [56, 56]
