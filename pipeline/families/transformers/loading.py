"""A checkpoint's own processor, and its weights in the class that transformers has for it."""

from __future__ import annotations

import dataclasses
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError, ConfigError, MissingExtraError
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint, load, settings_folder
from pipeline.families.transformers.kind import Kind, class_of, kind_of

_PACKAGE = re.compile(
    r"pip3? install (?:-U |--upgrade )?[`'\"]?([a-z][\w-]*)|No module named [`'\"](\w+)|[Pp]ackage `(\w+)`"
    r"|requires? the (\w+) library",
    re.IGNORECASE,
)
"""How transformers and Python name a package that is missing."""
_SETTINGS = ("processor_config.json", "preprocessor_config.json")
"""Either will do. Without both, transformers gives a tokenizer in place of a processor."""


def open_processor(checkpoint: Checkpoint) -> Any:
    """The processor, from its settings alone; its weights need not be here.

    Raises:
        MissingExtraError: it needs a package that is not installed.
        CheckpointError: its files are missing or cannot be read, or its tokenizer has no token for a picture.
    """
    need_torchvision()
    folder = settings_folder(checkpoint)
    if not any((folder / name).is_file() for name in _SETTINGS):
        raise CheckpointError(
            f"{checkpoint.source} has no settings of a processor ({' or '.join(_SETTINGS)}).",
            "Name a copy of the checkpoint that has them, or ask a server: answerer=vllm "
            f"answerer.model={checkpoint.source}",
        )
    processor = _read(folder, checkpoint.source)
    tokenizer = getattr(processor, "tokenizer", None)
    picture = picture_of(processor)
    if tokenizer is None or picture is None or not hasattr(processor, "image_processor"):
        raise CheckpointError(
            f"The processor of {checkpoint.source} ({type(processor).__name__}) takes no pictures in a prompt.",
            "Name one that answers questions about pictures, such as answerer.checkpoint.source=Qwen/Qwen3.5-4B",
        )
    number = tokenizer.convert_tokens_to_ids(picture)
    if number is None or number == tokenizer.unk_token_id:
        raise CheckpointError(
            f"The tokenizer of {checkpoint.source} has no token {picture}, which its processor writes for a picture.",
            restore("the tokenizer files of the checkpoint"),
        )
    return processor


def picture_of(processor: Any) -> str | None:
    """What stands for a picture in a prompt, before the processor repeats it."""
    found = getattr(processor, "image_token", None)
    return None if found is None else str(found)


def need_torchvision() -> None:
    """Raise an error where torchvision is missing: processors with a video part import it, and there is no way around.

    Raises:
        MissingExtraError: with the line that installs the one for this torch.
    """
    if find_spec("torchvision") is not None:
        return
    raise MissingExtraError(
        "answerer=transformers runs the checkpoint's own processor, which needs torchvision, and it is not installed.",
        f"pip install 'torchvision=={_matching_torchvision()}' (another version would replace torch); with torch "
        "2.13 also: pip install 'gens-videoqa[any]'",
    )


def load_model(checkpoint: Checkpoint) -> Any:
    """The weights, exactly, with the checkpoint's tokens that end an answer and no other of its generation settings.

    Raises:
        CheckpointError: it is no model for this answerer, or its tensors are not those of its class.
        ConfigError: flash attention was asked for, and the class cannot use it.
    """
    from transformers import GenerationConfig

    model = load(class_of(checkpoint), with_attention(checkpoint, kind_of(checkpoint)))
    # `generate` fills in whatever is left unset from these: sampling values and penalties do not apply to greedy text.
    published = model.generation_config
    model.generation_config = GenerationConfig(
        eos_token_id=published.eos_token_id,
        pad_token_id=_pad(published),
        bos_token_id=published.bos_token_id,
        do_sample=False,
    )
    return model


def with_attention(checkpoint: Checkpoint, kind: Kind) -> Checkpoint:
    """The checkpoint with an attention that its class has.

    Raises:
        ConfigError: flash attention was asked for, and the class cannot use it.
    """
    if kind.takes_flash_attention or checkpoint.attention not in ("auto", "flash_attention_2"):
        return checkpoint
    if checkpoint.attention == "auto":
        return dataclasses.replace(checkpoint, attention="sdpa")
    raise ConfigError(
        f"{kind.class_name} cannot use flash attention: it would drop the mask over the tokens of a picture.",
        "Set answerer.checkpoint.attention=sdpa",
    )


def _pad(published: Any) -> Any:
    if published.pad_token_id is not None:
        return published.pad_token_id
    ends = published.eos_token_id
    return ends[0] if isinstance(ends, list) else ends


def _read(folder: Path, source: str) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # processors and tokenizers raise nothing narrower
        package = _missing_package(str(error))
        if package or isinstance(error, ImportError):
            first = str(error).strip().partition("\n")[0]
            raise MissingExtraError(
                f"The processor of {source} needs a package that is not installed: {first}",
                f"pip install {package}" if package else "Install the package that the message names.",
            ) from error
        raise CheckpointError(
            f"The processor of {source} cannot be read: {type(error).__name__}: {error}",
            restore("the processor and tokenizer files of the checkpoint"),
        ) from error


def _missing_package(message: str) -> str | None:
    """The package that an error asks for, if it is not here."""
    named = (next(filter(None, match.groups())) for match in _PACKAGE.finditer(message))
    return next((name for name in named if find_spec(name.replace("-", "_")) is None), None)


def _matching_torchvision() -> str:
    """Release 2.13 of torch goes with 0.28, and so on; source: the table in torchvision's README."""
    import torch

    major, minor, *_ = torch.__version__.split(".")
    return f"0.{int(minor) + 15}.*" if major == "2" else "*"
