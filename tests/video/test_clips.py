"""The part of a video that a question may see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made import write_video
from omegaconf import OmegaConf
from PIL import Image

from pipeline.config import build, conf_dir
from pipeline.domain import Question, Relevance, Span, Status, Video
from pipeline.errors import ClipError, VideoError
from pipeline.orchestrator import selected
from pipeline.selection.native import native_index, native_time
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video import Reader, candidate_times
from pipeline.video.clip import ClipFrames, clip_of, holds
from pipeline.video.preparing import as_decoded

VIDEO = Video("v.mp4", "f", 100.0, 25.0, 2500, 64, 64)


def test_a_stretch_holds_its_frames_and_no_other() -> None:
    clip = clip_of(VIDEO, Span(10.0, 20.0))
    assert (clip.start, clip.duration, clip.frame_count) == (10.0, 20.0, 250)
    times = [native_time(index, clip) for index in range(clip.frame_count)]
    assert (times[0], times[-1]) == (10.0, pytest.approx(19.96))
    assert native_index(times[-1], VIDEO) == 499
    assert [native_index(time, clip) for time in times] == list(range(250))
    assert candidate_times(clip, 1.0) == tuple(float(second) for second in range(10, 20))
    assert clip.fingerprint not in ("", VIDEO.fingerprint)
    for other in (Span(10.0, 21.0), Span(9.0, 20.0)):
        assert clip_of(VIDEO, other).fingerprint != clip.fingerprint


def test_between_frames_the_first_that_comes_on_screen_inside_is_the_first() -> None:
    clip = clip_of(VIDEO, Span(10.01, 10.10))
    assert clip.start == pytest.approx(10.04)
    assert clip.frame_count == 2
    moment = clip_of(VIDEO, Span(50.0, 50.0))
    assert (moment.frame_count, moment.start) == (1, 50.0)


def test_all_of_a_video_is_the_video() -> None:
    assert clip_of(VIDEO, None) is VIDEO
    assert clip_of(VIDEO, Span(0.0, 100.0)) is VIDEO
    assert clip_of(VIDEO, Span(0.0, 100.9)) is VIDEO  # annotations round
    late = replace(VIDEO, start=60.0, frame_count=1000)
    assert clip_of(late, Span(60.0, 70.0)).frame_count == 250
    assert clip_of(replace(VIDEO, fingerprint=""), Span(0.0, 9.0)).fingerprint == ""


@pytest.mark.parametrize(
    "span", [Span(120.0, 130.0), Span(100.0, 100.0), Span(50.0, 140.0), Span(20.0, 10.0), Span(-5, 3)]
)
def test_a_span_that_the_video_does_not_have(span: Span) -> None:
    with pytest.raises(ClipError, match=r"0\.00 s to 100\.00 s") as raised:
        clip_of(VIDEO, span)
    assert raised.value.status is Status.INVALID_QUESTION


def test_nothing_outside_is_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", seconds=6)
    reader = build_reader()
    clip = clip_of(reader.probe(path), Span(2.0, 4.0))
    with reader.open(path) as source:
        frames = ClipFrames(clip, source)
        assert [frame.time for frame in frames.frames_at([2.0, 3.9])] == pytest.approx([2.0, 3.75])
        for outside in (1.5, 4.5):
            with pytest.raises(VideoError, match=f"second {outside:.3f} .* is not to be seen"):
                frames.frames_at([3.0, outside] if outside > 3 else [outside])
    assert holds(clip, [2.0, 3.75])
    assert not holds(clip, [1.0])


def test_a_clip_of_unevenly_spaced_frames_begins_with_what_is_on_screen(tmp_path: Path) -> None:
    """As in a recording of a screen. The average rate would have it begin at 34.9 s, where three frames are over."""
    for second in (10, 11, 12, 30, 31, 32, 33, 90, 91, 92):
        Image.new("RGB", (8, 8), (second, 0, 0)).save(tmp_path / f"sec{second:03}.png")
    reader, span = build_reader(), Span(26.0, 92.0)
    video = reader.probe(tmp_path)
    clip = clip_of(video, span)
    assert (clip.start, clip.duration) == (26.0, 92.0)
    with reader.open(tmp_path) as source:
        frames = ClipFrames(clip, source)
        seconds = [26.0, 28.0, 30.0, 31.5, 91.9]
        times = [26.0, 26.0, 30.0, 31.0, 91.0]
        assert [frame.time for frame in frames.frames_at(seconds)] == times
        assert frames.times_of(frames.indices_at(seconds)) == times
        assert frames.times_of([0, 1]) == [10.0, 11.0]  # which are over when the clip begins
        pictures = list(frames.prepared_at(seconds, as_decoded))
        assert [(picture.time, int(picture.content[0, 0, 0])) for picture in pictures] == [
            *((26.0, 12), (30.0, 30), (31.0, 31), (91.0, 91))
        ]
    question = Question("q", str(tmp_path), "What?", span=span)
    policy = Policy("topk", 3, TopK(), ties="spread", fits="all", fill="none", fallback="none", uniform="linspace")
    chosen = selected(Relevance("q", (), (), spread="linspace"), question, video, policy, reader)
    assert [(frame.time, frame.index) for frame in chosen.frames] == [(26.0, 2), (33.0, 6)]  # spread evenly in time
    assert holds(clip, [frame.time for frame in chosen.frames])


def build_reader() -> Reader:
    made = build(OmegaConf.load(conf_dir() / "reader" / "default.yaml"), "reader")
    assert isinstance(made, Reader)
    return made
