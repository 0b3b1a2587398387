"""A loaded checkpoint of Aria or GenS, in transformers' Aria: no code of the checkpoint's or the authors' is run.

GenS as released (``yi_vl``) is the same model tensor for tensor. What differs: names, experts that lie one by one, a
vision tower without the norm that Aria has and does not use, the router, whose arithmetic is the authors' here, and
patches, which are placed in integers. The mask of what lies beside a frame on its canvas is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import AriaConfig, AriaForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, Transpose, WeightConverter, WeightRenaming

from pipeline.errors import CheckpointError
from pipeline.families.aria import ARIA, CANVAS, NAMES, PATCH, aria_config, renormalises
from pipeline.families.fused import fuse, set_forward, use_experts
from pipeline.families.loading.checkpoint import Checkpoint, configured, load, model_type, raw_config
from pipeline.families.pixels import Levels, levels_of, on_device
from pipeline.families.seam import Model, PreparedFrame, Prompt

if TYPE_CHECKING:
    from transformers import Cache


class YiVlAria(AriaForConditionalGeneration):  # type: ignore[misc]
    """Aria with the authors' names on disk. Its tensors are those of the stock class."""

    # Aria's tower ends in a norm whose output nobody reads; the checkpoint has none, and it stays the identity.
    _keys_to_ignore_on_load_missing = (r"vision_tower\.post_layernorm\.",)


register_checkpoint_conversion_mapping(
    YiVlAria.__name__,
    [
        WeightRenaming(r"^language_model\.lm_head", "lm_head"),
        WeightRenaming(r"^language_model\.model\.", "model.language_model."),
        WeightRenaming(r"^vision_tower\.vision_model\.", "model.vision_tower."),
        WeightRenaming(r"^multi_modal_projector\.ln_ffn\.", "model.multi_modal_projector.layer_norm."),
        WeightRenaming(r"^multi_modal_projector\.ffn\.", "model.multi_modal_projector.feed_forward."),
        WeightRenaming(
            r"^multi_modal_projector\.cross_attn\.ln_kv\.", "model.multi_modal_projector.cross_attn.layer_norm_kv."
        ),
        WeightRenaming(r"^multi_modal_projector\.", "model.multi_modal_projector."),
        WeightRenaming(r"\.mlp\.gate\.weight", ".mlp.router.weight"),
        WeightConverter(  # [2I, H] of each expert, gate first, to [experts, H, 2I]
            source_patterns=["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"],
            target_patterns="mlp.experts.gate_up_proj",
            operations=[MergeModulelist(dim=0), Concatenate(dim=1), Transpose(1, 2)],
        ),
        WeightConverter(  # [H, I] of each expert to [experts, I, H]
            source_patterns="mlp.experts.*.down_proj.weight",
            target_patterns="mlp.experts.down_proj",
            operations=[MergeModulelist(dim=0), Transpose(1, 2)],
        ),
    ],
    overwrite=True,  # a module imported twice is not an error
)


class DeepseekRouter(nn.Module):
    """Chooses experts in the authors' order: softmax over all in the model's own precision, then the best.

    Aria takes the softmax of the best logits instead: the same numbers in exact arithmetic when they are renormalised,
    other experts now and then in bfloat16, and other weights altogether when they are not.

    Source: ``MoEGate`` in ``modeling_deepseek.py`` of DeepSeek-MoE (arXiv 2401.06066).
    """

    def __init__(self, weight: nn.Parameter, top_k: int, renormalise: bool) -> None:
        super().__init__()
        self.weight = weight
        self.top_k = top_k
        self.renormalise = renormalise and top_k > 1

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits ``[tokens, experts]``, weights and indices ``[tokens, top_k]`` for states ``[tokens, hidden]``."""
        logits = nn.functional.linear(hidden_states, self.weight)
        weights, chosen = torch.topk(logits.softmax(dim=-1), self.top_k, dim=-1, sorted=False)
        if self.renormalise:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return logits, weights, chosen


def route_as_deepseek(model: Any, renormalise: bool) -> None:
    """Exchange the routers of a loaded Aria for the authors'.

    Raises:
        CheckpointError: this version of transformers has other routers.
    """
    for layer in model.model.language_model.layers:
        stock = layer.mlp.router
        outputs = stock(torch.zeros(1, stock.weight.shape[1], dtype=stock.weight.dtype, device=stock.weight.device))
        if len(outputs) != 3 or outputs[2].is_floating_point() or outputs[0].shape[-1] != stock.weight.shape[0]:
            raise CheckpointError(
                "Aria's routers in the installed transformers return something else than logits, weights and indices.",
                "Install a version that this package was tested with: pip install 'transformers>=5.23,<6'.",
            )
        layer.mlp.router = DeepseekRouter(stock.weight, stock.top_k, renormalise)


_FRAMES_AT_ONCE = 64
"""Through the tower in one call, which takes 30 MiB a frame in half precision."""


class AriaModel(Model):
    """Aria, with each frame as one image.

    Args:
        network: ``AriaForConditionalGeneration``.
        masks: whether the tower gets a mask of the frame's own pixels.
    """

    def __init__(self, network: Any, masks: bool) -> None:
        super().__init__(network)
        self._masks = masks
        half = np.float32(0.5)
        self._levels = Levels(levels_of(lambda image: image / np.float32(255), lambda image: (image - half) / half))

    @property
    def frames_at_once(self) -> int:
        """A few."""
        return _FRAMES_AT_ONCE

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """A few frames a call."""
        found: list[torch.Tensor] = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            pixels, inside = self.on_canvas(frames[start : start + _FRAMES_AT_ONCE])
            output = self.network.model.get_image_features(pixels, pixel_mask=inside)
            found += output.pooler_output.unbind()
        return found

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """With the mask where it is asked for."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        pixels, inside = self.on_canvas(prompt.frames)
        mask = {} if inside is None else {"pixel_mask": inside}
        return on_device({"input_ids": ids, "pixel_values": pixels, **mask}, self.network.device)

    def prefill(self, prompt: Prompt, length: int, cache: Cache) -> int:
        """A few frames a call, and then the text model."""
        return self.read_images(prompt, length, cache, self.network.config.image_token_id)

    def on_canvas(self, frames: Sequence[PreparedFrame]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Frames as the vision tower takes them, and where on the canvas they are.

        Returns:
            ``[frames, 3, 490, 490]`` from -1 to 1, black beside the frame, and ``[frames, 490, 490]``, true on it, if
            the tower is to be told.
        """
        weight = self.network.model.vision_tower.embeddings.patch_embedding.weight
        shape = (len(frames), CANVAS, CANVAS, 3)
        # From pinned memory the device copies by itself, while the host goes on.
        pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=weight.is_cuda)
        canvas = pinned.numpy()
        for place, frame in enumerate(frames):
            height, width, _ = frame.pixels.shape
            canvas[place, :height, :width] = frame.pixels
        if not self._masks:
            return self._levels.of(pinned, weight), None
        inside = torch.zeros(len(frames), CANVAS, CANVAS, dtype=torch.bool)
        for place, frame in enumerate(frames):
            height, width, _ = frame.pixels.shape
            inside[place, :height, :width] = True
        return self._levels.of(pinned, weight), inside.to(weight.device)


def load_aria(checkpoint: Checkpoint) -> AriaModel:
    """Aria as its authors released it.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    network: Any = load(AriaForConditionalGeneration, checkpoint)
    fuse_aria(network)
    return AriaModel(network, masks=True)


def load_gens(checkpoint: Checkpoint, masks: bool) -> AriaModel:
    """GenS, as released (``yi_vl``) or in transformers' form (``aria``), with the authors' routers.

    Args:
        checkpoint: it.
        masks: whether the tower gets a mask of the frame's own pixels.

    Raises:
        CheckpointError: it is another model, its config cannot be represented, or its tensors are not exactly those.
    """
    if model_type(checkpoint, NAMES) == ARIA:
        network: Any = load(AriaForConditionalGeneration, checkpoint)
        route_as_deepseek(network, renormalise=True)
    else:
        raw = raw_config(checkpoint)
        config = configured(AriaConfig, aria_config(raw, checkpoint.source), checkpoint)
        network = load(YiVlAria, checkpoint, config)
        route_as_deepseek(network, renormalises(raw))
    if not masks:
        place_patches_exactly(network)
    fuse_aria(network)
    return AriaModel(network, masks)


def fuse_aria(network: Any) -> None:
    """Exchange what takes more passes over memory than it must in a loaded Aria, on the device where it is."""
    set_forward(network.model.multi_modal_projector.cross_attn, _attend_to_patches)
    use_experts(network.config.get_text_config())
    fuse(network)


def _attend_to_patches(
    cross: Any, key_value_states: torch.Tensor, hidden_states: torch.Tensor, attn_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The signature of Aria's cross attention; unlike it, this does not write down the weights of attention."""
    inner = cross.multihead_attn
    weights, biases = inner.in_proj_weight.chunk(3), inner.in_proj_bias.chunk(3)
    patches = cross.layer_norm_kv(key_value_states)
    given = (cross.q_proj(cross.layer_norm(hidden_states)), cross.k_proj(patches), cross.v_proj(patches))
    query, key, value = (
        nn.functional.linear(states, weight, bias).view(*states.shape[:2], cross.num_heads, -1).transpose(1, 2)
        for states, weight, bias in zip(given, weights, biases, strict=True)
    )
    # Of nn.MultiheadAttention: [frames * heads, queries, patches], true where a patch is not seen.
    seen = None if attn_mask is None else ~attn_mask.view(-1, cross.num_heads, *attn_mask.shape[1:])
    attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    found: torch.Tensor = cross.linear(inner.out_proj(attended.transpose(1, 2).flatten(2)))
    return found


def place_patches_exactly(model: Any) -> None:
    """Give the patches of a full canvas their positions in integers.

    The model's code finds them by comparing fractions. On the canvas of 490 pixels each lies exactly on a boundary of
    the table for 980, so that the rounding of the device decides; in integers there is nothing to round.
    """
    embeddings = model.model.vision_tower.embeddings
    rows = torch.tensor(position_rows(embeddings.image_size))

    def exact(_: Any, found: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (rows.to(found[0].device).expand(found[0].shape),)

    embeddings.position_embedding.register_forward_pre_hook(exact)


def position_rows(image_size: int) -> list[int]:
    """For each patch of the canvas, row-major, its row in the position table of images ``image_size`` pixels a side."""
    side, table = CANVAS // PATCH, image_size // PATCH
    places = [index * table // side for index in range(side)]
    return [row * table + column for row in places for column in places]
