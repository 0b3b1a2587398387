"""What a family of vision language models must bring so that one frame can be shown to it, the frame before the words.

Each family is a module with one class that fits :class:`SingleFrames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PreparedFrame:
    """A frame as one family's vision tower takes it."""

    values: torch.Tensor
    """In the family's own shape."""
    grid: tuple[int, int]
    """Rows and columns of its patches; frames of one grid can be looked at in one call."""
    tokens: int
    """What it becomes in the prompt."""


class SingleFrames(Protocol):
    """One checkpoint's inputs. Holds a tokenizer and image settings, and no weights."""

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's, with its chat template."""
        ...

    @property
    def placeholder(self) -> str:
        """The token that stands for an image in a rendered prompt."""
        ...

    @property
    def other_placeholders(self) -> Sequence[str]:
        """Those of what is not shown here, videos for one."""
        ...

    @property
    def markup(self) -> tuple[str, ...]:
        """Strings that the model reads as markup, so that they must not stand in a question."""
        ...

    @property
    def smaller(self) -> Sequence[str]:
        """Overrides by which a frame takes fewer tokens; none where there is no such setting."""
        ...

    def load(self) -> Any:
        """The model.

        Raises:
            CheckpointError: it cannot be loaded exactly.
        """
        ...

    def prepare(self, pixels: npt.NDArray[np.uint8]) -> PreparedFrame:
        """A frame, RGB ``[height, width, 3]``, for the vision tower.

        Raises:
            FramesError: a frame of this shape cannot be shown to the model.
        """
        ...

    def features(self, model: Any, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        """``[tokens of all frames, hidden size]``; a frame's do not depend on the others.

        Args:
            model: from :meth:`load`.
            frames: of one grid.
        """
        ...

    def positions(self, model: Any, ids: torch.Tensor, frame: PreparedFrame) -> torch.Tensor:
        """Of the prompt up to the frame's last token: ``[1, L]``, or ``[axes, 1, L]`` where the family has several.

        Text behind goes on with one more than the largest, on every axis.

        Args:
            model: from :meth:`load`.
            ids: the tokens, ``[1, L]``.
            frame: it.
        """
        ...
