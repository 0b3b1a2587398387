"""Weight files on disk: whether they are all there, how large they are, and a digest; no tensor is read."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError
from pipeline.models.remedies import override

if TYPE_CHECKING:
    import torch

_LARGE = 64 * 2**20
_DIGESTED = {".json", ".jinja", ".txt", ".model", ".safetensors", ".bin"}
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2}
_FLOATING = {"F64", "F32", "F16", "BF16"}
_STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def files(folder: Path) -> list[Path]:
    """The weight files; in each folder safetensors where there are any, since a second copy is not loaded."""
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        by_folder.setdefault(path.parent, []).append(path)
    in_safetensors = set(by_folder)
    for path in sorted(folder.rglob("pytorch_model*.bin")):
        if path.parent not in in_safetensors:
            by_folder.setdefault(path.parent, []).append(path)
    return [path for parent in sorted(by_folder) for path in by_folder[parent]]


def check_complete(folder: Path, remedy: str) -> None:
    """Every shard that an index names is there, and every safetensors file is as long as its header says.

    Raises:
        CheckpointError: with ``remedy``; or the folder holds an adapter, which is no model.
    """
    refuse_adapter(folder)
    found = files(folder)
    for index in sorted(folder.rglob("*.index.json")):
        kinds = {path.suffix for path in found if path.parent == index.parent}
        if kinds and not any(kind in index.name for kind in kinds):
            continue  # the index of a second copy in the other format, which is not loaded
        names = _shards(index, remedy)
        absent = sorted(name for name in names if not (index.parent / name).is_file())
        if absent:
            raise CheckpointError(
                f"{folder} is incomplete: {index.name} names {len(names)} weight files, and {len(absent)} "
                f"are not there ({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}).",
                remedy,
            )
    if not found:
        raise CheckpointError(f"{folder} is incomplete: there is no *.safetensors or pytorch_model*.bin in it.", remedy)
    for path in found:
        if _is_pointer(path):
            raise CheckpointError(
                f"{path} is no weights but Git LFS's note of where they are.",
                f"Run `git lfs pull` in {path.parent}. {remedy}",
            )
        if path.suffix != ".safetensors":
            continue
        try:
            start, header = _header(path)
            expected = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
            raise CheckpointError(f"{path} is no readable safetensors file: {error}.", remedy) from error
        if path.stat().st_size < expected:
            raise CheckpointError(
                f"{path} is incomplete: {path.stat().st_size} bytes where its header announces {expected}.", remedy
            )


def refuse_adapter(folder: Path) -> None:
    """Raise an error for a LoRA or another adapter: alone it is no model, and beside one it would change it.

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


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the checkpoint's files.

    A weight file above 64 MiB counts by its size, modification time and header, so that this takes no minutes.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _DIGESTED or not path.is_file():
            continue
        status = path.stat()
        total.update(f"{path.relative_to(folder).as_posix()}\0{status.st_size}\0".encode())
        if status.st_size <= _LARGE:
            total.update(path.read_bytes())
        else:
            total.update(str(status.st_mtime_ns).encode())
            if path.suffix == ".safetensors":
                total.update(json.dumps(_header(path)[1], sort_keys=True).encode())
    return total.hexdigest()


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data begin, and name to ``{dtype, shape, data_offsets}``. Layout: the safetensors format page."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError("its header is longer than the format allows")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def _shards(index: Path, remedy: str) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no readable index of weight files: {error!r}.", remedy) from error


def _is_pointer(path: Path) -> bool:
    """What ``git clone`` leaves in place of a large file where Git LFS is not installed."""
    if path.stat().st_size > 1024:
        return False
    return path.read_bytes().startswith(b"version https://git-lfs.github.com/spec/")
