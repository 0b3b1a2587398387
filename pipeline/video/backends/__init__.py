"""Ways of turning native frame indices into pictures. Each imports its library only when it opens a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Decoder(Protocol):
    """An open video whose frames are read by native index."""

    @property
    def name(self) -> str:
        """As in the reader's setting."""
        ...

    @property
    def walked(self) -> int | None:
        """Frames that were decoded so far, wanted or not, as far as the codec gives them; None: unknown.

        A frame that FFmpeg is told to skip, as no other refers to it, is not given, and not counted.
        """
        ...

    def packets_to(self, indices: Sequence[int]) -> int:
        """Packets from where decoding can start to the frames of ascending native indices, each once."""
        ...

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """RGB as shown, ``[height, width, 3]``, of each of the strictly ascending native indices, as a stream.

        Raises:
            TruncatedVideoError: the file is damaged before or at a picture; those before it have been yielded.
            UnsupportedVideoError: the backend cannot give these pictures.
        """
        ...

    def close(self) -> None:
        """Free the decoder. May be called twice."""
        ...
