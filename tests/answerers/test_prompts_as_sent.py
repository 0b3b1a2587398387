"""The text of a prompt as it is kept in the row: a mark in the place of each frame, no pixels, no secrets."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from misbehaving import completion, says
from openai_cases import VIDEO, ask, asked

from pipeline.answer_requests import OverLimit, QuestionInput, Requests
from pipeline.answerers import NO_LIMIT, AnswererLimits
from pipeline.answerers.function import FunctionAnswerer
from pipeline.answerers.prompts import AnswerPrompt, SubtitleForm
from pipeline.artefacts.rows import AnswerRow, SelectionRow, from_line, to_line
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection
from pipeline.families.chat import frame_mark, marked_text
from pipeline.families.transformers.inputs import marks_found
from pipeline.secrecy import keep_secret
from pipeline.subtitles import GivenSubtitles, SubtitleChoice
from pipeline.video import Reader

P, Q = 7, 8
"""Ids of pictures."""


def told(ids: list[int], times: tuple[float, ...]) -> str:
    """Every other id is a letter."""
    return marked_text(ids, (P, Q), marks_found(ids, (P, Q), times), lambda some: "".join(chr(96 + i) for i in some))


@pytest.mark.parametrize(
    ("ids", "times", "text"),
    [
        ([1, P, P, 2, Q, 3], (0.0, 12.5), "a<frame 1 at 0 s>b<frame 2 at 12.5 s>c"),
        ([1, P, P, P, P, 2], (0.0, 1.0, 2.257), "a<frames 1 to 3 at 0 to 2.26 s>b"),
        ([1, P, 2, P, 3], (1.0, 2.0, 3.0), "a<frames 1 to 2 at 1 to 2 s>b<frame 3 at 3 s>c"),
        # Rows of one picture, with separators of the processor's own between them.
        ([1, P, 9, P, 2, P, 9, P, 3], (1.0, 2.0), "a<frame 1 at 1 s>b<frame 2 at 2 s>c"),
        ([P, 1, P, 2, P], (1.0, 2.0), "<picture 1 of 3>a<picture 2 of 3>b<picture 3 of 3>"),
        ([1, 2], (), "ab"),
    ],
)
def test_frames_are_marked_where_a_processor_put_them(ids: list[int], times: tuple[float, ...], text: str) -> None:
    assert told(ids, times) == text


def test_a_servers_messages_are_whole_and_without_pictures_and_keys() -> None:
    answer, heard = ask([says(completion("A"))], "answerer.system=Be brief.")
    assert answer.prompt == (
        "system:\nBe brief.\nuser:\n[2.0s]\n<frame 1 at 2 s>\n[12.5s]\n<frame 2 at 12.48 s>\nWhich colour is 0?\n"
        "A. red\nB. green\nC. blue\nAnswer with the option's letter from the given choices directly."
    )
    assert "base64" in json.dumps(heard.bodies[0])
    assert "base64" not in answer.prompt


def test_a_function_is_sent_frames_and_words() -> None:
    words = ("{question}\n{options}", "{question}", "{question}", "{letter}) {option}", "\n", "So:")
    prompt = AnswerPrompt("own", "Be brief.", *words, LINES)
    answerer = FunctionAnswerer("mine", lambda question, frames: "A", {}, None, prompt, None, 1, False)
    (answer,) = answerer.answer([asked(0, 1.0, 2.5)], 1)
    assert answer.prompt == (
        "<frame 1 at 1 s>\n<frame 2 at 2.5 s>\nBe brief.\nWhich colour is 0?\nA) red\nB) green\nC) blue\nSo:"
    )


LINES = SubtitleForm("before_question", "{text}", "{lines}\n", None, "\n")


class _Asks:
    """An answerer that is never asked."""

    name = "none"

    def limits(self) -> AnswererLimits:
        return AnswererLimits(NO_LIMIT, 1, None, "")


def test_no_secret_comes_into_a_row() -> None:
    keep_secret("correct-horse-battery", "MY_KEY")
    frame = SelectedFrame(1.0, 25, None, FrameOrigin.UNIFORM)
    row = SelectionRow("k", "gens", Question("q", "v.mp4", "?"), VIDEO, Selection("q", (frame,), "topk", 1))
    given = QuestionInput(row, VIDEO, GivenSubtitles(SubtitleChoice.NONE, False, ()))
    requests = Requests([[given]], _Asks(), Reader("default", "auto", 1, 1.0), OverLimit.REFUSE, 1)  # type: ignore[arg-type]
    requests._inputs["q"] = given
    said = requests.recorded(Answer("q", "A", prompt="it is correct-horse-battery, or sk-0123456789abcdef"))
    assert said.prompt == "it is ${oc.env:MY_KEY}, or (hidden)"


def test_rows_without_a_prompt_stay_readable_and_long_ones_stay_whole() -> None:
    question = Question("q", "v.mp4", "?")
    long = "\n".join(f"{second}: a line of subtitles" for second in range(5000))
    row = AnswerRow("k", "gens", "qwen", question, Answer("q", "A", prompt=long))
    back = from_line(AnswerRow, to_line(row), "here", {"q": question})
    assert back == row
    fields = json.loads(to_line(row))
    del fields["answer"]["prompt"]
    old = from_line(AnswerRow, json.dumps(fields), "here", {"q": question})
    assert old is not None
    assert old.answer == replace(row.answer, prompt="")


def test_frames_of_a_hundred_hours_are_marked_by_their_seconds() -> None:
    times = tuple(np.linspace(0, 360000, 3).tolist())
    assert [frame_mark(range(at, at + 1), times) for at in range(3)] == [
        "<frame 1 at 0 s>",
        "<frame 2 at 180000 s>",
        "<frame 3 at 360000 s>",
    ]
