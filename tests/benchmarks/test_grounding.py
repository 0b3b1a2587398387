"""Answers that are intervals: IoU, the rules by which others read them, and the figures of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.benchmarks.grounding import (
    HERE,
    cgbench_intervals,
    extremewhen_interval,
    extremewhen_task_interval,
    interval_rules_for,
    interval_value,
    iou,
)
from pipeline.domain import Answer, AnswerForm, Question, Selection, Span, Status
from pipeline.reports.cards import cards
from pipeline.reports.exports import write_exports
from pipeline.reports.headline import finding
from pipeline.reports.page import PageLimits, write_report
from pipeline.reports.question_sets import question_sets
from pipeline.reports.questions import COLUMNS, question_rows
from pipeline.reports.results import notes_on
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.scoreboard import RunScore, score
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.video import Reader


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([(10, 20), (50, 60)], [(15, 25)], 0.2),
        ([(0, 2741)], [(8, 11)], 3 / 2741),  # the whole video for a clue of 3 s: 0.0011
        ([(10, 15), (15, 20), (12, 18)], [(10, 20)], 1.0),  # touching and overlapping ones are merged
        ([(1, 2)], [(3, 4)], 0.0),
        ([(5, 5)], [(5, 5)], 0.0),
        ([], [(8, 11)], 0.0),
    ],
)
def test_iou_is_of_merged_sets(
    one: list[tuple[float, float]], other: list[tuple[float, float]], expected: float
) -> None:
    assert iou(one, other) == pytest.approx(expected)
    assert iou(other, one) == pytest.approx(expected)


def said(text: str, *intervals: Span, status: Status = Status.OK) -> Answer:
    return Answer("q", text, status=status, intervals=intervals)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("The event happens in 24.3 - 30.4 seconds.", (24.3, 30.4), (24.3, 30.4)),
        ("I saw 1 - 2 before. It happens in 30 - 24", (1, 2), (24, 30)),  # one clause: the first of it
        ("I saw 1 - 2.\nIt happens in 24 - 30", (24, 30), (24, 30)),
        ("from 24 to 30", None, (24, 30)),
        ("1:02 - 1:10", (2, 1), (2, 1)),  # no clock times: the 02 and the 1 beside the dash
        ("soon", None, None),
    ],
)
def test_extremewhens_script_takes_the_first_range_and_its_task_the_last(
    text: str, first: tuple[float, float] | None, last: tuple[float, float] | None
) -> None:
    def expected(pair: tuple[float, float] | None) -> list[tuple[float, float]] | None:
        return None if pair is None else [(min(pair), max(pair))]

    assert extremewhen_interval(said(text)) == expected(first)
    assert extremewhen_task_interval(said(text)) == expected(last)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"result": [[8, 11], [60, 62]]}\n```', [(8, 11), (60, 62)]),
        ("8 to 11 and 60 to 62", [(8, 11), (60, 62)]),
        ("8-11", [(8, -11)]),
        ("8 to 11 and 60", None),  # an odd number of them: no row
        ('```json\n{"result": "8 to 11"}\n```', [(8, 11)]),
        ("nowhere", None),
    ],
)
def test_cg_benchs_script_takes_json_or_all_numbers_in_pairs(
    text: str, expected: list[tuple[float, float]] | None
) -> None:
    assert cgbench_intervals(said(text)) == expected


def question(id: str, *evidence: Span, **groups: str) -> Question:
    return Question(
        id, f"{id}.mp4", f"When does {id} ring?", groups=groups, evidence=evidence, answer_form=AnswerForm.INTERVALS
    )


ASKED = [
    question("a", Span(8, 11), part="x"),
    question("b", Span(20, 30), part="x"),
    question("c", Span(1, 2), part="y"),
]
ANSWERS = {"a": said("8 - 11", Span(8, 11)), "b": said("25 - 35 or so", Span(25, 35))}


def run(benchmark: str, answers: dict[str, Answer] = ANSWERS, asked: list[Question] = ASKED) -> RunScore:
    rows = [AnswerRow("key", "uniform", "qwen", each, answers[each.id]) for each in asked if each.id in answers]
    selected = [
        SelectionRow("key", "uniform", each, None, Selection(each.id, (), policy="uniform", budget=8)) for each in asked
    ]
    settings = f"benchmark: {{name: {benchmark}}}\n"
    return score(RunArtefacts("run", selections=selected, answers=rows, asked=tuple(asked), settings=settings))


def test_a_missing_answer_is_an_iou_of_nothing_here_and_left_out_by_cg_bench() -> None:
    own, theirs = run("cgbench").grounding
    assert own.mean == pytest.approx((1 + 5 / 15) / 3)
    assert [own.at_least(threshold) for threshold in (0.3, 0.5, 1.0)] == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert (own.unread, len(own.counted)) == (1, 3)
    assert theirs.mean == pytest.approx((1 + 5 / 15) / 2)
    assert own.groups["part"] == {"x": (pytest.approx(2 / 3), 2), "y": (0.0, 1)}


def test_a_failed_answer_names_no_interval() -> None:
    failed = said("8 - 11", Span(8, 11), status=Status.OUT_OF_MEMORY)
    assert interval_value(ASKED[0], failed, HERE) == 0.0
    assert interval_value(question("none"), ANSWERS["a"], HERE) is None
    assert [rule.name for rule in interval_rules_for("jsonl")] == [""]


def test_the_figures_are_told_and_written_and_no_accuracy_is(tmp_path: Path) -> None:
    found = run("extremewhen")
    assert found.accuracy is not None
    assert found.accuracy.overall.total == 0
    assert notes_on([found]) == [
        "run: mIoU 44.4 %, R@0.3 66.7 %, R@0.5 33.3 %, R@0.7 33.3 %; 1 of 3 answers name no interval, which counts as 0"
        "; ExtremeWhenBench 44.4 %; its lmms-eval task 44.4 %"
    ]
    write_exports([found], tmp_path, "paths.runs=...")
    told = json.loads((tmp_path / "summary.json").read_text())["runs"][0]["intervals"]
    assert [each["rule"] for each in told] == ["strict", "ExtremeWhenBench", "its lmms-eval task"]
    assert told[0]["miou"] == pytest.approx(4 / 9)
    assert told[0]["at_least"]["0.5"] == pytest.approx(1 / 3)
    assert (told[0]["counted"], told[0]["without_interval"]) == (3, 1)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    own = [row for row in rows if row["rule"] == "mIoU, strict"]
    assert [(row["label"], row["value"], row["counted"]) for row in own] == [
        ("", "", "3"),
        ("part", "x", "2"),
        ("part", "y", "1"),
    ]


def test_the_table_of_questions_and_the_cards_have_the_iou_of_each_answer() -> None:
    found = run("extremewhen").run
    assert [row[COLUMNS.index("iou")] for row in question_rows([found])] == [1.0, pytest.approx(1 / 3), None]
    told = [route.answers[0].read_as for card in cards([found]) for route in card.routes if route.answers[0].read_as]
    assert told == ["8 to 11 s, IoU 1.00", "25 to 35 s, IoU 0.33"]


def test_a_page_says_how_intervals_are_counted(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    pictures = VideoThumbnails(Reader("default", "pyav", 1, 1.0), 64, 80)
    write_report([run("extremewhen").run], pictures, page, PageLimits(pictures=0))
    text = page.read_text()
    assert "mIoU 44.4 %, R@0.3 66.7 %, R@0.5 33.3 %, R@0.7 33.3 %" in text
    assert "1 without an interval" in text
    assert "names no interval counts as 0" in text
    assert "nothing is graded" not in text


def test_the_heading_of_a_page_names_the_miou() -> None:
    whole = run("extremewhen", {**ANSWERS, "c": said("nowhere", status=Status.UNPARSED)})
    (found,) = question_sets([whole])
    assert "names intervals with a mIoU of 44.4 %" in finding(found)
