"""Qwen3-VL-Embedding: the cosine of frame and question in the space of a vision language model.

Source: github.com/QwenLM/Qwen3-VL-Embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.families.encoders import QWEN3_VL_EMBEDDING_NAMES
from pipeline.samplers.similarity import SimilaritySampler

if TYPE_CHECKING:
    from pipeline.families.encoders.model import Qwen3VLEmbedder


@dataclass(frozen=True)
class Qwen3VLEmbeddingSampler(SimilaritySampler):
    """Any size of Qwen3-VL-Embedding."""

    kind: ClassVar[str] = "qwen3_vl_embedding"
    families: ClassVar[Mapping[str, str]] = QWEN3_VL_EMBEDDING_NAMES

    frame_instruction: str
    """The instruction for a frame; the authors' default for what is searched."""
    question_instruction: str
    """The instruction for the question; the one of the authors' examples of retrieval."""
    max_pixels: int
    """Area to which larger frames are reduced; a token is 32 x 32 pixels. The authors allow 1,843,200."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_pixels < 4096:
            raise ConfigError(
                f"max_pixels={self.max_pixels} is less than the smallest frame of this model.",
                "Set sampler.max_pixels=262144, or any number from 4096 on.",
            )

    def frame_identity(self) -> Mapping[str, Any]:
        """Instruction and size of the frames."""
        return {
            "encoder": "qwen3_vl_embedding",
            "instruction": self.frame_instruction,
            "max_pixels": self.max_pixels,
        }

    def open_encoder(self) -> Qwen3VLEmbedder:
        """Load the model."""
        from pipeline.families.encoders.model import Qwen3VLEmbedder

        return Qwen3VLEmbedder(self.checkpoint, self.frame_instruction, self.question_instruction, self.max_pixels)
