"""Prompt and patches to model inputs for Qwen2-VL and Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.prompt_ids import expanded
from pipeline.models.qwen_family import IMAGE_PAD, VIDEO_PAD
from pipeline.models.qwen_pixels import Patches


@dataclass(frozen=True)
class QwenInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each picture's placeholder stands as often as the picture has tokens."""
    mm_token_type_ids: torch.Tensor
    """``[L]``: 0 text, 1 image, 2 video."""
    images: Patches | None
    video: Patches | None
    grid_times: tuple[float, ...] = ()
    """The video's temporal grids in seconds."""

    @property
    def tokens(self) -> int:
        """Length of the prompt."""
        return len(self.input_ids)

    @property
    def pixels(self) -> Patches | None:
        """The frames, as images or as a video."""
        return self.images if self.images is not None else self.video


def encode(
    tokenizer: Any,
    prompt: str,
    images: Patches | None = None,
    video: Patches | None = None,
    grid_times: Sequence[float] = (),
) -> QwenInputs:
    """Tokens of a rendered prompt, with its placeholders expanded to the pictures' tokens.

    Args:
        tokenizer: the checkpoint's.
        prompt: what :func:`pipeline.models.chat.render_chat` gave: one placeholder a picture.
        images: the prompt's images.
        video: the prompt's video, if it has one.
        grid_times: seconds of the video's temporal grids.

    Raises:
        ConfigError, CheckpointError: the prompt does not have one placeholder a picture.
    """
    image_id, video_id = tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD])
    shown = {IMAGE_PAD: images, VIDEO_PAD: video}
    lengths = {name: [] if patches is None else patches.tokens for name, patches in shown.items()}
    input_ids = torch.tensor(expanded(tokenizer, prompt, lengths))
    kinds = (input_ids == image_id).int() + 2 * (input_ids == video_id).int()
    return QwenInputs(input_ids, kinds, images, video, tuple(grid_times))


def arguments(request: QwenInputs, length: int) -> dict[str, torch.Tensor]:
    """The arguments of the model class's ``forward`` for the first ``length`` tokens of a prompt, with all pictures."""
    given = {
        "input_ids": request.input_ids[None, :length],
        "mm_token_type_ids": request.mm_token_type_ids[None, :length],
    }
    if request.images is not None:
        given |= {"pixel_values": request.images.values, "image_grid_thw": request.images.grids}
    if request.video is not None:
        given |= {"pixel_values_videos": request.video.values, "video_grid_thw": request.video.grids}
    return given
