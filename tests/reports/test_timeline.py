from __future__ import annotations

import itertools
import re

import pytest

from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Span, Status, WindowOutput
from pipeline.reports.timeline import MAX_BARS, MAX_TICKS, clock, draw, number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (5.04, "0:05"),
        (65.4, "1:05.4"),
        (59.96, "1:00"),
        (600, "10:00"),
        (3599.99, "1:00:00"),
        (32550, "9:02:30"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_scores_are_told_short() -> None:
    assert [number(5.0), number(0.27134), number(-0.5)] == ["5", "0.271", "-0.5"]


@pytest.mark.parametrize("duration", [0.4, 1, 7, 59, 61, 90, 300, 719, 3600, 32550, 200000])
def test_ticks_are_few_apart_and_end_with_the_video(duration: float) -> None:
    ticks = draw(duration, None, (), ()).ticks
    assert 2 <= len(ticks) <= MAX_TICKS + 1
    assert ticks[0].left == 0
    assert (ticks[-1].left, ticks[-1].label, ticks[-1].anchor) == (100, clock(duration), "end")
    assert all(after.left - before.left > 8 for before, after in itertools.pairwise(ticks))
    assert len({tick.label for tick in ticks}) == len(ticks)


def _boxes(path: str) -> list[tuple[float, float, float]]:
    """(left, width, height) of each bar."""
    return [
        (float(left), float(width), 100 - float(top))
        for left, top, width in re.findall(r"M([\d.]+) 100V([\d.]+)h([\d.]+)V100z", path)
    ]


def test_bar_stands_over_its_marker_and_evidence() -> None:
    relevance = Relevance(
        "q", tuple(map(float, range(100))), tuple(5.0 if at == 40 else 1.0 if at == 7 else 0.0 for at in range(100))
    )
    line = draw(100, relevance, [SelectedFrame(40, 40, 5, FrameOrigin.SAMPLER)], [Span(38, 42)])
    ((left, width, height),) = _boxes(line.chosen_bars)
    assert left < 400 < left + width
    assert height == 100
    ((left, _, height),) = _boxes(line.bars)
    assert left == pytest.approx(65)
    assert height == 20
    assert line.markers[0].left == 40
    assert line.markers[0].title == "0:40, score 5, sampler"
    assert (line.evidence[0].left, line.evidence[0].width) == (38, 4)
    assert (line.low, line.high) == ("0", "5")
    assert "Evidence at 0:38 to 0:42." in line.summary
    assert "highest score 5, first at 0:40" in line.summary


def test_long_video_is_drawn_small_and_keeps_its_peak() -> None:
    count = 3 * 3600
    relevance = Relevance(
        "q", tuple(map(float, range(count))), tuple(5.0 if at == 8000 else 1.0 for at in range(count))
    )
    line = draw(count, relevance, (), ())
    boxes = _boxes(line.bars)
    assert len(boxes) <= MAX_BARS
    (peak,) = [left for left, _, height in boxes if height == 100]
    assert peak == pytest.approx(1000 * 8000 / count, abs=3)
    assert len(line.bars) < 12000


def test_cosines_fill_the_height() -> None:
    line = draw(4, Relevance("q", (0.0, 1.0, 2.0), (0.21, 0.25, 0.29)), (), ())
    assert [height for *_, height in _boxes(line.bars)] == [pytest.approx(50, abs=0.1), 100]
    assert (line.low, line.high) == ("0.21", "0.29")
    assert _boxes(draw(4, Relevance("q", (0.0, 1.0), (0.2, 0.2)), (), ()).bars)


def test_moment_beyond_the_end_stays_in_the_drawing() -> None:
    frame = SelectedFrame(3601, 1, None, FrameOrigin.FILL)
    line = draw(3600, None, [frame], [Span(3600, 3600)])
    assert line.markers[0].left == 100
    assert line.evidence[0].left + line.evidence[0].width <= 100
    assert line.evidence[0].width > 0
    assert line.high == ""


def test_failed_windows_are_marked_and_others_not() -> None:
    windows = tuple(
        WindowOutput(start, start + 9, "", status)
        for start, status in ((0, Status.OK), (10, Status.NOTHING_RELEVANT), (20, Status.TRUNCATED_OUTPUT))
    )
    line = draw(30, Relevance("q", (), (), windows=windows), (), ())
    assert [band.title for band in line.failed_windows] == ["window 0:20 to 0:29: truncated output"]
