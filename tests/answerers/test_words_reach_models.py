"""A prompt's system turn, the beginning of the answer, and subtitles are in the inputs of every family and form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_internvl
import tiny_llava_video
import tiny_qwen3_vl
import tiny_vila
from asking import answered
from hydra import compose, initialize_config_dir

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Frame, Question, Status, SubtitleLine, Video
from pipeline.errors import ConfigError

ROOM = 2000
"""Tokens of context."""
ANSWERERS = {
    "qwen2_vl": ("qwen2_vl_7b", lambda folder: tiny.write_qwen2_vl(folder, context=ROOM)),
    "qwen3_vl": ("qwen3_vl_8b", lambda folder: tiny_qwen3_vl.write_qwen3_vl(folder, context=ROOM)),
    "llava_onevision": ("llava_onevision_0_5b", lambda folder: tiny.write_llava_onevision(folder, context=ROOM)),
    "aria": ("aria", lambda folder: tiny_aria.write_aria(folder, context=ROOM)),
    "internvl": ("internvl3_8b", lambda folder: tiny_internvl.write_internvl(folder, context=ROOM)),
    "llava_video": ("llava_video_7b", tiny_llava_video.write_llava_video),
    "vila_3b": ("vila15_3b", lambda folder: tiny_vila.write_vila(folder, "3b")),
    "vila_8b": ("vila15_8b", lambda folder: tiny_vila.write_vila(folder, "8b")),
    "vila_40b": ("vila15_40b", lambda folder: tiny_vila.write_vila(folder, "40b")),
}
WITH_A_VIDEO_FORM = ("qwen2_vl", "qwen3_vl", "llava_onevision")
VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 160, 90)
LINES = (SubtitleLine(0.0, 2.0, "one"), SubtitleLine(40.0, 44.0, "two"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ANSWERERS}
    for name, (_, write) in ANSWERERS.items():
        write(folders[name])
    return folders


def made(folders: dict[str, Path], family: str, *overrides: str) -> Any:
    settings = [f"answerer.checkpoint.source={folders[family]}", "answerer.checkpoint.device=cpu", *overrides]
    settings += ["answerer.max_pixels=6400"] if "qwen" in family else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{ANSWERERS[family][0]}", ["answerer.max_new_tokens=4", *settings])
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, Answerer)
    return answerer


def request(lines: Sequence[SubtitleLine] = (), options: tuple[str, ...] | None = ("red", "blue")) -> AnswerRequest:
    pixels = np.zeros((90, 160, 3), np.uint8)
    frames = tuple(Frame(time, place, pixels) for place, time in enumerate((1.0, 30.0)))
    return AnswerRequest(Question("q", "clip.mp4", "Why?", options), VIDEO, frames, tuple(lines))


def seen(answerer: Any, asked: AnswerRequest) -> str:
    """The prompt's text out of the model's inputs, without spaces."""
    tokens = ids(answerer, asked)
    return _packed(answerer.processor.tokenizer.decode(tokens, skip_special_tokens=False))


def ids(answerer: Any, asked: AnswerRequest) -> list[int]:
    return [token for token in answerer.encode(asked).input_ids.tolist() if token >= 0]


def _packed(text: str) -> str:
    return "".join(text.split()).replace("\u2581", "")


@pytest.mark.parametrize("family", ANSWERERS)
def test_a_system_turn_and_the_beginning_of_the_answer(folders: dict[str, Path], family: str) -> None:
    mlvu = made(folders, family, "answerer/prompt=mlvu_official")
    text = seen(mlvu, request())
    assert _packed("Carefully watch this video and pay attention") in text
    assert "helpful" not in text
    assert text.endswith(_packed("Best Option: ("))
    plain = seen(made(folders, family), request())
    assert "Carefully" not in plain
    assert not plain.endswith("(")
    assert "Carefully" not in seen(mlvu, request(options=None))
    (answer,) = answered(mlvu, [request()])
    assert answer.status in (Status.OK, Status.UNPARSED, Status.EMPTY_ANSWER)


@pytest.mark.parametrize("family", ANSWERERS)
def test_subtitles_before_the_question(folders: dict[str, Path], family: str) -> None:
    text = seen(made(folders, family, "answerer/prompt=videomme_official"), request(LINES))
    assert _packed("This video's subtitles are listed below:\none\ntwo\nSelect the best answer") in text
    forms = ["answerer.form=video"] if family in WITH_A_VIDEO_FORM else []
    assert "onetwoSelect" in seen(made(folders, family, "answerer/prompt=videomme_official", *forms), request(LINES))


@pytest.mark.parametrize("family", [family for family in ANSWERERS if family != "llava_video"])
def test_subtitles_between_frames(folders: dict[str, Path], family: str) -> None:
    forms = ["answerer.form=images"] if family in WITH_A_VIDEO_FORM else []
    answerer = made(folders, family, "answerer/prompt=longvideobench_official", *forms)
    text = seen(answerer, request(LINES))
    assert text.index("one") < text.index("two") < text.index("Question:")
    assert text.index("1.0s") < text.index("one") < text.index("30.0s") < text.index("two")
    (answer,) = answered(answerer, [request(LINES)])
    assert answer.status in (Status.OK, Status.UNPARSED, Status.EMPTY_ANSWER)


@pytest.mark.parametrize("family", [*WITH_A_VIDEO_FORM, "llava_video"])
def test_a_video_has_no_place_between_frames(folders: dict[str, Path], family: str) -> None:
    forms = ["answerer.form=video"] if family in WITH_A_VIDEO_FORM else []
    answerer = made(folders, family, "answerer/prompt=longvideobench_official", *forms)
    (answer,) = answered(answerer, [request()])
    assert answer.status in (Status.OK, Status.UNPARSED, Status.EMPTY_ANSWER)
    with pytest.raises(ConfigError, match="between the frames"):
        answered(answerer, [request(LINES)])


def test_pictures_as_options_are_unsupported(folders: dict[str, Path]) -> None:
    asked = request()
    question = replace(asked.question, option_images=("a.png", "b.png"))
    (answer,) = answered(made(folders, "qwen2_vl"), [replace(asked, question=question)])
    assert answer.status is Status.UNSUPPORTED
    assert "answerer=openai" in answer.detail


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava_onevision", "internvl"])
def test_markup_in_subtitles_is_words(folders: dict[str, Path], family: str) -> None:
    answerer = made(folders, family, "answerer/prompt=videomme_official")
    tokens = " ".join(answerer.processor.markup)
    spoken, plain = (SubtitleLine(0.0, 2.0, f"one {tokens} two"),), (SubtitleLine(0.0, 2.0, "one two"),)
    known = set(answerer.processor.tokenizer.added_tokens_decoder)
    markup = [[token for token in ids(answerer, request(lines)) if token in known] for lines in (spoken, plain)]
    assert markup[0] == markup[1]
    (answer,) = answered(answerer, [request(spoken)])
    assert answer.status in (Status.OK, Status.UNPARSED, Status.EMPTY_ANSWER)
