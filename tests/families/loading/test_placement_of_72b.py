"""Where the parts of the largest models go on several GPUs: computed at real size, on no device and with no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.integrations.accelerate import _get_device_map

from pipeline.errors import CheckpointError
from pipeline.families.loading.placement import check_none_left_out, room_for_weights

pytestmark = pytest.mark.moving

GIB = 2**30
QWEN2_72B = {
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
}
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16}


def llava_video() -> Any:
    from transformers import LlavaOnevisionConfig

    from pipeline.families.llava_video.model import LlavaVideoForConditionalGeneration

    vision = {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14, "vision_use_head": False}
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **QWEN2_72B}, vision_config={**vision, **SIGLIP}, tie_word_embeddings=False
    )
    return LlavaVideoForConditionalGeneration(config)


def llava_onevision() -> Any:
    from transformers import LlavaOnevisionForConditionalGeneration

    return LlavaOnevisionForConditionalGeneration(llava_video().config)


def qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 8192, "num_heads": 16, "mlp_ratio": 4}
    config = Qwen2VLConfig(text_config={**QWEN2_72B, "rope_parameters": rope}, vision_config=vision)
    return Qwen2VLForConditionalGeneration(config)


def qwen2_5_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3456, "out_hidden_size": 8192, "num_heads": 16}
    config = Qwen2_5_VLConfig(text_config={**QWEN2_72B, "rope_parameters": rope}, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)


@pytest.mark.parametrize("make", [llava_video, llava_onevision, qwen2_vl, qwen2_5_vl])
@pytest.mark.parametrize("gpus", [(139,) * 2, (79,) * 4], ids=["2 x H200", "4 x H100"])
def test_every_layer_is_whole_on_one_gpu_and_none_is_left_out(make: Callable[[], Any], gpus: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = make().to(torch.bfloat16)
    room = room_for_weights({place: size * GIB for place, size in enumerate(gpus)})
    places = _get_device_map(model, "auto", dict(room), None)
    check_none_left_out(places, "it")
    assert set(places.values()) == set(range(len(gpus)))
    kept_whole = model._no_split_modules
    for name, module in model.named_modules():
        if type(module).__name__ in kept_whole:
            inside = [other for other in places if other.startswith(f"{name}.")]
            assert not inside, f"{name} is split: {inside}"
    held = dict.fromkeys(room, 0)
    for name, parameter in model.named_parameters():
        part = next(place for place in places if f"{name}.".startswith(f"{place}.") or place == "")
        held[places[part]] += parameter.numel() * parameter.element_size()
    assert all(held[place] <= room[place] for place in room)


def test_what_only_a_disk_could_hold_is_said_to_be_too_large() -> None:
    """One layer too many is put on the disk without a word by what spreads a model."""
    with pytest.raises(CheckpointError) as error:
        check_none_left_out({"model.layers.0": 0, "model.layers.79": "disk", "lm_head": "cpu"}, "maker/model")
    assert "2 of its parts" in error.value.problem
    assert "model.layers.79" in error.value.problem
    assert "answerer.checkpoint" in error.value.remedy
