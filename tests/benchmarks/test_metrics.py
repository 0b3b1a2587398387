from __future__ import annotations

import pytest

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.metrics import (
    MISSING,
    MeanScores,
    SpanScores,
    Tally,
    accuracy,
    mean_recall,
    mean_scores,
    span_recall,
    span_scores,
)
from pipeline.domain import Answer, Question, Span, Status
from pipeline.errors import InputError


def question(id: str, correct: int | None = 0, evidence: tuple[Span, ...] | None = None, **groups: str) -> Question:
    return Question(id, "v.mp4", f"What of {id}?", ("red", "blue"), correct, groups, evidence)


def row(of: Question, option: int | None, status: Status = Status.OK, sampler: str = "gens") -> AnswerRow:
    return AnswerRow("key", sampler, "qwen", of, Answer(of.id, "text", option, status))


def test_missing_failed_and_unparsed_answers_are_wrong() -> None:
    asked = [question(f"q{i}") for i in range(5)]
    rows = [row(asked[0], 0), row(asked[1], 1), row(asked[2], None, Status.UNPARSED), row(asked[3], 0, Status.REFUSED)]
    counted = accuracy(rows, asked)
    assert counted.overall == Tally(1, 5)
    assert counted.overall.accuracy == 0.2
    assert counted.statuses == {"ok": 2, "unparsed": 1, "refused": 1, MISSING: 1}
    assert next(iter(counted.statuses)) == "ok"


def test_groups_are_counted_by_label_and_value() -> None:
    asked = [
        question("a", duration="15", task="count"),
        question("b", duration="600", task="count"),
        question("c", duration="600", task="order"),
    ]
    counted = accuracy([row(asked[0], 0), row(asked[1], 0), row(asked[2], 1)], asked)
    assert counted.groups == {
        "duration": {"15": Tally(1, 1), "600": Tally(1, 2)},
        "task": {"count": Tally(2, 2), "order": Tally(0, 1)},
    }


def test_a_question_without_a_known_answer_is_not_counted_but_its_status_is() -> None:
    open_question = Question("open", "v.mp4", "Why?")
    counted = accuracy([row(open_question, None)], [open_question, question("a")])
    assert counted.overall == Tally(0, 1)
    assert counted.not_counted == 1
    assert counted.statuses == {"ok": 1, MISSING: 1}
    assert accuracy([], [open_question]).overall.accuracy is None


def test_of_a_question_asked_again_the_last_answer_counts() -> None:
    asked = question("a")
    counted = accuracy([row(asked, None, Status.OUT_OF_MEMORY), row(asked, 0)], [asked])
    assert counted.overall == Tally(1, 1)
    assert counted.statuses == {"ok": 1}


def test_the_benchmark_decides_what_is_right_also_where_the_row_holds_an_older_key() -> None:
    assert accuracy([row(question("a", correct=1), 0)], [question("a", correct=0)]).overall == Tally(1, 1)


def test_answers_to_other_questions_are_refused() -> None:
    asked = question("a")
    with pytest.raises(InputError, match="'b' cannot be counted: the question is not among"):
        accuracy([row(question("b"), 0)], [asked])
    other_options = Question("a", "v.mp4", asked.text, ("blue", "red"), 0)
    with pytest.raises(InputError, match="other options"):
        accuracy([row(other_options, 0)], [asked])


def test_answers_of_two_pipelines_are_refused() -> None:
    asked = [question("a"), question("b")]
    with pytest.raises(InputError, match="gens \\+ qwen, uniform \\+ qwen"):
        accuracy([row(asked[0], 0), row(asked[1], 0, sampler="uniform")], asked)


def test_a_span_is_seen_from_inside_and_up_to_the_tolerance() -> None:
    spans = (Span(10, 12), Span(40, 40))
    assert span_recall([11], spans, 0) == 0.5
    assert span_recall([8, 42], spans, 2) == 1.0  # both exactly at the edge
    assert span_recall([7.9, 42.1], spans, 2) == 0.0
    assert span_recall([10.1 + 0.2], (Span(10.5, 11),), 0.2) == 1.0  # 10.5 - 0.2 is above 10.3 in floating point
    assert span_recall([10, 11, 12], spans, 2) == 0.5  # many frames in one span do not stand for the other
    assert span_recall([], spans, 2) == 0.0


def test_precision_recall_and_f1_are_those_of_lv_haystack() -> None:
    gold = tuple(Span(second, second) for second in (100, 400))
    found = span_scores([96, 103, 250, 404], gold, 5, truncate=True)
    assert (found.precision, found.recall, found.f1) == (0.75, 1.0, pytest.approx(0.857, abs=5e-4))
    assert span_scores([105.9], gold, 5, truncate=True) == SpanScores(0.5, 1.0)
    assert span_scores([105.9], gold, 5, truncate=False) == SpanScores(0.0, 0.0)
    assert span_scores([], gold, 5, truncate=True).f1 == 0.0


def test_f1_is_averaged_over_questions_and_a_question_without_frames_is_nothing() -> None:
    asked = [question(id, evidence=(Span(1, 2),), part=id[0]) for id in ("a1", "a2", "b1")] + [question("none")]
    means = mean_scores({"a1": SpanScores(1.0, 0.25), "a2": SpanScores(0.5, 1.0)}, asked, 5)
    assert means.overall == MeanScores(0.5, 3, pytest.approx(1.25 / 3), pytest.approx((0.4 + 2 / 3) / 3))
    assert means.groups["part"]["a"].questions == 2
    assert means.groups["part"]["b"] == MeanScores(0.0, 1, 0.0, 0.0)
    assert mean_scores({}, [question("none")], 5).overall == MeanScores(None, 0, None, None)


def test_evidence_recall_is_the_mean_over_questions_with_evidence() -> None:
    both = question("both", evidence=(Span(10, 12), Span(50, 51)), hops="2")
    one = question("one", evidence=(Span(5, 5),), hops="1")
    unselected = question("unselected", evidence=(Span(5, 5),), hops="1")
    without = question("without", hops="0")
    recalls = {
        each.id: span_recall(times, each.evidence or (), 1.0) for each, times in ((both, [11.0, 30.0]), (one, [6.0]))
    }
    found = mean_recall(recalls, [both, one, unselected, without], 1.0)
    assert found.overall.questions == 3
    assert found.overall.recall == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.groups["hops"]["1"].recall == 0.5
    assert found.groups["hops"]["2"].recall == 0.5
    assert "0" not in found.groups["hops"]
    assert mean_recall({}, [without], 1.0).overall.recall is None
