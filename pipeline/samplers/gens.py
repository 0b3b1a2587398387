"""GenS: a vision language model reads the whole video window by window and names the frames that matter.

Source: "Generative Frame Sampler for Long Video Understanding", arXiv 2503.09146, and its released inference code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.models.checkpoint import Checkpoint
from pipeline.samplers.prompt import FramePrompt
from pipeline.samplers.windows import Windowing


@dataclass(frozen=True)
class FrameSize:
    """Pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class GensSampler:
    """GenS on a checkpoint of the Qwen2-VL or Qwen2.5-VL architecture."""

    name: str
    checkpoint: Checkpoint
    fps: float
    window: Windowing
    frame: FrameSize
    prompt: FramePrompt
    question_form: Literal["question", "question_and_options"]
    max_new_tokens: int
    questions_at_once: int
