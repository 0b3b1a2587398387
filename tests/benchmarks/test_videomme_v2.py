from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from answer_rows import said
from faulty import fault_of

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.grouped import group_score
from pipeline.benchmarks.official import OfficialRule, rules_for
from pipeline.benchmarks.official_rules import lmms_eval_video_mme_v2_option, video_mme_v2_option
from pipeline.benchmarks.videomme_v2 import VideoMMEv2
from pipeline.domain import OPTION_LETTERS, Question, Status, Subtitles
from pipeline.errors import InputError
from pipeline.reports.results import notes_on
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.scoreboard import OfficialScore, RunScore, score

WORDS = ("The door.", "The lamp.", "The cup.", "The cat.", "The dog.", "The bell.", "Nothing.", "Cannot be determined.")
ROW: dict[str, Any] = {
    "video_id": "017",
    "url": "https://www.youtube.com/watch?v=abc",
    "group_type": "logic",
    "group_structure": "[1, [2, 3], 4]",
    "question_id": "017-1",
    "question": "What changes after the bell?",
    "options": "\n".join(f"{letter}. {words}" for letter, words in zip("ABCDEFGH", WORDS, strict=True)),
    "answer": "D",
    "level": None,
    "second_head": None,
    "third_head": None,
}
LAST = {"level": 2, "second_head": "Order", "third_head": "Event order"}


def group(video: str = "017", **change: Any) -> list[dict[str, Any]]:
    rows = [{**ROW, "video_id": video, "question_id": f"{video}-{number}", **change} for number in (1, 2, 3, 4)]
    return [*rows[:3], {**rows[3], **LAST}]


def loader(folder: Path, *rows: dict[str, Any], suffix: str = ".json") -> VideoMMEv2:
    file = folder / f"test{suffix}"
    if suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    else:
        file.write_text(json.dumps(rows))
    return VideoMMEv2("videomme_v2", str(file), None, None, None, None)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_row_is_a_question_with_its_options_apart(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "videos" / "part").mkdir(parents=True)
    (tmp_path / "videos" / "part" / "017.mp4").touch()
    first, *_, last = loader(tmp_path, *group(third_head="None"), suffix=suffix).questions()
    assert first == Question(
        id="017-1",
        video=str(tmp_path / "videos" / "part" / "017.mp4"),
        text="What changes after the bell?",
        options=WORDS,
        correct=3,
        groups={"group_type": "logic", "group_structure": "[1, [2, 3], 4]"},
        subtitles=Subtitles(str(tmp_path / "subtitle" / "subtitle" / "017.jsonl")),
    )
    assert last.groups == {**first.groups, "level": "2", "second_head": "Order", "third_head": "Event order"}


def test_an_option_of_several_lines_stays_whole(tmp_path: Path) -> None:
    rows = group(options="A. First\nand on.\nB. C. S. Lewis\nC. none")
    (question, *_) = loader(tmp_path, *({**row, "answer": "B"} for row in rows)).questions()
    assert question.options == ("First\nand on.", "C. S. Lewis", "none")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"group_structure": "[1, 2, [3, 4]]"}, "group_structure: '[1, 2, [3, 4]]' is none of [1,2,3,4]"),
        ({"group_structure": None}, "group_structure: None"),
        ({"group_type": "other"}, "group_type: 'other'"),
        ({"question_id": "017"}, "question_id: '017' does not end in the question's number"),
        ({"answer": "I"}, "the answer 'I' is none of ABCDEFGH"),
        ({"options": "The door. The lamp."}, "options: no lines A., B."),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert problem in fault_of(loader(tmp_path, *group(), {**ROW, "question_id": "018-1", **change}))


def test_rows_whose_answers_have_another_name_are_not_asked_without_them(tmp_path: Path) -> None:
    unlabelled = {name: value for name, value in ROW.items() if name != "answer"}
    with pytest.raises(InputError, match="answer: Field required"):
        loader(tmp_path, unlabelled).questions()


@pytest.mark.parametrize(
    ("worth", "relevance", "chain", "middle", "start"),
    [
        ((1, 0, 1, 1), 56.25, 6.25, 100 / 3, 10.0),
        ((1, 1, 0, 1), 56.25, 25.0, 100 / 3, 20.0),
        ((0, 1, 1, 1), 56.25, 0.0, 0.0, 10.0),
        ((1, 1, 1, 1), 100.0, 100.0, 100.0, 100.0),
        ((0, 0, 0, 0), 0.0, 0.0, 0.0, 0.0),
        ((1, 1, 1, 0), 56.25, 56.25, 700 / 12, 50.0),
    ],
)
def test_a_group_scores_as_its_structure_says(
    worth: tuple[int, ...], relevance: float, chain: float, middle: float, start: float
) -> None:
    shapes = ("[1, 2, 3, 4]", "[1, [2, 3], 4]", "[[1, 2], 3, 4]")
    assert group_score("relevance", None, worth) == pytest.approx(relevance)
    assert [group_score("logic", shape, worth) for shape in shapes] == pytest.approx([chain, middle, start])


def test_guessing_one_of_eight_scores_what_was_computed_for_it() -> None:
    expected = []
    for kind, shape in (
        ("relevance", None),
        *(("logic", shape) for shape in ("[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]")),
    ):
        total = 0.0
        for worth in product((0, 1), repeat=4):
            chance = (1 / 8) ** sum(worth) * (7 / 8) ** (4 - sum(worth))
            total += chance * group_score(kind, shape, worth)
        expected.append(total)
    assert expected == pytest.approx([4.30, 1.15, 1.83, 2.57], abs=0.005)


@pytest.mark.parametrize(
    ("text", "theirs", "harness"),
    [
        ("Based on the frames.\nFinal Answer: G", 1, 6),  # the B of "Based"
        ("Final Answer: G", 6, 6),
        ("C", 2, 2),
        ("the answer is c", None, 2),
        ("It is **E**, since the bell rings", 4, 4),
        ("I see the lamp.", None, 1),  # the words of one option alone; the capital I is none of A to H
        ("He said so. Answer: D because of it", 7, 3),  # the H of "He"
        ("nothing to see here", None, None),
    ],
)
def test_one_output_is_read_in_several_ways(text: str, theirs: int | None, harness: int | None) -> None:
    options = tuple(words.replace("Nothing.", "None of them.") for words in WORDS)
    assert video_mme_v2_option(text) == theirs
    assert lmms_eval_video_mme_v2_option(text, options) == harness


QUESTIONS = [
    Question(f"{video}-{number}", f"{video}.mp4", f"What of {number}?", WORDS, 3, labels)
    for video, labels in (
        ("001", {"group_type": "relevance", "level": "1"}),
        ("002", {"group_type": "logic", "group_structure": "[1, 2, 3, 4]", "level": "3"}),
    )
    for number in (1, 2, 3, 4)
]


def scored(answers: dict[str, str], asked: list[Question] = QUESTIONS) -> RunScore:
    rows: list[AnswerRow] = []
    for question in asked:
        text = answers.get(question.id, "D")
        if text == "missing":
            continue
        is_letter = len(text) == 1
        status = Status.OK if is_letter else Status.UNPARSED if text else Status.OUT_OF_MEMORY
        rows.append(said(question, text, OPTION_LETTERS.index(text) if is_letter else None, status))
    run = RunArtefacts("run", answers=rows, asked=tuple(asked), settings="benchmark: {name: videomme_v2}\n")
    return score(run)


def by_rule(found: RunScore) -> dict[str, OfficialScore]:
    return {each.rule.name: each for each in found.official}


def test_the_score_of_a_run_is_the_mean_of_its_groups_and_has_the_class_of_their_last_question() -> None:
    asked = [
        *QUESTIONS[:7],
        Question("002-4", "002.mp4", "What of 4?", WORDS, 3, {**QUESTIONS[7].groups, "level": "2"}),
    ]
    found = scored({"001-2": "A", "002-2": "A"}, asked)
    groups = by_rule(found)["group score"].groups
    assert groups is not None
    assert groups.mean == pytest.approx((0.5625 + 0.0625) / 2)
    assert groups.classes["level"] == {"1": (0.5625, 1), "2": (0.0625, 1)}
    assert found.accuracy is not None
    assert found.accuracy.overall.accuracy == 6 / 8  # pooled over questions, each under its own level
    assert {value: tally.total for value, tally in found.accuracy.groups["level"].items()} == {"1": 4, "3": 3, "2": 1}


@pytest.mark.parametrize("gap", ["missing", ""])
def test_a_group_that_lacks_an_answer_counts_it_as_wrong_and_says_so(gap: str) -> None:
    found = scored({"002-4": gap})
    groups = by_rule(found)["group score"].groups
    assert groups is not None
    assert groups.mean == pytest.approx((1 + 0.5625) / 2)
    assert groups.incomplete == ("002",)
    assert notes_on([found]) == [
        "run: group score 78.1 % over 2 groups; 1 incomplete, whose missing answers count as wrong: 002"
    ]


def test_questions_that_were_not_asked_leave_their_group_incomplete() -> None:
    groups = by_rule(scored({}, QUESTIONS[:6]))["group score"].groups
    assert groups is not None
    assert groups.incomplete == ("002",)
    assert groups.mean == pytest.approx((1 + 0.25) / 2)


def test_a_group_of_which_no_row_can_be_used_scores_nothing() -> None:
    broken = [Question(f"003-{number}", "", "", fault="line 9: no options") for number in (1, 2, 3, 4)]
    groups = by_rule(scored({each.id: "missing" for each in broken}, [*QUESTIONS, *broken]))["group score"].groups
    assert groups is not None
    assert groups.mean == pytest.approx(2 / 3)
    assert groups.incomplete == ("003",)


def test_the_authors_script_takes_a_point_or_goes_on_where_it_can_read_nothing() -> None:
    counted = by_rule(scored({"001-4": "who knows", "002-1": "who knows"}))
    theirs, harness = counted["Video-MME-v2"].groups, counted["lmms-eval"].groups
    assert theirs is not None
    assert harness is not None
    # (1 + 1 + 1 - 1)^2 / 16 of a relevance group; the run of a logic group goes on over what it cannot read.
    assert [group.score for group in theirs.groups] == pytest.approx([0.25, 1.0])
    assert [group.score for group in harness.groups] == pytest.approx([0.5625, 0.0])
    assert counted["Video-MME-v2"].accuracy.overall.total == 6


def test_the_newer_benchmark_has_its_own_rules() -> None:
    def names(rules: tuple[OfficialRule, ...]) -> list[str]:
        return [rule.name for rule in rules]

    assert names(rules_for("videomme_v2")) == ["group score", "Video-MME-v2", "lmms-eval"]
    assert names(rules_for("videomme")) == ["Video-MME", "lmms-eval"]
