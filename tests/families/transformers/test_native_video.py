"""A type's own video, where it tells each frame's true time: ids and texts are those of stock transformers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from asking import answered, written
from native import NEW, Folders, Stock, answerer, frames

from pipeline.answerers import AnswerRequest
from pipeline.domain import Question, Status, SubtitleLine, Video
from pipeline.errors import ConfigError
from pipeline.families.transformers.answerer import Transformers
from pipeline.families.transformers.generation import Way

pytestmark = [
    pytest.mark.moving,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

VIDEO = Video("clip.mp4", "f", 4000.0, 25.0, 100_000, 160, 90)
TIMES = (3.24, 62.5, 754.9, 3725.0)
TOLD = {
    "qwen3_5": ["<3.2 seconds>", "<62.5 seconds>", "<754.9 seconds>", "<3725.0 seconds>"],
    "glm46v": ["3.2 seconds", "62.5 seconds", "754.9 seconds", "3725.0 seconds"],
    "gemma4": ["00:03", "01:02", "12:34", "62:05"],
    "smolvlm": ["Frame from 00:03:", "Frame from 01:02:", "Frame from 12:34:", "Frame from 62:05:"],
}
DOUBLED = ("qwen3_5", "glm46v")
VIDEO_TOKENS = {"qwen3_5": "<|video_pad|>", "glm46v": "<|image|>", "gemma4": "<|video|>", "smolvlm": "<image>"}


@pytest.fixture(scope="module", params=tuple(TOLD))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def ours(folders: Folders, name: str) -> Transformers:
    return answerer(folders[name], "answerer.form=video")


def asked(*times: float, text: str = "Why?", seed: int = 0, video: Video = VIDEO) -> AnswerRequest:
    return AnswerRequest(Question("q", VIDEO.path, text), video, frames(*times, seed=seed))


ASKED = [asked(*TIMES), asked(*TIMES, text="What colour is it?"), asked(8.0, seed=1), asked(1.0, 2.0, 3.0, seed=2)]


def stock_inputs(stock: Stock, one: AnswerRequest, name: str) -> Any:
    from PIL import Image

    twice = 1 + (name in DOUBLED)
    images = [Image.fromarray(frame.pixels) for frame in one.frames for _ in range(twice)]
    given = {
        "fps": 1000.0,
        "frames_indices": [round(1000 * frame.time) for frame in one.frames for _ in range(twice)],
        "total_num_frames": 4_000_000,
        "duration": 4000.0,
    }
    processor = stock.processor
    variables = {} if name == "smolvlm" else {"enable_thinking": False}
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": one.question.text}]}],
        chat_template=processor.chat_template,
        add_generation_prompt=True,
        **variables,
    )
    prompt = prompt.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    plain = processor.tokenizer.bos_token is not None and prompt.startswith(processor.tokenizer.bos_token)
    return processor(
        text=[prompt],
        videos=[[images]],
        video_metadata=[given],
        do_sample_frames=False,
        return_tensors="pt",
        **({"add_special_tokens": False} if plain else {}),
    )


def test_every_frame_is_told_by_its_own_time(ours: Transformers, name: str) -> None:
    ids = ours.encode(ASKED[0]).input_ids.tolist()
    text = ours.processor.tokenizer.decode(ids)
    places = [text.index(told) for told in TOLD[name]]
    assert places == sorted(places)
    assert len(re.findall(f"(?:{re.escape(VIDEO_TOKENS[name])})+", text)) == len(TIMES)
    assert "<|vision_start|><3.2" not in text


def test_ids_and_texts_are_those_of_stock(ours: Transformers, folders: Folders, name: str) -> None:
    stock = Stock(folders[name], name)
    ends = stock.model.generation_config.eos_token_id
    texts = written(ours.model.writer(ours.output_limits(ours.processor)), [ours.encode(one) for one in ASKED])
    free = [replace(one, question=replace(one.question, text=ours.prompt.words(one).text)) for one in ASKED]
    for one, ours_wrote, plain in zip(ASKED, texts, free, strict=True):
        inputs = stock_inputs(stock, plain, name)
        assert ours.encode(one).input_ids.tolist() == inputs["input_ids"][0].tolist()
        tokens = stock.tokens({key: inputs[key] for key in inputs if key != "video_metadata"}, NEW)
        cut = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        assert list(ours_wrote.tokens) == tokens[:cut]
    assert ours.model.way is (Way.SHARED if name in ("glm46v", "smolvlm") else Way.COPIED)


def test_tokens_are_counted_exactly_and_limits_hold(ours: Transformers) -> None:
    reader = ours.processor
    for one in ASKED:
        assert reader.count(one.frames, ours.prompt.words(one)) == len(ours.encode(one).input_ids)
    lengths = [len(ours.encode(asked(*range(8000, 8000 + count))).input_ids) for count in (2, 3)]
    assert lengths[1] - lengths[0] <= ours.limits().tokens_per_frame


def test_questions_about_the_same_frames_share_them_and_the_videos_end_is_each_ones_own(
    ours: Transformers, name: str
) -> None:
    first, second = (ours.encode(replace(one, frames=ASKED[0].frames)) for one in ASKED[:2])
    assert first.frames is second.frames
    shorter = replace(ASKED[0], video=replace(VIDEO, duration=3800.0))
    other = ours.encode(shorter)
    assert (other.input_ids.tolist() == first.input_ids.tolist()) is (name != "smolvlm")  # that alone tells it


def test_the_record_says_how_times_were_told(ours: Transformers, name: str) -> None:
    [answer] = answered(ours, ASKED[:1])
    assert answer.form.startswith("one video, each frame twice of" if name in DOUBLED else "one video of")
    assert "by the model's own video" in answer.form
    assert "by the model's own video" in ours.limits().time_told


def test_frames_of_several_sizes_are_no_video(folders: Folders) -> None:
    ours = answerer(folders["gemma4"], "answerer.form=video")
    mixed = AnswerRequest(Question("q", "clip.mp4", "Why?"), VIDEO, (*frames(0.0), *frames(1.0, height=160, width=90)))
    [answer] = answered(ours, [mixed])
    assert answer.status is Status.UNSUPPORTED
    assert "answerer.form=images" in answer.detail


def test_subtitles_between_frames_do_not_go_into_a_video(folders: Folders) -> None:
    ours = answerer(
        folders["gemma4"], "answerer.form=video", "answerer/prompt=longvideobench_official", "answerer.thinking=never"
    )
    with pytest.raises(ConfigError, match=r"answerer\.form=images"):
        ours.check_subtitles()
    lines = (SubtitleLine(0.0, 1.0, "hello"),)
    with pytest.raises(ConfigError, match=r"answerer\.form=images"):
        ours.encode(replace(ASKED[0], subtitles=lines))


@pytest.mark.parametrize("type_name", ["internvl", "mistral3", "minicpmv4_6"])
def test_types_whose_video_tells_no_true_times_are_refused(folders: Folders, type_name: str) -> None:
    ours = answerer(folders[type_name], "answerer.form=video")
    with pytest.raises(ConfigError, match=r"(?s)is not known to tell.*answerer\.form=images"):
        ours.check_checkpoint()


def test_the_form_is_part_of_the_identity(folders: Folders) -> None:
    images, video = (answerer(folders["gemma4"], f"answerer.form={form}") for form in ("images", "video"))
    assert images.identity() != video.identity()
