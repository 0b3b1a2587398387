"""What a sampler is asked, by the prompts that evaluation harnesses send."""

from __future__ import annotations

import time

import pytest
import yaml

from pipeline.config import conf_dir
from pipeline.serving.asked import Asked, asked_in

OPTIONS = ("the red car", "A. Smith", "nobody")
WORDINGS = {
    (path.stem, place.get("option_line", "{letter}. {option}"), words)
    for path in (conf_dir() / "answerer" / "prompt").glob("*.yaml")
    for place in (yaml.safe_load(path.read_text()),)
    for words in (place.get("multiple_choice"), place.get("subtitles", {}).get("multiple_choice"))
    if words and "{question}" in words
}


@pytest.mark.parametrize(("name", "line", "words"), sorted(WORDINGS))
def test_question_and_options_are_found_in_each_wording_that_we_know(name: str, line: str, words: str) -> None:
    options = "\n".join(
        line.replace("{letter}", letter).replace("{option}", option)
        for letter, option in zip("ABC", OPTIONS, strict=True)
    )
    prompt = words.replace("{question}", "Who wins the race?").replace("{options}", options)
    assert asked_in(prompt) == Asked("Who wins the race?", OPTIONS)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("What is it?", Asked("What is it?", None)),
        ("What is it?\nAnswer the question using a single word or phrase.", Asked("What is it?", None)),
        ("What is it? Keep the answer short and concise.", Asked("What is it?", None)),
        ("Choose the best option.", Asked("Choose the best option.", None)),
        (
            "These are the frames of a video.\nQuestion: What is it?\nA. a dog\nB. a cat\nSelect the best answer.",
            Asked("What is it?", ("a dog", "a cat")),
        ),
        # An instruction that somebody in the video gives is part of the question.
        (
            "Write down the first word that the man says.\nHe is on the left.\nA. hello\nB. bye",
            Asked("Write down the first word that the man says.\nHe is on the left.", ("hello", "bye")),
        ),
        # Only the last list counts, and an option may go on in the next line.
        (
            "A. Smith enters.\nB. Jones leaves.\nWho stays?\n(A) Smith\n(B) Jones,\nthe elder\n(C) nobody\nAnswer: (",
            Asked("A. Smith enters.\nB. Jones leaves.\nWho stays?", ("Smith", "Jones, the elder", "nobody")),
        ),
        ("Is it A. red or\nB. blue?", Asked("Is it A. red or\nB. blue?", None)),
    ],
)
def test_what_is_no_question_is_left_out_and_nothing_else(prompt: str, asked: Asked) -> None:
    assert asked_in(prompt) == asked


def test_a_prompt_of_megabytes_takes_no_longer_than_its_length() -> None:
    for prompt in ("A. x\n" * 200_000, "answer the best " * 200_000, "A. x\nB. y\n" * 100_000):
        before = time.process_time()
        asked_in(prompt)
        assert time.process_time() - before < 20  # quadratic, these take minutes to days
