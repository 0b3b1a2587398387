"""What a stage's models take of the memory, from their files' headers and their configs; no tensor is read.

Weights as they are held, and the keys and values of the longest prompt. The rest of a device, the tenth that
:func:`pipeline.families.loading.placement.room_for_weights` leaves free, is for what comes and goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.checks import Finding, Level
from pipeline.checks.devices import Machine
from pipeline.checks.remedies import checkpoints
from pipeline.errors import CheckpointError
from pipeline.families.known import full_config
from pipeline.families.loading import contents
from pipeline.families.loading.checkpoint import Checkpoint, raw_config
from pipeline.families.loading.placement import room_for_weights

GIB = 2**30
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_DEVICE = re.compile(r"cpu|spread|cuda:(?:0|[1-9][0-9]{0,3})")
_TEXT_SECTIONS = ("text_config", "llm_cfg", "llm_config")


@dataclass(frozen=True)
class ModelMemory:
    """One checkpoint in memory."""

    key: str
    """Its key in the configuration: ``answerer.checkpoint``."""
    source: str
    device: str
    """``cpu``, ``cuda:N`` or ``spread``."""
    weights: int | None
    """Bytes; None where the files are not on this machine yet."""
    cache: int | None
    """Bytes of keys and values of one prompt; None where nothing is known of the model's shape."""
    prompts: int
    """How many of them are in the model at once."""
    stated: str
    """What its YAML says of the memory."""

    @property
    def total(self) -> int | None:
        """Bytes with all prompts; None where the weights are not known."""
        return None if self.weights is None else self.weights + self.prompts * (self.cache or 0)


@dataclass(frozen=True)
class Prompts:
    """The longest prompts of a model."""

    tokens: int
    at_once: int


def unusable(parts: Mapping[str, Any]) -> dict[str, CheckpointError]:
    """The parts that have a checkpoint of which not even the config can be had, and why.

    Each checkpoint is looked up once, all of them in parallel, since an unreachable hub times out after half a minute.

    Args:
        parts: by name, as :func:`checkpoints` takes them.
    """
    wanted = [(name, checkpoint) for name, part in parts.items() for _, _, checkpoint in checkpoints(part, name)]
    sources = list(dict.fromkeys(checkpoint for _, checkpoint in wanted))

    def fault(checkpoint: Checkpoint) -> CheckpointError | None:
        try:
            raw_config(checkpoint)
        except CheckpointError as error:
            return error
        return None

    with ThreadPoolExecutor(max(1, len(sources))) as pool:
        faults = dict(zip(sources, pool.map(fault, sources), strict=True))
    return {name: error for name, checkpoint in wanted if (error := faults[checkpoint]) is not None}


def model_memory(key: str, checkpoint: Checkpoint, prompts: Prompts, stated: str, machine: Machine) -> ModelMemory:
    """What one checkpoint takes.

    Raises:
        CheckpointError: its config cannot be had, or files of it are missing.
    """
    device = _device(checkpoint.device, machine)
    raw = raw_config(checkpoint)
    folder = local_folder(checkpoint)
    item = 2
    size = None
    if folder is not None:
        contents.check_complete(folder, f"fetch it again, or name another: {key}.source=...")
        item = _item_bytes(checkpoint, folder, raw, device)
        size = contents.bytes_as(folder, item)
    a_token = _cache_bytes_a_token(raw, checkpoint.source, item)
    cache = None if a_token is None else a_token * prompts.tokens
    return ModelMemory(key, checkpoint.source, device, size, cache, prompts.at_once, stated)


def not_downloaded(key: str, checkpoint: Checkpoint, stated: str, machine: Machine) -> ModelMemory:
    """A checkpoint of which nothing is known but what its YAML says."""
    return ModelMemory(key, checkpoint.source, _device(checkpoint.device, machine), None, None, 1, stated)


def local_folder(checkpoint: Checkpoint) -> Path | None:
    """Where the weights lie on this machine, a folder or the hub's cache; None where they have to be fetched first."""
    folder = checkpoint.folder
    if folder is None:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(checkpoint.source, "config.json", revision=checkpoint.revision)
        folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and contents.weight_files(folder) else None


def findings(stage: Sequence[ModelMemory], machine: Machine) -> list[Finding]:
    """What does not fit, of models that are in memory together."""
    made = []
    for device in dict.fromkeys(model.device for model in stage):
        models = [model for model in stage if model.device == device]
        asked = ", ".join(f"{model.key}.device={device}" for model in models)
        instead = ", ".join(f"{model.key}.device=auto" for model in models)
        if not _DEVICE.fullmatch(device):
            made.append(Finding(Level.CANNOT_RUN, f"{asked}: there is no such device", instead))
        elif device != "cpu" and not machine.gpus:
            made.append(Finding(Level.CANNOT_RUN, f"{asked}: there is no GPU here for {_named(models)}", instead))
        elif device.startswith("cuda:") and int(device[5:]) >= len(machine.gpus):
            problem = f"{asked}: there is no {device} here, only {machine.name}"
            made.append(Finding(Level.CANNOT_RUN, problem, instead))
        else:
            made += _on(device, models, machine)
    return made


def attention_findings(key: str, checkpoint: Checkpoint, machine: Machine) -> list[Finding]:
    """Flash attention that is asked for and cannot be, as ``pick_attention`` of loading says it."""
    if checkpoint.attention != "flash_attention_2":
        return []
    instead = f"{key}.attention=sdpa"
    if find_spec("flash_attn") is None:
        problem = f"{key}.attention=flash_attention_2 was asked for, and flash-attn is not installed"
        return [Finding(Level.CANNOT_RUN, problem, f"{instead}; or pip install 'gens-videoqa[flash]'")]
    device = _device(checkpoint.device, machine)
    if device == "cpu" or checkpoint.dtype == "float32":
        problem = f"{key}: flash attention runs on a GPU in float16 or bfloat16; this is {device}, {checkpoint.dtype}"
        return [Finding(Level.CANNOT_RUN, problem, instead)]
    return []


def room(device: str, machine: Machine) -> int:
    """Bytes of a device for weights and caches of one process."""
    if device == "cpu":
        return machine.memory // machine.sharing
    return sum(room_for_weights({gpu.index: gpu.total for gpu in _gpus(device, machine)}).values()) // machine.sharing


def _on(device: str, models: Sequence[ModelMemory], machine: Machine) -> list[Finding]:
    most = room(device, machine)
    size = sum(model.weights or 0 for model in models)
    with_one = size + sum(model.cache or 0 for model in models)
    with_all = sum(model.total or 0 for model in models)
    where = f"{device} ({machine.gpus[0].name})" if device != "cpu" else "the main memory"
    ways = [f"{model.key}.{way}" for model in models for way in _ways(device, machine)]
    if machine.sharing > 1:
        where += f", shared by {machine.sharing} workers,"
        ways.append("fewer workers: execution.workers=1")
    if size > most:
        problem = f"the weights of {_named(models)} take {_gib(size)}, and {where} has {_gib(most)} for them"
        return [Finding(Level.CANNOT_RUN, problem, f"one of {', '.join([*ways, 'a smaller model'])}")]
    if with_one > most:
        problem = f"{_named(models)} with one long prompt takes {_gib(with_one)}, and {where} has {_gib(most)}"
        return [Finding(Level.SOME_FAIL, problem, f"one of {', '.join(['fewer frames: selection.budget=...', *ways])}")]
    made = []
    if with_all > most:
        problem = f"{_named(models)} with all prompts at once takes {_gib(with_all)}, and {where} has {_gib(most)}"
        made.append(Finding(Level.NOTE, f"{problem}: fewer are answered at once", "execution.answer_batch=1 avoids it"))
    free = sum(room_for_weights({gpu.index: gpu.free for gpu in _gpus(device, machine)}).values())
    if device != "cpu" and size > free // machine.sharing:
        problem = f"{_named(models)} takes {_gib(size)}, and only {_gib(free)} of {where} are free now"
        made.append(Finding(Level.NOTE, problem, "end what else holds the GPU before the run"))
    return made


def _gpus(device: str, machine: Machine) -> list[Any]:
    if device == "cpu":
        return []
    return [gpu for gpu in machine.gpus if device in ("spread", f"cuda:{gpu.index}")]


def _ways(device: str, machine: Machine) -> list[str]:
    return ["device=spread"] if device.startswith("cuda") and len(machine.gpus) > 1 else ["dtype=bfloat16"]


def _device(asked: str, machine: Machine) -> str:
    if asked == "auto":
        return "cuda:0" if machine.gpus else "cpu"
    return "cuda:0" if asked == "cuda" else asked


def _item_bytes(checkpoint: Checkpoint, folder: Path, raw: dict[str, Any], device: str) -> int:
    """As :func:`pipeline.families.loading.placement.pick_dtype` decides."""
    stored = "float32" if device == "cpu" else contents.stored_dtype(folder, raw)
    return _ITEM_BYTES[stored if checkpoint.dtype == "auto" else checkpoint.dtype]


def _cache_bytes_a_token(raw: Mapping[str, Any], source: str, item: int) -> int | None:
    """Two vectors a layer and key-value head; None where the config lacks them."""
    try:
        raw = full_config(raw, source)
    except CheckpointError:
        return None  # loading says what is wrong with it
    text = next((raw[name] for name in _TEXT_SECTIONS if isinstance(raw.get(name), Mapping)), raw)
    layers, heads, width = (text.get(key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int)):
        return None
    key_value_heads = int(text.get("num_key_value_heads") or heads)
    return 2 * layers * key_value_heads * int(text.get("head_dim") or width // heads) * item


def _named(models: Sequence[ModelMemory]) -> str:
    return " and ".join(model.source for model in models)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
