"""The experts of a mixture as grouped products: each token's rows are laid beside those of its expert and summed back.

As transformers' own ``grouped_mm``, in fewer passes: rows are copied straight to their places, and weighed and summed
where they lie.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.families.fused import operations

NAME = "fused_grouped_mm"
"""Under which transformers knows these experts once :func:`use` has run."""


def use(config: Any) -> None:
    """Have the experts of a text config computed here, where stock transformers would take ``grouped_mm``."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if config._experts_implementation == "grouped_mm":
        ALL_EXPERTS_FUNCTIONS.register(NAME, _forward)
        config._experts_implementation = NAME


def _forward(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """``[tokens, hidden]``; the signature of transformers' experts."""
    from transformers.integrations.moe import grouped_mm_experts_forward

    fuses = hidden_states.is_cuda and hidden_states.dtype == torch.bfloat16
    if not fuses or experts.has_bias or experts._is_expert_parallel or not experts.is_transposed:
        stock: torch.Tensor = grouped_mm_experts_forward(experts, hidden_states, top_k_index, top_k_weights)
        return stock
    places, ends = laid_out(top_k_index, experts.num_experts)
    rows = operations.scatter_rows(hidden_states, places)
    both = torch.nn.functional.grouped_mm(rows, experts.gate_up_proj, offs=ends)
    del rows
    width = both.shape[-1] // 2
    opened = operations.gated(both[:, :width], both[:, width:])
    del both
    made = torch.nn.functional.grouped_mm(opened, experts.down_proj, offs=ends)
    return operations.combine_rows(made, places, top_k_weights)


def laid_out(chosen: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each token's copies stand when they are sorted by expert, ``[tokens, copies]``, and where each expert ends.

    Nothing waits for the device, so that it can be captured in a graph.
    """
    ids, order = torch.sort(chosen.flatten().to(torch.int16), stable=True)
    places = torch.empty_like(order, dtype=torch.int32)
    places[order] = torch.arange(len(order), dtype=torch.int32, device=order.device)
    ends = torch.searchsorted(ids, torch.arange(experts, dtype=torch.int16, device=ids.device), right=True)
    return places.view(chosen.shape), ends.to(torch.int32)
