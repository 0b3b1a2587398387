from __future__ import annotations

import pytest
from growth import grows_too_fast

from pipeline.answerers.options import conclude, read_option
from pipeline.domain import Answer, Cost, Question, Status

COLOURS = ("blue", "red", "green", "dark red")
THREE = ("a red circle", "a blue square", "nothing")
FIVE = ("one", "two", "three", "four", "five")

READ = [
    # the letter alone, in the forms in which models give it
    ("B", COLOURS, 1),
    ("b", COLOURS, 1),
    (" B\n", COLOURS, 1),
    ("(B)", COLOURS, 1),
    ("(b)", COLOURS, 1),
    ("B.", COLOURS, 1),
    ("B)", COLOURS, 1),
    ("[C]", COLOURS, 2),
    ("**B**", COLOURS, 1),
    ("**B.**", COLOURS, 1),
    ("`D`", COLOURS, 3),
    ('"C"', COLOURS, 2),
    ("$\\boxed{B}$", COLOURS, 1),
    ("\\boxed{\\text{D}}", COLOURS, 3),
    ("Option B", COLOURS, 1),
    ("option c.", COLOURS, 2),
    ("（Ｂ）", COLOURS, 1),  # noqa: RUF001
    ("A", COLOURS, 0),
    ("E", FIVE, 4),
    ("C", THREE, 2),
    # with the option's text or a reason
    ("B. red", COLOURS, 1),
    ("(B) red", COLOURS, 1),
    ("B) red", COLOURS, 1),
    ("B: red", COLOURS, 1),
    ("B - red", COLOURS, 1),
    ("B red", COLOURS, 1),
    ("A blue", COLOURS, 0),
    ("B, because it is hot", COLOURS, 1),
    ("B because it is hot", COLOURS, 1),
    ("A is correct.", COLOURS, 0),
    ("B\nThe circle is shown at 12 s. A square follows.", COLOURS, 1),
    ("- B. red", COLOURS, 1),
    ("**B. red**\n\nExplanation: the blue one comes later.", COLOURS, 1),
    # said in a sentence
    ("The answer is B", COLOURS, 1),
    ("The answer is B.", COLOURS, 1),
    ("The answer is b.", COLOURS, 1),
    ("The best answer is: (C) green", COLOURS, 2),
    ("Answer: (b)", COLOURS, 1),
    ("Answer: B", COLOURS, 1),
    ("answer: b", COLOURS, 1),
    ("Answer B", COLOURS, 1),
    ("**Answer:** B", COLOURS, 1),
    ("The correct option is **D**.", COLOURS, 3),
    ("Best option: (B", COLOURS, 1),
    ("The answer to the question is C.", COLOURS, 2),
    ("Based on the video, the answer is C.", COLOURS, 2),
    ("The answer is A because it comes first.", COLOURS, 0),
    ("I would choose B.", COLOURS, 1),
    ("It is C", COLOURS, 2),
    ("It's (C).", COLOURS, 2),
    ("Therefore, D.", COLOURS, 3),
    ("I think (B) fits.", COLOURS, 1),
    ("The frames at 3.0s fit option B best.", COLOURS, 1),
    ("<answer>B</answer>", COLOURS, 1),
    ("答案是B", COLOURS, 1),
    ("答案：C", COLOURS, 2),  # noqa: RUF001
    # a decision between several letters
    ("A. blue is wrong. The answer is B.", COLOURS, 1),
    ("A. blue\nB. red\nC. green\nD. dark red\nThe answer is C.", COLOURS, 2),
    ("Option A is wrong, option B is right.", COLOURS, 1),
    ("It is not (A) but (B).", COLOURS, 1),
    ("The answer is A. Wait. Final answer: B", COLOURS, 1),
    # the option's own words
    ("red", COLOURS, 1),
    ("Red.", COLOURS, 1),
    ('"dark red"', COLOURS, 3),
    ("Dark  red", COLOURS, 3),
    ("The answer is red.", COLOURS, 1),
    ("The answer is dark red.", COLOURS, 3),
    ("Answer: dark red, since it is night", COLOURS, 3),
    ("The circle is red.", COLOURS, 1),
    ("The circle is dark red.", COLOURS, 3),
    ("A red circle", THREE, 0),
    ("red circle", ("red circle", "blue square"), 0),
    ("a red circle", ("blue square", "red circle"), 1),
    ("It is a blue square.", THREE, 1),
    ("The answer is a blue square.", THREE, 1),
    ("There are three of them", FIVE, 2),
    ("3", ("2", "3", "4"), 1),
    ("There are 3 circles", ("2", "3", "13"), 1),
    ("None of the above", ("red", "blue", "None of the above"), 2),
    ("It cannot be determined.", ("yes", "no", "cannot be determined"), 2),
    ("red", ("A. blue", "B. red"), 1),
    ("B. red", ("A. blue", "B. red"), 1),
    ("I'm not sure, but the answer is B.", COLOURS, 1),
    ("C", ("B", "C", "A"), 2),  # the prompt asks for a letter
    ("H", ("E", "F", "G", "H"), 3),
    ("U-turn", ("stop", "U-turn"), 1),
    ("What (is) [this]?", ("x", "What (is) [this]"), 1),
    ("The answer is 12.5", ("12", "12.5", "13"), 1),
    ("The correct answer is option B: red.", COLOURS, 1),
    ("Option B is the correct answer.", COLOURS, 1),
    ("The answer is B, not A.", COLOURS, 1),
    ("I'm sorry, but I cannot identify the man. The answer is B.", COLOURS, 1),
    ("The answer is A man walks in.", ("A dog barks", "A man walks in"), 1),
    ("The answer is A.", ("A dog barks", "A man walks in"), 0),
    ("<answer>A</answer>", COLOURS, 0),
    ("<answer>\nC. green\n</answer>", COLOURS, 2),
    ("<b>C</b>", COLOURS, 2),
    ("<p>The answer is <strong>D</strong>.</p>", COLOURS, 3),
    ("A is seen first, so the answer is <|begin_of_box|>C<|end_of_box|>", COLOURS, 2),
    ("B<|im_end|>", COLOURS, 1),
    ("The answer is not A, it is B.", COLOURS, 1),
    ("Answer: B\nExplanation: Option A is incorrect, (C) too.", COLOURS, 1),
    ("B. red\n\nA blue one is seen later. It is not red.", COLOURS, 1),
    ("I believe the answer is B.", COLOURS, 1),
    ("The answer is likely 'B'.", COLOURS, 1),
    ("My final answer is (D) dark red", COLOURS, 3),
    ("(B) red because (A) is seen later", COLOURS, 1),
    # JSON
    ('{"answer":"B"}', COLOURS, 1),
    ('{"Answer": "(b)", "reason": "A is wrong"}', COLOURS, 1),
    ('```json\n{"answer": "red"}\n```', COLOURS, 1),
    ('{"YOUR_ANSWER": "C. green", "JUSTIFICATION": "Option A ..."}', COLOURS, 2),
    ('{"answer": "B", "reason": "it was cu', COLOURS, 1),
    ('{"answer": 3}', ("2", "3", "4"), 1),
]

NOT_READ = [
    ("", COLOURS),
    ("   \n", COLOURS),
    ("I cannot determine", COLOURS),
    ("I cannot determine the answer from these frames.", COLOURS),
    ("I cannot tell whether it is red.", COLOURS),
    ("None of the options is right.", COLOURS),
    # two letters without a decision
    ("A or B", COLOURS),
    ("A and C", COLOURS),
    ("A, B", COLOURS),
    ("A/B", COLOURS),
    ("(A) or (B)", COLOURS),
    ("Both A and C are correct.", COLOURS),
    ("The answer is A or B.", COLOURS),
    ("The answer is either red or blue.", COLOURS),
    ("The answer is red or blue.", COLOURS),
    ("The answer is A. The answer is B.", COLOURS),
    ("A. blue\nB. red", COLOURS),
    ("Could be (A), could be (B).", COLOURS),
    ("ABCD", COLOURS),
    ("(A) (B) (C) (D)", COLOURS),
    ("A. blue B. red C. green D. dark red", COLOURS),
    ("The answer is B C", COLOURS),
    ("The answer is A, B, or C", COLOURS),
    ("The answer is both A and B.", COLOURS),
    ("Neither A nor B.", COLOURS),
    ("A B C D", COLOURS),
    ("12.5", ("12", "13")),
    ("The answer is 12.5", ("12", "13")),
    ("red-brown", COLOURS),
    # letters that are not labels
    ("Based on the video, one sees nothing.", COLOURS),
    ("Clearly", COLOURS),
    ("Because", COLOURS),
    ("A person walks in.", COLOURS),
    ("A red circle", ("blue", "green")),
    ("A red circle is not shown.", COLOURS),
    ("The answer is a circle.", COLOURS),
    ("The answer is A man walks in.", COLOURS),
    ("I'm sorry, but I cannot identify the man. He is red.", COLOURS),
    ("The answer is " + "red, " * 40, COLOURS),
    ("A-frame houses", COLOURS),
    ("B+", COLOURS),
    ("He wears a T-shirt.", COLOURS),
    ("D.C. is shown.", COLOURS),
    ("The man takes vitamin B.", COLOURS),
    ("I think so", tuple("abcdefghij")),
    ("I'm happy", tuple(str(i) for i in range(12))),
    # letters beyond the options
    ("E", COLOURS),
    ("The answer is E.", COLOURS),
    ("(F)", COLOURS),
    ("D", THREE),
    ("Z. red", COLOURS),
    # denial
    ("The answer is not B.", COLOURS),
    ("Option A is wrong.", COLOURS),
    ("It is not red.", COLOURS),
    ("It isn't (B).", COLOURS),
    # several options' words
    ("First red, then blue.", COLOURS),
    ("red, blue", COLOURS),
    ("It starts red. It ends blue.", COLOURS),
    ("same", ("same", "same")),
    # JSON that does not say
    ('{"answer": "unknown", "reason": "(A) is dark"}', COLOURS),
    ('{"answer": null}', COLOURS),
    ('{"answer": ["A", "B"]}', COLOURS),
    ('{"thought": "B"}', COLOURS),
    ('{"answer": 2}', COLOURS),
    ('{"answer": ' + "2" * 5000 + "}", ("2", "3")),  # more digits than Python reads
    ("\ufffd\x00", COLOURS),
]


@pytest.mark.parametrize(("text", "options", "expected"), READ)
def test_reads(text: str, options: tuple[str, ...], expected: int) -> None:
    assert read_option(text, options) == expected


@pytest.mark.parametrize(("text", "options"), NOT_READ)
def test_reads_nothing(text: str, options: tuple[str, ...]) -> None:
    assert read_option(text, options) is None


MANY = Question("q", "v.mp4", "Which colour?", COLOURS)
FREE = Question("q", "v.mp4", "Which colour?")

CONCLUSIONS = [
    (MANY, "B", False, Status.OK, 1),
    (MANY, "B. The circle at the le", True, Status.OK, 1),
    (MANY, "Based on the frames", True, Status.UNPARSED, None),
    (MANY, "The circle is red", True, Status.UNPARSED, None),
    (MANY, "Looking at option B one", True, Status.UNPARSED, None),
    (MANY, "The answer is B because the circle", True, Status.OK, 1),
    (MANY, "purple", False, Status.UNPARSED, None),
    (MANY, "I cannot determine the answer.", False, Status.UNPARSED, None),
    (MANY, " \n", False, Status.EMPTY_ANSWER, None),
    (MANY, "I'm sorry, but I can't assist with that.", False, Status.REFUSED, None),
    (MANY, "I’m sorry, but I can’t help with identifying people.", False, Status.REFUSED, None),  # noqa: RUF001
    (MANY, "Sorry, I cannot answer this.", False, Status.REFUSED, None),
    (MANY, "I am unable to provide that.", False, Status.REFUSED, None),
    (MANY, "I'm sorry if this is unclear. The answer is C.", False, Status.OK, 2),
    (MANY, "I'm sorry, but I cannot identify the man. The answer is B.", False, Status.OK, 1),
    (MANY, "I'm sorry, but I cannot identify the man.", False, Status.REFUSED, None),
    (MANY, "At first the answer is A. But wait", True, Status.UNPARSED, None),
    (FREE, "red", False, Status.OK, None),
    (FREE, "A dog that can't swim", False, Status.OK, None),
    (FREE, "He says that he can't help her", False, Status.OK, None),
    (FREE, "", False, Status.EMPTY_ANSWER, None),
    (FREE, "I'm sorry, but I can't help with that.", False, Status.REFUSED, None),
    (FREE, "As an AI, I cannot identify people.", False, Status.REFUSED, None),
]


@pytest.mark.parametrize(("question", "text", "truncated", "status", "option"), CONCLUSIONS)
def test_concludes(question: Question, text: str, truncated: bool, status: Status, option: int | None) -> None:
    cost = Cost(1.5, 20, 3)
    answer = conclude(question, text, truncated=truncated, form="images", frame_times=(1.0, 2.5), cost=cost)
    assert (answer.status, answer.option) == (status, option)
    assert (answer.question_id, answer.text, answer.form) == ("q", text, "images")
    assert (answer.frame_times, answer.cost) == ((1.0, 2.5), cost)
    assert bool(answer.detail) == (status is not Status.OK)
    if truncated and status is not Status.OK:
        assert "answerer.max_new_tokens" in answer.detail


@pytest.mark.parametrize("loop", ['{"a":' * 1200, "red, blue, " * 1000, "[" * 3000, "the answer is A, " + "B, " * 3000])
def test_a_model_that_loops_is_unparsed(loop: str) -> None:
    answer = conclude(MANY, loop, truncated=False, form="", frame_times=(), cost=Cost())
    assert (answer.status, answer.option, answer.text) == (Status.UNPARSED, None, loop)


def test_a_text_is_read_in_time_linear_in_its_length() -> None:
    def read(text: str) -> Answer:
        return conclude(MANY, text, truncated=False, form="", frame_times=(), cost=Cost())

    assert not grows_too_fast(read, heads=("", "the answer is "), length=200)


@pytest.mark.parametrize("reader", ["_plain", "split_thoughts"])
def test_an_error_in_reading_costs_one_answer(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(words: str, **more: bool) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr(f"pipeline.answerers.options.{reader}", breaks)
    answer = conclude(MANY, "B, so red", truncated=False, form="", frame_times=(), cost=Cost())
    assert (answer.status, answer.text) == (Status.UNPARSED, "B, so red")
    assert "RecursionError: too deep" in answer.detail


def test_a_cut_free_answer_says_so() -> None:
    answer = conclude(FREE, "The man first", truncated=True, limit=20, form="", frame_times=(), cost=Cost())
    assert answer.status is Status.OK
    assert "answerer.max_new_tokens=40" in answer.detail
    # Of a text that another program got there is no such setting.
    answer = conclude(FREE, "<think>The man", truncated=False, form="", frame_times=(), cost=Cost())
    assert "answerer.max_new_tokens" not in answer.detail


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B) two", 1),
        ("B", 1),
        ("B)", 1),
        ("B\nThe second is shown.", 1),
        ("(B) two", 1),
        ("Best Option: (B) two", 1),
        ("C) three.\n\nA) is not it.", 2),
        ("F) six", None),
        ("I cannot tell", None),
        ("", None),
    ],
)
def test_an_answer_that_the_prompt_began_is_read_with_its_beginning(text: str, option: int | None) -> None:
    """MLVU's: what stands before the closing bracket is the letter."""
    question = Question("q", "v.mp4", "Which?", FIVE, 1)
    answer = conclude(
        question, text, begun="Best Option: (", truncated=False, form="", frame_times=(), cost=Cost(1.0, 20, 3)
    )
    assert answer.option == option
    assert answer.text == text
