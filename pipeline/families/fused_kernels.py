"""The passes of :mod:`pipeline.families.fused` as Triton kernels, for half precision on a GPU.

Each computes in float32 and rounds where the stock code does, so that a result differs by the order of a sum at most.
Imported only where Triton is installed.
"""

# Triton reads annotations and compiles the bodies: they are no ordinary Python.
# mypy: ignore-errors

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl


def _on_its_device(launch):
    """Launch on the device of the first tensor: Triton takes the current one, and a model may be on another."""

    @functools.wraps(launch)
    def launched(x, *others):
        with torch.cuda.device(x.device):
            return launch(x, *others)

    return launched


@triton.jit
def _rms_norm(x, weight, out, stride, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(x + row * stride + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / width + eps)
    normed = (values * scale).to(out.dtype.element_ty).to(tl.float32)
    factors = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, (normed * factors).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gated(gate, up, out, gate_stride, up_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    opened = tl.load(gate + row * gate_stride + columns, mask=inside, other=0.0).to(tl.float32)
    opened = (opened * tl.sigmoid(opened)).to(out.dtype.element_ty).to(tl.float32)
    values = tl.load(up + row * up_stride + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, (opened * values).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _quick_gelu(x, count, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    inner = (1.702 * values).to(x.dtype.element_ty).to(tl.float32)
    opened = tl.sigmoid(inner).to(x.dtype.element_ty).to(tl.float32)
    tl.store(x + places, (values * opened).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(
    x, cos, sin, tokens, heads,
    batch_stride, token_stride, head_stride, cos_batch_stride, cos_stride,
    half: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    # A constant half tells the compiler how far pointers are aligned: of 40 it assumes nothing, and loads one by one.
    place = tl.program_id(0).to(tl.int64)
    batch, token = place // tokens, place % tokens
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    column = tl.arange(0, HALF)
    here = x + batch * batch_stride + token * token_stride + head[:, None] * head_stride + column[None, :]
    inside = (head[:, None] < heads) & (column[None, :] < half)
    angles = batch * cos_batch_stride + token * cos_stride + column
    is_angle = column < half
    cos_first = tl.load(cos + angles, mask=is_angle, other=0.0).to(tl.float32)[None, :]
    sin_first = tl.load(sin + angles, mask=is_angle, other=0.0).to(tl.float32)[None, :]
    cos_second = tl.load(cos + angles + half, mask=is_angle, other=0.0).to(tl.float32)[None, :]
    sin_second = tl.load(sin + angles + half, mask=is_angle, other=0.0).to(tl.float32)[None, :]
    first = tl.load(here, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(here + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(here, (first * cos_first - second * sin_first).to(x.dtype.element_ty), mask=inside)
    tl.store(here + half, (second * cos_second + first * sin_second).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _scatter_rows(x, places, out, width, COPIES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(x + row * width + columns, mask=inside)
    for copy in tl.static_range(COPIES):
        place = tl.load(places + row * COPIES + copy).to(tl.int64)
        tl.store(out + place * width + columns, values, mask=inside)


@triton.jit
def _combine_rows(x, places, weights, out, width, COPIES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    total = tl.zeros((BLOCK,), tl.float32)
    for copy in tl.static_range(COPIES):
        place = tl.load(places + row * COPIES + copy).to(tl.int64)
        weight = tl.load(weights + row * COPIES + copy).to(tl.float32)
        total += weight * tl.load(x + place * width + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, total.to(out.dtype.element_ty), mask=inside)


@_on_its_device
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The norm over the last dimension."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    if len(rows):
        _rms_norm[(len(rows),)](rows, weight, out, rows.stride(0), width, eps, BLOCK=block, num_warps=_warps(block))
    return out


@_on_its_device
def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``[..., width]`` each; rows may be strided."""
    width = gate.shape[-1]
    gates, ups = gate.reshape(-1, width), up.reshape(-1, width)
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    block = min(2048, triton.next_power_of_2(width))
    if len(gates):
        grid = (len(gates), triton.cdiv(width, block))
        _gated[grid](gates, ups, out, gates.stride(0), ups.stride(0), width, BLOCK=block)
    return out


@_on_its_device
def quick_gelu_(x: torch.Tensor) -> torch.Tensor:
    """In place; contiguous."""
    count = x.numel()
    if count:
        _quick_gelu[(triton.cdiv(count, 2048),)](x, count, BLOCK=2048)
    return x


@_on_its_device
def rotate_(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """In place.

    Args:
        x: ``[batch, heads, tokens, size]`` in any order in memory, the size innermost.
        cos: ``[batch or 1, tokens, size]``, its tokens contiguous.
        sin: likewise.
    """
    batch, heads, tokens, size = x.shape
    half = size // 2
    at_once = min(32, triton.next_power_of_2(heads))
    if x.numel():
        _rotate[(batch * tokens, triton.cdiv(heads, at_once))](
            x, cos, sin, tokens, heads,
            x.stride(0), x.stride(2), x.stride(1), 0 if cos.shape[0] == 1 else cos.stride(0), cos.stride(1),
            half=half, HEADS=at_once, HALF=triton.next_power_of_2(half),
        )  # fmt: skip
    return x


@_on_its_device
def scatter_rows(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows ``[n, width]``, each copied to its places ``[n, copies]`` among ``n * copies``."""
    count, copies = places.shape
    width = x.shape[-1]
    out = torch.empty(count * copies, width, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    _scatter_rows[(count,)](x, places, out, width, COPIES=copies, BLOCK=block, num_warps=_warps(block))
    return out


@_on_its_device
def combine_rows(x: torch.Tensor, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """For each row of ``places`` and ``weights`` (``[n, copies]``) the weighed sum of these rows of ``x``."""
    count, copies = places.shape
    width = x.shape[-1]
    out = torch.empty(count, width, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    _combine_rows[(count,)](x, places, weights, out, width, COPIES=copies, BLOCK=block, num_warps=_warps(block))
    return out


def _warps(block: int) -> int:
    return min(8, max(1, block // 512))
