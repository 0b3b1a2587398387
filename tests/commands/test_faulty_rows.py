"""A row that cannot be used, from the benchmark's file to the last line on the terminal, until it is mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import gens
from made import write_video

ROW: dict[str, Any] = {"video": "clip.mp4", "question": "Which colour?"}
WORDS = (
    *("benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=uniform"),
    *("selection.budget=1", "answerer=qwen2_vl_micro"),
)


def written(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def answers(folder: Path) -> dict[str, tuple[str, str]]:
    [run] = folder.glob("runs/evaluate-*")
    rows = [json.loads(line)["answer"] for line in (run / "answers.jsonl").read_text().splitlines()]
    return {row["question_id"]: (row["status"], row["detail"]) for row in rows}


def test_one_bad_row_costs_that_row_until_it_is_mended(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4")
    cut = {**ROW, "question": "Which \ud83d", "id": "half"}
    written(tmp_path, ROW, cut, {**ROW, "question": "", "id": "silent"})
    checked = gens("check", *WORDS, cwd=tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "rows of the benchmark that cannot be used: 1 of 3" in checked.stdout
    first = gens("evaluate", *WORDS, cwd=tmp_path)
    assert first.returncode == 1, first.stderr
    assert "cannot be asked: q.jsonl:3: the question has no text" in first.stderr
    assert "1 invalid_question" in first.stderr
    found = answers(tmp_path)
    assert {key for key, (status, _) in found.items() if status == "invalid_question"} == {"silent"}
    assert set(found) == {"1", "half", "silent"}
    assert found["silent"][1].startswith("q.jsonl:3: the question has no text")
    written(tmp_path, ROW, cut, {**ROW, "question": "Which shape?", "id": "silent"})
    second = gens("evaluate", *WORDS, cwd=tmp_path)
    assert "invalid_question" not in second.stderr
    assert answers(tmp_path)["silent"][0] != "invalid_question"


def test_selections_of_no_video_that_there_can_be_are_refused_by_name(tmp_path: Path) -> None:
    """Such as ``fps: 0``, and NaN, which JSON has no word for and Python writes."""
    video = {"path": "clip.mp4", "fingerprint": "f", "duration": 4.0, "frame_count": 100, "width": 64, "height": 48}
    frame = {"time": 1.0, "index": 25, "score": None, "source": "uniform"}
    lines = [
        {
            "key": "k",
            "sampler": "mine",
            "question": {"id": id, "video": "clip.mp4", "text": "What?", "options": [*map(str, range(options))]},
            "video": {**video, "fps": fps},
            "selection": {"question_id": id, "policy": "mine", "budget": 1, "frames": [{**frame, "time": time}]},
            "schema": "gens/selection/2",
        }
        for id, options, fps, time in [("still", 4, 0, 1.0), ("never", 4, 25, float("nan"))]
    ]
    fast = {"id": "fast", "span": {"start": 1, "end": 3}}
    lines.append({**lines[0], "video": {**video, "fps": 1e308}, "question": {**lines[0]["question"], **fast}})
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = gens("answer", "selections=s.jsonl", "answerer=qwen2_vl_micro", cwd=tmp_path)
    assert (run.returncode, "Traceback" in run.stderr) == (1, False), run.stderr
    [written] = tmp_path.glob("runs/*/answers.jsonl")
    told = [json.loads(line)["answer"] for line in written.read_text().splitlines()]
    assert [answer["status"] for answer in told] == ["invalid_output"] * 3
    assert told[0]["detail"].startswith("s.jsonl:1: no video begins at 0.0 s, ends at 4.0 s and has 0.0 frames")
    assert told[1]["detail"].startswith("s.jsonl:2: the time of a frame is not a finite number")
    assert told[2]["detail"].startswith("s.jsonl:3: no video begins at 0.0 s, ends at 4.0 s and has 1e+308 frames")
