"""Whole commands over videos that crash their reader or are damaged: the run goes on, and says which failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import write_video
from rows_on_disk import rows_of

from pipeline.artefacts.rows import RelevanceRow
from pipeline.domain import Status
from pipeline.errors import VideoError
from pipeline.execution.crashes import Crashes
from pipeline.execution.processes import Limits, Pool
from pipeline.execution.reader import in_workers
from pipeline.video import Reader, candidate_times

SITE = """
import os, sys
if len(sys.argv) and sys.argv[0] == "-c":  # a worker
    import pipeline.video.backends.pyav as pyav
    before = pyav.PyAVDecoder.pictures

    def pictures(self, indices):
        with open({log!r}, "a") as log:
            print(self._scan.path.name, file=log)
        if self._scan.path.name == "bad.mp4":
            os.abort()
        yield from before(self, indices)

    pyav.PyAVDecoder.pictures = pictures
"""
SCORES = "def brightness(question, frames):\n    return [float(pixels.mean()) for _, pixels in frames]\n"
VIDEOS = ("first", "bad", "last")


def sampled(home: Path, *words: str) -> tuple[int, str, dict[str, Status], list[str]]:
    """Exit code, standard error, statuses and decoded videos of ``gens sample`` where bad.mp4 aborts its decoder."""
    log = home / "decoded.txt"
    log.write_text("")
    command = [sys.executable, "-m", "pipeline", "sample", "benchmark=jsonl", "benchmark.path=q.jsonl"]
    command += [
        "sampler=function",
        "sampler.function=own_scores.brightness",
        "plugins=[own_scores]",
        "paths.cache=cache",
    ]
    done = subprocess.run(
        [*command, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(Path(__file__).parents[2])])},
    )
    assert done.returncode < 2, done.stderr
    [folder] = (home / "runs").glob("*/")
    rows = rows_of(RelevanceRow, folder / "relevance.jsonl")
    return (
        done.returncode,
        done.stderr,
        {row.question.id: row.relevance.status for row in rows},
        log.read_text().split(),
    )


def test_a_run_goes_on_and_its_repetition_skips_what_crashed(tmp_path: Path) -> None:
    for number, name in enumerate(VIDEOS):
        write_video(tmp_path / f"{name}.mp4", seed=number)
    rest = {"question": "?", "options": ["a", "b"], "answer": "a"}
    asked = [{"id": name, "video": f"{name}.mp4", **rest} for name in VIDEOS]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    (tmp_path / "own_scores.py").write_text(SCORES)
    (tmp_path / "sitecustomize.py").write_text(SITE.format(log=str(tmp_path / "decoded.txt")))
    statuses = {"first": Status.OK, "bad": Status.UNREADABLE_VIDEO, "last": Status.OK}

    code, errors, found, decoded = sampled(tmp_path)
    assert (code, found) == (1, statuses), errors
    assert decoded.count("bad.mp4") == 2, errors  # tried once more
    assert "1 of 3 failed: 1 unreadable_video" in errors
    assert "bad.mp4 crashed the process that read it (SIGABRT)" in errors

    code, errors, found, decoded = sampled(tmp_path)
    assert (code, found) == (1, statuses), errors
    assert decoded == []
    assert "bad.mp4 in an earlier run crashed" in errors

    code, errors, found, decoded = sampled(tmp_path, "execution.retry=crashed")
    assert (code, found) == (1, statuses), errors
    assert decoded == ["bad.mp4"] * 2


@pytest.mark.long
def test_400_damaged_files_end_and_hang_nothing(tmp_path: Path) -> None:
    data = write_video(tmp_path / "whole.mp4", seconds=6).read_bytes()
    random = np.random.default_rng(0)
    pool = Pool(Limits(workers=2, deadline=20.0, memory_bytes=1 << 30, waiting_bytes=1 << 28))
    reader = in_workers(Reader("test", "auto", 1, 1.0), pool, Crashes(tmp_path, "auto", False))
    outcomes = []
    try:
        for number in range(400):
            changed = bytearray(data)
            for place in random.integers(0, len(data), int(2 ** random.uniform(0, 11))):
                changed[place] = random.integers(256)
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(changed if number % 4 else changed[: random.integers(1, len(data))])
            try:
                with reader.open(path) as source:
                    outcomes.append(len(list(source.frames_at(candidate_times(source.video, 2.0)))))
            except VideoError as error:
                outcomes.append(-1 if path.name in str(error) else -2)
        assert outcomes.count(-1) > 100
        assert -2 not in outcomes
        assert max(outcomes) == 12
        assert pool.waiting_bytes == 0
        with reader.open(tmp_path / "whole.mp4") as source:
            assert len(list(source.frames_at([0.0, 5.0]))) == 2
    finally:
        pool.close()
