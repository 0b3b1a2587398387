"""CLIP: the cosine of frame and question, the oldest of the baselines (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.families.encoders import CLIP_NAMES
from pipeline.samplers.similarity import SimilaritySampler

if TYPE_CHECKING:
    from pipeline.families.encoders.model import DualEncoder


@dataclass(frozen=True)
class ClipSampler(SimilaritySampler):
    """Any checkpoint of the CLIP architecture. Texts of more than 77 tokens are cut into pieces and averaged."""

    kind: ClassVar[str] = "clip"
    families: ClassVar[Mapping[str, str]] = CLIP_NAMES

    def frame_identity(self) -> Mapping[str, Any]:
        """Size and colours are part of the checkpoint."""
        return {"encoder": "clip"}

    def open_encoder(self) -> DualEncoder:
        """Load both towers."""
        from pipeline.families.encoders.model import DualEncoder

        return DualEncoder(self.checkpoint, self.families)
