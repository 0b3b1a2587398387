"""The model under GenS, whichever family it is of: what the sampler asks of it, and which one a checkpoint gets.

Families differ in how a prompt holds an image, in what a frame's pixels and features are, in positions and in how a
turn ends. All of that lies behind this seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import ConfigError
from pipeline.models import aria_family, qwen_family
from pipeline.models.checkpoint import Checkpoint, model_type, raw_config
from pipeline.samplers.aria_frames import Canvas
from pipeline.samplers.frames import FrameForm, FrameSize
from pipeline.samplers.prompt import FramePrompt

if TYPE_CHECKING:
    import torch

    from pipeline.inference.greedy import Generated
    from pipeline.inference.shared_prefix import Prefix
    from pipeline.models.qwen_pixels import Pixels


class Backbone(Protocol):
    """A loaded checkpoint that reads windows of frames and writes about them."""

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        ...

    @property
    def markup(self) -> Sequence[str]:
        """What in a question the tokenizer would take for the model's own control tokens."""
        ...

    def features(self, frames: Sequence[Pixels]) -> list[torch.Tensor]:
        """Each frame as the language model sees it, ``[tokens, hidden size]``, whatever window it is in.

        Args:
            frames: RGB ``[height, width, 3]``, as the family's frame form makes them.
        """
        ...

    def prefix(self, features: Sequence[torch.Tensor]) -> Prefix:
        """Read the prompt of a window up to its last frame.

        Args:
            features: of the window's frames, in order.

        Raises:
            ConfigError: the window is longer than the model's context.
        """
        ...

    def suffix(self, question: str) -> list[int]:
        """The tokens of the prompt behind the last frame; they are the same for every number of frames."""
        ...

    def write(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """Greedy answers, each up to its end or the end of its JSON.

        Args:
            prefix: of the window.
            suffixes: from :meth:`suffix`, decoded together.
            max_new_tokens: a limit for each.
        """
        ...


def open_backbone(checkpoint: Checkpoint, prompt: FramePrompt, frame: FrameForm) -> Backbone:
    """Load a checkpoint as what its ``config.json`` says it is.

    Raises:
        CheckpointError: it is of no known family, or cannot be loaded exactly.
        ConfigError: its family takes frames of another form.
    """
    check_backbone(checkpoint, frame)
    if isinstance(frame, Canvas):
        from pipeline.samplers.aria_backbone import AriaBackbone

        return AriaBackbone(checkpoint, prompt, frame)
    from pipeline.samplers.qwen_backbone import QwenBackbone

    assert isinstance(frame, FrameSize)
    return QwenBackbone(checkpoint, prompt, frame)


def check_backbone(checkpoint: Checkpoint, frame: FrameForm) -> None:
    """See by its ``config.json`` that a checkpoint is of a known family, and that its frames have the family's form.

    Raises:
        CheckpointError: it is of no known family.
        ConfigError: its family takes frames of another form.
    """
    family = model_type(checkpoint, {**aria_family.NAMES, **qwen_family.NAMES})
    if family in aria_family.NAMES and not isinstance(frame, Canvas):
        raise _unfit(checkpoint, aria_family.NAMES[family], "gens")
    if family in qwen_family.NAMES and not isinstance(frame, FrameSize):
        raise _unfit(checkpoint, qwen_family.NAMES[family], "gens_3b")


def context_tokens(checkpoint: Checkpoint) -> int | None:
    """Tokens that the model reads at once, by its ``config.json``; none where that does not say.

    Raises:
        CheckpointError: it is of no known family, or the checkpoint cannot be found.
    """
    if model_type(checkpoint, {**aria_family.NAMES, **qwen_family.NAMES}) in qwen_family.NAMES:
        return qwen_family.context_tokens(checkpoint)
    found = (raw_config(checkpoint).get("text_config") or {}).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _unfit(checkpoint: Checkpoint, family: str, sampler: str) -> ConfigError:
    return ConfigError(
        f"{checkpoint.source} is {family}, which takes frames of another form than this sampler's.",
        f"Take sampler={sampler} sampler.checkpoint.source={checkpoint.source}.",
    )
