from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import write_qwen2_5_vl

from pipeline.generation.closing import JsonIsClosed

pytestmark = pytest.mark.moving


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = write_qwen2_5_vl(tmp_path_factory.mktemp("checkpoint"))
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{"11-12": 5, "33": 2} and so on', '{"11-12": 5, "33": 2}'),
        ("{}\nNo frame shows it.", "{}"),
        ('```json\n{"1": 5}\n```\nFrame 1 shows', '```json\n{"1": 5}'),
        (
            '[{"frame": 1, "score": 5}, {"frame": 2, "score": 4}] is',
            '[{"frame": 1, "score": 5}, {"frame": 2, "score": 4}]',
        ),
        ('{"scores": {"1": 5}, "why": 3} is', '{"scores": {"1": 5}, "why": 3}'),
        ('Frames [1] and [2]: {"1": 5} is', 'Frames [1] and [2]: {"1": 5}'),
        ("Frames [1] and [2] show it :-}", None),
        ('{"1": 5, "2": ', None),
    ],
)
def test_stops_with_the_answer_and_not_before(tokenizer: Any, text: str, whole: str | None) -> None:
    closed = JsonIsClosed(tokenizer)
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    stop = next((length for length in range(1, len(tokens) + 1) if closed(tokens[:length])), None)
    if whole is None:
        assert stop is None
    else:
        # A token may hold more than the brace, such as a brace and a line break.
        assert tokenizer.decode(tokens[:stop]).strip() == whole
