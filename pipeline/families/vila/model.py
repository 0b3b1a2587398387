"""VILA-1.5 put together from its three folders: a Llama, a vision tower, and a projector between them.

Each part is loaded by itself and must match tensor for tensor. The Llama and the towers are stock classes of
transformers; the projector is written out here.

Source: ``LlavaMetaModel`` and ``base_projector.py`` of github.com/NVlabs/VILA at commit ec7fb2c.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import InternVLVisionConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel, SiglipVisionModel
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter, WeightRenaming
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from pipeline.families.fused import fuse
from pipeline.families.loading.checkpoint import Checkpoint, configured, load, raw_config, resolve
from pipeline.families.pixels import Levels, stacked
from pipeline.families.seam import Model, PreparedFrame, Prompt
from pipeline.families.vila.processor import (
    IMAGE_ID,
    INTERN_VIT,
    VilaConfig,
    VilaProcessor,
    check_grid,
    intern_vit_config,
)
from pipeline.generation.cached_reading import read_with_cache

if TYPE_CHECKING:
    from transformers import Cache


class VilaInternViT(InternVLVisionModel):  # type: ignore[misc]
    """InternViT-6B with the names that it has on disk. Its tensors are those of the stock class."""


register_checkpoint_conversion_mapping(
    VilaInternViT.__name__,
    [
        WeightRenaming(r"embeddings\.class_embedding", "embeddings.cls_token"),
        WeightRenaming(r"embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
        WeightRenaming(r"embeddings\.position_embedding$", "embeddings.position_embeddings"),
        WeightRenaming(r"encoder\.layers\.", "encoder.layer."),
        WeightRenaming(r"\.attn\.proj\.", ".attention.projection_layer."),
        WeightRenaming(r"\.attn\.q_norm\.", ".attention.q_norm."),
        WeightRenaming(r"\.attn\.k_norm\.", ".attention.k_norm."),
        WeightRenaming(r"\.norm1\.", ".layernorm_before."),
        WeightRenaming(r"\.norm2\.", ".layernorm_after."),
        WeightRenaming(r"\.ls1$", ".lambda_1"),
        WeightRenaming(r"\.ls2$", ".lambda_2"),
        WeightConverter(
            source_patterns=".attn.qkv.weight",
            target_patterns=[f".attention.{name}_proj.weight" for name in "qkv"],
            operations=[Chunk(dim=0)],
        ),
    ],
    overwrite=True,  # a module imported twice is not an error
)


class VilaProjectorConfig(PreTrainedConfig):  # type: ignore[misc]
    """Widths that the released file leaves to the other two parts."""

    model_type = "v2l_projector"

    vision_size: int = 0
    """Width of the vision tower."""
    hidden_size: int = 0
    """Width of the language model."""


class DownSample(nn.Module):
    """Four neighbours become one token of four times their width; the tokens go down the columns."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """``[n, s * s, C]`` to ``[n, ceil(s / 2)**2, 4C]``; an odd grid gets a last row and column of zeros."""
        count, length, width = patches.shape
        side = math.isqrt(length)
        grid = patches.view(count, side, side, width)
        if side % 2:
            grid = nn.functional.pad(grid, (0, 0, 0, 1, 0, 1))
        half = grid.shape[1] // 2
        blocks = grid.view(count, half, 2, half, 2, width)
        return blocks.permute(0, 3, 1, 2, 4, 5).reshape(count, half**2, 4 * width)


class VilaProjector(PreTrainedModel):  # type: ignore[misc]
    """``mlp_downsample``, under the names that it has on disk."""

    config_class = VilaProjectorConfig

    def __init__(self, config: VilaProjectorConfig) -> None:
        super().__init__(config)
        wide, hidden = 4 * config.vision_size, config.hidden_size
        self.layers = nn.Sequential(
            DownSample(), nn.LayerNorm(wide), nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.post_init()

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """``[n, s * s, C]`` to ``[n, ceil(s / 2)**2, hidden]``."""
        projected: torch.Tensor = self.layers(patches)
        return projected


class Vila(nn.Module):
    """The three parts: pixels and ids in, embeddings for the Llama out; it is the Llama that writes."""

    def __init__(self, llm: Any, vision_tower: Any, mm_projector: VilaProjector, config: VilaConfig) -> None:
        super().__init__()
        self.llm = llm
        self.vision_tower = vision_tower
        self.mm_projector = mm_projector
        self.config = config

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the chosen layer of the tower makes of frames ``[n, 3, S, S]``: ``[n, s * s, C]``."""
        tower = self.vision_tower
        # Taken from the layer itself: among the hidden states that transformers returns, the last has been normed.
        layers = tower.encoder.layer if self.config.tower == INTERN_VIT else tower.encoder.layers
        caught: list[Any] = []
        source = tower.embeddings if self.config.layer == 0 else layers[self.config.layer - 1]
        hook = source.register_forward_hook(lambda *call: caught.append(call[2]))
        try:
            tower(pixels.to(tower.device, tower.dtype))
        finally:
            hook.remove()
        found = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        states: torch.Tensor = found[:, 1:] if self.config.drop_class_token else found
        return states

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Frames ``[n, 3, S, S]`` as the language model sees them: ``[n, tokens of a frame, hidden]``."""
        projected: torch.Tensor = self.mm_projector(self.patches(pixels))
        return projected


class VilaModel(Model):
    """VILA-1.5: a vision tower, a projector and a Llama."""

    def __init__(self, network: Vila, processor: VilaProcessor) -> None:
        super().__init__(network)
        self._levels = Levels(processor.levels)

    @property
    def language(self) -> Any:
        """The Llama."""
        return self.network.llm

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """One call of the tower for all frames."""
        return list(self.network.features(self._pixels(frames)))

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """The Llama's, with the frames among its input embeddings."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        features = self.network.features(self._pixels(prompt.frames)).flatten(0, 1)
        return {"inputs_embeds": self.embedded(ids, ids == IMAGE_ID, features)}

    def prefill(self, prompt: Prompt, length: int, cache: Cache) -> int:
        """Only by the Llama."""
        read_with_cache(self.network.llm.model, cache, **self.arguments(prompt, length))
        return length

    def _pixels(self, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        """``[n, 3, S, S]``."""
        weight = next(self.network.vision_tower.parameters())
        return self._levels.of(stacked(frames, weight), weight)


def load_vila(checkpoint: Checkpoint, processor: VilaProcessor) -> VilaModel:
    """The three parts: the language model on the device or devices asked for, the others beside its embeddings.

    Raises:
        CheckpointError: a part is missing, or its tensors are not exactly those of its class.
    """
    folder, config = resolve(checkpoint), processor.config

    def part(name: str, **changes: Any) -> Checkpoint:
        return dataclasses.replace(checkpoint, source=str(folder / name), revision=None, **changes)

    llm = load(LlamaForCausalLM, part("llm"))
    beside = {"device": str(llm.get_input_embeddings().weight.device), "dtype": str(llm.dtype)[len("torch.") :]}
    vision = part("vision_tower", **beside)
    raw = raw_config(vision)
    check_grid(raw, config, vision.source)
    if config.tower == INTERN_VIT:
        translated = configured(InternVLVisionConfig, intern_vit_config(raw, vision.source), vision)
        tower: Any = load(VilaInternViT, vision, translated)
    else:
        tower = load(SiglipVisionModel, vision)
    sizes = VilaProjectorConfig(vision_size=tower.config.hidden_size, hidden_size=llm.config.hidden_size)
    projector = load(VilaProjector, part("mm_projector", **{**beside, "attention": "eager"}), sizes)
    network = Vila(llm, tower, projector, config)
    fuse(network)
    return VilaModel(network, processor)
