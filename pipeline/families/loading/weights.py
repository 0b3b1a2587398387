"""Weight files on disk: whether they are all there, and how large they are; no tensor is read."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError
from pipeline.families.known import override, restore
from pipeline.families.loading import contents

if TYPE_CHECKING:
    import torch

_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2}
_FLOATING = {"F64", "F32", "F16", "BF16"}
_RESTORE = restore("the folder")
_LONGEST_POINTER = 1024
"""Bytes; Git LFS's specification."""
_STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def is_weights(name: str) -> bool:
    """Whether a file of this name holds tensors."""
    path = PurePosixPath(name)
    return path.suffix == ".safetensors" or path.match("pytorch_model*.bin")


def is_of_weights(name: str) -> bool:
    """Whether a file of this name holds tensors, or is an index of such files."""
    return is_weights(name) or name.endswith(".index.json")


def files(folder: Path) -> list[Path]:
    """The weight files that are loaded; in each folder safetensors where there are any, since a second copy is not.

    Of several safetensors files those that an index names, if there is one: the others are another copy.
    """
    names = [folder / name for name in contents.deciding(contents.files_in(folder)) if is_weights(name)]
    named: dict[Path, set[str]] = {}
    for index in _indexes(folder):
        named.setdefault(index.parent, set()).update(_shards(index, _RESTORE))
    return [path for path in names if path.parent not in named or path.name in named[path.parent]]


def are_absent(folder: Path) -> bool:
    """Whether weights are not there at all, or a file that an index names is not."""
    return not files(folder) or any(_absent(index, _RESTORE) for index in _indexes(folder))


def check_complete(folder: Path, remedy: str) -> None:
    """Every shard that an index names is there and as long as its header says, and holds each tensor once.

    Also that no file is empty or Git LFS's note of where it is, and that the tensors are numbers with a fraction.

    Raises:
        CheckpointError: with ``remedy``; or the folder holds an adapter, which is no model.
    """
    refuse_adapter(folder)
    for name in contents.deciding(contents.files_in(folder)):
        refuse_pointer(folder / name, remedy)
    for index in _indexes(folder):
        names, absent = _shards(index, remedy), _absent(index, remedy)
        if absent:
            raise CheckpointError(
                f"{folder} is incomplete: {index.name} names {len(names)} weight files, and {len(absent)} "
                f"are not there ({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}).",
                remedy,
            )
        single = index.name.removesuffix(".index.json")
        if single not in names and (index.parent / single).is_file():
            raise CheckpointError(
                f"{folder} holds its weights twice: in {single}, and in the files that {index.name} names.",
                f"Remove one of the two. {remedy}",
            )
    found = files(folder)
    if not found:
        raise CheckpointError(f"{folder} is incomplete: there is no *.safetensors or pytorch_model*.bin in it.", remedy)
    holder: dict[tuple[Path, str], Path] = {}
    for path in found:
        if path.suffix == ".safetensors":
            for name in _checked_tensors(path, remedy):
                other = holder.setdefault((path.parent, name), path)
                if other is not path:
                    raise CheckpointError(f"{name} is in two weight files: {other} and {path.name}.", remedy)


def refuse_pointer(path: Path, remedy: str) -> None:
    """Raise an error for an empty file, and for what ``git clone`` leaves in place of one without Git LFS.

    Raises:
        CheckpointError: with ``remedy``.
    """
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty.", remedy)
    if size <= _LONGEST_POINTER and path.read_bytes().startswith(b"version https://git-lfs.github.com/spec/"):
        raise CheckpointError(
            f"{path} is not the file itself but Git LFS's note of where it is.",
            f"Run `git lfs pull` in {path.parent}. {remedy}",
        )


def refuse_adapter(folder: Path) -> None:
    """Raise an error for a LoRA or another adapter: alone it is not a model, and beside one it would change it.

    Raises:
        CheckpointError: the folder holds one.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of = f" of {base}" if base else ""
    raise CheckpointError(
        f"{folder} holds an adapter (LoRA){of}, and no model of its own.",
        "Merge the two first (peft: `model.merge_and_unload()`, then `save_pretrained` of model and processor), and "
        f"name the merged folder: {override('source', 'FOLDER')}.",
    )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape, without its values.

    Raises:
        OSError, RuntimeError, ValueError, pickle.UnpicklingError: a file cannot be read.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files(folder):
        if path.suffix == ".safetensors":
            shapes |= {name: tuple(entry["shape"]) for name, entry in _header(path)[1].items()}
            continue
        import torch

        stored = torch.load(path, map_location="meta", weights_only=True)
        shapes |= {name: tuple(tensor.shape) for name, tensor in stored.items()}
    return shapes


def bytes_in(folder: Path, dtype: torch.dtype) -> int:
    """Bytes that the weights take once held in ``dtype``."""
    return bytes_as(folder, dtype.itemsize)


def bytes_as(folder: Path, item_bytes: int) -> int:
    """The same for numbers of so many bytes."""
    total = 0
    for path in files(folder):
        if path.suffix != ".safetensors":
            total += path.stat().st_size
            continue
        for entry in _header(path)[1].values():
            stored = entry["dtype"]
            item = item_bytes if stored in _FLOATING else _ITEM_BYTES.get(stored, 1)
            total += math.prod(entry["shape"]) * item
    return total


def stored_dtype(folder: Path, config: dict[str, Any]) -> str:
    """``bfloat16``, ``float16`` or ``float32``: what the config says, else what most of the weights are."""
    named = config.get("dtype") or config.get("torch_dtype")
    if named in _STORED.values():
        return str(named)
    count: dict[str, int] = {}
    for path in files(folder):
        if path.suffix == ".safetensors":
            for entry in _header(path)[1].values():
                count[entry["dtype"]] = count.get(entry["dtype"], 0) + math.prod(entry["shape"])
    return _STORED.get(max(count, key=count.__getitem__, default="F32"), "float32")


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data begin, and name to ``{dtype, shape, data_offsets}``. Layout: the safetensors format page."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError("its header is longer than the format allows")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def _checked_tensors(path: Path, remedy: str) -> list[str]:
    """The names of a file's tensors, once it is known to hold them all."""
    try:
        start, header = _header(path)
        expected = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = {name: entry["dtype"] for name, entry in header.items() if name.endswith((".weight", ".bias"))}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}.", remedy) from error
    if path.stat().st_size < expected:
        raise CheckpointError(
            f"{path} is incomplete: {path.stat().st_size} bytes where its header announces {expected}.", remedy
        )
    for name, dtype in whole.items():
        if dtype not in _FLOATING:
            raise CheckpointError(
                f"{path} holds {name} as {dtype}: it is quantised, and this checkpoint is to be loaded as trained.",
                f"Name the checkpoint that it was made from: {override('source')}.",
            )
    return list(header)


def _indexes(folder: Path) -> list[Path]:
    """The indexes of the weight files that are loaded, not those of a second copy in the other format."""
    names = contents.files_in(folder)
    held = {PurePosixPath(name).parent for name in contents.deciding(names) if is_weights(name)}
    loaded = set(contents.deciding(names))
    return [
        folder / name
        for name in sorted(names)
        if name.endswith(".index.json") and (name in loaded or PurePosixPath(name).parent not in held)
    ]


def _absent(index: Path, remedy: str) -> list[str]:
    return sorted(name for name in _shards(index, remedy) if not (index.parent / name).is_file())


def _shards(index: Path, remedy: str) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a readable index of weight files: {error!r}.", remedy) from error


_EMBEDDINGS = "embed_tokens.weight"
_DOWN = {"down_proj.weight": 1, "experts.fc2.weight": 1}
"""The last linear layer of an MLP, and of Aria's experts ``[experts, inner, outer]``, with the axis of its input."""
_PATCHES = "embeddings.patch_embedding.weight"


def check_sizes(config: Any, raw: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Check that the language model and the vision tower are as wide and as deep as their tensors.

    Args:
        config: transformers' configuration, in which every size has a value.
        raw: ``config.json``.
        shapes: of the tensors, by name.
        source: of the checkpoint, for the error.

    Raises:
        CheckpointError: they are not; the message names the key.
    """
    parts = [
        (config.get_text_config(), _of_text(shapes)),
        (getattr(config, "vision_config", config), _of_vision(shapes)),
    ]
    for part, sizes in parts:
        for key, stored in sizes:
            configured = getattr(part, key, stored)
            if configured != stored:
                says = f"says {key}={configured!r}" if _states(raw, key) else f"does not say {key}"
                raise CheckpointError(
                    f"config.json of {source} {says}, and its tensors have {stored}.",
                    restore("config.json of the checkpoint"),
                )


def check_sections(rotary: Any, source: str) -> None:
    """Check that the rotary positions of time, row and column fill the model's heads, as no tensor tells.

    Args:
        rotary: the module of a language model with ``mrope_section`` and ``inv_freq``.
        source: of the checkpoint, for the error.

    Raises:
        CheckpointError: they do not.
    """
    sections, width = rotary.mrope_section, len(rotary.inv_freq)
    whole = isinstance(sections, list | tuple) and all(isinstance(size, int) and size > 0 for size in sections)
    if not whole or len(sections) != 3 or sum(sections) != width:
        raise CheckpointError(
            f"config.json of {source} gives mrope_section={sections!r} (under rope_scaling or rope_parameters), and "
            f"the model's heads take three numbers that sum to {width}.",
            restore("config.json of the checkpoint"),
        )


def _of_text(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    """Sizes of a language model by the key of each; none of a model whose tensors have other names."""
    name = next((name for name in shapes if name.endswith(_EMBEDDINGS)), None)
    if name is None:
        return
    yield "hidden_size", shapes[name][-1]
    layer = re.compile(re.escape(name.removesuffix(_EMBEDDINGS)) + r"layers\.([0-9]+)\.")
    numbers = {int(found[1]) for found in map(layer.match, shapes) if found}
    if numbers:
        yield "num_hidden_layers", max(numbers) + 1
    for last, axis in _DOWN.items():
        down = f"{name.removesuffix(_EMBEDDINGS)}layers.0.mlp.{last}"
        if down in shapes:
            yield "intermediate_size", shapes[down][axis]


def _of_vision(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    name = next((name for name in shapes if name.endswith(_PATCHES)), None)
    if name is not None:
        yield "hidden_size", shapes[name][0]


def _states(raw: Mapping[str, Any], key: str) -> bool:
    return key in raw or any(isinstance(part, Mapping) and key in part for part in raw.values())
