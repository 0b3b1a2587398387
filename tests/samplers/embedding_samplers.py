"""Samplers as the command line makes them, over tiny checkpoints; and a video that counts what is decoded of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from made import write_video
from omegaconf import OmegaConf
from PIL import Image

from pipeline.config import build
from pipeline.domain import Frame, FrameSource, Question, Video
from pipeline.video import Reader

READER = Reader("reader", "pyav", 1, 1.0)
CONF = Path(__file__).parents[2] / "conf" / "sampler"


def built(name: str, checkpoint: Path, store: Path, *overrides: str) -> Any:
    """``conf/sampler/NAME.yaml`` with a checkpoint on the CPU."""
    config = OmegaConf.merge(
        {"paths": {"cache": str(store)}, "sampler": OmegaConf.load(CONF / f"{name}.yaml")},
        {"sampler": {"checkpoint": {"source": str(checkpoint), "device": "cpu", "attention": "sdpa"}}},
        OmegaConf.from_dotlist([f"sampler.{override}" for override in overrides]),
    )
    return build(config.sampler, "sampler")


class Counted:
    """An open video, and how many frames were asked of it."""

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.asked = 0

    @property
    def video(self) -> Video:
        return self.source.video

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        self.asked += len(seconds)
        return self.source.frames_at(seconds)


@contextmanager
def counted(path: Path, **clip: Any) -> Iterator[Counted]:
    """A made video, open."""
    if not path.exists():
        write_video(path, **clip)
    with READER.open(path) as source:
        yield Counted(source)


def write_folder(folder: Path, source: FrameSource, seconds: Sequence[float], first: int = 0) -> Path:
    """What is on screen at these seconds, as a folder of frames numbered from ``first`` on."""
    folder.mkdir()
    for number, frame in enumerate(source.frames_at(seconds), first):
        Image.fromarray(frame.pixels).save(folder / f"sec{number:03d}.png")
    return folder


def ask(*texts: str, options: tuple[str, ...] | None = None) -> list[Question]:
    return [Question(f"q{place}", "clip.mp4", text, options) for place, text in enumerate(texts)]


def pictures(source: FrameSource, seconds: int) -> list[Frame]:
    return list(source.frames_at([float(second) for second in range(seconds)]))
