"""The two forms in which LLaVA-OneVision takes the frames of a video, and what each costs and tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.answerers.labels import ORDER_ALONE, FrameLabels
from pipeline.domain import Frame
from pipeline.models.chat import VIDEO, Content, text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tower:
    """The picture side of a checkpoint."""

    image_size: int
    """Pixels of a side, to which every frame is scaled."""
    patch_size: int
    image_token_id: int
    video_token_id: int

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


class LlavaForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels."""
        ...

    def placeholder_id(self, tower: Tower) -> int:
        """The token that stands for a picture."""
        ...

    def content(self, placeholder: str, frames: Sequence[Frame], words: str) -> Content:
        """The user's turn: frames, then ``words``. Each ``placeholder`` in it stands for all tokens of its picture."""
        ...

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """How often each placeholder of the content is repeated, in order."""
        ...

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """The frames as the vision tower takes them: ``[frames, 3, image_size, image_size]``."""
        ...

    def model_inputs(self, pixels: Sequence[Pixels], sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """The picture arguments of ``forward`` for a batch.

        Args:
            pixels: of each request, as :meth:`pixels` gives them.
            sizes: height and width of every frame of the batch, as decoded.
        """
        ...

    def alike(self, frames: int) -> int:
        """Requests whose numbers of frames give equal values can go into one batch."""
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Each frame is an image of its own with its second in text before it, as in the model's multi-image training.

    An image of a multi-image prompt is one patch of base resolution: padded to a square with the mean colour, scaled to
    ``image_size``, ``grid**2`` tokens and one newline token. Transformers cuts a *lone* image into up to ten tiles
    ("anyres"); a selection of one frame is treated here like any other frame instead, so that a frame shows and costs
    the same whatever the budget, and budgets can be compared.

    Source: Li et al. 2024, "LLaVA-OneVision: Easy Visual Task Transfer"; ``LlavaOnevisionImageProcessor`` and
    ``LlavaOnevisionModel.pack_image_features`` of transformers.
    """

    labels: FrameLabels

    kind: ClassVar[str] = "images"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label."""
        return self.labels.most_tokens()

    def placeholder_id(self, tower: Tower) -> int:
        """``<image>``."""
        return tower.image_token_id

    def content(self, placeholder: str, frames: Sequence[Frame], words: str) -> Content:
        """One piece of text with the placeholders in it.

        The chat template of these checkpoints moves pictures that are pieces of their own to the front, away from
        their labels.
        """
        shown = "".join(f"{self.labels.before(frame.time)}{placeholder}{self.labels.after}" for frame in frames)
        return [text(shown + words)]

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """730 for each frame at 384 pixels."""
        return [tower.grid**2 + 1] * frames

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """Padded to squares, then scaled."""
        background = tuple(int(mean * 255) for mean in processor.image_mean)
        return _scaled(processor, [processor.pad_to_square(_channels_first(f), background) for f in frames])

    def model_inputs(self, pixels: Sequence[Pixels], sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """``pixel_values`` is ``[frames of the batch, 1 patch, 3, image_size, image_size]``."""
        import numpy as np
        import torch

        return {
            "pixel_values": torch.from_numpy(np.concatenate(pixels))[:, None],
            "image_sizes": torch.tensor(sizes),
            # All frames of the batch count as one prompt's: an entry of 1 would be taken for a lone image with tiles.
            "batch_num_images": torch.tensor([max(2, len(sizes))]),
        }

    def alike(self, frames: int) -> int:
        """Any numbers of frames go together."""
        return 0


@dataclass(frozen=True)
class VideoForm:
    """The frames are a video: evenly spaced for all that the model knows, for it is told no times.

    Each is scaled to a square whatever its shape, its patches are pooled to ``ceil(grid / 2)**2`` tokens (196 at 384
    pixels), and one newline token ends the video.

    Source: as :class:`ImagesForm`; ``LlavaOnevisionVideoProcessor`` and ``LlavaOnevisionModel.apply_pooling``. Scaled
    by Pillow here, since that processor needs torchvision, whose bicubic differs from Pillow's in single grey levels.
    """

    kind: ClassVar[str] = "video"

    def time_told(self) -> str:
        """The model has no means to be told."""
        return ORDER_ALONE

    def text_tokens(self) -> int:
        """None."""
        return 0

    def placeholder_id(self, tower: Tower) -> int:
        """``<video>``."""
        return tower.video_token_id

    def content(self, placeholder: str, frames: Sequence[Frame], words: str) -> Content:
        """The chat template writes the placeholder."""
        return [VIDEO, text(words)]

    def counts(self, tower: Tower, frames: int) -> list[int]:
        """One placeholder for all frames."""
        return [frames * math.ceil(tower.grid / 2) ** 2 + 1]

    def pixels(self, processor: Any, frames: Sequence[Frame]) -> Pixels:
        """Scaled, proportions given up."""
        return _scaled(processor, [_channels_first(frame) for frame in frames])

    def model_inputs(self, pixels: Sequence[Pixels], sizes: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """``pixel_values_videos`` is ``[requests, frames, 3, image_size, image_size]``."""
        import numpy as np
        import torch

        return {"pixel_values_videos": torch.from_numpy(np.stack(pixels))}

    def alike(self, frames: int) -> int:
        """Only equal numbers go together: the model takes the videos of a batch as one tensor."""
        return frames


def _channels_first(frame: Frame) -> npt.NDArray[np.uint8]:
    return frame.pixels.transpose(2, 0, 1)


def _scaled(processor: Any, images: Sequence[npt.NDArray[np.uint8]]) -> Pixels:
    import numpy as np
    from transformers.image_utils import SizeDict

    size = SizeDict(height=processor.size["height"], width=processor.size["width"])
    scaled = (processor.resize(image, size=size, resample=processor.resample) for image in images)
    rescaled = (processor.rescale(image, processor.rescale_factor) for image in scaled)
    normal = [processor.normalize(image, processor.image_mean, processor.image_std) for image in rescaled]
    return np.stack(normal).astype(np.float32, copy=False)
