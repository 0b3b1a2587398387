"""Which device, number format and attention a model gets, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError, ConfigError, MissingExtraError
from pipeline.families.known import override

if TYPE_CHECKING:
    import torch

_GIB = 2**30


def pick_device(asked: str) -> str:
    """``cpu``, ``cuda:N`` or ``spread``.

    Raises:
        ConfigError: no such device here.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda:0" if count else "cpu"
    if asked == "cpu":
        return asked
    if asked == "spread" and count:
        return asked
    if asked == "cuda" and count:
        return "cuda:0"
    if asked in {f"cuda:{number}" for number in range(count)}:
        return asked
    here = ", ".join(["auto", "cpu", *(["cuda", "spread"] if count else []), *(f"cuda:{i}" for i in range(count))])
    raise ConfigError(
        f"There is no device {asked!r} here.",
        f"Take one of {here}: {override('device', 'auto')}.",
    )


def device_name(model: Any) -> str:
    """What a loaded model runs on, such as ``NVIDIA H100 80GB HBM3`` or ``cpu``; of several devices the first."""
    import torch

    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def pick_dtype(asked: str, stored: str, device: str) -> torch.dtype:
    """The number format; ``auto`` is the stored one, and float32 on a CPU, where half precision is slower."""
    import torch

    name = asked if asked != "auto" else ("float32" if device == "cpu" else stored)
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def pick_attention(asked: str, device: str, dtype: torch.dtype) -> str:
    """The attention implementation.

    Raises:
        MissingExtraError: flash attention was asked for and is not installed.
        ConfigError: it was asked for where it cannot run.
    """
    import torch
    from transformers.utils import is_flash_attn_2_available

    can_run = device != "cpu" and dtype in (torch.float16, torch.bfloat16)
    if asked == "auto":
        return "flash_attention_2" if can_run and is_flash_attn_2_available() else "sdpa"
    if asked != "flash_attention_2":
        return asked
    import importlib.util

    sdpa = override("attention", "sdpa")
    if importlib.util.find_spec("flash_attn") is None:
        raise MissingExtraError(
            "attention=flash_attention_2 was asked for, and flash-attn is not installed.",
            f"`pip install 'gens-videoqa[flash]'` (needs a CUDA compiler), or {sdpa}.",
        )
    if not can_run or not is_flash_attn_2_available():
        raise ConfigError(
            f"flash attention runs on a GPU in float16 or bfloat16; this is {device} in {str(dtype)[6:]}.",
            f"Set {sdpa}.",
        )
    return asked


def free_bytes(device: str) -> dict[int, int]:
    """Free memory of the GPU, or of all GPUs for ``spread``."""
    import torch

    indices = range(torch.cuda.device_count()) if device == "spread" else [torch.device(device).index or 0]
    return {index: torch.cuda.mem_get_info(index)[0] for index in indices}


def room_for_weights(free: dict[int, int]) -> dict[int, int]:
    """How many of the free bytes of each GPU weights may take; the rest is for caches and activations.

    Of several GPUs the first keeps more of them: the vision tower and the inputs live there.
    """
    shares = {index: 0.9 if len(free) == 1 else (0.85 if index else 0.7) for index in free}
    return {index: int(size * shares[index]) for index, size in free.items()}


def check_fits(needed: int, free: dict[int, int], source: str, device: str) -> None:
    """Compare before loading, so that a model too large fails in a second and says what to do.

    Raises:
        CheckpointError: the weights are larger than :func:`room_for_weights`.
    """
    if needed <= sum(room_for_weights(free).values()):
        return
    where = f"{len(free)} GPUs have" if len(free) > 1 else f"{device} has"
    raise CheckpointError(
        f"The weights of {source} take {needed / _GIB:.1f} GiB, and {where} {sum(free.values()) / _GIB:.1f} GiB free "
        "for weights and activations.",
        _SMALLER,
    )


def check_none_left_out(places: Mapping[str, Any], source: str) -> None:
    """Check that every part of a spread model is on a GPU: what finds no room is put on the disk without a word.

    Args:
        places: part to device, as ``hf_device_map`` of the loaded model.
        source: the checkpoint.

    Raises:
        CheckpointError: a part is not.
    """
    out = [name for name, place in places.items() if place in ("cpu", "disk")]
    if not out:
        return
    shown = ", ".join(out[:3]) + (", ..." if len(out) > 3 else "")
    raise CheckpointError(
        f"{source} does not fit the GPUs: {len(out)} of its parts have no room on any ({shown}), and on the disk or "
        "the CPU they would take minutes a question.",
        _SMALLER,
    )


_SMALLER = (
    f"Take a smaller checkpoint: {override('source', 'A_SMALLER_ONE')}; several GPUs: {override('device', 'spread')}; "
    f"half the bytes, if it is float32 now: {override('dtype', 'bfloat16')}; or the CPU, which is slow: "
    f"{override('device', 'cpu')}. Or end what else holds the GPU."
)
