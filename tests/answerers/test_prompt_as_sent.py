"""A prompt that a client sends goes to the answerer word for word, and makes another question of the same text."""

from __future__ import annotations

from dataclasses import replace

from pipeline.answerers import AnswerRequest
from pipeline.answerers.prompts import AnswerPrompt, question_fault
from pipeline.artefacts.rows import QuestionRow, from_line, is_same_question, to_line
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Prompt, Question, Video

QUESTION = Question("q", "clip.mp4", "What color is it?", ("red", "blue"))
SENT = replace(QUESTION, prompt=Prompt("What color is it?\nA) red\nB) blue\nOne letter, please!", "You are terse."))
VIDEO = Video("clip.mp4", "f", 10.0, 1.0, 10, 8, 8)


def test_the_words_of_a_client_replace_all_of_the_answerers_own() -> None:
    from hydra import compose, initialize_config_dir

    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", ["answerer=qwen2_vl_micro", "answerer/prompt=mlvu_official"])
    prompt: AnswerPrompt = build(config.answerer.prompt, "answerer.prompt")
    words = prompt.words(AnswerRequest(SENT, VIDEO, ()))
    assert SENT.prompt is not None
    assert (words.text, words.system, words.begun) == (SENT.prompt.text, "You are terse.", "")
    assert prompt.words(AnswerRequest(QUESTION, VIDEO, ())).begun == "Best Option: ("


def test_it_is_part_of_the_question_and_of_its_row() -> None:
    assert not is_same_question(QUESTION, SENT)
    assert from_line(QuestionRow, to_line(QuestionRow(SENT)), "here", {}) == QuestionRow(SENT)


def test_markup_in_it_is_refused_as_in_a_question() -> None:
    sent = replace(QUESTION, prompt=Prompt("<image> What color is it?"))
    assert "<image>" in (question_fault(sent, ["<image>"]) or "")
