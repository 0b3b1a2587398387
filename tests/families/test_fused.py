"""Exchanged modules against the stock ones of the same weights, and the kernels against their plain twins."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLConfig, Qwen2VLModel
from transformers.models.aria.configuration_aria import AriaConfig
from transformers.models.aria.modeling_aria import AriaModel

from pipeline.families.aria.model import fuse_aria
from pipeline.families.fused import (
    _kernels,
    _pad,
    _padded_forward,
    as_product,
    combine_rows,
    fuse,
    gated,
    laid_out,
    quick_gelu,
    rms_norm,
    rotated,
    scatter_rows,
)

pytestmark = pytest.mark.moving

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}}


def qwen2() -> Any:
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32}
    return Qwen2VLModel(Qwen2VLConfig(text_config=TEXT | ROPE, vision_config=vision))


def qwen2_5() -> Any:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": 32}
    return Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=TEXT | ROPE, vision_config=vision))


def aria() -> Any:
    vision = {
        "model_type": "idefics3_vision",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "image_size": 56,
        "patch_size": 14,
    }
    text = TEXT | {
        "model_type": "aria_text",
        "intermediate_size": 48,
        "moe_num_experts": 4,
        "moe_topk": 2,
        "pad_token_id": 0,
    }
    config = AriaConfig(text_config=text, vision_config=vision, projector_patch_to_query_dict={16: 4})
    return AriaModel(config)


FAMILIES = {"qwen2_vl": qwen2, "qwen2_5_vl": qwen2_5, "aria": aria}


@pytest.fixture(params=FAMILIES)
def stock(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    model = FAMILIES[request.param]().eval()
    for parameter in model.parameters():  # norms and biases too, which begin as ones and zeros
        nn.init.normal_(parameter, std=0.2)
    return model


def fused(stock: Any, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    model = copy.deepcopy(stock).to(device, dtype)
    (fuse_aria if isinstance(model, AriaModel) else fuse)(_Holder(model) if isinstance(model, AriaModel) else model)
    return model


class _Holder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config


@torch.inference_mode()
def read(model: Any) -> torch.Tensor:
    """The text model's last states."""
    weight = next(model.parameters())
    states = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1)).to(weight)
    found: torch.Tensor = model.language_model(inputs_embeds=states).last_hidden_state
    return found.float().cpu()


@torch.inference_mode()
def looked(model: Any) -> torch.Tensor:
    """The features of two pictures."""
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(2)
    if isinstance(model, AriaModel):
        pixels = torch.randn(2, 3, 56, 56, generator=generator).to(weight)
        mask = torch.ones(2, 56, 56, dtype=torch.bool, device=weight.device)
        mask[1, :, 28:] = False
        found: torch.Tensor = model.get_image_features(pixels, pixel_mask=mask).pooler_output
        return found.float().cpu()
    pixels = torch.randn(2 * 64, 1176, generator=generator).to(weight)
    grid = torch.tensor([[1, 8, 8], [1, 8, 8]], device=weight.device)
    return torch.cat(tuple(model.get_image_features(pixels, grid).pooler_output)).float().cpu()


def exchanged(model: Any) -> set[str]:
    return {type(module).__name__ for module in model.modules() if "forward" in module.__dict__}


def test_text_is_bit_for_bit_the_stock_models(stock: Any) -> None:
    ours = fused(stock)
    kinds = exchanged(ours.language_model)
    for part in ("RMSNorm", "MLP", "Attention"):
        assert any(part in kind for kind in kinds)
    assert torch.equal(read(ours), read(stock))


def test_pictures_look_as_to_the_stock_model(stock: Any) -> None:
    ours = fused(stock)
    assert exchanged(ours) - exchanged(ours.language_model)
    assert looked(stock).abs().max() > 0.01
    torch.testing.assert_close(looked(ours), looked(stock), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_on_the_gpu_as_near_the_truth_as_the_stock_model(stock: Any) -> None:
    theirs, ours = copy.deepcopy(stock).to("cuda", torch.bfloat16), fused(stock, "cuda", torch.bfloat16)
    for seen in (read, looked):
        truth = seen(stock)
        error, stock_error = ((seen(model) - truth).abs().mean() for model in (ours, theirs))
        assert error < 1.3 * stock_error + 1e-3, seen.__name__


def test_a_norm_of_another_kind_stays_as_it_is() -> None:
    class OnePlus(nn.Module):
        """As Gemma's: the weight is what is added to one."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.zeros(8)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (1 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    norm = OnePlus()
    fuse(norm)
    assert "forward" not in norm.__dict__


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_a_convolution_over_patches_is_a_product(kind: Any) -> None:
    torch.manual_seed(0)
    kernel, pixels = ((3, 4), (2, 5, 10, 13)) if kind is nn.Conv2d else ((2, 3, 4), (2, 5, 4, 7, 8))
    convolution, given = kind(5, 6, kernel, stride=kernel), torch.randn(pixels)
    made = as_product(convolution, given)
    torch.testing.assert_close(made, convolution(given))
    assert made.flatten(2).transpose(1, 2).is_contiguous()
    fuse(convolution)
    assert "forward" in convolution.__dict__
    for other in (kind(5, 6, kernel), kind(5, 6, kernel, stride=kernel, padding=1)):
        fuse(other)
        assert "forward" not in other.__dict__


def test_part_of_a_head_is_rotated_where_the_angles_are_fewer() -> None:
    states, angles = torch.randn(1, 2, 3, 8), torch.randn(1, 3, 4)
    turned = rotated(states.clone(), angles.cos(), angles.sin())
    assert torch.equal(turned[..., 4:], states[..., 4:])
    assert torch.equal(turned[..., :4], rotated(states[..., :4], angles.cos(), angles.sin()))


def test_zeros_behind_the_columns_change_nothing() -> None:
    torch.manual_seed(0)
    mlp: Any = qwen2_5().visual.blocks[0].mlp
    names, states = set(mlp.state_dict()), torch.randn(5, 32)
    with torch.no_grad():
        before = mlp(states)
        _pad(mlp, 64)
        torch.testing.assert_close(_padded_forward(mlp, states), before)
        torch.testing.assert_close(mlp(states), before)  # by the stock forward, from the same memory
    assert set(mlp.state_dict()) == names
    assert mlp.gate_proj.weight.shape == (20, 32)
    assert mlp.down_proj.weight.shape == (32, 20)


def test_rows_of_a_token_stand_with_their_experts() -> None:
    chosen = torch.tensor([[3, 0], [0, 1], [3, 1]])
    places, ends = laid_out(chosen, 5)
    assert ends.tolist() == [2, 4, 4, 6, 6]
    assert places.tolist() == [[4, 0], [1, 2], [5, 3]]
    states = torch.arange(6.0).view(3, 2)
    rows = scatter_rows(states, places)
    assert rows[places.flatten()].tolist() == states.repeat_interleave(2, 0).tolist()
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0], [2.0, 1.0]])
    assert torch.equal(combine_rows(rows, places, weights), states * weights.sum(1, keepdim=True))


def twins() -> dict[str, Any]:
    """Each operation with inputs of the shapes that models give: strided rows, sizes that are no power of two."""
    generator = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    chosen = torch.stack([torch.randperm(7, generator=generator)[:3] for _ in range(50)])
    places, _ = laid_out(chosen, 7)
    angles, both = normal(1, 9, 72), normal(40, 600)
    return {
        "rms_norm": (rms_norm, normal(3, 5, 200)[..., :96], normal(96), 1e-6),
        "gated": (gated, both[:, :300], both[:, 300:]),
        "quick_gelu": (quick_gelu, normal(7, 999)),
        "rotated": (rotated, normal(2, 9, 21, 72).transpose(1, 2), angles.cos(), angles.sin()),
        "scatter_rows": (scatter_rows, normal(50, 96), places),
        "combine_rows": (combine_rows, normal(150, 96), places, torch.rand(50, 3, generator=generator)),
    }


@pytest.mark.gpu
@pytest.mark.parametrize("name", twins())
@torch.inference_mode()
def test_a_kernel_computes_what_its_twin_does(name: str) -> None:
    operation, *given = twins()[name]
    assert _kernels() is not None
    rounded = [each.bfloat16() if _is_real(each) else each for each in given]
    expected = operation(*(each.float() if _is_real(each) else each for each in rounded))
    made = operation(*(each.cuda() if isinstance(each, torch.Tensor) else each for each in rounded))
    torch.testing.assert_close(made.float().cpu(), expected, rtol=0.02, atol=0.02)


def _is_real(given: Any) -> bool:
    return isinstance(given, torch.Tensor) and given.is_floating_point()
