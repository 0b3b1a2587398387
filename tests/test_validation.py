"""What a plug-in hands over that breaks its protocol costs its question, is named, and is never written as it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import gens
from made import write_video
from rows_on_disk import rows_of

from pipeline.artefacts.rows import RelevanceRow
from pipeline.domain import (
    Answer,
    Cost,
    FrameOrigin,
    Question,
    Relevance,
    SelectedFrame,
    Selection,
    Status,
    Video,
    option_letter,
)
from pipeline.validation import checked_answer, checked_relevances, checked_selection

VIDEO = Video("clip.mp4", "f", 10.0, 2.0, 20, 64, 64)
ASKED = Question("q", "clip.mp4", "what?", ("a", "b"))
FINE = Relevance("q", (0.0, 1.0, 2.0), (1.0, 0.0, 5.0))
NAN = math.nan


def relevance(given: Any) -> Relevance:
    (checked,) = checked_relevances([given], [ASKED], VIDEO, "mine")
    return checked


def test_a_usable_relevance_is_taken_and_its_numbers_are_plain() -> None:
    assert relevance(FINE) == FINE
    given = replace(FINE, times=np.array([0.0, 1.0, 2.0], np.float32), scores=[1, 0, np.float32(5)], indices=[0, 2, 4])
    assert relevance(given) == replace(FINE, indices=(0, 2, 4))
    assert all(type(score) is float for score in relevance(given).scores)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (replace(FINE, scores=(1.0, NAN, 2.0)), "not a finite number"),
        (replace(FINE, scores=(1.0, math.inf, 2.0)), "not a finite number"),
        (replace(FINE, scores=(1.0, -1e308, 2.0)), "a score is above 1e+100"),
        (replace(FINE, times=(0.0, NAN, 2.0)), "not a finite number"),
        (replace(FINE, scores=(1.0, 2.0)), "2 scores for 3 candidates"),
        (replace(FINE, times=(0.0, 2.0, 1.0)), "do not ascend"),
        (replace(FINE, times=(0.0, 1.0, 1.0)), "do not ascend"),
        (replace(FINE, times=(0.0, 1.0, 99.0)), "outside of the video"),
        (replace(FINE, times=(-9.0, 1.0, 2.0)), "outside of the video"),
        (replace(FINE, indices=(0, 1)), "2 native indices for 3 candidates"),
        (replace(FINE, rounds=(0, 1)), "2 rounds for 3 candidates"),
        (replace(FINE, indices=(-1, 0, 1)), "negative"),
        (replace(FINE, scores=("high", "low", "low")), "not numbers"),
        (replace(FINE, scores=None), "not numbers"),
        (replace(FINE, question_id="other"), "'other' for 'q'"),
        (replace(FINE, cost=Cost(NAN)), "cost"),
        (replace(FINE, named_above=NAN), "named_above"),
        (replace(FINE, status="fine"), "not a status"),
        ({"times": []}, "a dict and no Relevance"),
        (None, "a NoneType and no Relevance"),
    ],
)
def test_what_breaks_the_samplers_protocol_is_named(given: Any, fault: str) -> None:
    refused = relevance(given)
    assert (refused.status, refused.times, refused.scores) == (Status.INVALID_OUTPUT, (), ())
    assert "sampler=mine" in refused.detail
    assert fault in refused.detail
    assert not refused.is_final


@pytest.mark.parametrize("given", [[], [FINE, FINE], None, "text"])
def test_another_number_of_relevances_costs_all_questions_of_the_call(given: Any) -> None:
    (refused,) = checked_relevances(given, [ASKED], VIDEO, "mine")
    assert refused.status is Status.INVALID_OUTPUT


FRAME = SelectedFrame(1.0, 2, 5.0, FrameOrigin.SAMPLER)
SELECTED = Selection("q", (FRAME, replace(FRAME, time=2.0, index=4)), "mine", 2)


def test_a_usable_selection_is_taken() -> None:
    assert checked_selection(SELECTED, ASKED, 2, "mine") == SELECTED
    given = replace(SELECTED, frames=(replace(FRAME, index=np.int64(2)),))
    assert type(checked_selection(given, ASKED, 2, "mine").frames[0].index) is int


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (replace(SELECTED, frames=SELECTED.frames[::-1]), "order of time"),
        (replace(SELECTED, frames=(replace(FRAME, time=NAN),)), "not a finite number"),
        (replace(SELECTED, frames=(replace(FRAME, score=NAN),)), "not a finite number"),
        (replace(SELECTED, frames=(replace(FRAME, scale=0.0),)), "not a number above 0"),
        (replace(SELECTED, frames=(replace(FRAME, scale=1e9),)), "and at most 16"),
        (replace(SELECTED, frames=(replace(FRAME, index=-1),)), "whole number"),
        (replace(SELECTED, frames=(replace(FRAME, index=1.5),)), "whole number"),
        (replace(SELECTED, frames=(FRAME, FRAME, FRAME)), "more than the budget of 2"),
        (replace(SELECTED, frames=("x",)), "not SelectedFrames"),
        (replace(SELECTED, question_id="other"), "'other' for 'q'"),
        ([FRAME], "a list and no Selection"),
    ],
)
def test_what_breaks_the_policys_protocol_is_named(given: Any, fault: str) -> None:
    refused = checked_selection(given, ASKED, 2, "mine")
    assert (refused.status, refused.frames) == (Status.INVALID_OUTPUT, ())
    assert "selection=mine" in refused.detail
    assert fault in refused.detail


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (Answer("q", "B", 2), "2 is not the index of an option"),
        (Answer("q", "B", -1), "-1 is not the index of an option"),
        (Answer("q", "B", True), "not the index of an option"),
        (Answer("q", None), "not a string"),  # type: ignore[arg-type]
        (Answer("q", "B", 1, cost=Cost(1.0, dollars=NAN)), "cost"),
        (Answer("q", "B", 1, cost=Cost(more={"x": NAN})), "cost"),
        (Answer("q", "B", 1, frame_times=(NAN,)), "time of a frame"),
    ],
)
def test_what_breaks_the_answerers_protocol_is_named(given: Answer, fault: str) -> None:
    refused = checked_answer(given, ASKED, "mine")
    assert (refused.status, refused.option, refused.text) == (Status.INVALID_OUTPUT, None, "")
    assert "answerer=mine" in refused.detail
    assert fault in refused.detail


def test_half_a_surrogate_pair_in_an_answer_is_replaced() -> None:
    assert checked_answer(Answer("q", "B \ud83d", 1, thought="\udc00"), ASKED, "mine") == Answer(
        "q", "B \ufffd", 1, thought="\ufffd"
    )


NAN_SAMPLER = """
from dataclasses import dataclass
from pipeline.domain import Relevance

@dataclass(frozen=True)
class Mine:
    name: str
    score_of_all: float

    def identity(self):
        return {}

    def query(self, question):
        return question.text

    def score(self, video, frames, questions):
        return [
            Relevance(question.id, (0.0, 1.0), (1.0, float("nan") if question.id == "bad" else self.score_of_all))
            for question in questions
        ]

    def close(self):
        pass
"""


def test_a_nan_from_a_plugin_costs_one_question_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nan_plugin.py").write_text(NAN_SAMPLER)
    (tmp_path / "conf" / "sampler").mkdir(parents=True)
    (tmp_path / "conf" / "sampler" / "mine.yaml").write_text(
        "_target_: nan_plugin.Mine\nname: mine\nscore_of_all: 2.0\n"
    )
    write_video(tmp_path / "clip.mp4")
    rows = [{"id": key, "video": "clip.mp4", "question": f"what is {key}?"} for key in ("good", "bad")]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--config-dir", "conf", "plugins=[nan_plugin]", "benchmark=jsonl", "benchmark.path=q.jsonl")
    done = gens("sample", *words, "sampler=mine", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (file,) = tmp_path.glob("runs/sample-*/relevance.jsonl")
    found = {row.question.id: row.relevance for row in rows_of(RelevanceRow, file)}
    assert found["good"].scores == (1.0, 2.0)
    assert found["good"].indices == (0, 4)
    assert found["bad"].status is Status.INVALID_OUTPUT
    assert gens("report", "runs=runs", cwd=tmp_path).returncode == 0

    # Another run folder, damaged by other means, is left out by name; the report is made of the others.
    damaged = tmp_path / "runs" / "damaged"
    damaged.mkdir()
    (damaged / "answers.jsonl").write_text('{"schema": "gens/answer/99"}\n')
    reported = gens("report", "runs=runs", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert "damaged" in reported.stderr


def test_options_behind_the_letters_have_names_too() -> None:
    assert [option_letter(number) for number in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]
