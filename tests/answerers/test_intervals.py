from __future__ import annotations

import time

import pytest

from pipeline.answerers.intervals import MOST, read_intervals
from pipeline.answerers.options import conclude, read_option
from pipeline.domain import Answer, AnswerForm, Cost, Question, Span, Status

WHEN = Question("q", "v.mp4", "When does it ring?", answer_form=AnswerForm.INTERVALS)


def read(text: str, *, is_cut: bool = False) -> list[tuple[float, float]] | None:
    found = read_intervals([text], is_cut=is_cut)
    return None if found is None else [(span.start, span.end) for span in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The event happens in the 24.3 - 30.4 seconds.", [(24.3, 30.4)]),
        ("24.3s to 30.4s", [(24.3, 30.4)]),
        ("from 1:02 to 1:10", [(62, 70)]),
        ("1:00:05-1:00:09", [(3605, 3609)]),
        ("between 24 and 30 seconds", [(24, 30)]),
        ("30.4 – 24.3", [(24.3, 30.4)]),  # noqa: RUF001
        ("It is [24, 30].", [(24, 30)]),
        ("[[8, 11], [60, 62]]", [(8, 11), (60, 62)]),
        ('```json\n{"result": [[60, 62], [8, 11]]}\n```', [(8, 11), (60, 62)]),
        ('So:\n```json\n{"result": [["0:08", "0:11"]]}\n```', [(8, 11)]),
        ('{"intervals": [{"start": 8, "end": 11.5}]}', [(8, 11.5)]),
        ('{"answer": "8 - 11"}', [(8, 11)]),
        ("I looked at 10 - 20. It rings at 24 - 30.", [(24, 30)]),  # the last sentence
        ("10 - 20\n24 - 30 and 40 - 50", [(24, 30), (40, 50)]),
        ("10 - 20, 10 - 20", [(10, 20)]),
        ("12 - 12", [(12, 12)]),
        ("10 - 20,30 - 40", [(10, 20), (30, 40)]),
        ("120 - 130,300 - 310 seconds", None),  # 130,300 may be one number
        ("1:02 - 1:10 min", [(62, 70)]),
        ("It rings at 24 seconds.", None),
        ("between 2 and 3 minutes", None),
        ("2 - 3 min", None),
        ("1,200 - 1,300 seconds", None),
        ("frames 10-12 show it", None),
        ("10 - 20 %", None),
        ("two dogs and 3 cats, 4 birds and 5 fish", None),
        ("I cannot tell.", None),
        ("on 2024-05-06", None),
        ('{"result": [[8, 11], [60]]}', None),  # an odd number of ends
        ('{"result": [[-8, 11]]}', None),
        ('{"result": []}', None),
        ("9999999999 - 99999999999", None),
        ("", None),
    ],
)
def test_the_intervals_of_a_text(text: str, expected: list[tuple[float, float]] | None) -> None:
    assert read(text) == expected


def test_a_cut_text_has_no_interval_at_its_end() -> None:
    assert read("It happens at 24.3 - 3", is_cut=True) is None
    assert read("First at 5 - 9, then at 24.3 - 3", is_cut=True) == [(5, 9)]
    assert read("24.3 - 30.4 seconds. That is because", is_cut=True) == [(24.3, 30.4)]


def test_the_part_after_a_thought_is_read_first() -> None:
    assert read_intervals(["1 - 2", "3 - 4"], is_cut=False) == (Span(3, 4),)
    assert read_intervals(["1 - 2", "that is it"], is_cut=False) == (Span(1, 2),)


def test_a_model_that_repeats_itself_names_none_and_takes_no_time() -> None:
    many = ", ".join(f"{second} - {second + 1}" for second in range(0, 2 * MOST + 2, 2))
    assert read(many) is None
    began = time.process_time()
    for unit in ("1 - ", "1:1:1", "[[", "24 - 30, ", "between ", "9" * 50 + " "):
        read(unit * (100_000 // len(unit)))
    assert time.process_time() - began < 30


def concluded(text: str, *, truncated: bool = False) -> Answer:
    return conclude(WHEN, text, truncated=truncated, limit=16, form="f", frame_times=(), cost=Cost())


def test_an_answer_holds_the_intervals_or_says_that_it_has_none() -> None:
    answer = concluded("<think>1 - 2?</think>24 - 30 s")
    assert (answer.status, answer.intervals, answer.option) == (Status.OK, (Span(24, 30),), None)
    assert (concluded("I see nothing").status, concluded("").status) == (Status.UNPARSED, Status.EMPTY_ANSWER)
    assert "No interval" in concluded("I see nothing").detail
    assert concluded("I'm sorry, I can't help with that").status is Status.REFUSED
    cut = concluded("24.3 - 3", truncated=True)
    assert cut.status is Status.UNPARSED
    assert "answerer.max_new_tokens=" in cut.detail


def test_cg_benchs_json_is_read_as_an_option_too() -> None:
    assert read_option('```json\n{"result": "B"}\n```', ("grey", "white")) == 1
