"""What ``gens ask`` prints of one question."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import gens

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
