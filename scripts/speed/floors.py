"""What the work takes at the machine's own ceilings: floating-point operations of matrix products, and bytes of a step.

A product with a weight of n numbers takes 2n operations a token. Attention takes 4 operations a query, key and channel,
half of them where it is causal. A step of generation reads every weight that it uses and every key and value once. What
is left out (norms, activations, copies, the projector's keys) makes the floor lower, never higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scripts.speed.machine import Machine

_VISION = ("visual.", "vision_tower.")
_TO_LANGUAGE = ("multi_modal_projector.", "visual.merger.")


@dataclass(frozen=True)
class Weights:
    """Numbers in the matrices of one model, and the sizes of its attention."""

    tower: int
    projector: int
    dense: int
    """Of the language model, used by every token."""
    experts: int
    """Of all routed experts."""
    head: int
    expert_count: int
    chosen: int
    """Experts for a token."""
    layers: int
    width: int
    """Channels of all query heads."""
    cache_numbers: int
    """Keys and values of a token."""
    tower_layers: int
    tower_width: int
    item: int
    """Bytes of a number."""

    @property
    def active(self) -> float:
        """Numbers that a token meets, without the head."""
        share = self.chosen / self.expert_count if self.experts else 0
        return self.dense + self.experts * share

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return self.item * (self.tower + self.projector + self.dense + self.experts + self.head)

    def touched(self, rows: int) -> float:
        """Numbers that a step of so many rows meets: rows choose experts independently of each other."""
        missed = (1 - self.chosen / self.expert_count) ** rows if self.experts else 0
        return self.dense + self.experts * (1 - missed) + self.head


@dataclass(frozen=True)
class Load:
    """One piece of work."""

    prefixes: int
    """Prompts that are prefilled."""
    rows: int
    """Answers of each."""
    frames: int
    """Of each prompt."""
    patches: int
    """Of a frame."""
    frame_tokens: int
    prefix_tokens: int
    suffix_tokens: int
    tokens: int
    """Written for each answer."""


def weights_of(network: Any) -> Weights:
    """Count a transformers model."""
    tower = projector = dense = experts = 0
    for name, weight in network.named_parameters():
        if weight.dim() < 2 or "embed_tokens" in name or "lm_head" in name or "position_embedding" in name:
            continue
        if any(part in name for part in _TO_LANGUAGE):
            projector += weight.numel()
        elif any(part in name for part in _VISION):
            tower += weight.numel()
        elif ".experts." in name:
            experts += weight.numel()
        else:
            dense += weight.numel()
    text, vision = network.config.get_text_config(), network.config.vision_config
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    head = network.get_output_embeddings().weight
    return Weights(
        tower=tower,
        projector=projector,
        dense=dense,
        experts=experts,
        head=head.numel(),
        expert_count=getattr(text, "moe_num_experts", 1),
        chosen=getattr(text, "moe_topk", 1),
        layers=text.num_hidden_layers,
        width=text.num_attention_heads * head_size,
        cache_numbers=2 * text.num_hidden_layers * text.num_key_value_heads * head_size,
        tower_layers=getattr(vision, "depth", 0) or vision.num_hidden_layers,
        # Qwen2-VL's hidden_size is that of the language model.
        tower_width=getattr(vision, "embed_dim", 0) or vision.hidden_size,
        item=head.element_size(),
    )


def floor_seconds(weights: Weights, load: Load, machine: Machine) -> float:
    """Seconds at least, with all answers in one batch as far as their prompts fit the memory together."""
    prompt = _prompt_operations(weights, load)
    rows = load.prefixes * load.rows
    a_prefix = load.prefix_tokens * weights.cache_numbers * weights.item
    together = max(1, int((machine.memory - weights.total) // a_prefix))
    batches = math.ceil(load.prefixes / together)
    answers = rows * (
        2 * load.suffix_tokens * weights.active
        + 2 * weights.head
        + 4 * load.suffix_tokens * load.prefix_tokens * weights.width * weights.layers
    )
    own = load.suffix_tokens + load.tokens / 2
    cached = load.prefixes * a_prefix + rows * own * weights.cache_numbers * weights.item
    read = batches * weights.item * weights.touched(math.ceil(rows / batches)) + cached
    attended = 4 * (load.prefix_tokens + own) * weights.width * weights.layers
    computed = rows * (2 * (weights.active + weights.head) + attended)
    step = max(read / machine.bandwidth, computed / machine.flops)
    return (load.prefixes * prompt + answers) / machine.flops + (load.tokens - 1) * step


def _prompt_operations(weights: Weights, load: Load) -> float:
    """Of vision and prefill of one prompt."""
    frame = (
        2 * load.patches * weights.tower
        + 4 * load.patches**2 * weights.tower_width * weights.tower_layers
        + 2 * load.frame_tokens * weights.projector
    )
    prefill = load.prefix_tokens * (2 * weights.active + 2 * load.prefix_tokens * weights.width * weights.layers)
    return load.frames * frame + prefill
