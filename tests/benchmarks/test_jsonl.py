from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.benchmarks import Benchmark
from pipeline.benchmarks.jsonl import JsonlBenchmark, question_from_fields
from pipeline.domain import AnswerForm, Question, Span, Subtitles
from pipeline.errors import InputError

ROW: dict[str, Any] = {"video": "clip.mp4", "question": "What is it?"}
CHOICE: dict[str, Any] = {**ROW, "options": ["a cup", "a plate", "a fork"]}


def write(folder: Path, *rows: dict[str, Any] | str) -> JsonlBenchmark:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return JsonlBenchmark("jsonl", str(folder / "mine.jsonl"), None)


def refused(folder: Path, *rows: dict[str, Any] | str) -> InputError:
    """What is wrong with the file, or with its last row where the others can be asked."""
    try:
        questions = write(folder, *rows).questions()
    except InputError as error:
        found = error
    else:
        assert [bool(question.fault) for question in questions] == [False] * (len(questions) - 1) + [True]
        problem, _, remedy = questions[-1].fault.partition("\n  what to do: ")
        found = InputError(problem, remedy)
    assert found.remedy
    return found


def test_a_question_may_ask_for_intervals(tmp_path: Path) -> None:
    row = {"video": "v.mp4", "question": "When does it ring?", "evidence": [[3, 4]], "answer_form": "intervals"}
    (question,) = write(tmp_path, row).questions()
    assert (question.answer_form, question.evidence) == (AnswerForm.INTERVALS, (Span(3, 4),))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"answer_form": "when"}, 'answer_form: "when" is none of words, intervals'),
        ({"answer_form": "intervals", "options": ["a", "b"], "answer": None}, "asks for intervals, and has options"),
        ({"answer_form": "intervals", "reference": "at noon"}, "asks for intervals, and has options, a reference"),
    ],
)
def test_an_answer_form_that_does_not_fit_is_refused(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    assert problem in refused(tmp_path, {"video": "v.mp4", "question": "When?", **more}).problem


def test_rows_become_questions_in_the_order_of_the_file(tmp_path: Path) -> None:
    benchmark = write(
        tmp_path,
        {**CHOICE, "answer": "a plate", "groups": {"task": "name", "hops": 2}, "evidence": [[3, 4.5], [9, 9]]},
        "",
        {**ROW, "id": "free", "question": " Warum?\u2028Wegen “ß”. "},
    )
    assert isinstance(benchmark, Benchmark)
    clip = str(tmp_path / "clip.mp4")
    assert benchmark.questions() == [
        Question(
            id="1",
            video=clip,
            text="What is it?",
            options=("a cup", "a plate", "a fork"),
            correct=1,
            groups={"task": "name", "hops": "2"},
            evidence=(Span(3, 4.5), Span(9, 9)),
        ),
        Question(id="free", video=clip, text="Warum?\u2028Wegen “ß”."),
    ]


def test_the_line_number_is_the_id_and_counts_empty_lines(tmp_path: Path) -> None:
    assert [question.id for question in write(tmp_path, ROW, "", ROW).questions()] == ["1", "3"]


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("a plate", 1),
        (" A Plate ", 1),
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B. a plate", 1),
        ("C)", 2),
        (0, 0),
        (2, 2),
        ("2", 2),
        (None, None),
    ],
)
def test_an_answer_is_a_text_a_letter_or_an_index(answer: object, correct: int | None) -> None:
    found = question_from_fields(id="1", video="v", text="What?", options=["a cup", "a plate", "a fork"], answer=answer)
    assert found.correct == correct


@pytest.mark.parametrize("answer", ["a spoon", "D", 3, -1, "B. a cup", True, ["B"], 1.5])
def test_an_answer_that_is_no_option_is_refused(tmp_path: Path, answer: object) -> None:
    error = refused(tmp_path, {**ROW}, {**CHOICE, "answer": answer})
    assert "mine.jsonl:2: " in error.problem
    assert "none of the options (A. a cup, B. a plate, C. a fork)" in error.problem


def test_numbers_among_the_options_are_meant_as_texts_where_that_is_the_only_reading() -> None:
    def correct(options: list[object], answer: object) -> int | None:
        return question_from_fields(id="1", video="v", text="How many?", options=options, answer=answer).correct

    assert correct([3, 4, 5], 4) == 1
    assert correct([3, 4, 5], "B") == 1
    assert correct([0, 1, 2], 1) == 1  # as text and as index the same
    with pytest.raises(InputError, match="can mean several") as error:
        correct([1, 2, 3], 1)
    assert "A to C: answer=A" in error.value.remedy
    with pytest.raises(InputError, match="can mean several"):
        correct([1.0, 2.0, 3.0], 2)
    with pytest.raises(InputError, match="can mean several"):
        correct(["B", "A"], "A")


def test_options_that_bring_their_letters_lose_them() -> None:
    def options(*texts: str) -> tuple[str, ...] | None:
        return question_from_fields(id="1", video="v", text="What?", options=texts).options

    assert options("A. Apples.", "B. Candles.") == ("Apples.", "Candles.")
    assert options("(A) red", "(B) blue") == ("red", "blue")
    assert options("A. Milne", "C. Lewis") == ("A. Milne", "C. Lewis")  # names, not letters


def test_options_without_the_answer_are_an_error_unless_said_to_be_unknown(tmp_path: Path) -> None:
    error = refused(tmp_path, CHOICE)
    assert error.problem.endswith("mine.jsonl:1: options without the answer")
    assert '"answer": null' in error.remedy
    assert write(tmp_path, {**CHOICE, "answer": None}).questions()[0].correct is None


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"video": "a.mp4", ', "not JSON"),
        ("[", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"question": "What?"}, "'video' is missing"),
        ({"video": "a.mp4"}, "'question' is missing"),
        ({**ROW, "question": "  "}, "no text"),
        ({**ROW, "question": 5}, "no text"),
        ({**ROW, "video": ""}, "not the path of a video"),
        ({**ROW, "option": ["a", "b"]}, "unknown field 'option', perhaps meant as 'options'"),
        ({**ROW, "candidates": ["a", "b"]}, "unknown field 'candidates'"),
        ({**ROW, "answer": "a cup"}, "no options"),
        ({**ROW, "options": "a, b", "answer": 0}, "not a list"),
        ({**ROW, "options": ["a"], "answer": 0}, "there are 1 options"),
        ({**ROW, "options": ["x"] * 27, "answer": 0}, "there are 27 options"),
        ({**ROW, "options": ["a", "a "], "answer": 0}, "stands twice"),
        ({**ROW, "options": ["a", None], "answer": 0}, "not an option"),
        ({**ROW, "options": ["a", ""], "answer": 0}, "not an option"),
        ({**ROW, "options": [True, False], "answer": 0}, "not an option"),
        ({**ROW, "id": ["x"]}, "not an id"),
        ({**ROW, "evidence": [[5, 3]]}, "not a span"),
        ({**ROW, "evidence": [5]}, "not a span"),
        ({**ROW, "evidence": [["0:10", "0:12"]]}, "not a span"),
        ({**ROW, "evidence": "10-12"}, "not a list"),
        ({**ROW, "groups": ["x"]}, "not labels"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: dict[str, Any] | str, problem: str) -> None:
    error = refused(tmp_path, ROW, row)
    assert str(tmp_path / "mine.jsonl:2: ") in error.problem
    assert problem in error.problem


def test_a_json_list_over_several_lines_says_how_to_convert_it(tmp_path: Path) -> None:
    assert "jq -c" in refused(tmp_path, json.dumps([ROW], indent=2)).remedy


def test_ids_must_differ_also_from_line_numbers(tmp_path: Path) -> None:
    error = refused(tmp_path, {**ROW, "id": 2}, ROW)
    assert "mine.jsonl:2: the id '2' is that of line 1" in error.problem


def test_a_file_that_is_missing_empty_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        JsonlBenchmark("jsonl", str(tmp_path / "none.jsonl"), None).questions()
    with pytest.raises(InputError, match="cannot be read"):
        JsonlBenchmark("jsonl", str(tmp_path), None).questions()
    (tmp_path / "video.jsonl").write_bytes(b"\x00\xff\xfe\x80")
    with pytest.raises(InputError, match="not UTF-8: the byte 0xff at column 2"):
        JsonlBenchmark("jsonl", str(tmp_path / "video.jsonl"), None).questions()
    assert "holds no question" in refused(tmp_path, "").problem


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n")
    assert JsonlBenchmark("jsonl", str(file), None).questions()[0].text == "What is it?"


def test_videos_are_looked_for_beside_the_file_or_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = write(tmp_path, ROW, {**ROW, "video": "/data/b.mp4"}, {**ROW, "video": "~/c.mp4"})
    monkeypatch.setenv("HOME", "/home/me")
    assert [q.video for q in benchmark.questions()] == [str(tmp_path / "clip.mp4"), "/data/b.mp4", "/home/me/c.mp4"]
    rooted = JsonlBenchmark("jsonl", benchmark.path, "~/videos")
    assert rooted.questions()[0].video == "/home/me/videos/clip.mp4"
    monkeypatch.chdir(tmp_path)
    assert JsonlBenchmark("jsonl", "mine.jsonl", None).questions()[0].video == str(tmp_path / "clip.mp4")


def test_options_come_from_the_command_line_too() -> None:
    given = OmegaConf.create({"options": ["red", "dark blue", 3]})
    found = question_from_fields(id="ask", video="v.mp4", text="Which?", options=given.options, answer="dark blue")
    assert (found.options, found.correct) == (("red", "dark blue", "3"), 1)
    assert question_from_fields(id="ask", video="v.mp4", text="Which?", options=given.options).correct is None


def test_subtitles_and_the_stretch_that_may_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"video": "a.mp4", "question": "What?", "subtitles": "a.srt", "span": [0, 12.5]}\n')
    [question] = JsonlBenchmark("mine", str(file), None).questions()
    assert question.subtitles == Subtitles(str(tmp_path / "a.srt"))
    assert question.span == Span(0.0, 12.5)
    for bad in (
        '"span": [3, 1]',
        '"span": 4',
        '"subtitles": ["a.srt"]',
        f'"span": [0, {"9" * 400}]',
        '"span": [0, NaN]',
    ):
        file.write_text(f'{{"video": "a.mp4", "question": "What?", {bad}}}\n')
        with pytest.raises(InputError, match=r"q\.jsonl:1"):
            JsonlBenchmark("mine", str(file), None).questions()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"video": "a.mp4", "question": "?", "id": ' + "9" * 5000 + "}", "not JSON that can be read"),
        ("[" * 100_000, "not JSON that can be read"),
        ('{"video": "a\\u0000.mp4", "question": "?"}', "is not the path of a video"),
        ('{"video": "a.mp4", "question": "a\x00b"}', "not JSON: Invalid control character"),
        ('{"video": "a.mp4", "question": "?", "question": "!"}', "the key 'question' stands twice"),
        (json.dumps({**CHOICE, "answer": "9" * 5000}), "none of the options"),
        (json.dumps({**CHOICE, "answer": float("nan")}), "none of the options"),
        (json.dumps({**CHOICE, "answer": "\u00b2"}), "none of the options"),
        (json.dumps({**CHOICE, "answer": 0, "evidence": [[0, float("inf")]]}), "not a span of time"),
    ],
)
def test_a_line_that_no_reader_can_hold_is_named_too(tmp_path: Path, line: str, problem: str) -> None:
    error = refused(tmp_path, ROW, line)
    assert f"{tmp_path / 'mine.jsonl'}:2: " in error.problem
    assert problem in error.problem


def test_a_row_that_cannot_be_used_costs_that_row_and_is_named(tmp_path: Path) -> None:
    spoon = {**CHOICE, "id": "spoon", "answer": "a spoon"}
    first, second, third, fourth = write(tmp_path, ROW, spoon, '{"video": ', {**ROW, "id": "d"}).questions()
    assert [question.id for question in (first, second, third, fourth)] == ["1", "spoon", "3", "d"]
    assert (first.fault, fourth.fault) == ("", "")
    assert second.fault.startswith(f"{tmp_path / 'mine.jsonl'}:2: the answer 'a spoon' is none of the options")
    assert "what to do: " in second.fault
    assert (second.text, second.video, second.correct) == ("What is it?", "", None)
    assert third.fault.startswith(f"{tmp_path / 'mine.jsonl'}:3: not JSON")


def test_where_no_row_can_be_used_the_first_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.jsonl:1: unknown field 'frage'"):
        write(tmp_path, {"video": "a.mp4", "frage": "Was?"}, {"video": "b.mp4"}).questions()


def test_a_row_in_another_encoding_costs_that_row(tmp_path: Path) -> None:
    rows = [json.dumps({**ROW, "question": word}, ensure_ascii=False) + "\n" for word in ("caf\xe9", "th\xe9")]
    (tmp_path / "mine.jsonl").write_bytes(rows[0].encode() + rows[1].encode("latin-1"))
    first, second = JsonlBenchmark("jsonl", str(tmp_path / "mine.jsonl"), None).questions()
    assert (first.text, first.fault) == ("caf\xe9", "")
    assert f"{tmp_path / 'mine.jsonl'}:2: not UTF-8: the byte 0xe9 at column" in second.fault


def test_half_a_character_is_replaced_and_the_question_asked(tmp_path: Path) -> None:
    cut = (
        '{"video": "clip.mp4", "question": "Why \\ud83d", "options": ["\\ude00", "b"], "answer": "\\ude00", '
        '"id": "\\udfff"}'
    )
    [question] = write(tmp_path, cut).questions()
    assert (question.text, question.options, question.correct, question.id) == (
        "Why \ufffd",
        ("\ufffd", "b"),
        0,
        "\ufffd",
    )
    whole = '{"video": "clip.mp4", "question": "Why \\ud83d\\ude00"}'
    assert write(tmp_path, whole).questions()[0].text == "Why \U0001f600"


def test_files_in_utf16_and_with_old_line_ends_are_read(tmp_path: Path) -> None:
    text = json.dumps(ROW) + "\r\n" + json.dumps({**ROW, "question": "W\u00e4s?"}, ensure_ascii=False) + "\r"
    for number, encoding in enumerate(("utf-16", "utf-8-sig", "utf-8")):
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(text.encode(encoding))
        assert [question.text for question in JsonlBenchmark("jsonl", str(file), None).questions()] == [
            "What is it?",
            "W\u00e4s?",
        ]


def test_a_free_question_has_a_reference_and_scoring_points(tmp_path: Path) -> None:
    (question,) = write(tmp_path, {**ROW, "reference": " He waves. ", "scoring_points": ["He waves", 3]}).questions()
    assert (question.reference, question.scoring_points) == ("He waves.", ("He waves", "3"))
    assert "reference" in refused(tmp_path, {**CHOICE, "answer": "A", "reference": "a cup"}).problem  # beside options
    assert "not a reference" in refused(tmp_path, {**ROW, "reference": ["a cup"]}).problem
    assert "not a list" in refused(tmp_path, {**ROW, "scoring_points": "He waves"}).problem
