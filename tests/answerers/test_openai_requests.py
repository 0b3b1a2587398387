"""The very request that goes to a server, the caps on it, and the settings that cannot be."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from misbehaving import completion, misbehaving, says
from omegaconf import OmegaConf
from openai_cases import KEY, KEY_NAME, VIDEO, asked, frames_at, made
from PIL import Image

from pipeline.answerers.openai import OpenAICompatible
from pipeline.answerers.openai_replies import Prices
from pipeline.config import register_resolvers
from pipeline.domain import Status, SubtitleLine
from pipeline.errors import ConfigError, FramesError
from pipeline.identity import configured

URL = "http://localhost:8000/v1"
TEXT = "Which colour is 0?\nA. red\nB. green\nC. blue\nAnswer with the option's letter from the given choices directly."


def picture(url: str) -> Image.Image:
    head, _, encoded = url.partition(";base64,")
    assert head.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_labelled_images_as_every_server_takes_them() -> None:
    body = json.loads(json.dumps(made(URL, "answerer.frame.detail=low", "answerer.seed=7").body(asked())))
    turn = body.pop("messages")
    assert body == {"model": "m", "max_tokens": 128, "temperature": 0.0, "seed": 7}
    assert [message["role"] for message in turn] == ["user"]
    first, image, second, _, words = turn[0]["content"]
    assert first == {"type": "text", "text": "[2.0s]"}
    assert second == {"type": "text", "text": "[12.5s]"}
    assert words == {"type": "text", "text": TEXT}
    assert image["type"] == "image_url"
    assert image["image_url"]["detail"] == "low"
    assert picture(image["image_url"]["url"]).format == "JPEG"
    assert picture(image["image_url"]["url"]).size == (64, 36)


def test_the_video_form_tells_vllm_the_place_of_every_frame_and_not_to_sample_again() -> None:
    body: Any = made(URL, "answerer.form=video", name="vllm").body(asked(0, 2.0, 12.48, 99.96))
    video, words = body["messages"][0]["content"]
    head, _, encoded = video["video_url"]["url"].partition("data:video/jpeg;base64,")
    assert (video["type"], head) == ("video_url", "")
    shown = [Image.open(io.BytesIO(base64.b64decode(part))) for part in encoded.split(",")]
    assert [(image.format, image.size) for image in shown] == [("JPEG", (64, 36))] * 3
    assert words == {"type": "text", "text": TEXT}
    assert body["media_io_kwargs"] == {
        "video": {
            "num_frames": -1,
            "fps": 25.0,
            "frames_indices": [50, 312, 2499],
            "total_num_frames": 2500,
            "duration": 100.0,
            "do_sample_frames": False,
        }
    }
    assert body["mm_processor_kwargs"] == {"videos_kwargs": {"do_sample_frames": False}}


def test_places_tell_the_true_second_where_native_numbers_do_not() -> None:
    """A folder of pictures that begins at second 100 of a film has its first picture at number 0."""
    folder = replace(VIDEO, fps=1.0, frame_count=10, duration=110.0, start=100.0)
    request = replace(asked(0, 100.0, 104.0), video=folder)
    told: Any = made(URL, "answerer.form=video").body(request)["media_io_kwargs"]
    assert told["video"]["frames_indices"] == [100, 104]
    assert told["video"]["total_num_frames"] == 105


def test_frames_of_several_sizes_are_images_and_no_video() -> None:
    request = replace(asked(), frames=frames_at(1.0) + frames_at(2.0, width=32))
    assert len(made(URL).body(request)["messages"][0]["content"]) == 5
    with pytest.raises(FramesError, match="differ in size") as raised:
        made(URL, "answerer.form=video").body(request)
    assert "answerer.form=images" in raised.value.remedy


def test_png_loses_nothing_and_a_large_frame_is_brought_down() -> None:
    request = asked(0, 5.0)
    exact: Any = made(URL, "answerer.frame.format=png").body(request)["messages"][0]["content"][1]
    assert np.array_equal(np.asarray(picture(exact["image_url"]["url"])), request.frames[0].pixels)
    small: Any = made(URL, "answerer.frame.max_side=32").body(request)["messages"][0]["content"][1]
    assert picture(small["image_url"]["url"]).size == (32, 18)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (32, 18)), (None, (64, 36)), (1.25, (80, 45)), (4.0, (128, 72))])
def test_a_selections_scale_comes_before_the_limit(scale: float | None, size: tuple[int, int]) -> None:
    (frame,) = frames_at(5.0)
    request = replace(asked(), frames=(replace(frame, scale=scale),))
    sent: Any = made(URL, "answerer.frame.max_side=128").body(request)["messages"][0]["content"][1]
    assert picture(sent["image_url"]["url"]).size == size


def test_frames_of_several_scales_are_no_video_and_a_vast_one_is_refused() -> None:
    one, other = frames_at(1.0, 2.0)
    with pytest.raises(FramesError, match="differ in size"):
        made(URL, "answerer.form=video").body(replace(asked(), frames=(one, replace(other, scale=0.5))))
    (wide,) = frames_at(1.0, width=1024)
    with pytest.raises(FramesError, match=r"scaled by 16, .*\n.*answerer\.frame\.max_side="):
        made(URL, "answerer.frame.max_side=null").body(replace(asked(), frames=(replace(wide, scale=16.0),)))


def test_pictures_of_options_follow_the_frames_after_their_letters(tmp_path: Path) -> None:
    paths = []
    for name, colour in (("one", (255, 0, 0)), ("two", (0, 255, 0))):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.new("RGB", (20, 10), colour).save(paths[-1])
    request = asked(0, 5.0, options=("one", "two"), option_images=tuple(paths))
    answerer = made(URL, "answerer.frame.format=png", "answerer.max_frames=4")
    parts: Any = answerer.body(request)["messages"][0]["content"]
    assert [part.get("text") for part in parts[2:6]] == ["A: ", None, "B: ", None]
    assert picture(parts[5]["image_url"]["url"]).getpixel((0, 0)) == (0, 255, 0)
    assert "A. one\nB. two" in parts[6]["text"]
    # They count among the images that the server takes.
    many = replace(request, frames=frames_at(*map(float, range(9))))
    assert answerer.capacity(many) == 2
    gone = replace(request.question, option_images=("nowhere.png", paths[0]))
    (answer,) = answerer.answer([replace(request, question=gone)], 1)
    assert answer.status is Status.INVALID_QUESTION
    assert "nowhere.png" in answer.detail


def test_system_texts_subtitles_and_a_begun_answer_have_their_places() -> None:
    plain: Any = made(URL, "answerer.system=Be brief.").body(asked())
    assert plain["messages"][0] == {"role": "system", "content": "Be brief."}
    mlvu: Any = made(URL, "answerer/prompt=mlvu_official", name="vllm").body(asked())
    assert mlvu["messages"][0]["content"].startswith("Carefully watch this video")
    assert mlvu["messages"][-1] == {"role": "assistant", "content": "Best Option: ("}
    assert mlvu["continue_final_message"] is True
    assert mlvu["add_generation_prompt"] is False
    with pytest.raises(ConfigError, match="begins the answer") as raised:
        made(URL, "answerer/prompt=mlvu_official")
    assert "answerer.continues_answer=true" in raised.value.remedy

    said = replace(asked(), subtitles=(SubtitleLine(4.0, 6.0, "hello"),))
    between: Any = made(URL, "answerer/prompt=longvideobench_official").body(said)
    texts = [part["text"] for part in between["messages"][-1]["content"] if part["type"] == "text"]
    assert "hello" in texts[1]
    assert texts[1].endswith("[12.5s]")


def test_the_limit_of_the_answer_has_the_name_that_the_model_wants() -> None:
    body = made(URL, "answerer.max_tokens_field=max_completion_tokens", "answerer.temperature=null").body(asked())
    assert body["max_completion_tokens"] == 128
    assert not {"max_tokens", "temperature", "seed"} & set(body)
    more = made(URL, "+answerer.extra_body.reasoning_effort=low").body(asked())
    assert more["reasoning_effort"] == "low"


def test_providers_get_the_fields_that_they_want() -> None:
    gpt4o: Any = made(URL, name="gpt4o").body(asked())
    assert gpt4o["max_completion_tokens"] == 128
    assert gpt4o["messages"][0]["content"][1]["image_url"]["detail"] == "low"
    gemini: Any = made(URL, name="gemini").body(asked())
    assert (gemini["max_tokens"], gemini["reasoning_effort"]) == (4096, "low")
    assert "temperature" not in gemini
    assert "detail" not in gemini["messages"][0]["content"][1]["image_url"]


def test_frames_above_a_cap_are_known_before_the_call() -> None:
    many = asked(0, *map(float, range(12)))
    answerer = made(URL, "answerer.max_frames=5")
    assert answerer.capacity(many) == 5
    assert answerer.limits().max_frames == 5
    (answer,) = answerer.answer([many], 1)
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert "12 images" in answer.detail
    assert "selection.budget=5" in answer.detail


@pytest.mark.parametrize("form", ["images", "video"])
def test_so_many_frames_as_bytes_allow_go_whichever_they_are(form: str) -> None:
    many = asked(0, *map(float, range(12)))
    whole = len(json.dumps(made(URL, f"answerer.form={form}").body(many)))
    answerer = made(URL, f"answerer.form={form}", f"answerer.max_request_mb={whole / 2e6}")
    fitting = answerer.capacity(many)
    assert 3 <= fitting <= 6
    assert len(json.dumps(answerer.body(replace(many, frames=many.frames[-fitting:])))) <= whole / 2
    (answer,) = answerer.answer([many], 1)
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert f"selection.budget={fitting}" in answer.detail


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("answerer.base_url=localhost", "answerer.base_url"),
        ("answerer.timeout=0", "answerer.timeout="),
        ("answerer.timeout=1e12", "answerer.timeout=1e+12 is not a time to wait"),
        ("answerer.retries=-1", "answerer.retries="),
        ("answerer.max_new_tokens=0", "answerer.max_new_tokens="),
        ("answerer.max_frames=0", "answerer.max_frames="),
        ("answerer.max_request_mb=0", "answerer.max_request_mb="),
        ("answerer.tokens_per_frame=0", "answerer.tokens_per_frame="),
        ("answerer.temperature=-1", "answerer.temperature="),
        ("answerer.frame.quality=0", "answerer.frame.quality="),
        ("answerer.frame.max_side=0", "answerer.frame.max_side="),
        ("answerer.prices.input=1", "answerer.prices"),
        ("+answerer.extra_body.temperature=1", "answerer.extra_body"),
        ("answerer.images.label='{second}'", "answerer.images.label"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made(URL, override)
    assert named in str(raised.value)


def test_a_video_of_png_is_refused() -> None:
    with pytest.raises(ConfigError, match="JPEG") as raised:
        made(URL, "answerer.form=video", "answerer.frame.format=png")
    assert "answerer.frame.format=jpeg" in raised.value.remedy


@pytest.mark.parametrize(
    "override",
    [
        f"answerer.api_key_env={KEY}",
        "answerer.api_key_env=AIzaSyA0123456789",
        f"answerer.base_url=http://me:{KEY}@localhost/v1",
        f"answerer.base_url='http://localhost/v1?key={KEY}'",
    ],
)
def test_a_key_in_the_settings_is_refused_without_being_shown(override: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made(URL, override)
    assert "answerer.api_key_env=" in raised.value.remedy
    assert KEY not in str(raised.value)
    assert "AIza" not in str(raised.value)


def test_a_key_that_is_not_there_is_missed_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_NAME, raising=False)
    answerer = made(URL, f"answerer.api_key_env={KEY_NAME}")
    for attempt in (answerer.identity, lambda: answerer.answer([], 1)):
        with pytest.raises(ConfigError, match=KEY_NAME) as raised:
            attempt()
        assert f"export {KEY_NAME}" in raised.value.remedy


DECIDES = {
    "base_url": ("http://localhost:8001/v1", "http://localhost:8000/qwen/v1"),
    "model": ("other",),
    "form": ("video",),
    "system": ("x",),
    "temperature": (0.5, None),
    "seed": (1,),
    "max_new_tokens": (7,),
    "max_tokens_field": ("max_completion_tokens",),
    "extra_body": ({"top_p": 1}, {"top_p": 0.5}),
    "max_frames": (7,),
    "max_request_mb": (7.0,),
    "images.label": ("{time:.0f} ",),
    "images.after": ("x",),
    "frame.max_side": (77, None),
    "frame.quality": (77,),
    "frame.format": ("png",),
    "frame.detail": ("low",),
    "prompt.system": ("x",),
    "prompt.multiple_choice": ("{question}? {options}",),
    "prompt.free": ("{question}!",),
    "prompt.option_line": ("({letter}) {option}",),
}
DECIDES_NOTHING = {
    "timeout": 5.0,
    "retries": 0,
    "give_up_after": None,
    "api_key_env": KEY_NAME,
    "prices": Prices(1.0, 2.0),
    "response_store": Path("replies"),
    "name": "mine",
    "prompt.name": "mine",
}


def with_setting(answerer: OpenAICompatible, key: str, value: Any) -> OpenAICompatible:
    part, _, name = key.rpartition(".")
    return replace(answerer, **({part: replace(getattr(answerer, part), **{name: value})} if part else {name: value}))


def test_the_identity_holds_what_decides_answers_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    plain = made(URL)
    first = plain.identity()
    assert first["base_url"] == "localhost:8000"
    assert KEY not in json.dumps(with_setting(plain, "api_key_env", KEY_NAME).identity())
    for key, value in DECIDES_NOTHING.items():
        assert with_setting(plain, key, value).identity() == first, key
    others = [(key, value) for key, values in DECIDES.items() for value in values]
    identities = {json.dumps(with_setting(plain, key, value).identity()) for key, value in others}
    assert len({json.dumps(first), *identities}) == 1 + len(others)


def test_a_kept_reply_belongs_to_one_question_with_its_options_and_their_pictures(tmp_path: Path) -> None:

    pictures = []
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        pictures.append(str(tmp_path / f"{number}.png"))
    requests = [
        asked(1),
        asked(2),
        asked(1, options=("red", "green", "white")),
        asked(1, 2.0, 13.0),
        asked(1, option_images=tuple(pictures)),
        asked(1, option_images=tuple(reversed(pictures))),
    ]
    with misbehaving([says(completion("B"))]) as (url, heard):
        for _ in range(2):
            answerer = made(url, f"answerer.response_store={tmp_path / 'replies'}")
            for request in requests:
                list(answerer.answer([request], 1))
        assert len(heard.bodies) == len(requests)
        Image.new("RGB", (8, 8), (255, 0, 0)).save(pictures[0])  # another picture under the same name
        list(made(url, f"answerer.response_store={tmp_path / 'replies'}").answer(requests[4:5], 1))
        assert len(heard.bodies) == len(requests) + 1


def test_where_replies_are_kept_and_how_patiently_is_asked_name_no_run() -> None:
    from hydra import compose, initialize_config_dir

    from pipeline.config import conf_dir

    register_resolvers()

    def kept(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("answer", ["selections=s.jsonl", "answerer=gpt4o", *overrides])
        return configured(OmegaConf.to_container(config.answerer, resolve=True))

    same = ("answerer.response_store=null", "answerer.api_key_env=OTHER", "answerer.timeout=9", "answerer.retries=9")
    assert kept(*same) == kept()
    assert kept("answerer.model=other") != kept()
