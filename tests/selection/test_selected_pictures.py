"""The selection's native index is the index of the picture that the video room gives for its second."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from pipeline.config import build, conf_dir
from pipeline.domain import Relevance
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.selection.uniform import VARIANTS

av = pytest.importorskip("av")


def write_video(path: Path, rate: Fraction, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), number % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(24000, 1001), Fraction(15, 2)])
def test_selected_indices_are_those_of_the_decoded_pictures(rate: Fraction, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", rate, 180)
    reader = build(OmegaConf.load(conf_dir() / "reader" / "default.yaml"), "reader")
    with reader.open(tmp_path / "clip.mp4") as source:
        seconds = tuple(float(second) for second in range(int(source.video.duration)))
        relevances = [Relevance("q", (), (), spread=variant) for variant in VARIANTS]
        relevances.append(Relevance("q", seconds, tuple(1.0 + second % 3 for second in seconds)))
        for relevance in relevances:
            for budget in (1, 7, 180):
                policy = Policy("topk", budget, TopK(), "spread", "all", "uniform", "none", "midpoint")
                selected = policy.select(relevance, source.video).frames
                decoded = list(source.frames_at([frame.time for frame in selected]))
                assert [frame.index for frame in decoded] == [frame.index for frame in selected]
                assert len(selected) == budget
