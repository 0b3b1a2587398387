"""Hours of video: as many windows as that is, every frame through the vision tower once, memory of one window."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import torch
from omegaconf import OmegaConf
from tiny import write_qwen2_5_vl

from pipeline.config import build, conf_dir
from pipeline.domain import Question
from pipeline.samplers.backbone import Backbone
from pipeline.samplers.gens import GensSampler
from pipeline.video import Reader

OVERLAP = 64
"""Frames in two windows, which are to be looked at once all the same."""


@pytest.fixture(scope="module", params=[3600, pytest.param(3 * 3600, marks=pytest.mark.long)], ids=["1 h", "3 h"])
def seconds(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, seconds: int) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    dice = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(seconds):
            color = dice.integers(0, 255, 3, dtype=np.uint8)
            picture = np.broadcast_to(color, (32, 32, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_hours_are_read_window_by_window(
    film: Path, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = OmegaConf.merge(
        OmegaConf.load(conf_dir() / "sampler" / "gens_3b.yaml"),
        {
            "checkpoint": {"source": str(write_qwen2_5_vl(tmp_path / "model")), "device": "cpu"},
            "frame": {"height": 28, "width": 28},
            "window": {"overlap": OVERLAP},
            "max_new_tokens": 1,
        },
    )
    sampler = build(OmegaConf.create(node), "sampler")
    assert isinstance(sampler, GensSampler)
    seen: list[int] = []
    memory: list[int] = []
    stock = Backbone.features

    def counting(backbone: Backbone, frames: Any) -> list[torch.Tensor]:
        seen.append(len(frames))
        memory.append(psutil.Process().memory_info().rss)
        return stock(backbone, frames)

    monkeypatch.setattr(Backbone, "features", counting)
    with Reader("reader", "pyav", 1, 1.0).open(film) as source:
        (relevance,) = sampler.score(source.video, source, [Question("q", str(film), "when is it red?")])

    step = 256 - OVERLAP
    count = 1 + math.ceil((seconds - 256) / step)
    assert len(relevance.windows) == count
    assert relevance.times == tuple(float(second) for second in range(seconds))
    assert [window.start for window in relevance.windows] == [float(step * number) for number in range(count)]
    assert relevance.windows[-1].end == seconds - 1
    assert sum(seen) == seconds
    # What the first windows took is not given back, and nothing comes on top of it.
    assert memory[-1] - memory[4] < 100e6
