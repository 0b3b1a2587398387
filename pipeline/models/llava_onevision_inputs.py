"""Tokenizer and pixels to the arguments that LLaVA-OneVision's ``forward`` takes.

Written out instead of taken from ``LlavaOnevisionProcessor``, which needs torchvision. Tokens and pixels are the same;
where they are not, :mod:`pipeline.models.llava_onevision_pixels` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError
from pipeline.models.chat import load_tokenizer, special_tokens
from pipeline.models.llava_onevision_family import Tower
from pipeline.models.llava_onevision_pixels import Pixels
from pipeline.models.remedies import restore


@dataclass(frozen=True)
class LlavaInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each picture's placeholder stands as often as the picture has tokens."""
    pixels: Pixels
    """``[frames, 3, image_size, image_size]``."""
    sizes: list[tuple[int, int]]
    """Height and width of the frames as decoded."""


def open_tokenizer(folder: Path, tower: Tower) -> Any:
    """The checkpoint's tokenizer, which knows the placeholders of pictures.

    Raises:
        CheckpointError: there is none, or it lacks one of them.
    """
    tokenizer = load_tokenizer(folder)
    for key, word, named in (
        ("image_token_index", "<image>", tower.image_token_id),
        ("video_token_index", "<video>", tower.video_token_id),
    ):
        found = tokenizer.convert_tokens_to_ids(word)
        if named != found:
            raise CheckpointError(
                f"config.json in {folder} has {key}={named!r}, and its tokenizer's {word} is {found!r}.",
                restore("the files of the checkpoint"),
            )
    return tokenizer


def placeholders(tokenizer: Any, tower: Tower) -> tuple[str, str]:
    """``<image>`` and ``<video>``, as this checkpoint calls them."""
    image, video = tokenizer.convert_ids_to_tokens([tower.image_token_id, tower.video_token_id])
    return image, video


def markup(tokenizer: Any, tower: Tower) -> tuple[str, ...]:
    """The placeholders of pictures, and the tokenizer's control tokens."""
    return (*placeholders(tokenizer, tower), *special_tokens(tokenizer))


def image_arguments(pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Images of base resolution; ``pixel_values`` is ``[frames, 1 patch, 3, image_size, image_size]``.

    Args:
        pixels: of all frames, from :func:`pipeline.models.llava_onevision_pixels.image_pixels`.
        sizes: height and width of every one of them, as decoded.
    """
    return {
        "pixel_values": torch.from_numpy(pixels)[:, None],
        "image_sizes": torch.tensor(sizes),
        # An entry of 1 would be taken for a lone image with tiles.
        "batch_num_images": torch.tensor([max(2, len(sizes))]),
    }


def video_arguments(video: Pixels) -> dict[str, torch.Tensor]:
    """A video; ``pixel_values_videos`` is ``[1, frames, 3, image_size, image_size]``."""
    return {"pixel_values_videos": torch.from_numpy(video)[None]}
