"""Parts of loaded networks in fewer passes over memory than transformers makes: norms, gates, rotations, experts.

Passes that transformers makes in several are one here, as Triton kernels where they can run. Everywhere else, in
float32 and on a CPU above all, the same operations run one after another exactly as in the stock code, so that results
there are those of stock transformers to the last bit.

Modules of a loaded network are given forwards of these operations, each checked against its stock one first. Modules
are known by their parts, not by their classes: what has the parts of a Llama norm and computes what it does is one, in
whichever family. What a check does not confirm stays as it is.

Experts of a mixture are grouped products as in transformers' own ``grouped_mm``, in fewer passes: each token's rows are
copied straight to their places beside those of its expert, and weighed and summed where they lie.
"""

from __future__ import annotations

import inspect
import logging
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

_LOG = logging.getLogger(__name__)
_ALIGNED = 8
"""Columns of half precision that make 16 bytes: cuBLAS is several times slower where a row does not begin at one."""
_PADDED = 64
_EXPERTS = "fused_grouped_mm"
"""Under which transformers knows these experts once :func:`use_experts` has run."""


def fuse(network: Any) -> None:
    """Exchange what can be exchanged in a loaded network, on the device where it is. Again does no harm."""
    with torch.inference_mode():
        known: dict[Any, bool] = {}
        for module in network.modules():
            for parts, exchange in _EXCHANGES:
                if all(hasattr(module, part) for part in parts):
                    exchange(module, known)


def set_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Give a module another ``forward``, inside of the wrapper that accelerate puts around one on several devices."""
    name = "_old_forward" if hasattr(module, "_old_forward") else "forward"
    setattr(module, name, types.MethodType(forward, module))


def _agrees(ours: torch.Tensor, stock: torch.Tensor) -> bool:
    exact = stock.dtype == torch.float32
    return ours.shape == stock.shape and torch.allclose(
        ours.float(), stock.float(), rtol=1e-5 if exact else 0.02, atol=1e-6 if exact else 1e-2
    )


def _sample(weight: torch.Tensor, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator).to(weight)


# --- operations ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _kernels() -> Any:
    """The module of kernels; None where Triton or the C compiler that it needs is missing."""
    try:
        from pipeline.families import fused_kernels as kernels

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
            after it in ``x`` stays as it is.
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


# --- norms -----------------------------------------------------------------------------------------------------------


def _norm_forward(norm: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return rms_norm(hidden_states, norm.weight, norm.variance_epsilon)


def _exchange_norm(norm: Any, known: dict[Any, bool]) -> None:
    kind = (type(norm), norm.variance_epsilon)
    if kind not in known:
        sample = _sample(norm.weight, 3, norm.weight.shape[0])
        known[kind] = _agrees(_norm_forward(norm, sample), type(norm).forward(norm, sample))
    if known[kind]:
        set_forward(norm, _norm_forward)


# --- gated perceptrons -----------------------------------------------------------------------------------------------


def _gated_forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = mlp.down_proj(gated(mlp.gate_proj(x), mlp.up_proj(x)))
    return made


def _padded_forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    both = nn.functional.linear(x, mlp.padded_gate_up, mlp.padded_bias)
    width = mlp.padded_down.shape[1]
    return nn.functional.linear(gated(both[..., :width], both[..., width:]), mlp.padded_down, mlp.down_proj.bias)


def _exchange_gated(mlp: Any, known: dict[Any, bool]) -> None:
    if not isinstance(mlp.act_fn, nn.SiLU) and type(mlp.act_fn).__name__ != "SiLUActivation":
        return
    linear = type(mlp.gate_proj) is type(mlp.up_proj) is type(mlp.down_proj) is nn.Linear
    kind = type(mlp)
    if kind not in known:
        known[kind] = list(inspect.signature(kind.forward).parameters)[1:] in (["x"], ["hidden_state"]) and (
            not linear or _agrees_gated(mlp)
        )
    if not known[kind]:
        return
    width = mlp.gate_proj.out_features
    if linear and width % _ALIGNED and mlp.gate_proj.weight.is_cuda and mlp.gate_proj.weight.dtype != torch.float32:
        _pad(mlp, -(-width // _PADDED) * _PADDED)
        set_forward(mlp, _padded_forward)
    else:
        set_forward(mlp, _gated_forward)


def _agrees_gated(mlp: Any) -> bool:
    sample = _sample(mlp.gate_proj.weight, 2, mlp.gate_proj.in_features)
    return _agrees(_gated_forward(mlp, sample), type(mlp).forward(mlp, sample))


def _pad(mlp: Any, padded: int) -> None:
    """Rows of zeros after gate and up, and as many columns after down: they add nothing.

    The stock parameters become views of the padded ones, under their names and in their shapes.
    """
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    width, inputs = gate.weight.shape
    both = gate.weight.new_zeros(2 * padded, inputs)
    columns = down.weight.new_zeros(down.weight.shape[0], padded)
    both[:width], both[padded : padded + width], columns[:, :width] = gate.weight, up.weight, down.weight
    bias = None
    if gate.bias is not None:
        bias = gate.bias.new_zeros(2 * padded)
        bias[:width], bias[padded : padded + width] = gate.bias, up.bias
        gate.bias = nn.Parameter(bias[:width], requires_grad=False)
        up.bias = nn.Parameter(bias[padded : padded + width], requires_grad=False)
    gate.weight = nn.Parameter(both[:width], requires_grad=False)
    up.weight = nn.Parameter(both[padded : padded + width], requires_grad=False)
    down.weight = nn.Parameter(columns[:, :width], requires_grad=False)
    for name, tensor in (("padded_gate_up", both), ("padded_bias", bias), ("padded_down", columns)):
        mlp.register_buffer(name, tensor, persistent=False)


# --- perceptrons of two layers ---------------------------------------------------------------------------------------


def _tanh_forward(mlp: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    first = mlp.fc1
    if not hidden_states.is_cuda:
        inner = nn.functional.gelu(first(hidden_states), approximate="tanh")
    else:  # the bias and the activation in the epilogue of the product
        rows = hidden_states.reshape(-1, hidden_states.shape[-1])
        inner = torch._addmm_activation(first.bias, rows, first.weight.t(), use_gelu=True)
        inner = inner.view(*hidden_states.shape[:-1], -1)
    made: torch.Tensor = mlp.fc2(inner)
    return made


def _quick_forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = mlp.fc2(quick_gelu(mlp.fc1(x)))
    return made


def _exchange_two_layers(mlp: Any, known: dict[Any, bool]) -> None:
    activation = getattr(mlp, "activation_fn", getattr(mlp, "act", None))
    if type(mlp.fc1) is not nn.Linear or activation is None or mlp.fc1.bias is None:
        return
    forward = {"GELUTanh": _tanh_forward, "QuickGELUActivation": _quick_forward}.get(type(activation).__name__)
    if forward is None:
        return
    kind = (type(mlp), forward)
    if kind not in known:
        sample = _sample(mlp.fc1.weight, 1, 3, mlp.fc1.in_features)
        known[kind] = _agrees(forward(mlp, sample), type(mlp).forward(mlp, sample))
    if known[kind]:
        set_forward(mlp, forward)


# --- convolutions over patches ----------------------------------------------------------------------------------------


def as_product(convolution: Any, pixels: torch.Tensor) -> torch.Tensor:
    """A convolution whose stride is its kernel: each patch by the weights, as one product.

    Args:
        convolution: over two or three dimensions, none of them padded.
        pixels: ``[n, channels, ...]``.

    Returns:
        As the convolution, with the channels innermost in memory.
    """
    weight, kernel = convolution.weight, convolution.kernel_size
    for place, size in enumerate(kernel):  # [n, channels, grid, side, grid, side, ...]
        axis = 2 + 2 * place
        before, (length, *behind) = pixels.shape[:axis], pixels.shape[axis:]
        count = length // size
        pixels = pixels.narrow(axis, 0, count * size).view(*before, count, size, *behind)
    axes = range(2, 2 + 2 * len(kernel), 2)
    cut = pixels.permute(0, *axes, 1, *(axis + 1 for axis in axes))
    patches = cut.reshape(*cut.shape[: 1 + len(kernel)], weight[0].numel())
    return nn.functional.linear(patches, weight.flatten(1), convolution.bias).movedim(-1, 1)


def _convolution_forward(convolution: Any, input: torch.Tensor) -> torch.Tensor:
    # cuDNN has no kernel for the tensor cores for these, and what it makes has the patches innermost, as has then every
    # sum in the tower: its norms copy it, and additions read rows against columns, a sixth of Aria's tower.
    if input.is_cuda and input.dtype == convolution.weight.dtype:
        return as_product(convolution, input)
    found: torch.Tensor = type(convolution).forward(convolution, input)
    return found


def _exchange_convolution(convolution: Any, known: dict[Any, bool]) -> None:
    plain = type(convolution) in (nn.Conv2d, nn.Conv3d) and convolution.stride == convolution.kernel_size
    padded = convolution.padding not in ("valid", (0,) * len(convolution.kernel_size))
    if plain and not padded and convolution.groups == 1 and set(convolution.dilation) == {1}:
        set_forward(convolution, _convolution_forward)


# --- rotary positions ------------------------------------------------------------------------------------------------

_ROTARY = "apply_rotary_pos_emb"


def _rotate_both(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    return rotated(q, cos, sin), rotated(k, cos, sin)


def _exchange_rotary(attention: Any, known: dict[Any, Any]) -> None:
    """Let the stock forward call another rotation: all else of it stays, whichever the version."""
    kind = (type(attention), _ROTARY)
    if kind not in known:
        stock: Any = inspect.unwrap(type(attention).forward)
        rotate = stock.__globals__.get(_ROTARY)
        known[kind] = None
        if rotate is not None and _ROTARY in stock.__code__.co_names and _agrees_rotary(rotate, attention):
            names = {**stock.__globals__, _ROTARY: _rotate_both}
            copy = types.FunctionType(stock.__code__, names, stock.__name__, stock.__defaults__, stock.__closure__)
            copy.__kwdefaults__ = stock.__kwdefaults__
            known[kind] = copy
    if known[kind] is not None:
        set_forward(attention, known[kind])


def _agrees_rotary(rotate: Callable[..., Any], attention: Any) -> bool:
    weight, size = attention.k_proj.weight, attention.head_dim
    query, key, angles = _sample(weight, 1, 4, 3, size), _sample(weight, 1, 2, 3, size), _sample(weight, 1, 3, size)
    for part in (size, size // 2):  # some rotate half of the size, and refuse nothing
        cos, sin = angles[..., :part].cos(), angles[..., :part].sin()
        try:
            stock = rotate(query.clone(), key.clone(), cos, sin)
        except (RuntimeError, TypeError, IndexError):
            if part == size:  # another signature
                return False
            continue
        ours = _rotate_both(query.clone(), key.clone(), cos, sin)
        if not all(_agrees(*pair) for pair in zip(ours, stock, strict=True)):
            return False
    return True


# --- experts ----------------------------------------------------------------------------------------------------------


def use_experts(config: Any) -> None:
    """Have the experts of a text config computed here, where stock transformers would take ``grouped_mm``."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    if config._experts_implementation == "grouped_mm":
        ALL_EXPERTS_FUNCTIONS.register(_EXPERTS, _experts_forward)
        config._experts_implementation = _EXPERTS


def _experts_forward(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """``[tokens, hidden]``; the signature of transformers' experts."""
    from transformers.integrations.moe import grouped_mm_experts_forward

    fuses = hidden_states.is_cuda and hidden_states.dtype == torch.bfloat16
    if not fuses or experts.has_bias or experts._is_expert_parallel or not experts.is_transposed:
        stock: torch.Tensor = grouped_mm_experts_forward(experts, hidden_states, top_k_index, top_k_weights)
        return stock
    places, ends = laid_out(top_k_index, experts.num_experts)
    rows = scatter_rows(hidden_states, places)
    both = torch.nn.functional.grouped_mm(rows, experts.gate_up_proj, offs=ends)
    del rows
    width = both.shape[-1] // 2
    opened = gated(both[:, :width], both[:, width:])
    del both
    made = torch.nn.functional.grouped_mm(opened, experts.down_proj, offs=ends)
    return combine_rows(made, places, top_k_weights)


def laid_out(chosen: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each token's copies stand when they are sorted by expert, ``[tokens, copies]``, and where each expert ends.

    Nothing waits for the device, so that it can be captured in a graph.
    """
    ids, order = torch.sort(chosen.flatten().to(torch.int16), stable=True)
    places = torch.empty_like(order, dtype=torch.int32)
    places[order] = torch.arange(len(order), dtype=torch.int32, device=order.device)
    ends = torch.searchsorted(ids, torch.arange(experts, dtype=torch.int16, device=ids.device), right=True)
    return places.view(chosen.shape), ends.to(torch.int32)


_EXCHANGES: tuple[tuple[tuple[str, ...], Callable[[Any, dict[Any, Any]], None]], ...] = (
    (("weight", "variance_epsilon"), _exchange_norm),
    (("gate_proj", "up_proj", "down_proj", "act_fn"), _exchange_gated),
    (("fc1", "fc2"), _exchange_two_layers),
    (("kernel_size", "stride", "padding", "groups", "dilation"), _exchange_convolution),
    (("q_proj", "k_proj", "v_proj", "o_proj", "head_dim"), _exchange_rotary),
)
