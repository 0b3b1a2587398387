"""Thought and answer are told apart in every form in which models mark them, and words about marks are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest

from pipeline.answerers.options import conclude, read_option
from pipeline.domain import Answer, Cost, Question, Status
from pipeline.thoughts import leaves_thought_open, split_thoughts

COLOURS = ("blue", "red", "green", "dark red")
ASKED = Question("q", "v.mp4", "Which colour?", COLOURS, 1)
MARKS = {
    "think": ("<think>", "</think>"),
    "spaces and case": ("< THINK >", "</ Think >"),
    "thinking": ("<thinking>", "</thinking>"),
    "mixed": ("<think>", "</thinking>"),
    "analysis": ("<analysis>", "</analysis>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "chinese": ("<\u601d\u8003>", "</\u601d\u8003>"),
    "chain of thought": ("<chain_of_thought>", "</chain_of_thought>"),
    "attribute": ('<thought lang="en">', "</thought>"),
    "seed": ("<seed:think>", "</seed:think>"),
    "minimax": ("<mm:think>", "</mm:think>"),
    "longcat": ("<longcat_think>", "</longcat_think>"),
    "entities": ("&lt;think&gt;", "&lt;/think&gt;"),
    "mistral": ("[THINK]", "[/THINK]"),
    "kimi": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "openthinker": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "command": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "gemma": ("<|channel>thought\n", "<channel|>"),
    "medgemma": ("<unused94>thought\n", "<unused95>"),
}
POSITIONS: dict[str, Callable[[str, str, str, str], str]] = {
    "before": lambda begin, end, decoy, answer: f"{begin}{decoy}{end}{answer}",
    "on lines of its own": lambda begin, end, decoy, answer: f"\n{begin}\n{decoy}\n{end}\n\n{answer}\n",
    "begun by the prompt": lambda begin, end, decoy, answer: f"{decoy}\n{end}\n\n{answer}",
    "after": lambda begin, end, decoy, answer: f"{answer}\n{begin}{decoy}{end}",
    "around a draft": lambda begin, end, decoy, answer: f"C?\n{begin}{decoy}{end}\n{answer}",
    "twice": lambda begin, end, decoy, answer: f"{begin}{decoy}{end}\n{begin}{decoy}{end}{answer}",
    "on both sides": lambda begin, end, decoy, answer: f"{begin}{decoy}{end}{answer}\n{begin}{decoy}{end}",
    "nested": lambda begin, end, decoy, answer: f"{begin}x{begin}{decoy}{end}{decoy}{end}{answer}",
    "begun twice": lambda begin, end, decoy, answer: f"{begin}{begin}{decoy}{end}{answer}",
    "ended twice": lambda begin, end, decoy, answer: f"{begin}{decoy}{end}{answer}\n{end}",
}
DECOYS = (
    "So C. But look again.",
    "The answer is C.",
    "C",
    "(C) green",
    "\\boxed{C}",
    "Final answer: C",
    "<answer>C</answer>",
    '{"answer": "C"}',
    "The user says 'think'. It is green.\nC. green\n",
    "I cannot answer this.",
    "1 < 2, and <b>C</b>",
)
ANSWERS = (
    *("B", "B.", "(B) red", "red", "The answer is B.", "<answer>B</answer>", "\\boxed{B}", '{"answer": "B"}'),
    *("<|begin_of_box|>B<|end_of_box|>", "<|START_RESPONSE|>B<|END_RESPONSE|>", "B<|return|>"),
)


def concluded(text: str, question: Question = ASKED, truncated: bool = False, **more: object) -> Answer:
    settings = {"truncated": truncated, "form": "", "frame_times": (), "cost": Cost(), **more}
    return conclude(question, text, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("position", POSITIONS)
def test_the_answer_is_what_is_no_thought(mark: str, position: str) -> None:
    begin, end = MARKS[mark]
    # Every decoy and every answer in each form, in pairs that change from form to form: 2090 outputs.
    shift = list(MARKS).index(mark) + list(POSITIONS).index(position)
    for place, decoy in enumerate(DECOYS):
        meant = ANSWERS[(place + shift) % len(ANSWERS)]
        text = POSITIONS[position](begin, end, decoy, meant)
        answer = concluded(text)
        assert (answer.option, answer.status) == (1, Status.OK), text
        assert read_option(text, COLOURS) == 1, text
        assert decoy.strip() in answer.thought, text
        assert decoy not in answer.text or decoy == "C", text
        assert re.sub(r"<.(begin|end)_of_box.>", "", meant) in answer.text, text


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("truncated", [False, True])
def test_a_thought_that_never_ends_has_no_answer(mark: str, truncated: bool) -> None:
    begin, end = MARKS[mark]
    for decoy, before in product(DECOYS, ("", "\n", "B. ", f"{begin}x{end}", f"{begin}{begin}")):
        text = f"{before}{begin}{decoy}"
        answer = concluded(text, truncated=truncated, limit=50)
        assert (answer.option, answer.status) == (None, Status.TRUNCATED_OUTPUT), text
        assert read_option(text, COLOURS) is None
        assert decoy.strip() in answer.thought
        assert "answerer.max_new_tokens=100" in answer.detail
        assert answer.status.is_final


@pytest.mark.parametrize(
    "text",
    [
        "analysisWe need the colour. C? No.assistantfinalB",
        "Here is my thought process: C, or so. Here is my response: B",
        "<think/>B",
        "<think>\n\n</think>\n\nB",
        "<think>It says </think> there, so C.</think>B",
        "<think>I am to end with '</think>'. C?</think>B",
        "```\n<think>C</think>\nB\n```",
        "<seed:think>C<seed:cot_budget_reflect>half is used</seed:cot_budget_reflect> C.</seed:think>B",
        "<think>C?</think><analysis>C!</analysis> B",
        "<analysis>C? <think>C!</think> C</analysis> B",
        "<think>C</think><answer>B</answer><reason>C is not seen, and C is too late</reason>",
        "<SUMMARY>green, then red</SUMMARY><REASONING>C?</REASONING><CONCLUSION>B</CONCLUSION>",
        '{"thought": "C", "answer": "<think>C</think>B"}',
        "<think>C</think> I am sure: it is red.",
        "<|think|>C<|end|><|begin|>assistant<|content|>B",
        "B\n<think>C</think>\nThat is my answer.",
    ],
)
def test_other_forms(text: str) -> None:
    assert concluded(text).option == 1


@pytest.mark.parametrize(
    "text",
    [
        "The sign reads '<think>', so (B).",
        'On the screen: "</think>". The answer is B.',
        "`<think>` and `</think>` are shown: (B)",
        "The man writes the <think> tag and then the </think> tag. The answer is B.",
        "She holds a card with <think> on it. The answer is B.",
        "I think (B) is < C",
        "<p>I <b>think</b> it is <i>(B)</i></p>",
        "<thinker>B</thinker>",
        "[thinking] (B)",
        "analysis of the frames: (B)",
        "<b>B</b>",
        "<br>B",
        "Thought\nB. red",
        "1 < 2 and 3 > 2: the answer is B.",
        "Analysis:\nB. red",
        "x </b> y B. The answer is B",
    ],
)
def test_words_about_thoughts_and_other_markup_are_the_answer(text: str) -> None:
    answer = concluded(text)
    assert (answer.text, answer.thought, answer.option) == (text, "", 1)


def test_html_is_no_letter() -> None:
    assert [read_option(f"<b>{letter}</b>", COLOURS) for letter in "ABCD"] == [0, 1, 2, 3]
    assert [read_option(f"<answer>{letter}</answer>", COLOURS) for letter in "ABCD"] == [0, 1, 2, 3]
    assert read_option("<B>", COLOURS) == 1


def test_nothing_that_was_written_is_lost() -> None:
    for begin, end in MARKS.values():
        text = f"{begin}first C\n{end}\n\nB, as said\n"
        answer = concluded(text)
        assert answer.text == "B, as said\n"
        assert answer.thought == f"{begin}first C\n{end}".strip()
        assert concluded(answer.text).option == answer.option


def test_a_thought_with_nothing_behind_it_is_an_empty_answer() -> None:
    answer = concluded("<think>It is B.</think>\n")
    assert (answer.status, answer.text, answer.thought) == (Status.EMPTY_ANSWER, "", "<think>It is B.</think>")
    assert "thought" in answer.detail
    # Whether the limit came before the answer is known from the reason for which the text ended.
    assert concluded("<think>It is B.</think>\n", truncated=True).status is Status.TRUNCATED_OUTPUT


def test_thoughts_that_came_apart_from_the_text() -> None:
    answer = concluded("\n\nB", thought="C? no")
    assert (answer.option, answer.text, answer.thought) == (1, "B", "C? no")
    assert concluded("", thought="C").status is Status.EMPTY_ANSWER
    assert concluded("", thought="C", truncated=True).status is Status.TRUNCATED_OUTPUT
    assert concluded("<think>D</think>B", thought="C").thought == "C\n<think>D</think>"


def test_a_thought_that_the_prompt_began() -> None:
    assert concluded("C? B</think>B", thought_begun=True).option == 1
    assert concluded("So the answer is C. But", thought_begun=True).status is Status.TRUNCATED_OUTPUT
    assert concluded("So the answer is C. But", thought_begun=True).text == ""


def test_free_answers_are_split_too() -> None:
    free = Question("q", "v.mp4", "Which colour?")
    answer = concluded("<think>green? no</think>\nred", free)
    assert (answer.status, answer.text, answer.thought) == (Status.OK, "red", "<think>green? no</think>")
    assert concluded("<think>green? no", free).status is Status.TRUNCATED_OUTPUT


def test_the_beginning_of_an_answer_that_the_prompt_wrote_belongs_to_the_answer() -> None:
    assert concluded("<think>C)</think>B) red", begun="Best Option: (").option == 1


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("[gMASK]<|user|>A <think> in the question<|assistant|>", False),
        ("<|turn>model\n<|channel>thought\n", True),
        ("<|turn>model\n<|channel>thought\n<channel|>", False),
        ("", False),
    ],
)
def test_a_prompt_that_ends_in_a_thought_is_seen(prompt: str, is_open: bool) -> None:
    assert leaves_thought_open(prompt) is is_open


def test_a_split_is_one_pass() -> None:
    text = "a<think>b</think>c<think>d</think>e"
    assert split_thoughts(text).parts == ("a", "c", "e")
    assert split_thoughts(text).answer == "ace"
    assert split_thoughts("a").parts == ("a",)
