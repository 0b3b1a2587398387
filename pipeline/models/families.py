"""Which model a checkpoint is, by its ``config.json`` alone, and who takes it: for the error that names another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.models.remedies import override


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint that something here takes."""

    name: str
    """As people know it."""
    choice: str
    """The override under which it is taken."""


_INTERNVL_CHAT = "internvl_chat"
_BY_MODEL_TYPE = {
    "qwen2_vl": Family("Qwen2-VL", "answerer=qwen2_vl_7b"),
    "qwen2_5_vl": Family("Qwen2.5-VL", "answerer=qwen2_5_vl_7b"),
    "qwen3_vl": Family("Qwen3-VL", "answerer=qwen3_vl_8b"),
    "qwen3_vl_moe": Family("Qwen3-VL with experts", "answerer=qwen3_vl_30b_a3b"),
    "llava_onevision": Family("LLaVA-OneVision (-hf)", "answerer=llava_onevision_7b"),
    "llava_llama": Family("VILA-1.5", "answerer=vila15_3b"),
    "aria": Family("Aria", "answerer=aria"),
    "internvl": Family("InternVL3 (-hf)", "answerer=internvl3_8b"),
    "yi_vl": Family("GenS (yi_vl)", "sampler=gens"),
    "clip": Family("CLIP", "sampler=clip"),
    "siglip": Family("SigLIP", "sampler=siglip"),
    "siglip2": Family("SigLIP 2", "sampler=siglip2"),
}
_LLAVA_QWEN = "LlavaQwenForCausalLM"
"""One class of LLaVA's authors for several models; where their newline tokens stand tells them apart."""
_LLAVA_VIDEO = Family("LLaVA-Video", "answerer=llava_video_7b")
_RAW_ONEVISION = Family("LLaVA-OneVision as its authors wrote it", "answerer=llava_onevision_raw_7b")


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family of a ``config.json``; none where nothing here takes it."""
    if _LLAVA_QWEN in _architectures(config):
        return _LLAVA_VIDEO if config.get("mm_newline_position") == "grid" else _RAW_ONEVISION
    return _BY_MODEL_TYPE.get(str(config.get("model_type")))


def another(config: Mapping[str, Any], source: str, wanted: Sequence[str]) -> CheckpointError:
    """The error for a checkpoint that is none of the ``wanted``: what it is, and what takes it.

    Args:
        config: its ``config.json``.
        source: its hub id or folder.
        wanted: names of what could have been taken.
    """
    found, kinds = family_of(config), ", ".join(_architectures(config)) or "no architecture named"
    names = " or ".join(wanted)
    called = f"its model_type is {config.get('model_type')} ({kinds})"
    remedy = f"Name a checkpoint of {names}: {override('source')}"
    if config.get("model_type") == _INTERNVL_CHAT:
        hf = override("source", "OpenGVLab/InternVL3-8B-hf")
        return CheckpointError(
            f"{source} is not {names}: {called}, so it is InternVL in the form that needs its authors' code, which is "
            "not run.",
            f"Take the same model in transformers' form, whose name ends in -hf: answerer=internvl3_8b, {hf}.",
        )
    if found is None:
        return CheckpointError(
            f"{source} is not {names}: {called}.",
            f"{remedy}; or take the answerer or sampler for this model: `gens list answerers`, `gens list samplers`.",
        )
    room = found.choice.partition("=")[0]
    return CheckpointError(
        f"{source} is not {names}: {called}, so it is {found.name}.",
        f"It is taken by {found.choice} {room}.checkpoint.source={source}. Or: {remedy[0].lower()}{remedy[1:]}.",
    )


def _architectures(config: Mapping[str, Any]) -> Sequence[str]:
    found = config.get("architectures")
    return [str(name) for name in found] if isinstance(found, list) else []
