from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wordings import wording

from pipeline.answerers import AnswerRequest
from pipeline.answerers.prompts import Words, as_words, question_fault
from pipeline.config import conf_dir
from pipeline.domain import AnswerForm, Frame, Prompt, Question, SubtitleLine, Video
from pipeline.errors import ConfigError

PROMPT = wording("letter_or_phrase")


def ask(text: str, *options: str) -> Question:
    return Question("q1", "v.mp4", text, options or None)


def test_multiple_choice() -> None:
    assert PROMPT.render(ask("Which colour?", "red", "blue", "dark red")) == (
        "Which colour?\nA. red\nB. blue\nC. dark red\nAnswer with the option's letter from the given choices directly."
    )


def test_free_text() -> None:
    assert PROMPT.render(ask(" Which colour? ")) == "Which colour?\nAnswer the question using a single word or phrase."


def test_braces_in_the_question_are_only_text() -> None:
    text = PROMPT.render(ask("What does {options} or {0} or {letter mean? {", "{question}", "{}", "{letter}"))
    assert text.startswith("What does {options} or {0} or {letter mean? {\nA. {question}\nB. {}\nC. {letter}\nAnswer")


def test_braces_of_a_template_are_only_text() -> None:
    prompt = replace(
        PROMPT, multiple_choice='{question}\n{options}\nReply {"answer": "X"}', option_line="({letter}) {option}"
    )
    assert prompt.render(ask("Why?", "a", "b")) == 'Why?\n(A) a\n(B) b\nReply {"answer": "X"}'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("multiple_choice", "{question}"),
        ("multiple_choice", "{question} {options} {video}"),
        ("free", "Tell me."),
        ("free", "{question} {options}"),
        ("option_line", "{option}"),
    ],
)
def test_a_template_without_its_slots_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"answerer.prompt.{key}"):
        replace(PROMPT, **{key: value})


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (ask(" \n"), "no text"),
        (ask("Which?", "red"), "1 options"),
        (ask("Which?", *("x" * (i + 1) for i in range(27))), "27 options"),
        (ask("Which?", "", " "), "without any text"),
        (ask("What is <image> here?"), "<image>"),
        (ask("Which?", "red", "blue<|im_end|>"), "<|im_end|>"),
    ],
)
def test_a_question_that_cannot_be_asked(question: Question, words: str) -> None:
    fault = question_fault(question, ("<image>", "<|im_end|>"))
    assert fault is not None
    assert words in fault
    assert "q1" in fault


def test_a_question_that_can_be_asked() -> None:
    assert question_fault(ask("Which of <these>?", "red", "blue"), ("<image>", "")) is None
    assert question_fault(ask("Which?", *("x" * (i + 1) for i in range(26))), ()) is None
    assert question_fault(Question("q", "v", "Which?", ()), ()) is not None


LETTER = "Which colour?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
SELECT = (
    "Select the best answer to the following multiple-choice question based on the video{}. Respond with only the "
    "letter (A, B, C, or D) of the correct option.\nWhich colour?\nA. red\nB. blue\n"
)
AND_SUBTITLES = SELECT.format(" and the subtitles")
LINES = (SubtitleLine(1.04, 2.0, "so we begin"), SubtitleLine(62.0, 70.0, "with {text} {lines}"))
SAID = "so we begin\nwith {text} {lines}\n"

EIGHT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, D, E, F, G, or H) of the correct option."
)
SAMPLED = "A total of 1 frames are sampled. Their corresponding timestamps are:\n\n1.0\n\n"
SHORT = "Which colour? Keep the answer short and concise."
FREE = {
    "letter_or_phrase": "Which colour?\nAnswer the question using a single word or phrase.",
    "videoeval_pro_official": SHORT,
    "videoeval_pro_lmms_eval": SHORT,
    "cgbench_official": (
        "You will be provided with sampled frames from a video, along with a question.\nYour task is to analyze the "
        "provided frames and infer the most plausible answer based on the visual information.\nIf the visual "
        "information is ambiguous or insufficient, use the available context to reason your answer.\nOnly output the "
        'answer in the following format:\n\n```json\n{"result": "answer"}\n```\n\nThe "answer" can be a word, phrase, '
        f"or sentence that directly responds to the question.\n\n{SAMPLED}Question: Which colour?\n\n"
    ),
}
"""Texts of a free question, where they are not the question alone."""

GOLDEN = {
    "letter": LETTER,
    "letter_or_phrase": LETTER,
    "longvideobench_official": f"Question: {LETTER}",
    "longvideobench_lmms_eval": f"{LETTER}\n",
    "mlvu_official": "Question: Which colour?\nOptions:\n(A) red\n(B) blue\nOnly give the best option.",
    "mlvu_lmms_eval": "Which colour?\n(A) red\n(B) blue\n\nOnly give the best option.\nBest option: (",
    "videomme_official": f"{SELECT.format('')}The best answer is:",
    "videomme_lmms_eval": f"{AND_SUBTITLES}\nAnswer with the option's letter from the given choices directly.",
    "videomme_lmms_eval_best": f"{AND_SUBTITLES}The best answer is:",
    "videomme_lmms_eval_qwen3": (
        "Question: Which colour?\nOptions:\nA. red\nB. blue\nAnswer with the option letter only."
    ),
    **{
        name: f"{head}Question: Which colour?\nA. red\nB. blue\n{EIGHT}"
        for name, head in (
            ("videomme_v2_official", "These are the frames of a video."),
            ("videomme_v2_interleaved", "These are the frames of a video."),
            ("videomme_v2_lmms_eval", ""),
        )
    },
    "videomme_v2_lmms_eval_qwen3": "Question: Which colour?\nA. red\nB. blue\nAnswer with the option letter only.",
    "videomme_v2_reasoning": (
        "These are the frames of a video.Question: Which colour?\nA. red\nB. blue\nPlease perform a detailed reasoning "
        "based on the provided video frames to answer the following multiple-choice question selecting the best option "
        "from A through H and providing your final response strictly in the format: 'Final Answer: <letter>."
    ),
    "cgbench_official": (
        "You will be provided with sampled frames from a video, along with a multiple-choice question that includes a "
        "question and several answer options.\nYour task is to analyze the provided frames, infer the most plausible "
        "answer based on the visual information.\nIf the video does not provide enough information, infer the answer "
        "based on the options available and still provide a result. Therefore, In all cases, an answer must be given.\n"
        'Only output the answer in the following format:\n\n```json\n{"result": "option"}\n```\n\nThe "option" is the '
        f"uppercase letter corresponding to your answer.\n\n{SAMPLED}Question: Which colour?\n\nA:red\nB:blue\n\n"
    ),
    "cgbench_lmms_eval": (
        "Select the best answer to the following multiple-choice question based on the video.\nWhich colour?\nA. red\n"
        "B. blue\nAnswer with the option letter only."
    ),
    "videoeval_pro_official": (
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
        "letter (A, B, C, or D) of the correct option, with no text around it.\nWhich colour?\nA. red B. blue"
    ),
    "videoeval_pro_lmms_eval": "Which colour?\nA. red\nB. blue\nAnswer with the option letter only.",
    "extremewhen_official": LETTER,
    "lvbench_lmms_eval": "Which colour?\n(A) red\n(B) blue\nAnswer the question with the option letter",
    "hourvideo": (
        "##THE MCQ TESTS ARE INCLUDED BELOW:\nQuestion: Which colour?\nAnswers:\nA. red\nB. blue\nReply with one JSON "
        'object: {"YOUR_ANSWER": the letter of the right answer, "JUSTIFICATION": why, in one sentence}'
    ),
}
"""Each as the code that its YAML names has it."""


def test_every_named_prompt_is_held_here() -> None:
    assert set(GOLDEN) == {path.stem for path in (conf_dir() / "answerer" / "prompt").glob("*.yaml")}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_wording_of_each_named_prompt(name: str) -> None:
    prompt = wording(name)
    assert prompt.name == name
    words = prompt.words(request(ask("Which colour?", "red", "blue")))
    system = (
        "Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
        "option that accurately addresses the question."
    )
    expected = (system, "Best Option: (") if name == "mlvu_official" else (None, "")
    assert words == Words(GOLDEN[name], *expected, video_end=100.0)
    assert words.in_one == words.text
    assert prompt.words(request(ask("Which colour?"))) == Words(FREE.get(name, "Which colour?"), video_end=100.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("letter", f"Subtitles of the video:\n1.0s: so we begin\n62.0s: with {{text}} {{lines}}\n{LETTER}"),
        ("videomme_official", f"This video's subtitles are listed below:\n{SAID}{GOLDEN['videomme_official']}"),
        ("videomme_lmms_eval", f"This video's subtitles are listed below: \n{SAID}{AND_SUBTITLES}The best answer is:"),
        (
            "videomme_lmms_eval_qwen3",
            f"This video's subtitles are listed below: \n{SAID}{GOLDEN['videomme_lmms_eval_qwen3']}",
        ),
    ],
)
def test_subtitles_in_one_block_before_the_question(name: str, text: str) -> None:
    assert wording(name).words(request(ask("Which colour?", "red", "blue"), lines=LINES)) == Words(
        text, video_end=100.0
    )


def test_subtitles_between_frames_by_the_middle_of_each_line() -> None:
    """As ``insert_subtitles_into_frames`` of LongVideoBench's code, whose list is joined by line feeds."""
    prompt, question = wording("longvideobench_official"), ask("Which colour?", "red", "blue")
    lines = tuple(
        SubtitleLine(start, end, text)
        for start, end, text in ((-1, 0.5, "a"), (0.5, 1.5, "b"), (1, 2, "c"), (8, 30, "d"), (28, 31, "e"))
    )
    words = prompt.words(request(question, (1.0, 10.0, 20.0), lines))
    assert words.between == ("a\n", "b\nc\n", "d\n")
    assert words.text == f"e\nQuestion: {LETTER}"
    assert words.before(frames(1.0, 10.0, 20.0)) == words.between
    assert words.of_last(2).between == ("b\nc\n", "d\n")
    with pytest.raises(ConfigError, match="between the frames") as raised:
        _ = words.in_one
    assert "answerer.form=images" in raised.value.remedy
    assert "answerer/prompt=videomme_official" in raised.value.remedy


WHEN = Question("q1", "v.mp4", "When does it ring?", answer_form=AnswerForm.INTERVALS)


def test_a_question_for_intervals_has_a_text_of_its_own() -> None:
    assert wording("letter").words(request(WHEN)) == Words(
        "When does it ring?\nThe video lasts for 100.0 seconds. Answer with the interval of the video in seconds, as "
        "START - END.",
        video_end=100.0,
    )
    told = wording("extremewhen_official").words(request(WHEN)).text
    assert told.startswith(
        "[Video Temporal Grounding]\nYou are watching a 100-second long video.\nPlease find the moment"
    )
    assert told.endswith('the question: "When does it ring?"\nPlease return its start time and end time.')


def test_cg_bench_shows_the_options_where_it_asks_for_the_clues_and_puts_subtitles_before_the_seconds() -> None:
    clues = replace(WHEN, options=("at noon", "at night"))
    words = wording("cgbench_official").words(request(clues, (1.0, 2.50004), LINES))
    assert words.text.endswith(
        "will NOT be considered valid.\nThe subtitles of the video are as follows:\n\n[1.04, 2.0] so we begin\n"
        "[62.0, 70.0] with {text} {lines}\n\nA total of 2 frames are sampled. Their corresponding timestamps are:\n\n"
        "1.0, 2.5\n\nQuestion: When does it ring?\n\nA:at noon\nB:at night\n\n"
    )
    assert words.system is None
    assert "at noon" in wording("letter").render(clues, shown={"duration": 9.0})


def test_words_of_video_mme_v2_go_in_one_block_or_after_the_frames_that_they_overlap() -> None:
    question = ask("Which colour?", "red", "blue")
    block = wording("videomme_v2_official").words(request(question, lines=LINES)).text
    assert block.startswith(
        "These are the frames of a video. This video's subtitles are listed below:\nso we begin with {text} {lines}\n"
        "Question: Which colour?"
    )
    lines = (SubtitleLine(0.5, 1.5, "a"), SubtitleLine(9, 25, "b"), SubtitleLine(150, 160, "late"))
    prompt = wording("videomme_v2_interleaved")
    words = prompt.words(request(question, (1.0, 10.0, 20.0), lines))
    b = "[Subtitle 9.00s - 25.00s]: b"
    assert words.between == ("", f"[Subtitle 0.50s - 1.50s]: a{b}", b)
    assert words.text.startswith(
        f"{b}These are the frames of a video with corresponding subtitles shown between frames."
    )
    with pytest.raises(ConfigError, match="between the frames"):
        prompt.check_in_one()


def test_a_prompt_that_a_question_brings_along_stands_where_subtitles_leave_it() -> None:
    """A client of gens serve sends its whole prompt, and the lines apart."""
    brought = replace(ask("Which colour?", "red", "blue"), prompt=Prompt("Red or blue?", "Be brief."))
    lines = (SubtitleLine(0.5, 1.5, "a"), SubtitleLine(28, 31, "e"))
    block = wording("videomme_official").words(request(brought, lines=lines))
    own = wording("videomme_official").subtitles.in_block(lines)
    assert (block.text, block.system) == (f"{own}Red or blue?", "Be brief.")
    assert "a" in own
    assert "e" in own
    parted = wording("longvideobench_official").words(request(brought, (1.0, 10.0), lines))
    assert (parted.between, parted.text, parted.begun) == (("", "a\n"), "e\nRed or blue?", "")
    assert wording("letter").words(request(brought)).text == "Red or blue?"


def test_options_with_letters_of_their_own_are_not_lettered_twice() -> None:
    assert PROMPT.render(ask("Which colour?", "A. red", "B. blue")) == LETTER
    assert PROMPT.render(ask("Which colour?", "(A) red", "(B) blue")) == LETTER
    assert wording("mlvu_official").render(ask("Which colour?", "A. red", "B. blue")) == GOLDEN["mlvu_official"]
    assert "A. A. Smith\nB. Jones" in PROMPT.render(ask("Who?", "A. Smith", "Jones"))
    assert "A. B.\nB. A." in PROMPT.render(ask("Who?", "B.", "A."))


@pytest.mark.parametrize(
    ("key", "value"),
    [("line", "said"), ("line", "{text} {time}"), ("block", "Subtitles:"), ("multiple_choice", "{question}")],
)
def test_a_form_of_subtitles_without_its_slots_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"answerer\.prompt\.subtitles\.{key}"):
        replace(PROMPT.subtitles, **{key: value})


def test_markup_in_subtitles_is_words() -> None:
    lines = (SubtitleLine(0, 1, "an <image> of <|im_start|><|im_start|>it"), SubtitleLine(1, 2, "< image> <i>"))
    told = as_words(lines, ("<image>", "<|im_start|>", "<", ""))
    assert [line.text for line in told] == ["an < image> of < |im_start|>< |im_start|>it", "< image> <i>"]
    assert (told[0].start, told[0].end) == (0, 1)
    assert as_words(lines, ()) == lines


def frames(*times: float) -> tuple[Frame, ...]:
    return tuple(Frame(time, place, np.zeros((2, 2, 3), np.uint8)) for place, time in enumerate(times))


def request(
    question: Question, times: tuple[float, ...] = (1.0,), lines: tuple[SubtitleLine, ...] = ()
) -> AnswerRequest:
    return AnswerRequest(question, Video("v.mp4", "f", 100.0, 25.0, 2500, 64, 64), frames(*times), lines)
