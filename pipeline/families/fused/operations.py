"""Passes over memory that transformers makes in several, here in one: as Triton kernels where they can run.

Everywhere else, in float32 and on a CPU above all, the same operations run one after another exactly as in the stock
code, so that results there are those of stock transformers to the last bit.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import torch

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _kernels() -> Any:
    """The module of kernels; None where Triton or the C compiler that it needs is missing."""
    try:
        from pipeline.families.fused import kernels

        # Triton compiles a launcher in C at the first launch, which needs a compiler and Python's headers.
        kernels.quick_gelu_(torch.zeros(8, dtype=torch.bfloat16, device="cuda"))
    except torch.OutOfMemoryError:  # says nothing about the kernels, and is not to be remembered
        raise
    except Exception as error:  # what a compiler or a driver raises is listed nowhere
        _LOG.info("No Triton kernels here (%s): elementwise work runs in several passes.", str(error).split("\n")[0])
        return None
    return kernels


def _fuses(*tensors: torch.Tensor) -> Any:
    first = tensors[0]
    if not first.is_cuda or first.dtype not in (torch.bfloat16, torch.float16) or torch.is_grad_enabled():
        return None
    return _kernels() if all(tensor.dtype == first.dtype for tensor in tensors) else None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square norm in float32, rounded before it is scaled, as in Llama."""
    if kernels := _fuses(x, weight):
        found: torch.Tensor = kernels.rms_norm(x, weight, eps)
        return found
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up``; rows may lie apart."""
    if gate.stride(-1) == up.stride(-1) == 1 and (kernels := _fuses(gate, up)):
        found: torch.Tensor = kernels.gated(gate, up)
        return found
    return torch.nn.functional.silu(gate) * up


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """``x * sigmoid(1.702 * x)``; ``x`` is used up."""
    if x.is_contiguous() and (kernels := _fuses(x)):
        found: torch.Tensor = kernels.quick_gelu_(x)
        return found
    return x * torch.sigmoid(1.702 * x)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding; ``x`` is used up.

    Args:
        x: ``[batch, heads, tokens, size]``.
        cos: ``[batch or 1, tokens, size]``; in float32 the rotation is computed in it. With a smaller size, what is
            behind it in ``x`` stays as it is.
        sin: likewise.
    """
    size = cos.shape[-1]
    if size < x.shape[-1]:
        return torch.cat((rotated(x[..., :size], cos, sin), x[..., size:]), dim=-1)
    if x.stride(-1) == cos.stride(-1) == sin.stride(-1) == 1 and cos.stride() == sin.stride() and (k := _fuses(x)):
        found: torch.Tensor = k.rotate_(x, cos, sin)
        return found
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    wide = x.to(cos.dtype)
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


def scatter_rows(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows ``[n, width]``, each copied to its places ``[n, copies]``, which are all from 0 to ``n * copies``."""
    if x.is_contiguous() and (kernels := _fuses(x)):
        found: torch.Tensor = kernels.scatter_rows(x, places)
        return found
    count, copies = places.shape
    out = torch.empty(count * copies, x.shape[-1], dtype=x.dtype, device=x.device)
    out[places.flatten()] = x.repeat_interleave(copies, dim=0)
    return out


def combine_rows(x: torch.Tensor, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """For each row of ``places`` and ``weights`` (``[n, copies]``) the weighed sum of these rows of ``x``."""
    if x.is_contiguous() and (kernels := _fuses(x)):
        found: torch.Tensor = kernels.combine_rows(x, places, weights)
        return found
    return (x[places] * weights.unsqueeze(-1)).sum(dim=1).to(x.dtype)
