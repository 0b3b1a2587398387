"""GLM-4.6V: prompts, pixels and texts are those of the type's own processor and ``generate``."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_glm
import tiny_native
import torch
from asking import Saying, answered, configured, frames, request, written
from hydra import compose, initialize_config_dir
from PIL import Image

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Answer, Status
from pipeline.errors import CheckpointError, ConfigError, FramesError, PipelineError
from pipeline.families.glm import NAMES
from pipeline.families.glm.answerer import Glm
from pipeline.families.glm.processor import GlmScale, open_images
from pipeline.families.known import known_model, opener_of_images
from pipeline.families.thinking import Beginning
from pipeline.generation.limits import OutputLimits

pytestmark = [
    pytest.mark.moving,
    # GLM's processor in transformers 5.24 with numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

NEW = 8
SIZES = {"glm4_6v_flash": "zai-org/GLM-4.6V-Flash", "glm4_6v": "zai-org/GLM-4.6V"}
ALWAYS_OPEN = tiny_native.GLM_TEMPLATE.partition("{%- if message.role == 'user'")[0] + (
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|assistant|>\\n<think>' }}{%- endif -%}"
)
"""Of GLM-4.1V-Thinking's structure."""
needs_torchvision = pytest.mark.skipif(
    find_spec("torchvision") is None, reason="the type's own video needs torchvision: pip install 'gens-videoqa[any]'"
)


def glm(folder: Path | str, *overrides: str, name: str = "glm4_6v_flash") -> Glm:
    small = [f"answerer.min_pixels={tiny_glm.PIXELS[0]}", f"answerer.max_pixels={tiny_glm.PIXELS[1]}"]
    given = [f"answerer.checkpoint.source={folder}", "answerer.checkpoint.device=cpu", f"answerer.max_new_tokens={NEW}"]
    return configured(Glm, name, *given, *small, *overrides)


FIRST, SECOND = frames(0.0, 4.0), frames(1.0, 2.5, 70.0, seed=1, height=160, width=90)
ASKED = [
    request("What colour is the square?", FIRST, ("red", "blue")),
    request("Why?", SECOND),
    request("Why?", FIRST),
    request("What appears after the circle?", SECOND, ("square", "circle", "frame")),
    request("One?", frames(3.0, seed=2)),
    request("Which?", (FIRST[0], *frames(5.0, 9.0, seed=3, height=64, width=64))),
]
EXACT = [
    request("What colour is the square?", frames(3.24, 62.5, 754.9, seed=4, height=28, width=56), ("red", "blue")),
    request("Why?", frames(4.0, seed=5, height=28, width=56)),
]
"""Frames of which no side is scaled: torchvision's filter and Pillow's differ a little."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_glm.write_glm46v(tmp_path_factory.mktemp("glm46v"))


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[Glm]:
    made = glm(folder)
    yield made
    made.close()


class Stock:
    """The type's own image processor, template and ``generate``, without torchvision."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForMultimodalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForMultimodalLM.from_pretrained(folder)
        self.images = tiny_glm.image_processor()

    def inputs(self, asked: AnswerRequest, words: str) -> dict[str, Any]:
        pictures = [Image.fromarray(frame.pixels) for frame in asked.frames]
        made = self.images(images=pictures, return_tensors="pt")
        content: list[dict[str, str]] = []
        for frame in asked.frames:
            content += [{"type": "text", "text": f"<{frame.time:.1f} seconds>"}, {"type": "image"}]
        turn = {"role": "user", "content": [*content, {"type": "text", "text": words}]}
        prompt = self.tokenizer.apply_chat_template(
            [turn], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        for grid in made["image_grid_thw"]:
            prompt = prompt.replace("<|image|>", "PICTURE" * (int(grid.prod()) // 4), 1)
        ids = self.tokenizer(prompt.replace("PICTURE", "<|image|>"), return_tensors="pt").input_ids
        kinds = (ids == self.tokenizer.convert_tokens_to_ids("<|image|>")).int()
        return {"input_ids": ids, "mm_token_type_ids": kinds, **made}

    def tokens(self, inputs: Any, new: int = NEW) -> list[int]:
        output = self.model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=new)
        tokens: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens


@pytest.fixture(scope="module")
def stock(folder: Path) -> Stock:
    return Stock(folder)


@pytest.mark.parametrize("name", SIZES)
def test_every_yaml_names_its_checkpoint(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        made = build(compose(f"answerer/{name}").answerer, "answerer")
    assert isinstance(made, Answerer)
    assert made.checkpoint.source == SIZES[name]
    assert (made.name, made.form, made.thinking) == (name, "images", "never")


def test_the_inputs_are_those_of_the_types_own_image_processor_and_template(ours: Glm, stock: Stock) -> None:
    for asked in ASKED:
        prompt = ours.encode(asked)
        given = ours.model.arguments(prompt, prompt.tokens)
        expected = stock.inputs(asked, ours.prompt.words(asked).text)
        assert set(given) == set(expected)
        for name, value in expected.items():
            assert torch.equal(given[name], value), name
        assert prompt.tokens == ours.processor.count(asked.frames, ours.prompt.words(asked))
        assert prompt.patches == len(given["pixel_values"])


def test_answers_are_those_of_stock_generate_in_one_batch_and_alone(ours: Glm, stock: Stock) -> None:
    """Among them prompts of several pictures in turn, whose positions the network keeps from call to call."""
    by_stock = [stock.tokens(stock.inputs(asked, ours.prompt.words(asked).text)) for asked in ASKED]
    ends = {stock.tokenizer.eos_token_id, stock.tokenizer.convert_tokens_to_ids("<|user|>")}
    prompts = [ours.encode(asked) for asked in ASKED]
    limits = ours.output_limits(ours.processor)
    together = written(ours.writer(ours.model, limits), prompts)
    for place, (one, expected) in enumerate(zip(together, by_stock, strict=True)):
        assert list(one.tokens) == [token for token in expected if token not in ends]
        assert written(ours.writer(ours.model, limits), [prompts[place]]) == [one]
    assert len({one.tokens for one in together}) > 2


@torch.inference_mode()
def test_positions_are_the_networks_own_and_none_are_left_behind(ours: Glm) -> None:
    from transformers import DynamicCache

    network, prompt = ours.model.network, ours.encode(ASKED[5])
    cut = prompt.frames_end
    following = ours.model.prefill(prompt, cut, DynamicCache(config=network.get_decoder().config))
    assert network.model.rope_deltas is None
    ids = torch.from_numpy(prompt.input_ids[None, :cut])
    positions = ours.model.positions(ids, [frame.shape for frame in prompt.frames])
    assert positions.shape == (3, 1, cut)
    assert following == int(positions.max()) + 1 < cut


def test_the_resize_rule_is_the_types_own() -> None:
    """Over shapes of all kinds, those narrower than a token among them; its limits count two frames."""
    from transformers.models.glm46v.image_processing_pil_glm46v import smart_resize

    dice = random.Random(0)
    for least, most in ((784, 3136), (6272, 401408), (112 * 112 // 2, 28 * 28 * 7500)):
        scale = GlmScale(least, most, None)
        for _ in range(400):
            height, width = (round(2 ** dice.uniform(2, 12)) for _ in range(2))
            if max(height, width) > 190 * min(height, width):
                continue
            expected = smart_resize(2, height, width, 2, 28, 2 * least, 2 * most)
            assert scale.size(height, width) == expected, (height, width)
    with pytest.raises(FramesError, match=r"answerer\.frame_size="):
        GlmScale(784, 3136, None).size(3, 3000)


def test_a_frame_is_told_what_it_costs(ours: Glm) -> None:
    limits = ours.limits()
    assert limits.context_tokens == 32768
    one, two = (ours.encode(request("Why?", frames(*range(count)))).tokens for count in (1, 2))
    assert two - one <= ours.frame_tokens(90, 160) <= limits.tokens_per_frame
    assert "text before each image: '<12.5 seconds>'" in limits.time_told
    fixed = dataclasses.replace(ours, frame_size=(56, 84))
    assert fixed.encode(ASKED[2]).frames[0].shape.tokens == 6
    with pytest.raises(ConfigError, match="28 x 28 pixels"):
        dataclasses.replace(ours, frame_size=(50, 84))


# ------------------------------------------------------------------------------------------------ one video


def test_a_video_shows_every_frame_with_its_own_second_behind_it(folder: Path) -> None:
    video = glm(folder, "answerer.form=video")
    words = video.processor.tokenizer.decode(video.encode(EXACT[0]).input_ids)
    frame = "<|begin_of_image|><|image|><|image|><|end_of_image|>"
    seconds = "".join(f"{frame}{time} seconds" for time in ("3.2", "62.5", "754.9"))
    assert f"<|user|>\n<|begin_of_video|>{seconds}<|end_of_video|>What colour" in words
    assert "'12.5 seconds'" in video.limits().time_told
    between = glm(folder, "answerer.form=video", "answerer/prompt=longvideobench_official")
    with pytest.raises(ConfigError, match=r"answerer\.form=images"):
        between.check_subtitles()


@needs_torchvision
@pytest.mark.parametrize("form", ["images", "video"])
def test_it_is_the_whole_processors_prompt_and_the_same_tokens(form: str, tmp_path: Path) -> None:
    """The type's own processor, given each frame of a video twice, as a model card calls it otherwise."""
    from transformers import AutoModelForMultimodalLM, AutoProcessor

    made = tiny_native.write_glm46v(tmp_path)
    processor, model = AutoProcessor.from_pretrained(made), AutoModelForMultimodalLM.from_pretrained(made)
    answerer = glm(made, f"answerer.form={form}")
    for asked in EXACT:
        pictures = [Image.fromarray(frame.pixels) for frame in asked.frames]
        content: list[dict[str, Any]] = []
        keywords: dict[str, Any] = {}
        if form == "images":
            for frame, picture in zip(asked.frames, pictures, strict=True):
                content.append({"type": "text", "text": f"<{frame.time:.1f} seconds>"})
                content.append({"type": "image", "image": picture})
        else:
            content = [{"type": "video", "video": [each for each in pictures for _ in range(2)]}]
            indices = [round(1000 * frame.time) for frame in asked.frames for _ in range(2)]
            metadata = {"fps": 1000, "frames_indices": indices, "total_num_frames": 10**6, "duration": 1000.0}
            keywords = {"do_sample_frames": False, "video_metadata": [metadata]}
        content.append({"type": "text", "text": answerer.prompt.words(asked).text})
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs=keywords,
            enable_thinking=False,
        )
        prompt = answerer.encode(asked)
        assert prompt.input_ids.tolist() == inputs["input_ids"][0].tolist()
        pixels = inputs["pixel_values" if form == "images" else "pixel_values_videos"]
        given = answerer.model.arguments(prompt, prompt.tokens)
        assert torch.allclose(given["pixel_values"], pixels, atol=1e-5)
        by_stock = model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=NEW)
        [found] = written(answerer.writer(answerer.model, answerer.output_limits(answerer.processor)), [prompt])
        expected = by_stock[0, prompt.tokens :].tolist()
        assert list(found.tokens) == expected[: len(found.tokens)]
        assert len(found.tokens) == NEW or len(expected) == len(found.tokens) + 1


def test_a_video_is_refused_where_the_checkpoint_tells_whole_seconds(folder: Path, tmp_path: Path) -> None:
    older = tiny_glm.rename(tiny_glm.write_glm46v(tmp_path), "glm4v", "Glm4vForConditionalGeneration")
    glm(older, "answerer.form=video").encode(EXACT[0])
    tiny_native.rewrite(older, "preprocessor_config.json", processor_class="Glm4vProcessor")
    with pytest.raises(ConfigError, match=r"answerer\.form=images"):
        glm(older, "answerer.form=video").encode(EXACT[0])
    glm(older, "answerer.form=images").encode(EXACT[0])


# ------------------------------------------------------------------------------------------------ other types


def test_the_flash_model_as_it_was_published_gives_the_same(folder: Path, ours: Glm, tmp_path: Path) -> None:
    """``glm4v`` and ``Glm46VProcessor``, by transformers' class for that type."""
    other = glm(tiny_glm.rename(tiny_glm.write_glm46v(tmp_path), "glm4v", "Glm4vForConditionalGeneration"))
    assert type(other.model.network).__name__ == "Glm4vForConditionalGeneration"
    assert [one.text for one in answered(other, ASKED)] == [one.text for one in answered(ours, ASKED)]


def test_the_one_with_experts_answers_as_stock_generate_does(tmp_path: Path) -> None:
    folder = tiny_glm.write_glm4v_moe(tmp_path)
    ours, stock = glm(folder, name="glm4_6v"), Stock(folder)
    assert type(ours.model.network).__name__ == "Glm4vMoeForConditionalGeneration"
    limits = ours.output_limits(ours.processor)
    for one, asked in zip(
        written(ours.writer(ours.model, limits), [ours.encode(asked) for asked in ASKED]), ASKED, strict=True
    ):
        expected = stock.tokens(stock.inputs(asked, ours.prompt.words(asked).text))
        assert list(one.tokens) == expected[: len(one.tokens)]
        assert len(one.tokens) >= len(expected) - 1


# ------------------------------------------------------------------------------------------------ thoughts


@pytest.mark.parametrize(
    ("mode", "beginning", "ending", "tokens"),
    [
        ("never", Beginning.CLOSED, "/nothink<|assistant|>\n<think></think>\n", 0),
        ("always", Beginning.FREE, "Why?<|assistant|>\n", 4096),
        ("checkpoint", Beginning.FREE, "Why?<|assistant|>\n", 4096),
    ],
)
def test_thinking_is_switched_in_the_prompt(
    folder: Path, mode: str, beginning: Beginning, ending: str, tokens: int
) -> None:
    ours = glm(folder, f"answerer.thinking={mode}")
    ours.check_checkpoint()
    assert (ours.processor.switch.beginning, ours.processor.switch.tokens) == (beginning, tokens)
    assert ours.processor.tokenizer.decode(ours.encode(ASKED[2]).input_ids).endswith(ending)
    assert ours.output_tokens() == tokens + NEW
    assert "thinking" in ours.processor.describe(())


def test_a_checkpoint_that_always_thinks_is_refused_or_let(tmp_path: Path) -> None:
    folder = tiny_glm.write_glm46v(tmp_path, template=ALWAYS_OPEN)
    with pytest.raises(CheckpointError, match=r"answerer\.thinking=always"):
        glm(folder).check_checkpoint()
    glm(folder, "answerer.thinking=always").check_checkpoint()
    with pytest.raises(CheckpointError, match=r"(?s)always thinks.*checkpoint\.source=zai-org/GLM-4\.6V-Flash"):
        open_images(glm(folder).checkpoint, 3136)
    begun = "answerer.prompt.answer_prefix='Answer: '"
    with pytest.raises(ConfigError, match="the chat template begins a thought"):
        glm(folder, begun, "answerer.thinking=checkpoint").check_checkpoint()
    with pytest.raises(ConfigError, match="a thought comes first"):
        glm(folder, begun, "answerer.thinking=always")


def says(ours: Glm, said: str, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The answer of a model that writes these words, for as long as its limits allow."""
    tokenizer = ours.processor.tokenizer
    opened = Glm.open
    monkeypatch.setattr(Glm, "writer", lambda self, model, limits: Saying(tokenizer, said, limits))
    monkeypatch.setattr(
        Glm, "open", lambda self: dataclasses.replace(opened(self), load=lambda: SimpleNamespace(device_name="none"))
    )
    [answer] = answered(dataclasses.replace(ours), ASKED[:1])
    return answer


def test_the_marks_of_a_box_are_no_part_of_an_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = says(
        glm(folder, "answerer.thinking=always"), "<think>A?</think><|begin_of_box|>B<|end_of_box|>", monkeypatch
    )
    assert (boxed.status, boxed.option, boxed.text) == (Status.OK, 1, "B")
    assert boxed.thought == "<think>A?</think>"
    assert 0 < boxed.cost.more["thinking_tokens"] < boxed.cost.output_tokens
    alone = says(glm(folder), "<|begin_of_box|>B<|end_of_box|>", monkeypatch)
    assert (alone.status, alone.option, alone.text) == (Status.OK, 1, "B")


def test_a_thought_has_a_limit_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("answerer.thinking=always", "answerer.max_thinking_tokens=10", "answerer.max_new_tokens=6")
    cut = says(glm(folder, *given), "<think>" + "The answer is A. But wait, " * 4, monkeypatch)
    assert (cut.status, cut.option) == (Status.TRUNCATED_OUTPUT, None)
    assert "answerer.max_thinking_tokens=20" in cut.detail
    assert cut.cost.output_tokens == 10


def test_what_the_model_writes_is_cut_at_the_thoughts_limit_while_it_thinks(ours: Glm) -> None:
    """By the engine that all families share."""
    [whole] = written(ours.writer(ours.model, OutputLimits(NEW)), [ours.encode(ASKED[0])])
    assert len(whole.tokens) == NEW
    thinking = OutputLimits(NEW, thought=3, begins_open=True, ending=frozenset({-1}))
    [cut] = written(ours.writer(ours.model, thinking), [ours.encode(ASKED[0])])
    assert (cut.tokens, cut.ended) == (whole.tokens[:3], False)
    ended = dataclasses.replace(thinking, ending=frozenset({whole.tokens[1]}), answer=4)
    [answered_] = written(ours.writer(ours.model, ended), [ours.encode(ASKED[0])])
    assert (answered_.tokens, answered_.ended) == (whole.tokens[:6], False)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("mark", ["<|image|>", "<|user|>", "/nothink", "<|begin_of_box|>"])
def test_markup_in_a_question_is_refused(ours: Glm, mark: str) -> None:
    [answer] = answered(ours, [request(f"What is {mark} here?", FIRST)])
    assert answer.status is Status.INVALID_QUESTION
    assert mark in answer.detail


def test_a_tokenizer_that_does_not_go_with_its_config_is_refused(tmp_path: Path) -> None:
    folder = tiny_glm.write_glm46v(tmp_path)
    tiny_native.rewrite(folder, "config.json", image_token_id=7)
    with pytest.raises(CheckpointError, match="image_token_id=7"):
        glm(folder).check_checkpoint()


def test_settings_of_other_patches_are_refused(tmp_path: Path) -> None:
    folder = tiny_glm.write_glm46v(tmp_path)
    tiny_native.rewrite(folder, "preprocessor_config.json", patch_size=16)
    with pytest.raises(CheckpointError, match=r"\(16, 2, 2\)"):
        glm(folder).check_checkpoint()


def test_positions_that_do_not_fill_the_heads_are_refused(tmp_path: Path) -> None:
    import json

    folder = tiny_glm.write_glm46v(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rope_parameters"]["mrope_section"] = [1, 1, 1]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="mrope_section"):
        _ = glm(folder).model


def test_its_types_are_known_and_another_model_is_named(folder: Path) -> None:
    for kind in NAMES:
        known = known_model({"model_type": kind})
        assert known is not None
        assert known.choices[0].removeprefix("answerer=") in SIZES
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        qwen = compose("answerer/qwen2_5_vl_7b", overrides=[f"answerer.checkpoint.source={folder}"])
    other = build(qwen.answerer, "answerer")
    with pytest.raises(CheckpointError, match=rf"(?s)it is GLM-4\.6V\..*answerer=glm4_6v_flash.*{folder}"):
        other.identity()
    assert opener_of_images(glm(folder).checkpoint)(glm(folder).checkpoint, 3136).processor.smaller == (
        "max_pixels=1568",
    )
    with pytest.raises(ConfigError, match=r"sampler\.max_pixels=200704"):
        open_images(glm(folder).checkpoint, 700)


def test_settings_that_cannot_be_are_refused_with_their_override(folder: Path) -> None:
    for wrong in ("max_thinking_tokens=0", "max_new_tokens=0", "min_pixels=0", "max_pixels=700"):
        with pytest.raises(PipelineError, match=rf"answerer\.{wrong.partition('=')[0]}="):
            glm(folder, f"answerer.{wrong}")
