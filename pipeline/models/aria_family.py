"""Which form of Aria is before us, GenS as released (``yi_vl``) or transformers' own (``aria``), and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.models import yi_vl_config
from pipeline.models.checkpoint import Checkpoint, configured, load, model_type, raw_config
from pipeline.models.yi_vl_config import CANVAS, PATCH

if TYPE_CHECKING:
    import torch

ARIA = "aria"
NAMES = {yi_vl_config.MODEL_TYPE: "GenS (yi_vl)", ARIA: "Aria"}


def load_aria(checkpoint: Checkpoint) -> Any:
    """The model as ``AriaForConditionalGeneration``, with the authors' routers.

    Raises:
        CheckpointError: it is another model, its config cannot be represented, or its tensors are not exactly those.
    """
    from transformers import AriaConfig, AriaForConditionalGeneration

    from pipeline.models.yi_vl import YiVlAria, route_as_deepseek

    if model_type(checkpoint, NAMES) == ARIA:
        model: Any = load(AriaForConditionalGeneration, checkpoint)
        route_as_deepseek(model, renormalise=True)
    else:
        raw = raw_config(checkpoint)
        config = configured(AriaConfig, yi_vl_config.aria_config(raw, checkpoint.source), checkpoint)
        model = load(YiVlAria, checkpoint, config)
        route_as_deepseek(model, yi_vl_config.renormalises(raw))
    return model


def place_patches_exactly(model: Any) -> None:
    """Give the patches of a full canvas their positions in integers.

    The model's code finds them by comparing fractions. On the canvas of 490 pixels each lies exactly on a boundary of
    the table for 980, so that the rounding of the device decides; in integers there is nothing to round.
    """
    import torch

    embeddings = model.model.vision_tower.embeddings
    rows = torch.tensor(position_rows(embeddings.image_size))

    def exact(_: Any, found: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (rows.to(found[0].device).expand(found[0].shape),)

    embeddings.position_embedding.register_forward_pre_hook(exact)


def position_rows(image_size: int) -> list[int]:
    """For each patch of the canvas, row-major, its row in the position table of images ``image_size`` pixels a side."""
    side, table = CANVAS // PATCH, image_size // PATCH
    places = [index * table // side for index in range(side)]
    return [row * table + column for row in places for column in places]
