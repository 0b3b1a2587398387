"""Frames and prompt to the arguments of LLaVA-Video's ``forward``, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pipeline.models.llava_video_config import IMAGE_SIZE


@dataclass(frozen=True)
class LlavaVideoInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; the placeholder stands as often as the video has tokens."""
    pixels: torch.Tensor
    """``[frames, 3, 384, 384]``."""


def prompt_ids(tokenizer: Any, before: str, after: str, placeholder: int, repeats: int) -> list[int]:
    """Tokens of a prompt with a video between two texts, which the authors' ``tokenizer_image_token`` reads apart."""
    first, last = (tokenizer(text, add_special_tokens=False).input_ids for text in (before, after))
    return [*first, *[placeholder] * repeats, *last]


def frame_pixels(frames: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """Each frame as a square, its proportions given up: ``[frames, 3, 384, 384]``, values from -1 to 1.

    Scaled by Pillow (bicubic), which gives the pixels of the authors' ``SigLipImageProcessor``; torchvision's bicubic
    differs in single grey levels. The released repositories hold no image settings: these are the authors' code's.

    Args:
        frames: RGB, ``[height, width, 3]`` each.
    """
    processor = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    # One after another: as a batch they would all be held at the size of the video.
    made = (processor(frame, input_data_format="channels_last", return_tensors="pt") for frame in frames)
    return torch.cat([one["pixel_values"] for one in made]).float()


def arguments(request: LlavaVideoInputs, length: int) -> dict[str, torch.Tensor]:
    """The arguments of ``forward`` for the first ``length`` tokens of a prompt, with all of the video."""
    return {"input_ids": request.input_ids[None, :length], "pixel_values_videos": request.pixels[None]}
