"""How much is measured: the whole matrix on a GPU, or the same cells with tiny models, to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all cells."""

    tiny: bool
    """Whether the models are tiny."""
    frames: int
    """Of a window."""
    grid: tuple[tuple[int, int], ...]
    """Windows and questions of ours, for both samplers."""
    hour: tuple[int, int]
    """Windows and questions of an hour of video, for the 3B."""
    stock: tuple[tuple[int, int], ...]
    """Windows and questions of stock, for both samplers."""
    stock_of_3b: tuple[int, int]
    """And of the 3B alone; ours is measured there too."""
    profiled: tuple[int, int]
    """Windows and questions of the cell of each sampler that is profiled."""
    tokens: int
    """Of every answer of a sampler."""
    shown: int
    """Frames that an answerer sees."""
    asked: int
    """Questions that an answerer gets at once, each about frames of its own."""
    answers: tuple[int, ...]
    """Tokens of an answerer's answers."""
    stock_asked: int
    """Questions of stock, one after another."""
    piece: int
    """Seconds of video that are encoded."""
    lengths: tuple[int, ...]
    """Seconds of the video files."""
    size: tuple[int, int]
    """Width and height of the video files."""

    def videos_of(self, sampler: str) -> int:
        """Videos for each worker: enough for the 3B to take seconds."""
        return 1 if self.tiny else 6 if sampler == "gens_3b" else 3

    def cells_of(self, sampler: str) -> tuple[tuple[int, int], ...]:
        """Windows and questions for which ours is measured."""
        return (*self.grid, self.stock_of_3b, self.hour) if sampler == "gens_3b" else self.grid

    def stock_cells_of(self, sampler: str) -> tuple[tuple[int, int], ...]:
        """Windows and questions for which stock is measured."""
        return (*self.stock, self.stock_of_3b) if sampler == "gens_3b" else self.stock


# 26 questions a video are HourVideo's mean; 14 windows of 256 seconds are an hour.
FULL = Scale(
    tiny=False,
    frames=256,
    grid=((1, 1), (1, 3), (1, 26), (4, 1), (4, 3), (4, 26), (14, 1), (14, 3), (14, 26)),
    hour=(14, 2),
    stock=((1, 1), (1, 3)),
    stock_of_3b=(4, 2),
    profiled=(4, 1),
    tokens=100,
    shown=64,
    asked=8,
    answers=(16, 128),
    stock_asked=2,
    piece=60,
    lengths=(600, 3600),
    size=(1280, 720),
)
TINY = Scale(
    tiny=True,
    frames=4,
    grid=((1, 1), (1, 3), (2, 1)),
    hour=(3, 2),
    stock=((1, 1),),
    stock_of_3b=(2, 2),
    profiled=(2, 1),
    tokens=3,
    shown=3,
    asked=2,
    answers=(2,),
    stock_asked=1,
    piece=2,
    lengths=(6, 10),
    size=(160, 96),
)
