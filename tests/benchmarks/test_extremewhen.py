from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks.extremewhen import ExtremeWhen
from pipeline.domain import AnswerForm, Question, Span

ROW: dict[str, Any] = {
    "qid": "v-1_q042",
    "video_id": "v-1",
    "source_corpus": "VideoMME",
    "question": "When does the singer drop the cup?",
    "correct_interval": [1805, 1822],
    "duration_s": 17,
    "video_duration_s": 4271,
    "category": "reaction",
}


def loader(folder: Path, content: Any) -> ExtremeWhen:
    (folder / "rows.json").write_text(json.dumps(content))
    return ExtremeWhen("extremewhen", str(folder / "rows.json"), None, None, None)


@pytest.mark.parametrize("content", [[ROW], {"questions": [ROW]}])
def test_a_row_asks_for_an_interval_and_says_which_it_is(tmp_path: Path, content: Any) -> None:
    benchmark = loader(tmp_path, content)
    (question,) = benchmark.questions()
    assert question == Question(
        id="v-1_q042",
        video=str(tmp_path / "videos" / "v-1.mp4"),
        text="When does the singer drop the cup?",
        groups={"duration_group": "60-90 min", "source_corpus": "VideoMME", "category": "reaction"},
        evidence=(Span(1805, 1822),),
        answer_form=AnswerForm.INTERVALS,
    )
    assert benchmark.durations() == {question.video: 4271.0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correct_interval": [1822, 1805]}, "correct_interval: [1822.0, 1805.0] is not an interval"),
        ({"correct_interval": [1805]}, "correct_interval: [1805.0]"),
        ({"video_duration_s": None}, "video_duration_s"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert problem in fault_of(loader(tmp_path, [ROW, {**ROW, "qid": "other", **change}]))
