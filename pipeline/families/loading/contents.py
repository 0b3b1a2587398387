"""The files of a checkpoint: which decide what the model says, whether they are whole, and what tells them from others.

The digest depends on names and bytes alone: a checkpoint that was moved, copied or fetched again is the same one. Of
weights no tensor is read: their headers tell names, shapes and formats.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, TypeAdapter

from pipeline.artefacts.store import ContentStore
from pipeline.errors import CheckpointError
from pipeline.families.known import override, restore
from pipeline.progress import track
from pipeline.wellformed import loaded_object

if TYPE_CHECKING:
    import torch

_LARGE = 16 * 2**20
"""Bytes. Smaller files are hashed each time, which takes milliseconds."""
_TOLD = 2**30
"""Bytes. Hashing more than this takes seconds, so progress is shown."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTINGS = {".json", ".jinja", ".model"}
_WORD_LISTS = {"vocab.txt", "merges.txt"}
_OF_TRAINING = re.compile(r"(all|train|eval|predict|test)_results\.json|trainer_state\.json|training_args\.json")
"""Bookkeeping that a training run leaves, which no model reads."""
_SKIPPED_FOLDER = re.compile(r"\..*|checkpoint-\d+|global_step\d+")
"""Hidden folders, and intermediate states of a training run."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less than this ago may change again without another time stamp."""
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2}
_FLOATING = {"F64", "F32", "F16", "BF16"}
_RESTORE = restore("the folder")
_LONGEST_POINTER = 1024
"""Bytes; Git LFS's specification."""
_STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def deciding(names: Iterable[str]) -> list[str]:
    """The files that decide the output: weights, configs, tokenizers, templates, processors.

    Of weights in two formats those that are loaded: safetensors, where a folder has any.

    Args:
        names: of all files of the checkpoint, relative to its folder, with forward slashes.

    Returns:
        Some of the names, sorted.
    """
    paths = [path for path in map(PurePosixPath, names) if not _is_skipped(path)]
    with_safetensors = {path.parent for path in paths if path.suffix == ".safetensors"}
    found = []
    for path in paths:
        if is_of_weights(path.as_posix()):
            decides = (".safetensors" in path.name) == (path.parent in with_safetensors)
        else:
            settings = path.suffix in _SETTINGS and not _OF_TRAINING.fullmatch(path.name)
            decides = settings or path.name in _WORD_LISTS
        if decides:
            found.append(path.as_posix())
    return sorted(found)


def files_in(folder: Path) -> list[str]:
    """Names of all files of a checkpoint folder, relative to it, with forward slashes."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


class Notes:
    """Texts by what they are about.

    Args:
        store: a folder that any number of processes share; None keeps notes for this process only.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = ContentStore(store / "checkpoints", ".json") if store is not None else None
        self._known: dict[str, str] = {}

    def find(self, *about: str) -> str | None:
        """The text that was kept under these words.

        Raises:
            StorageError: the folder cannot be read.
        """
        key = _key(about)
        if key not in self._known and self._store is not None:
            content = self._store.find(key)
            text = _text(content) if content is not None else None
            if text is not None:
                self._known[key] = text
        return self._known.get(key)

    def keep(self, text: str, *about: str) -> None:
        """Keep a text under these words.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self.find(*about) == text:
            return
        key = _key(about)
        self._known[key] = text
        if self._store is not None:
            self._store.keep(key, json.dumps({"text": text}).encode())


@lru_cache(maxsize=8)
def open_notes(store: Path | None) -> Notes:
    """The notes in a folder, one object a folder and process."""
    return Notes(store)


def _key(about: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(about).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _text(content: bytes) -> str | None:
    """None for a file that was damaged: it is made again."""
    try:
        text = loaded_object(content).get("text")
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def digest(hashes: Mapping[str, str]) -> str:
    """One name for a checkpoint of these contents.

    Args:
        hashes: SHA-256 in hexadecimal by file name.
    """
    lines = "".join(f"{name}\0{hashes[name]}\n" for name in sorted(hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def of_folder(folder: Path, notes: Notes) -> str:
    """The digest of what a folder holds.

    Raises:
        OSError: a file cannot be read.
    """
    return digest(hashes(folder, deciding(files_in(folder)), notes))


def hashes(folder: Path, names: Iterable[str], notes: Notes) -> dict[str, str]:
    """The SHA-256 of each file, by its name.

    A large file is read once: its hash is noted by path, size and times, or known from the hub's client.

    Args:
        folder: of the checkpoint.
        names: of files in it.
        notes: of earlier hashes.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[str, str] = {}
    unread: list[str] = []
    for name in names:
        path = folder / name
        known = None
        if path.stat().st_size > _LARGE:
            known = _named_by_hash(path) or _said_by_download(folder, name) or notes.find(*_state(path))
        if known is None:
            unread.append(name)
        else:
            found[name] = known
    sizes = {name: (folder / name).stat().st_size for name in unread}
    if sum(sizes.values()) <= _TOLD:
        return found | {name: _hash(folder / name, notes) for name in unread}
    with (
        track(f"hashing {folder.name} (once), MB", sum(sizes.values()) // 10**6) as advance,
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
    ):
        for name, made in zip(unread, pool.map(lambda name: _hash(folder / name, notes), unread), strict=True):
            found[name] = made
            advance(sizes[name] // 10**6)
    return found


def _is_skipped(path: PurePosixPath) -> bool:
    return path.name.startswith(".") or any(_SKIPPED_FOLDER.fullmatch(part) for part in path.parts[:-1])


def _hash(path: Path, notes: Notes) -> str:
    before = _state(path)
    with path.open("rb") as file:
        made = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
    if status.st_size > _LARGE and settled and _state(path) == before:
        notes.keep(made, *before)
    return made


def _state(path: Path) -> tuple[str, ...]:
    """What changes when the file does. The time of its last change of status cannot be set back, unlike the other."""
    status = path.stat()
    return ("file", str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), str(status.st_ctime_ns))


def _named_by_hash(path: Path) -> str | None:
    """The hash of a large file in the hub client's cache, which is the name of the file that the link leads to."""
    target = path.resolve()
    return target.name if target.parent.name == "blobs" and _SHA256.fullmatch(target.name) else None


def _said_by_download(folder: Path, name: str) -> str | None:
    """The hash of a large file that the hub's client put into a folder, if the file has not changed since.

    The client notes commit, hash and time of a download, a line each, in a hidden folder (huggingface_hub,
    ``_local_folder.py``).
    """
    note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    try:
        _, named, written = note.read_text(encoding="utf-8").split("\n")[:3]
        status = (folder / name).stat()
        unchanged = max(status.st_mtime, status.st_ctime) <= float(written)
    except (OSError, ValueError):
        return None
    return named if unchanged and _SHA256.fullmatch(named) else None


def _is_weights(name: str) -> bool:
    """Whether a file of this name holds tensors."""
    path = PurePosixPath(name)
    return path.suffix == ".safetensors" or path.match("pytorch_model*.bin")


def is_of_weights(name: str) -> bool:
    """Whether a file of this name holds tensors, or is an index of such files."""
    return _is_weights(name) or name.endswith(".index.json")


def weight_files(folder: Path) -> list[Path]:
    """The weight files that are loaded; in each folder safetensors where there are any, since a second copy is not.

    Of several safetensors files those that an index names, if there is one: the others are another copy.
    """
    names = [folder / name for name in deciding(files_in(folder)) if _is_weights(name)]
    named: dict[Path, set[str]] = {}
    for index in _indexes(folder):
        named.setdefault(index.parent, set()).update(_shards(index, _RESTORE))
    return [path for path in names if path.parent not in named or path.name in named[path.parent]]


def are_absent(folder: Path) -> bool:
    """Whether weights are not there at all, or a file that an index names is not."""
    return not weight_files(folder) or any(_absent(index, _RESTORE) for index in _indexes(folder))


def check_complete(folder: Path, remedy: str) -> None:
    """Every shard that an index names is there and as long as its header says, and holds each tensor once.

    Also that no file is empty or Git LFS's note of where it is, and that the tensors are numbers with a fraction.

    Raises:
        CheckpointError: with ``remedy``; or the folder holds an adapter, which is no model.
    """
    refuse_adapter(folder)
    for name in deciding(files_in(folder)):
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
    found = weight_files(folder)
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
        base = loaded_object(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError):
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
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            shapes |= {name: entry.shape for name, entry in _header(path)[1].items()}
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
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            total += path.stat().st_size
            continue
        for entry in _header(path)[1].values():
            stored = entry.dtype
            item = item_bytes if stored in _FLOATING else _ITEM_BYTES.get(stored, 1)
            total += math.prod(entry.shape) * item
    return total


def stored_dtype(folder: Path, config: dict[str, Any]) -> str:
    """``bfloat16``, ``float16`` or ``float32``: what the config says, else what most of the weights are."""
    named = config.get("dtype") or config.get("torch_dtype")
    if named in _STORED.values():
        return str(named)
    count: dict[str, int] = {}
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            for entry in _header(path)[1].values():
                count[entry.dtype] = count.get(entry.dtype, 0) + math.prod(entry.shape)
    return _STORED.get(max(count, key=count.__getitem__, default="F32"), "float32")


@dataclass(frozen=True)
class _Stored:
    """A tensor in a file's header."""

    dtype: str
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_HEADER = TypeAdapter(dict[str, _Stored])


def _header(path: Path) -> tuple[int, dict[str, _Stored]]:
    """Where the data begin, and the tensors by name. Layout: the safetensors format page."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError("its header is longer than the format allows")
        header = loaded_object(file.read(length))
    header.pop("__metadata__", None)
    return 8 + length, _HEADER.validate_python(header)


def _checked_tensors(path: Path, remedy: str) -> list[str]:
    """The names of a file's tensors, once it is known to hold them all."""
    try:
        start, header = _header(path)
        expected = start + max((entry.data_offsets[1] for entry in header.values()), default=0)
    except (OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}.", remedy) from error
    if path.stat().st_size < expected:
        raise CheckpointError(
            f"{path} is incomplete: {path.stat().st_size} bytes where its header announces {expected}.", remedy
        )
    for name, entry in header.items():
        if name.endswith((".weight", ".bias")) and entry.dtype not in _FLOATING:
            raise CheckpointError(
                f"{path} holds {name} as {entry.dtype}: it is quantised, and this checkpoint is to be loaded as "
                "trained.",
                f"Name the checkpoint that it was made from: {override('source')}.",
            )
    return list(header)


def _indexes(folder: Path) -> list[Path]:
    """The indexes of the weight files that are loaded, not those of a second copy in the other format."""
    names = files_in(folder)
    held = {PurePosixPath(name).parent for name in deciding(names) if _is_weights(name)}
    loaded = set(deciding(names))
    return [
        folder / name
        for name in sorted(names)
        if name.endswith(".index.json") and (name in loaded or PurePosixPath(name).parent not in held)
    ]


def _absent(index: Path, remedy: str) -> list[str]:
    return sorted(name for name in _shards(index, remedy) if not os.path.isfile(index.parent / name))


@dataclass(frozen=True)
class _Index:
    weight_map: dict[str, str]
    """Tensor to file."""


_INDEX = TypeAdapter(_Index)


def _shards(index: Path, remedy: str) -> set[str]:
    try:
        return set(_INDEX.validate_python(loaded_object(index.read_text(encoding="utf-8"))).weight_map.values())
    except (OSError, ValueError) as error:
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
