"""The shipped micro models do what their cards say, on a video that is made here and was never trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from command_line import gens

from pipeline.config import PACKAGE

MODELS = ("gens_micro", "qwen2_vl_micro", "llava_onevision_micro")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[dict[str, Any]]]:
    """Rows of answers.jsonl by answerer, from one sweep through the command line."""
    home = tmp_path_factory.mktemp("home")
    words = ("benchmark=micro", "benchmark.videos=1", "benchmark.seed=987654", "benchmark.max_minutes=3.0")
    parts = ("sampler=gens_micro", "answerer=qwen2_vl_micro,llava_onevision_micro")
    done = gens("evaluate", "-m", *words, *parts, cwd=home)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((home / "runs").rglob("answers.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[rows[0]["answerer"]] = rows
    return found


@pytest.mark.parametrize("answerer", MODELS[1:])
def test_every_kind_of_question_is_answered_from_the_frames_that_show_it(
    runs: Mapping[str, list[dict[str, Any]]], answerer: str
) -> None:
    rows = runs[answerer]
    assert {row["question"]["groups"]["kind"] for row in rows} == {"attribute", "shape", "before", "after", "count"}
    right = sum(row["answer"]["option"] == row["question"]["correct"] for row in rows)
    assert right >= 4  # of 5; a guess is right once or twice
    for row in rows:
        assert len(row["answer"]["frame_times"]) <= 8
        for span in row["question"]["evidence"]:
            seen = row["answer"]["frame_times"]
            assert any(span["start"] - 1 <= time <= span["end"] + 1 for time in seen)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_is_small_and_says_what_it_is(name: str) -> None:
    folder = PACKAGE / "checkpoints" / name
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 12_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    for part in ("Data", "Training", "Scores", "What it is not for"):
        assert f"## {part}" in card


@pytest.mark.parametrize("name", MODELS)
def test_the_tokenizer_keeps_numbers_and_words_whole_and_writes_any_text(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(PACKAGE / "checkpoints" / name, local_files_only=True)
    for word in (*map(str, range(1000)), " red", " triangle", "Question", " immediately"):
        assert len(tokenizer(word)["input_ids"]) == 1
    for text in ("größer 世界 \U0001f600 12345", "a\n\n  b\tc", '{"11-12": 5, "16-21": 4}'):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
