from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks import MeasuredBenchmark
from pipeline.benchmarks.lvbench import LVBench, evidence_of
from pipeline.benchmarks.options import parted
from pipeline.domain import Span
from pipeline.errors import InputError

REAL = "GENS_LVBENCH"
"""Names the real video_info.meta.jsonl, which is not ours to ship."""
QA: dict[str, Any] = {
    "uid": "55",
    "question": "What year appears?\n(A) 1636\n(B) 1366 (A.D.)\n(C) 1363\n(D) 1633",
    "answer": "D",
    "question_type": ["key information retrieval", "reasoning"],
    "time_reference": "00:15-00:19",
}


def write(folder: Path, *rows: dict[str, Any] | None) -> LVBench:
    video = {
        "key": "Cm",
        "type": "cartoon",
        "qa": rows,
        "video_info": {"duration_minutes": 61.5, "fps": 24.0, "resolution": {"width": 1280, "height": 720}},
    }
    (folder / "video_info.meta.jsonl").write_text(json.dumps(video) + "\n")
    return LVBench("lvbench", str(folder / "video_info.meta.jsonl"), None, None, None)


def test_options_leave_the_text_and_ids_are_text(tmp_path: Path) -> None:
    benchmark = write(tmp_path, QA, {**QA, "uid": 56, "time_reference": "None-None"})
    assert isinstance(benchmark, MeasuredBenchmark)
    first, second = benchmark.questions()
    assert (first.id, second.id) == ("55", "56")
    assert first.text == "What year appears?"
    assert first.options == ("1636", "1366 (A.D.)", "1363", "1633")
    assert first.correct == 3
    assert first.video == str(tmp_path / "videos" / "Cm.mp4")
    assert first.groups == {
        "duration_group": "60-90 min",
        "type": "cartoon",
        "question_type/key information retrieval": "key information retrieval",
        "question_type/reasoning": "reasoning",
    }
    assert first.evidence == (Span(15, 19),)
    assert second.evidence is None
    assert benchmark.durations() == {first.video: 3690.0}


@pytest.mark.parametrize(
    ("reference", "evidence"),
    [
        ("00:00-114:16", (Span(0, 6856),)),
        ("101:21-101:21", (Span(6081, 6081),)),
        ("08:17-None", None),
        ("116:50-108:00", None),
        ("", None),
        (None, None),
    ],
)
def test_time_references(reference: str | None, evidence: tuple[Span, ...] | None) -> None:
    assert evidence_of(reference) == evidence


def test_a_row_that_is_not_as_published_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'55': the answer 'E' is none of ABCD"):
        write(tmp_path, {**QA, "answer": "E"}).questions()
    with pytest.raises(InputError, match="no options"):
        parted("What?\n(B) x\n(A) y", "here")
    with pytest.raises(InputError, match="'55' stands twice"):
        write(tmp_path, QA, {**QA, "uid": 55}).questions()
    fault = fault_of(write(tmp_path, QA, {**QA, "uid": 7, "question_type": "reasoning"}))
    assert "meta.jsonl:1: 7: question_type" in fault
    assert "question 2: the entry: " in fault_of(write(tmp_path, QA, None))


def test_the_real_annotations_are_complete() -> None:
    path = os.environ.get(REAL)
    if path is None:
        pytest.skip(f"needs the annotations of LVBench: set {REAL}=.../video_info.meta.jsonl")
    benchmark = LVBench("lvbench", path, None, (1549,), None)
    questions = benchmark.questions()
    assert len(benchmark.durations()) == 103
    kinds = Counter(value for question in questions for label, value in question.groups.items() if "/" in label)
    assert kinds == {
        "entity recognition": 677,
        "event understanding": 647,
        "key information retrieval": 291,
        "temporal grounding": 220,
        "reasoning": 201,
        "summarization": 58,
    }
    types = {question.video: question.groups["type"] for question in questions}
    assert Counter(types.values()) == {
        "selfmedia": 21,
        "cartoon": 18,
        "live": 17,
        "sport": 17,
        "tv": 16,
        "documentary": 14,
    }
    assert all(question.correct is not None and len(question.options or ()) == 4 for question in questions)
