"""GenS as released (``yi_vl``) in transformers' Aria: no code of the checkpoint's or the authors' is run.

The model is the same tensor for tensor. What differs: names, experts that lie one by one, a vision tower without the
norm that Aria has and does not use, and the router, whose arithmetic is the authors' here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AriaForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, Transpose, WeightConverter, WeightRenaming

from pipeline.errors import CheckpointError


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
    overwrite=True,  # a module imported twice is no error
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
