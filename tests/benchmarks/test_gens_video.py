from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks.gens_video import Fields, GenSVideo
from pipeline.domain import Span
from pipeline.errors import ConfigError, InputError

ROW: dict[str, Any] = {
    "video": "clip.mp4",
    "question": "What does she put down?",
    "answer": "A cup.",
    "frames": {"30s-35s": 5, "25s": 4, "40s-45s": 1},
}
NAMES = Fields(video="video", question="question", frames="frames", id=None, answer=None)


def write(folder: Path, *rows: dict[str, Any], fields: Fields = NAMES, evidence_from: float = 4) -> GenSVideo:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return GenSVideo("gens_video", str(folder / "train.jsonl"), None, None, None, fields, evidence_from)


def test_highly_scored_stretches_are_the_evidence_of_a_free_question(tmp_path: Path) -> None:
    as_text = {**ROW, "frames": json.dumps({"5s-10s": 3})}
    first, second = write(tmp_path, ROW, as_text).questions()
    assert (first.id, first.text, first.options) == ("1", "What does she put down?", None)
    assert first.video == str(tmp_path / "videos" / "clip.mp4")
    assert first.evidence == (Span(30, 35), Span(25, 25))
    assert second.evidence is None
    (low, _) = write(tmp_path, ROW, as_text, evidence_from=1).questions()
    assert low.evidence == (Span(30, 35), Span(25, 25), Span(40, 45))


def test_the_names_of_the_fields_are_settings(tmp_path: Path) -> None:
    row = {"path": "clip.mp4", "q": "What?", "relevance": {"5s": 5}, "key": 7, "a": " A cup. "}
    (question,) = write(tmp_path, row, fields=Fields("path", "q", "relevance", "key", "a")).questions()
    assert (question.id, question.text, question.evidence) == ("7", "What?", (Span(5, 5),))
    assert question.reference == "A cup."
    with pytest.raises(InputError) as error:
        write(tmp_path, row).questions()
    assert "train.jsonl:1: there is no field 'video'; there are path, q, relevance, key" in error.value.problem
    assert "benchmark.fields.video=" in error.value.remedy


@pytest.mark.parametrize("frames", [{"soon": 5}, "[1", [5], {"10s-5s": 3}, {"5s": "high"}])
def test_scores_in_another_form_are_refused_with_their_row(tmp_path: Path, frames: Any) -> None:
    assert "train.jsonl:2" in fault_of(write(tmp_path, ROW, {**ROW, "frames": frames}))


def test_a_score_that_no_frame_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="evidence_from"):
        write(tmp_path, ROW, evidence_from=6)
