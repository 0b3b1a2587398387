from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answer_rows import said
from faulty import fault_of

from pipeline.benchmarks.official import official_value, rules_for
from pipeline.benchmarks.videoeval_pro import VideoEvalPro
from pipeline.domain import Question
from pipeline.errors import ConfigError

ROW: dict[str, Any] = {
    "video": "film_3.mp4",
    "question": "What does she put on the shelf?",
    "options": ["A. A vase", "B. A clock", "C. A book", "D. A lamp"],
    "answer": "B",
    "answer_text": "A clock ",
    "meta": "x",
    "source": "mlvu",
    "qa_type": "Local Perception",
    "qa_subtype": "Entity",
}
LABELS = {"qa_type": "Local Perception", "qa_subtype": "Entity", "source": "mlvu"}


def loader(folder: Path, *rows: Any, task: Any = "open") -> VideoEvalPro:
    (folder / "test.json").write_text(json.dumps(rows))
    return VideoEvalPro("videoeval_pro", str(folder / "test.json"), None, None, None, task)


def test_a_row_is_a_free_question_with_a_reference(tmp_path: Path) -> None:
    (tmp_path / "videos_filtered").mkdir()  # lmms-eval's name of the folder
    (tmp_path / "videos_filtered" / "film_3.mp4").touch()
    first, second = loader(tmp_path, ROW, ROW).questions()
    video = str(tmp_path / "videos_filtered" / "film_3.mp4")
    assert first == Question("0", video, "What does she put on the shelf?", groups=LABELS, reference="A clock")
    assert second.id == "1"


def test_the_arm_of_multiple_choice_needs_no_reference(tmp_path: Path) -> None:
    (question,) = loader(tmp_path, ROW, task="choice").questions()
    assert (question.options, question.correct) == (("A vase", "A clock", "A book", "A lamp"), 1)
    assert question.reference == ""


def test_a_row_that_is_not_as_published_is_named(tmp_path: Path) -> None:
    assert "the answer 'E' is none of ABCD" in fault_of(loader(tmp_path, ROW, {**ROW, "answer": "E"}))
    with pytest.raises(ConfigError, match="VideoEval-Pro has no such task"):
        loader(tmp_path, ROW, task="mcq")


def test_lmms_eval_reads_a_letter_of_as_many_options_as_there_are() -> None:
    three = Question("0", "v.mp4", "?", ("x", "y", "z"), 1)
    (rule,) = rules_for("videoeval_pro")
    assert [official_value(three, said(three, text).answer, rule) for text in ("B", "D", "C")] == [1, 0, 0]
    free = Question("0", "v.mp4", "?", reference="a clock")
    assert official_value(free, said(free, "a clock").answer, rule) is None
