"""What ``gens ask`` prints of one question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gens
from made import write_video

MADE = ("benchmark=micro", "benchmark.videos=1", "benchmark.max_minutes=3.0", "limit=1", "sampler=gens_micro")


def test_the_answer_is_called_right_or_wrong_where_the_right_one_is_given(tmp_path: Path) -> None:
    sampled = gens("sample", *MADE, cwd=tmp_path)
    # Windows in which nothing is relevant are most of a long video, and no failure to tell of.
    assert "windows" not in sampled.stderr
    assert "questions: runs/sample-micro-" in sampled.stdout

    (path,) = tmp_path.glob("runs/sample-*/questions.jsonl")
    question = json.loads(path.read_text())["question"]
    options = question["options"]
    right, other = options[question["correct"]], options[question["correct"] - 1]
    words = ("sampler=gens_micro", "answerer=qwen2_vl_micro", f"video={question['video']}")
    said = {
        answer: gens(
            *("ask", *words, f"question={question['text']}", f"options={json.dumps(options)}", *given), cwd=tmp_path
        )
        for answer, given in {"": (), right: (f"answer={right}",), other: (f"answer={other}",)}.items()
    }
    letter = "ABCDEFGH"[question["correct"]]
    first = {answer: done.stdout.splitlines()[0] for answer, done in said.items()}
    assert first[""] == f"answer: {letter}. {right}"
    assert first[right] == f"answer: {letter}. {right} (right)"
    assert first[other].startswith(f"answer: {letter}. {right} (wrong: the right option is ")
    assert first[other].endswith(f"{other})")
    # The table of many questions says nothing of one.
    assert all("accuracy" not in done.stdout for done in said.values())
    assert said[""].stdout.splitlines()[-1].startswith("report: runs/ask-")


def test_a_failure_is_told_once_and_a_long_output_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "def score(question, frames):\n    return None\ndef answer(question, frames):\n    return 'x\\n' * 90_000\n"
    (tmp_path / "own_parts.py").write_text(own)
    write_video(tmp_path / "clip.mp4", seconds=2)
    asked = ("ask", "video=clip.mp4", "question=Which?", "options=[red, blue]", "plugins=[own_parts]")
    monkeypatch.syspath_prepend(tmp_path)
    answerer = ("answerer=function", "answerer.function=own_parts.answer")
    failed = gens(*asked, "sampler=function", "sampler.function=own_parts.score", *answerer, cwd=tmp_path)
    assert failed.stderr.count("own_parts.score returned None") == 1
    unread = gens(*asked, "sampler=uniform", *answerer, cwd=tmp_path)
    (said,) = (line for line in unread.stdout.splitlines() if line.startswith("the model said: "))
    assert said == f"the model said: {'x ' * 200} ..."
