"""Steps of the work on a video, told to whoever follows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import write_video

from pipeline import Session
from pipeline.progress import Step, steps_told


class _EnoughError(Exception):
    pass


def test_windows_are_told_as_they_are_read_and_the_listener_may_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))
    clip = write_video(tmp_path / "clip.mp4", seconds=6)
    told: list[Step] = []

    def enough(step: Step) -> None:
        raise _EnoughError

    with Session(
        sampler=("gens_micro", {"max_new_tokens": 2, "window": {"frames": 2, "overlap": 0}}),
        answerer="qwen2_vl_micro",
        execution={"decode_workers": 0},
    ) as session:
        with steps_told(enough), pytest.raises(_EnoughError):
            session.select(clip, "What color is the square?")
        with steps_told(told.append):
            session.select(clip, "What color is the square?")
    decoded = [step for step in told if step.what == "decoded"]
    assert {(step.video, step.done, step.total) for step in decoded} == {(str(clip), 6, 6)}
    windows = [step for step in told if step.what != "decoded"]
    assert {(step.video, step.what, step.total) for step in windows} == {(str(clip), "windows", 3)}
    done = [step.done for step in windows]
    assert done == sorted(done)
    assert {0, 3} <= set(done)  # the listener is called before the first window is read, too: it may end the work
