"""Finds a checkpoint, describes it, and loads it exactly or not at all.

No code that comes with a checkpoint is ever run: the model class is the caller's.
"""

from __future__ import annotations

import gc
import pickle
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.known import another, override, restore
from pipeline.families.loading import contents, hub
from pipeline.families.loading.contents import Notes, check_sizes, open_notes
from pipeline.families.loading.hub import fetch_it
from pipeline.families.loading.placement import (
    check_fits,
    check_none_left_out,
    free_bytes,
    pick_attention,
    pick_device,
    pick_dtype,
    room_for_weights,
)
from pipeline.identity import Place, Speed
from pipeline.paths import local_path, nearest_path
from pipeline.wellformed import loaded

if TYPE_CHECKING:
    from torch import nn

_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")

Model = TypeVar("Model")
Config = TypeVar("Config")


@dataclass(frozen=True)
class Checkpoint:
    """A model's files and how they are to be held."""

    source: str
    """Hub id such as ``Qwen/Qwen2-VL-7B-Instruct``, or a local folder."""
    revision: str | None
    """Branch, tag or commit on the hub; None is the main branch."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """``auto``: as stored, and float32 on a CPU."""
    attention: Speed[Literal["auto", "sdpa", "eager", "flash_attention_2"]]
    """``auto``: flash attention where it is installed and the model is on a GPU, else sdpa."""
    device: Speed[str]
    """``auto`` (the first GPU, or the CPU), ``cpu``, ``cuda``, ``cuda:1``, or ``spread``: over all GPUs."""
    digest_store: Place[Path | None] = None
    """Folder where hashes of large files are kept from run to run; None keeps them for this process."""

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ConfigError(
                "The checkpoint has no source.",
                f"Name a hub id or a folder: {override('source')}.",
            )

    def identity(self) -> Mapping[str, Any]:
        """The content of its files and the number format that it runs in, independent of its folder.

        Raises:
            CheckpointError: as :func:`fingerprint`.
        """
        return {"content": fingerprint(self), "dtype": self.dtype}

    @property
    def folder(self) -> Path | None:
        """The local folder that the source names; None for a hub id."""
        path = local_path(self.source)
        if path.is_dir():
            return path
        looks_like_a_path = self.source.startswith(("/", ".", "~")) or self.source.count("/") != 1
        if looks_like_a_path:
            close = nearest_path(path)
            remedy = f"Correct the path: {override('source', '...' if close is None else str(close))}."
            raise CheckpointError(f"There is no checkpoint folder {self.source}.", remedy)
        return None


def resolve(checkpoint: Checkpoint) -> Path:
    """The folder with all files of the checkpoint, fetched from the hub if need be.

    Raises:
        CheckpointError: there is no such checkpoint, no network, or the folder is incomplete.
    """
    folder = checkpoint.folder
    if folder is None:
        folder = hub.snapshot(checkpoint.source, _hub_config(checkpoint)[0])
    else:
        _local_config(folder)
    contents.check_complete(folder, _refetch(checkpoint))
    return folder


def settings_folder(checkpoint: Checkpoint) -> Path:
    """The folder with everything but the weights: configurations, tokenizer, templates.

    Raises:
        CheckpointError: there is no such checkpoint, or no network.
    """
    folder = checkpoint.folder
    if folder is None:
        return hub.settings(checkpoint.source, _hub_config(checkpoint)[0])
    _local_config(folder)
    return folder


def raw_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The unchanged ``config.json``. Fetches only this file.

    Raises:
        CheckpointError: as :func:`resolve`, or the file is not JSON.
    """
    folder = checkpoint.folder
    where = f"config.json of {checkpoint.source}" if folder is None else str(_local_config(folder))
    try:
        text = _hub_config(checkpoint)[1] if folder is None else Path(where).read_text(encoding="utf-8")
        config = loaded(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{where} cannot be read as JSON: {error}.", _refetch(checkpoint)) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{where} holds no JSON object.", _refetch(checkpoint))
    for key, part in config.items():
        if key.endswith("_config") and part is not None and not isinstance(part, dict):
            raise CheckpointError(f"{where} has {key}={part!r}, and its parts are objects.", _refetch(checkpoint))
    return config


def fingerprint(checkpoint: Checkpoint) -> str:
    """What tells this checkpoint's content from any other: a digest of the files that decide its output.

    A repository of the hub and a folder with the same files have the same one. Needs no weights where the content is
    known already: of a commit that was seen before, of a folder whose weights have been taken away since, or from the
    hub's list of hashes.

    Raises:
        CheckpointError: as :func:`raw_config`, or a local folder is incomplete.
    """
    notes = open_notes(checkpoint.digest_store)
    folder = checkpoint.folder
    if folder is not None:
        return _fingerprint_of_folder(folder, checkpoint, notes)
    commit, _ = _hub_config(checkpoint)
    known = notes.find("commit", checkpoint.source, commit)
    if known is None:
        known = hub.content_of(checkpoint.source, commit, notes)
        if known is None:
            return f"commit:{commit}"
        notes.keep(known, "commit", checkpoint.source, commit)
    return known


def _fingerprint_of_folder(folder: Path, checkpoint: Checkpoint, notes: Notes) -> str:
    _local_config(folder)
    settings = [name for name in contents.deciding(contents.files_in(folder)) if not contents.is_of_weights(name)]
    about = ("folder", str(folder.resolve()), contents.digest(contents.hashes(folder, settings, notes)))
    if contents.are_absent(folder):
        known = notes.find(*about)
        if known is not None:
            return known
    contents.check_complete(folder, _refetch(checkpoint))
    if not any(path.is_file() for name in _TOKENIZERS for path in folder.rglob(name)):
        raise CheckpointError(
            f"{folder} is incomplete: it has no tokenizer ({', '.join(_TOKENIZERS)}).", _refetch(checkpoint)
        )
    found = contents.of_folder(folder, notes)
    notes.keep(found, *about)
    return found


def model_type(checkpoint: Checkpoint, known: Mapping[str, str]) -> str:
    """Which of the ``known`` models the checkpoint is, by its ``config.json``.

    Args:
        checkpoint: it.
        known: ``model_type`` to the name that people know.

    Raises:
        CheckpointError: it is another model, and which.
    """
    config = raw_config(checkpoint)
    found = config.get("model_type")
    if isinstance(found, str) and found in known:
        return found
    raise another(config, checkpoint.source, list(known.values()))


def size(config: Mapping[str, Any], key: str, default: int, source: str) -> int:
    """A size or a count that a ``config.json``, or a part of it, states.

    Args:
        config: the file, or the part.
        key: of the size.
        default: where the config leaves it out.
        source: of the checkpoint, for the error.

    Raises:
        CheckpointError: it is not a whole number above 0.
    """
    found = config.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise CheckpointError(
            f"config.json of {source} has {key}={found!r}, which is no size.", restore("config.json of the checkpoint")
        )
    return found


def context_tokens(checkpoint: Checkpoint) -> int:
    """Tokens that prompt and answer may have together.

    Raises:
        CheckpointError: the config does not say.
    """
    config = raw_config(checkpoint)
    # Flat on the hub, nested when saved by transformers 5.
    found = config.get("max_position_embeddings") or (config.get("text_config") or {}).get("max_position_embeddings")
    if not isinstance(found, int):
        raise CheckpointError(
            f"config.json of {checkpoint.source} has no max_position_embeddings.",
            restore("config.json of the checkpoint"),
        )
    return found


def load(model_class: type[Model], checkpoint: Checkpoint, config: Any = None) -> Model:
    """The checkpoint's weights in a ``model_class``, ready for inference.

    Args:
        model_class: a transformers model class, ours or stock.
        checkpoint: what to load.
        config: the class's configuration where the checkpoint's own ``config.json`` cannot be used as it is.

    Raises:
        CheckpointError: the files do not match the class tensor for tensor, or do not fit the device.
        MissingExtraError: flash attention was asked for and is not installed.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    folder = resolve(checkpoint)
    device = pick_device(checkpoint.device)
    dtype = pick_dtype(checkpoint.dtype, contents.stored_dtype(folder, raw_config(checkpoint)), device)
    attention = pick_attention(checkpoint.attention, device, dtype)
    options: dict[str, Any] = {"device_map": device}
    if device != "cpu":
        free = free_bytes(device)
        check_fits(contents.bytes_in(folder, dtype), free, checkpoint.source, device)
        if device == "spread":
            options = {"device_map": "auto", "max_memory": room_for_weights(free)}
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()  # a bar in a log file is noise
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of tensors says that they can be ignored; what is wrong is said below
    try:
        if config is None:
            config = model_class.config_class.from_pretrained(str(folder), local_files_only=True)  # type: ignore[attr-defined]
        check_sizes(config, raw_config(checkpoint), contents.tensor_shapes(folder), checkpoint.source)
        with warnings.catch_warnings():
            # Over several devices a parameter beside the layers has an entry of its own, of which accelerate warns.
            warnings.filterwarnings("ignore", "The following device_map keys do not match", UserWarning)
            model, info = model_class.from_pretrained(  # type: ignore[attr-defined]
                str(folder),
                dtype=dtype,
                attn_implementation=attention,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # so that they are reported by name, and end the load below
                local_files_only=True,
                output_loading_info=True,
                config=config,
                **options,
            )
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"{checkpoint.source} does not fit the memory of {device}.",
            f"Take a smaller checkpoint, or several GPUs: {override('device', 'spread')}; or the CPU: "
            f"{override('device', 'cpu')}.",
        ) from error
    except (pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(
            f"A *.bin file of {checkpoint.source} holds more than tensors, or is damaged. It is not read any further: "
            "a pickle can run code.",
            _refetch(checkpoint),
        ) from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        SafetensorError,
        StrictDataclassError,
    ) as error:
        raise CheckpointError(
            f"{checkpoint.source} cannot be loaded as {model_class.__name__}: {error}", _refetch(checkpoint)
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    _check_clean(info, checkpoint, model_class)
    _check_tied(model, folder, checkpoint)
    if device == "spread":
        check_none_left_out(getattr(model, "hf_device_map", {}), checkpoint.source)
    model.eval()
    model.requires_grad_(False)
    return model  # type: ignore[no-any-return]


def configured(config_class: type[Config], arguments: Mapping[str, Any], checkpoint: Checkpoint) -> Config:
    """A transformers configuration from values of ``config.json``.

    Raises:
        CheckpointError: a value is none that the class takes.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        return config_class(**arguments)
    except (StrictDataclassError, ValueError, ArithmeticError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"config.json of {checkpoint.source} describes no {config_class.__name__}: {error}", _refetch(checkpoint)
        ) from error


def release(model: nn.Module) -> None:
    """Free the memory of a model's tensors, whoever else still holds the model. It is of no use afterwards."""
    import torch

    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = torch.empty(0, dtype=tensor.dtype, device="cpu")
    if torch.cuda.is_available():
        gc.collect()  # what failed calls left in cycles; in main memory the collector finds it in time
        torch.cuda.empty_cache()


def _check_clean(info: dict[str, Any], checkpoint: Checkpoint, model_class: type) -> None:
    """Transformers only logs tensors that it did not find and leaves them random; here that is the end."""
    kinds = {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "of another shape": sorted(str(key[0]) for key in info["mismatched_keys"]),
        "unreadable": [str(message) for message in info.get("error_msgs") or ()],
    }
    wrong = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    ]
    if wrong:
        raise CheckpointError(
            f"The tensors of {checkpoint.source} are not those of {model_class.__name__}: {'; '.join(wrong)}.",
            "The folder is damaged or holds another model. " + _refetch(checkpoint),
        )


def _check_tied(model: Any, folder: Path, checkpoint: Checkpoint) -> None:
    """Input and output embeddings are one tensor only where ``config.json`` says so, or both are stored.

    Some classes of transformers tie them by default, and then nothing is reported as missing.
    """
    try:
        head, words = model.get_output_embeddings(), model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # an encoder, or a model of several parts, has no head of its own
        return
    if head is None or head.weight is not words.weight:
        return
    config = raw_config(checkpoint)
    parts = [config, *(part for key, part in config.items() if key.endswith("_config") and part)]
    if any(part.get("tie_word_embeddings") for part in parts):
        return
    names = contents.tensor_shapes(folder)
    for tensor in ("lm_head.weight", "embed_tokens.weight"):
        if not any(name.endswith(tensor) for name in names):
            raise CheckpointError(
                f"{checkpoint.source} holds no {tensor}, and its config.json does not say tie_word_embeddings: true.",
                "The folder is damaged or holds another model. " + _refetch(checkpoint),
            )


def _refetch(checkpoint: Checkpoint) -> str:
    if checkpoint.folder is not None:
        return restore("the folder")
    return fetch_it(checkpoint.source, checkpoint.revision)


def _local_config(folder: Path) -> Path:
    path = folder / "config.json"
    if not path.is_file():
        contents.refuse_adapter(folder)
        raise CheckpointError(
            f"{folder} is not a checkpoint: it has no config.json.",
            f"Name the folder that holds config.json and the weights: {override('source')}.",
        )
    contents.refuse_pointer(path, restore("the folder"))
    return path


def _hub_config(checkpoint: Checkpoint) -> tuple[str, str]:
    """The commit on the hub that the revision names, and its ``config.json``; the noted ones without the hub."""
    source, revision = checkpoint.source, checkpoint.revision
    notes = open_notes(checkpoint.digest_store)
    about = ("config", source, revision or "main")
    try:
        path = hub.config_file(source, revision)
    except hub.UnreachableError:
        noted = notes.find(*about)
        if noted is None:
            raise
        commit, _, text = noted.partition("\n")
        return commit, text
    commit, text = path.parent.name, path.read_text(encoding="utf-8")
    notes.keep(f"{commit}\n{text}", *about)
    return commit, text
