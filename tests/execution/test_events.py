"""``events.jsonl``: one event a line, bounded in number by time, whole after a kill, without secrets."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.artefacts.cache import RelevanceCache
from pipeline.domain import Status
from pipeline.execution import events
from pipeline.execution.events import EVENTS_FILE, EventLog, StageCounts, following, recording
from pipeline.progress import silently
from pipeline.secrecy import keep_secret


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / EVENTS_FILE).read_text().splitlines()]


def test_a_stage_leaves_its_beginning_and_its_counts(tmp_path: Path) -> None:
    cache = RelevanceCache(tmp_path)
    with silently(), recording(tmp_path), following("sampling", 3, cache) as finished:
        finished(Status.OK, kept=True)
        cache.hits += 1
        finished(Status.OK)
        finished(Status.UNREADABLE_VIDEO)
    first, last = lines(tmp_path)
    assert first["event"] == "stage"
    assert (first["stage"], first["total"]) == ("sampling", 3)
    counts = {"done": 3, "total": 3, "kept": 1, "cached": 1, "failed": {"unreadable_video": 1}}
    assert {name: last[name] for name in counts} == counts


def test_counts_of_an_interrupted_stage_are_written(tmp_path: Path) -> None:
    def interrupted() -> None:
        with silently(), recording(tmp_path), following("answering", 3, RelevanceCache(tmp_path)) as finished:
            finished(Status.OK)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert lines(tmp_path)[-1]["done"] == 1


def test_rows_that_come_fast_are_counted_together(tmp_path: Path) -> None:
    """A hundred rows a second for an hour, and then for a day: a few thousand events."""
    clock = Clock()
    counts = StageCounts("sampling", 10**9)
    with EventLog(tmp_path / EVENTS_FILE, clock, clock) as log:
        for _ in range(3600 * 100):
            clock.seconds += 0.01
            counts.done += 1
            log.counted(counts)
        hour = len(lines(tmp_path))
        for _ in range(23 * 3600):
            clock.seconds += 1
            counts.done += 100
            log.counted(counts)
    told = lines(tmp_path)
    assert 600 < hour < 1800
    assert len(told) - hour < 23 * 3600 / 6
    gaps = [later["elapsed"] - sooner["elapsed"] for sooner, later in pairwise(told)]
    assert min(gaps) >= 0.99
    assert max(gaps) <= 11


def test_signs_of_life_before_the_first_row_are_about_the_stage_that_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may take minutes to load."""
    monkeypatch.setattr(events, "BEAT", 0.02)
    cache = RelevanceCache(tmp_path)
    with silently(), recording(tmp_path):
        with following("sampling", 3, cache) as finished:
            finished(Status.OK)
        with following("answering", 2, cache):
            limit = time.monotonic() + 60
            while len(lines(tmp_path)) < 6 and time.monotonic() < limit:
                time.sleep(0.02)
    told = lines(tmp_path)
    [began] = [place for place, line in enumerate(told) if (line["event"], line["stage"]) == ("stage", "answering")]
    assert len(told) > began + 2
    assert {line["stage"] for line in told[began:]} == {"answering"}


def test_of_two_stages_that_overlap_none_falls_behind(tmp_path: Path) -> None:
    clock = Clock()
    sampling, answering = (StageCounts(name, 100) for name in ("sampling", "answering"))
    with EventLog(tmp_path / EVENTS_FILE, clock, clock) as log:
        log.begin(sampling)
        log.begin(answering)
        clock.seconds = 5
        sampling.done, answering.done = 40, 30
        log.counted(answering)
        assert {line["stage"]: line["done"] for line in lines(tmp_path)[2:]} == {"sampling": 40, "answering": 30}
        log.ended(sampling)
        clock.seconds = 10
        log.counted(answering)
    assert [line["stage"] for line in lines(tmp_path)[4:]] == ["sampling", "answering"]


def test_a_cut_line_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_text('{"event": "start"}\n{"event": "prog')
    with EventLog(tmp_path / EVENTS_FILE) as log:
        log.write("start")
    whole = (tmp_path / EVENTS_FILE).read_text().splitlines()
    assert whole[1] == '{"event": "prog'
    assert json.loads(whole[2])["event"] == "start"


def test_no_secret_is_written(tmp_path: Path) -> None:
    keep_secret("aVerySecretValue", "MY_KEY")
    with EventLog(tmp_path / EVENTS_FILE) as log:
        log.write("end", problem="refused: aVerySecretValue and sk-abcdefghijklmnop")
    text = (tmp_path / EVENTS_FILE).read_text()
    assert "aVerySecretValue" not in text
    assert "sk-abc" not in text
    assert json.loads(text)["event"] == "end"


def test_events_that_cannot_be_written_do_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).mkdir()
    with EventLog(tmp_path / EVENTS_FILE) as log:
        log.write("start")


def test_a_silent_command_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT", 0.02)
    counts = StageCounts("sampling", 8, done=5)
    with EventLog(tmp_path / EVENTS_FILE) as log:
        log.write("start")
        log.counted(counts)
        for _ in range(3000):
            if len(lines(tmp_path)) >= 3:
                break
            log._closed.wait(0.02)
    assert lines(tmp_path)[2]["done"] == 5
