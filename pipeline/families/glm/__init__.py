"""GLM-4.6V, and the types of checkpoints that have its architecture.

The 9B of GLM-4.6V ("Flash") was published as ``glm4v``, like GLM-4.1V-Thinking, and the 106B as ``glm4v_moe``, like
GLM-4.5V: processor and chat template tell them apart, and both are read from the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.families.known import KnownModel

if TYPE_CHECKING:
    from pipeline.families.loading.checkpoint import Checkpoint
    from pipeline.families.seam import Opened

GLM46V = "glm46v"
GLM4V = "glm4v"
GLM4V_MOE = "glm4v_moe"
_DENSE = ("answerer=glm4_6v_flash", "sampler=vlm_yesno")
_KNOWN = {
    GLM46V: KnownModel("GLM-4.6V", _DENSE),
    GLM4V: KnownModel("GLM-4.6V-Flash or GLM-4.1V", _DENSE),
    GLM4V_MOE: KnownModel("GLM-4.6V or GLM-4.5V with experts", ("answerer=glm4_6v", "sampler=vlm_yesno")),
}
NAMES = {kind: known.name for kind, known in _KNOWN.items()}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[Any]:
    """For a sampler that shows one frame at a time as an image of ``max_pixels`` at most.

    Raises:
        CheckpointError: a file is missing, or is another model's; or the model always thinks first.
        ConfigError: the family has no frames as small as that.
    """
    from pipeline.families.glm import processor

    return processor.open_images(checkpoint, max_pixels)
