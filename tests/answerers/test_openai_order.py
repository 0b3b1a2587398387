"""Questions of one video reach a server next to each other, so that its prefix cache holds their frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from made import write_video
from misbehaving import completion, misbehaving, says, waits

VIDEOS, QUESTIONS = 3, 8


@pytest.mark.parametrize("at_once", [1, 4])
def test_questions_of_a_video_are_asked_next_to_each_other_with_the_same_beginning(
    at_once: int, tmp_path: Path
) -> None:
    for video in range(VIDEOS):
        write_video(tmp_path / f"{video}.mp4", seed=video)
    # As a benchmark may list them: the videos take turns.
    rows = [
        {"id": f"{video}-{number}", "video": f"{video}.mp4", "question": f"Is it {video} or {number}?"}
        for number in range(QUESTIONS)
        for video in range(VIDEOS)
    ]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with misbehaving([waits(0.02, says(completion("0")))]) as (url, heard):
        words = ["benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=uniform", "selection.budget=4"]
        server = ["answerer=vllm", "answerer.model=m", f"answerer.base_url={url}", f"execution.answer_batch={at_once}"]
        done = gens("evaluate", *words, *server, "execution.decode_workers=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(heard.bodies) == VIDEOS * QUESTIONS
    assert heard.at_once <= at_once
    turns = [body["messages"][-1]["content"] for body in heard.bodies]
    of_video = [int(words_of(turn).partition("Is it ")[2][0]) for turn in turns]
    for video in range(VIDEOS):
        places = [place for place, each in enumerate(of_video) if each == video]
        # Requests that are under way together may overtake each other.
        assert places[-1] - places[0] < QUESTIONS + 2 * (at_once - 1), of_video
        beginnings = [turns[place][:-1] for place in places]
        assert all(beginning == beginnings[0] for beginning in beginnings)
        assert sum(part["type"] == "image_url" for part in beginnings[0]) == 4


def words_of(turn: list[dict[str, Any]]) -> str:
    assert turn[-1]["type"] == "text"
    return str(turn[-1]["text"])
