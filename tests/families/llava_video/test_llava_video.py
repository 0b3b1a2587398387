"""LLaVA-Video on a tiny random checkpoint: its answers are noise, the way to them is the real one."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import answered, request_of
from tiny_llava_video import HIDDEN, PADDING_ROWS, TOWER, VISION, VISION_LAYERS, VISION_MLP, write_llava_video
from wordings import wording

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Status, Video
from pipeline.errors import CheckpointError
from pipeline.families.llava_video.answerer import LlavaVideo
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving

POOLINGS = {"bilinear": 210, "average": 182}
PROMPT = wording("letter_or_phrase")
request = partial(request_of, video=Video("clip.mp4", "0f", 60.04, 10.0, 600, 80, 45))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava_video(tmp_path_factory.mktemp("llava_video"))


def answerer(folder: Path, **changes: Any) -> LlavaVideo:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    return dataclasses.replace(LlavaVideo("llava", checkpoint, "checkpoint", "selected", PROMPT, 6), **changes)


def fed(answerer: LlavaVideo, asked: AnswerRequest) -> dict[str, Any]:
    """The arguments that the model's ``forward`` gets for the whole prompt."""
    prompt = answerer.encode(asked)
    return answerer.model.arguments(prompt, prompt.tokens)


def read_tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("official", "The video lasts for 60.04 seconds, and 3 frames are uniformly sampled from it. "),
        ("selected", "The video lasts for 60.04 seconds, and 3 frames are sampled from it. "),
        ("none", None),
    ],
)
def test_the_prompt_is_the_authors_word_for_word(folder: Path, mode: str, told: str | None) -> None:
    ours, asked = answerer(folder, time_instruction=mode), request(3)
    processor = ours.processor
    ids = ours.encode(asked).input_ids.tolist()
    at = ids.index(processor.picture_token)
    assert ids[at : at + 630] == [processor.picture_token] * 630
    times = (
        "These frames are located at 0.00s,1.25s,2.50s.Please answer the following questions related to this video.\n"
    )
    assert f"{processor.tokenizer.decode(ids[:at])}<image>{processor.tokenizer.decode(ids[at + 630 :])}" == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        + ("" if told is None else told + times)
        + "Which colour?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_every_answer_says_how_time_was_told(folder: Path) -> None:
    forms = {}
    for mode in ("official", "selected", "none"):
        ours = answerer(folder, time_instruction=mode)
        [answer] = answered(ours, [request(2)])
        forms[mode] = answer.form
        assert f"time_instruction={mode}" in answer.form
        assert ours.limits().time_told in answer.form
        assert answer.frame_times == (0.0, 1.25)
    assert "bilinear pooling" in forms["selected"]
    assert ("uniformly" in forms["official"], "uniformly" in forms["selected"]) == (True, False)
    assert "not told" in forms["none"]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_those_of_the_parts_put_together_by_hand(folder: Path, pooling: str) -> None:
    """Stock SigLIP and stock Qwen2 with the authors' tensors, and between them what LLaVA-NeXT does."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

    stored = read_tensors(folder)
    tower = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=VISION,
            intermediate_size=VISION_MLP,
            num_hidden_layers=VISION_LAYERS,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
            vision_use_head=False,
        )
    )
    tower.load_state_dict({k.removeprefix(f"{TOWER}."): v for k, v in stored.items() if k.startswith(TOWER)})
    raw = json.loads((folder / "config.json").read_text())
    language = Qwen2ForCausalLM(
        Qwen2Config(
            **{k: v for k, v in raw.items() if k.startswith(("num_", "hidden_size", "intermediate", "vocab", "rms"))},
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=False,
        )
    )
    others = (TOWER, "model.mm_projector", "model.image_newline")
    language.load_state_dict({k: v for k, v in stored.items() if not k.startswith(others)})

    ours = answerer(folder, pooling=pooling)
    inputs = fed(ours, request(3))
    with torch.inference_mode():
        patches = tower.eval()(inputs["pixel_values_videos"][0], output_hidden_states=True).hidden_states[-1]
        first, second = ([stored[f"model.mm_projector.{i}.{p}"] for p in ("weight", "bias")] for i in (0, 2))
        hidden = torch.nn.functional.gelu(torch.nn.functional.linear(patches, *first))
        maps = torch.nn.functional.linear(hidden, *second).reshape(3, 27, 27, HIDDEN)
        if pooling == "average":  # the last row and column fall away
            maps = maps[:, :26, :26].reshape(3, 13, 2, 13, 2, HIDDEN).mean(dim=(2, 4))
        else:
            maps = torch.nn.functional.interpolate(maps.permute(0, 3, 1, 2), size=14, mode="bilinear")
            maps = maps.permute(0, 2, 3, 1)
        rows = [torch.cat([row, stored["model.image_newline"][None]]) for frame in maps for row in frame]
        video, ids = torch.cat(rows), inputs["input_ids"]
        assert len(video) == 3 * POOLINGS[pooling]
        embedded = language.get_input_embeddings()(ids)
        embedded[ids == ours.processor.picture_token] = video
        expected = language.eval()(inputs_embeds=embedded).logits[..., :-PADDING_ROWS]
        logits = ours.model.network(**inputs).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4)


def test_pixels_are_pillows(folder: Path) -> None:
    from PIL import Image

    asked = request(2)
    [pixels] = fed(answerer(folder), asked)["pixel_values_videos"].numpy()
    for ours, frame in zip(pixels, asked.frames, strict=True):
        square = Image.fromarray(frame.pixels).resize((384, 384), Image.Resampling.BICUBIC)
        expected = (np.asarray(square, dtype=np.float64) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(ours, expected.transpose(2, 0, 1), atol=1e-6)


def test_a_batch_answers_as_its_requests_do_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.families.llava_video import model

    monkeypatch.setattr(model, "_FRAMES_AT_ONCE", 2)  # so that the tower's parts cut through videos
    ours = answerer(folder)
    requests = [request(3), request(1), request(3, "Why is the sky so blue?", None), request(2, "Which is first?")]
    together = answered(ours, requests)
    monkeypatch.undo()
    alone = [answered(ours, [asked])[0] for asked in requests]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.cost.prompt_tokens for a in together] == [a.cost.prompt_tokens for a in alone]
    assert len({a.text for a in together}) == 4  # what the model sees matters
    assert [len(a.frame_times) for a in together] == [3, 1, 3, 2]


@pytest.mark.parametrize(("pooling", "pictures"), POOLINGS.items())
@pytest.mark.parametrize("mode", ["selected", "none"])
def test_limits_say_what_a_frame_costs(folder: Path, pooling: str, pictures: int, mode: str) -> None:
    ours = answerer(folder, pooling=pooling, time_instruction=mode)
    limits = ours.limits()
    lengths = [ours.encode(request(n)).tokens for n in (2, 9)]
    assert pictures <= (lengths[1] - lengths[0]) / 7 <= limits.tokens_per_frame <= pictures + 10
    assert (limits.context_tokens, limits.max_frames) == (32768, None)
    assert isinstance(ours, Answerer)
    assert not ours.is_loaded  # no weights were read for it


def test_too_many_frames_are_refused_before_the_call(tmp_path: Path) -> None:
    # The smaller of the two limits holds: the authors' code would cut the prompt there.
    ours = answerer(write_llava_video(tmp_path / "short", config={"tokenizer_model_max_length": 1000}))
    assert ours.limits().context_tokens == 1000
    long, short = answered(ours, [request(9), request(1)])
    assert (long.status, long.text) == (Status.CONTEXT_EXCEEDED, "")
    assert short.cost.output_tokens > 0
    assert "answerer.pooling=average" in long.detail
    fitting = int(re.search(r"selection\.budget=(\d+)", long.detail)[1])  # type: ignore[index]
    assert answered(ours, [request(fitting)])[0].status is not Status.CONTEXT_EXCEEDED
    assert answered(ours, [request(fitting + 1)])[0].status is Status.CONTEXT_EXCEEDED


@pytest.mark.parametrize(("text", "options"), [("  ", None), ("What is <image>?", None), ("W?", ("a<|im_end|>", "b"))])
def test_a_question_with_markup_or_without_text_is_refused(
    folder: Path, text: str, options: tuple[str, ...] | None
) -> None:
    bad, good = answered(answerer(folder), [request(2, text, options), request(3)])
    assert (bad.question_id, bad.status, bad.text) == ("q2", Status.INVALID_QUESTION, "")
    assert bad.detail
    assert good.cost.output_tokens > 0


def test_no_frames_are_no_answer(folder: Path) -> None:
    [answer] = answered(answerer(folder), [dataclasses.replace(request(1), frames=())])
    assert answer.status is Status.NO_FRAMES


def test_out_of_memory_is_the_failure_of_the_request_that_is_too_large(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    ours = answerer(folder)
    requests = [request(2), request(2, "Why?"), request(4), request(1)]
    expected = [a.text for a in answered(ours, requests)]
    forward = ours.model.network.model.forward

    def small_memory(**inputs: Any) -> Any:
        if inputs["pixel_values_videos"].flatten(0, 1).shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(**inputs)

    monkeypatch.setattr(ours.model.network.model, "forward", small_memory)
    answers = answered(ours, requests)
    assert [a.status is Status.OUT_OF_MEMORY for a in answers] == [False, False, True, False]
    assert [a.text for a in answers] == [*expected[:2], "", expected[3]]
    assert "selection.budget=2" in answers[2].detail


def test_closed_and_asked_again_it_answers_the_same(folder: Path) -> None:
    ours = answerer(folder)
    [before] = answered(ours, [request(2)])
    ours.close()
    assert not ours.is_loaded
    [after] = answered(ours, [request(2)])
    assert before.text == after.text


def test_padding_rows_of_the_vocabulary_are_never_written(folder: Path) -> None:
    """Here they would win every step; the authors' loader cuts them off."""
    ours = answerer(folder)
    [answer] = answered(ours, [request(2)])
    assert answer.text
    assert ours.model.network.lm_head.weight.shape[0] == len(ours.processor.tokenizer)


def test_identity_changes_with_what_decides_the_answers(folder: Path, tmp_path: Path) -> None:
    ours = answerer(folder)
    other = write_llava_video(tmp_path / "other", seed=1)
    same = dataclasses.replace(ours, checkpoint=dataclasses.replace(ours.checkpoint, device="auto", attention="eager"))
    for equal in (same, answerer(folder, pooling="bilinear")):  # which is what the checkpoint says
        assert json.dumps(ours.identity()) == json.dumps(equal.identity())
    changed = [
        answerer(folder, pooling="average"),
        answerer(folder, time_instruction="official"),
        answerer(folder, time_instruction="none"),
        answerer(folder, max_new_tokens=7),
        answerer(folder, prompt=dataclasses.replace(PROMPT, free="Say: {question}")),
        answerer(other),
    ]
    assert len({json.dumps(a.identity()) for a in (ours, *changed)}) == 7


def test_the_checkpoint_says_how_it_pools(tmp_path: Path) -> None:
    average = write_llava_video(tmp_path / "average", config={"mm_spatial_pool_mode": "average"})
    assert answerer(average, time_instruction="none").limits().tokens_per_frame == 182
    assert answerer(average, time_instruction="none", pooling="bilinear").limits().tokens_per_frame == 210
    unknown = write_llava_video(tmp_path / "max", config={"mm_spatial_pool_mode": "max"})
    with pytest.raises(CheckpointError, match=r"'max'.*\n?.*answerer\.pooling=bilinear"):
        answerer(unknown).limits()
    assert answered(answerer(unknown, pooling="average"), [request(1)])[0].cost.output_tokens > 0


@pytest.mark.parametrize("model_type", ["llava", "llava_qwen"])
def test_both_names_of_the_model_type_are_this_model(tmp_path: Path, model_type: str) -> None:
    ours = answerer(write_llava_video(tmp_path, config={"model_type": model_type}))
    assert answered(ours, [request(1)])[0].cost.output_tokens > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlavaForConditionalGeneration"]}, "LlavaForConditionalGeneration"),
        ({"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral"}, "llava_mistral"),
        ({"model_type": "qwen2_vl"}, "qwen2_vl"),
        ({"mm_newline_position": "frame"}, "mm_newline_position='frame'"),
        ({"mm_vision_select_layer": -1}, "mm_vision_select_layer=-1"),
        ({"mm_projector_type": "linear"}, "mm_projector_type"),
        ({"mm_spatial_pool_stride": 3}, "mm_spatial_pool_stride=3"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "clip-vit"),
        ({"add_faster_video": True}, "add_faster_video"),
        ({"vocab_size": "many"}, "vocab_size='many'"),
    ],
)
def test_what_is_not_llava_video_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = write_llava_video(tmp_path, config=change)
    with pytest.raises(CheckpointError, match=message):
        answerer(folder).limits()
    with pytest.raises(CheckpointError, match=message):
        answered(answerer(folder), [request(1)])


def damaged(name: str, kind: str) -> dict[str, Any]:
    import torch

    return {
        "missing": {name: None},
        "unexpected": {f"{name}_2": torch.zeros(3)},
        "of another shape": {name: torch.zeros(7, 7)},
    }[kind]


@pytest.mark.parametrize("kind", ["missing", "unexpected", "of another shape"])
@pytest.mark.parametrize(
    "name",
    [
        f"{TOWER}.encoder.layers.1.self_attn.q_proj.weight",
        f"{TOWER}.post_layernorm.bias",
        "model.mm_projector.2.weight",
        "model.image_newline",
        "model.layers.0.mlp.up_proj.weight",
        "lm_head.weight",
    ],
)
def test_one_tensor_too_few_or_too_many_ends_the_load(tmp_path: Path, name: str, kind: str) -> None:
    ours = answerer(write_llava_video(tmp_path, tensors=damaged(name, kind)))
    with pytest.raises(CheckpointError, match=rf"1 {kind}"):
        answered(ours, [request(1)])


def test_the_released_tower_is_known_without_looking(tmp_path: Path) -> None:
    """Counted in the files, a last layer that is not there would not be missed."""
    from pipeline.families.llava_video.processor import onevision_config

    raw = json.loads((write_llava_video(tmp_path) / "config.json").read_text())
    tower = onevision_config(raw | {"mm_hidden_size": 1152}, tmp_path)["vision_config"]
    assert (tower["num_hidden_layers"], tower["intermediate_size"], tower["num_attention_heads"]) == (26, 4304, 16)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointError, match="no tensors of a vision tower"):
        onevision_config(raw, tmp_path)


def test_a_folder_that_does_not_fit_together_is_refused(folder: Path, tmp_path: Path) -> None:
    full = write_llava_video(tmp_path / "full", padding_rows=0)
    with pytest.raises(CheckpointError, match="none is free to stand for the video"):
        answered(answerer(full), [request(1)])
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    next(broken.glob("*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        answered(answerer(broken), [request(1)])
