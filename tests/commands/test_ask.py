"""What ``gens ask`` prints of one question."""

from __future__ import annotations

import json
import re
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


def test_a_command_ends_on_its_answer_with_one_line_before_it(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", seconds=2)
    asked = ("question=What color is the square?", "options=[red, blue]")
    words = (*asked, "sampler=uniform", "selection.budget=2", "answerer=qwen2_vl_micro")
    done = gens("ask", "video=clip.mp4", *words, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    told = done.stderr.splitlines()
    assert told[0] == "clip.mp4, 0:02 | uniform -> topk, 2 frames -> qwen2_vl_micro | CPU"
    assert [line for line in told if re.search(r"\d/\d", line)] == []
    again = gens("ask", "video=clip.mp4", *words, cwd=tmp_path)
    assert again.stderr.splitlines()[1] == "1 of 1 already answered"
    assert "already" not in done.stderr
    (tmp_path / "text.mp4").write_text("no video")
    failed = gens("ask", "video=text.mp4", *words, cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.count("unreadable_video") == failed.stderr.count("is not a video") == 1


@pytest.mark.parametrize(
    ("video", "told"),
    [
        ("clips.mp4", "there is no video clips.mp4\n  what to do: video=clip.mp4"),
        ("nowhere/clip.mp4", "there is no video nowhere/clip.mp4\n  what to do: check the path: video="),
        ("https://example.org/clip.mp4", "is a link, and only files are read\n  what to do: download"),
    ],
)
def test_a_video_that_is_not_there_is_refused_at_once(tmp_path: Path, video: str, told: str) -> None:
    write_video(tmp_path / "clip.mp4", seconds=2)
    # The answerer's checkpoint, which cannot be had either, is not looked for.
    done = gens("ask", f"video={video}", "question=what?", "answerer.checkpoint.source=/nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()
