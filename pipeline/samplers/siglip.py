"""SigLIP (arXiv 2303.15343) and SigLIP 2 (arXiv 2502.14786): the cosine of frame and question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.families.encoders import SIGLIP_NAMES
from pipeline.samplers.similarity import SimilaritySampler

if TYPE_CHECKING:
    from pipeline.families.encoders.model import DualEncoder


@dataclass(frozen=True)
class SiglipSampler(SimilaritySampler):
    """Any checkpoint of SigLIP, or of SigLIP 2 with a fixed size or any aspect; its ``config.json`` says which.

    Texts of more than 64 tokens are cut into pieces and averaged. The models' own sigmoid, its scale and bias are left
    out: they change no order.
    """

    kind: ClassVar[str] = "siglip"
    # SigLIP 2 of one fixed size says that it is a siglip; only those for any aspect say siglip2.
    families: ClassVar[Mapping[str, str]] = SIGLIP_NAMES

    def frame_identity(self) -> Mapping[str, Any]:
        """Size and colours are part of the checkpoint."""
        return {"encoder": "siglip"}

    def open_encoder(self) -> DualEncoder:
        """Load both towers."""
        from pipeline.families.encoders.model import DualEncoder

        return DualEncoder(self.checkpoint, self.families)
