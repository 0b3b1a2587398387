"""The shipped micro models do what their cards say, on a video that is made here and was never trained on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from command_line import gens
from rows_on_disk import rows_of

from pipeline.artefacts.rows import AnswerRow
from pipeline.config import PACKAGE

MODELS = ("gens_micro", "qwen2_vl_micro", "llava_onevision_micro")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[AnswerRow]]:
    """Rows of answers.jsonl by answerer, from one sweep through the command line."""
    home = tmp_path_factory.mktemp("home")
    words = ("benchmark=micro", "benchmark.videos=1", "benchmark.seed=987654", "benchmark.max_minutes=3.0")
    parts = ("sampler=gens_micro", "answerer=qwen2_vl_micro,llava_onevision_micro")
    done = gens("evaluate", "-m", *words, *parts, cwd=home)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[AnswerRow]] = {}
    for path in sorted((home / "runs").rglob("answers.jsonl")):
        rows = rows_of(AnswerRow, path)
        found[rows[0].answerer] = rows
    return found


@pytest.mark.parametrize("answerer", MODELS[1:])
def test_every_kind_of_question_is_answered_from_the_frames_that_show_it(
    runs: Mapping[str, list[AnswerRow]], answerer: str
) -> None:
    rows = runs[answerer]
    assert {row.question.groups["kind"] for row in rows} == {"attribute", "shape", "before", "after", "count"}
    assert sum(row.correct is True for row in rows) >= 4  # of 5; a guess is right once or twice
    for row in rows:
        seen = row.answer.frame_times
        assert len(seen) <= 8
        for span in row.question.evidence or ():
            assert any(span.start - 1 <= time <= span.end + 1 for time in seen)


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
