"""Replies in all the shapes in which servers and gateways give them, over a real socket."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Answering, completion, fails, misbehaving, says
from openai_cases import ask, asked, made, twice

from pipeline.domain import Status

GOOD = says(completion("B"))
SOON_AGAIN = {"Retry-After": "0.01"}


def reply(content: Any, finish: Any = "stop", **message: Any) -> Answering:
    return says(completion(content, finish, **message), 200, SOON_AGAIN)


@pytest.mark.parametrize(
    ("message", "text", "thought"),
    [
        (
            {"content": "<think>\nThe answer is C. Wait.\n</think>\n\nB"},
            "B",
            "<think>\nThe answer is C. Wait.\n</think>",
        ),
        ({"content": "The answer is C. Wait.\n</think>\n\nB"}, "B", "The answer is C. Wait.\n</think>"),
        ({"content": "\n\nB", "reasoning_content": "C? no"}, "B", "C? no"),
        ({"content": "B", "reasoning": "C? no"}, "B", "C? no"),
        ({"content": "B", "reasoning": "C? no", "reasoning_content": "C? no"}, "B", "C? no"),
        ({"content": "B", "reasoning": None, "reasoning_content": "C? no"}, "B", "C? no"),
        ({"content": "B", "reasoning_content": ""}, "B", ""),
        ({"content": "B", "reasoning": {"content": "C? no"}}, "B", "C? no"),
        (
            {"content": "B", "reasoning_details": [{"type": "reasoning.text", "text": "C?"}, {"summary": "no"}]},
            "B",
            "C?\nno",
        ),
        ({"content": "<think>D?</think>B", "reasoning": "C?"}, "B", "C?\n<think>D?</think>"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "C? no, it is yellow"}]},
                    {"type": "text", "text": "B"},
                ]
            },
            "B",
            "C? no, it is yellow",
        ),
        ({"content": [{"type": "reasoning", "reasoning": "C?"}, {"type": "text", "text": "B"}]}, "B", "C?"),
        ({"content": [{"type": "reasoning", "text": "C?"}, {"type": "output_text", "text": "B"}]}, "B", "C?"),
        ({"content": [{"type": "text", "text": "C?", "thought": True}, {"type": "text", "text": "B"}]}, "B", "C?"),
        ({"content": [{"type": "redacted_thinking", "data": "xyz"}, {"type": "text", "text": "B"}]}, "B", ""),
        ({"content": [{"type": "text", "text": {"value": "B", "annotations": []}}]}, "B", ""),
        ({"content": [{"text": "B"}]}, "B", ""),
        ({"content": {"type": "text", "text": "B"}}, "B", ""),
        ({"content": ["B"]}, "B", ""),
        ({"content": [["The answer is"], [{"type": "text", "text": "B"}]]}, "The answer is\nB", ""),
        ({"content": ["The answer ", "is B"]}, "The answer is B", ""),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "B"}, None]}, "B", ""),
        ({"content": "B", "refusal": None, "tool_calls": None, "function_call": None, "audio": None}, "B", ""),
        ({"content": "B \ud83d"}, "B \ufffd", ""),
        ({"content": "B\u0000"}, "B\u0000", ""),
    ],
)
def test_text_and_thoughts_are_found_in_every_shape(message: dict[str, Any], text: str, thought: str) -> None:
    body = completion("")
    body["choices"][0]["message"] = {"role": "assistant", **message}
    answer, heard = ask([says(body)])
    assert (answer.status, answer.option) == (Status.OK, 1)
    assert (answer.text, answer.thought) == (text, thought)
    assert len(heard.bodies) == 1


@pytest.mark.parametrize(
    "body",
    [
        completion("B") | {"usage": None},
        completion("B") | {"usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}},
        completion("B") | {"usage": {"prompt_tokens": "many", "completion_tokens": -3, "total_tokens": 1e400}},
        completion("B") | {"usage": []},
        completion("B") | {"error": None},
        completion("B") | {"error": {}},
        completion("B") | {"error": {"code": 0, "message": ""}},
        completion("B") | {"service_tier": "x", "choices": [completion("B")["choices"][0] | {"logprobs": None}]},
        completion("B", "eos"),
        completion("B", None),
        completion("B", {"type": "stop", "matched": 3}),  # type: ignore[arg-type]
        completion("B", 7),  # type: ignore[arg-type]
        {"choices": [{"message": {"content": "B"}}]},
        {"choices": [{"text": "B", "finish_reason": "stop"}]},
        {"choices": [{"delta": {"content": "B"}}]},
        {"choices": [None, completion("B")["choices"][0]]},
    ],
)
def test_a_reply_with_odd_fields_is_an_answer_that_is_paid_for_once(body: dict[str, Any], tmp_path: Path) -> None:
    first, again, requests = twice(tmp_path, [says(body)])
    assert (first.option, again.option) == (1, 1)
    assert requests == 1
    assert first.cost.prompt_tokens in (0, 1000)
    assert first.cost.output_tokens in (0, 10)


def test_a_body_that_begins_with_a_byte_order_mark_is_read() -> None:
    answer, _ = ask([says(b"\xef\xbb\xbf" + json.dumps(completion("B")).encode())])
    assert answer.option == 1


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_thoughts_that_do_not_end(finish: str) -> None:
    answer, _ = ask([reply("<think>The answer is C. But wait", finish)])
    assert (answer.status, answer.option, answer.finish) == (Status.TRUNCATED_OUTPUT, None, finish)
    assert "Try answerer.max_thinking_tokens=4096," in answer.detail
    assert answer.status.is_final


def test_thoughts_without_an_answer() -> None:
    cut, _ = ask([reply(None, "length", reasoning="C? B?")])
    assert (cut.status, cut.thought) == (Status.TRUNCATED_OUTPUT, "C? B?")
    ended, _ = ask([reply(None, "stop", reasoning_content="It is B.")])
    assert (ended.status, ended.thought, ended.option) == (Status.EMPTY_ANSWER, "It is B.", None)


def test_a_cut_thought_without_any_mark_is_seen_where_thoughts_were_asked_for() -> None:
    thinking = "+answerer.extra_body.chat_template_kwargs.enable_thinking=true"
    cut = reply("The answer is C, or so it seems", "length")
    assert ask([cut], thinking)[0].status is Status.TRUNCATED_OUTPUT
    assert ask([cut])[0].option == 2
    assert ask([reply("C? no</think>B", "length")], thinking)[0].option == 1
    assert ask([reply("The answer is B. It", "length", reasoning="C?")], thinking)[0].option == 1
    assert ask([reply("The answer is B.")], thinking)[0].option == 1


def test_a_cut_text_that_has_begun_to_doubt_is_no_answer() -> None:
    answer, _ = ask([reply("At first the answer is A, as the square is red. But wait, in the", "length")])
    assert (answer.status, answer.option) == (Status.UNPARSED, None)


def test_a_refusal_in_a_part_is_a_refusal() -> None:
    answer, heard = ask([reply([{"type": "refusal", "refusal": "I won't."}])])
    assert (answer.status, answer.text) == (Status.REFUSED, "I won't.")
    assert len(heard.bodies) == 1
    blocked, _ = ask([says({"choices": [], "promptFeedback": {"blockReason": "SAFETY"}})])
    assert blocked.status is Status.REFUSED
    assert "SAFETY" in blocked.detail


OVERLOADED = {"message": "Upstream overloaded", "code": 529}
FAILED = {
    "error in the choice": {
        "choices": [{"message": {"content": ""}, "finish_reason": "error", "error": OVERLOADED}],
    },
    "error in the message": {"choices": [{"message": {"content": None, "error": OVERLOADED}}]},
    "error in the body": {"error": OVERLOADED, "choices": [{"message": {"content": "B"}, "finish_reason": "stop"}]},
    "error as words": {"error": "Upstream overloaded"},
    "error alone": {"error": {"message": "Upstream overloaded"}},
    "error with a word as code": {"error": {"message": "Upstream overloaded", "code": "server_error"}},
    "rate limit": {"error": {"message": "Upstream overloaded", "code": "429"}},
}


@pytest.mark.parametrize("body", FAILED.values(), ids=FAILED)
def test_a_failure_within_a_response_of_200_is_asked_again(body: dict[str, Any]) -> None:
    answer, heard = ask([says(body, 200, SOON_AGAIN), GOOD])
    assert answer.option == 1
    assert len(heard.bodies) == 2
    answer, heard = ask([says(body, 200, SOON_AGAIN)])
    assert answer.status is Status.UNREACHABLE
    assert "Upstream overloaded, asked 2 times" in answer.detail
    assert (answer.text, answer.finish) == ("", "")
    assert len(heard.bodies) == 2


@pytest.mark.parametrize(
    "finish", ["error", "ERROR", "abort", "cancelled", "timeout", "insufficient_system_resource", "failed"]
)
def test_a_text_that_the_server_broke_off_is_no_answer(finish: str, tmp_path: Path) -> None:
    answer, heard = ask([reply("B", finish), GOOD])
    assert (answer.option, answer.finish) == (1, "stop")
    assert len(heard.bodies) == 2
    first, again, requests = twice(tmp_path, [reply("C", finish), GOOD])
    assert (first.status, first.option) == (Status.UNREACHABLE, None)
    assert f"finish_reason is '{finish}'" in first.detail
    assert (again.option, requests) == (1, 2)


def test_failures_of_both_kinds_share_the_tries() -> None:
    within = says(FAILED["error alone"], 200, SOON_AGAIN)
    for script in ([within, fails(503), within, fails(503), GOOD], [fails(503), fails(503), within, within, GOOD]):
        answer, heard = ask(script, "answerer.retries=4")
        assert answer.option == 1
        answer, heard = ask(script, "answerer.retries=3")
        assert answer.status is Status.UNREACHABLE
        assert "asked 4 times" in answer.detail
        assert len(heard.bodies) == 4
    assert len(ask([within], "answerer.retries=0")[1].bodies) == 1


def test_without_a_word_on_when_to_come_back_the_pauses_grow() -> None:
    start = time.monotonic()
    _, heard = ask([says(FAILED["error alone"])], "answerer.retries=2")
    first, second, third = heard.moments
    assert 0.4 < second - first < third - second
    assert time.monotonic() - start < 30


def test_what_a_failure_within_200_says_of_the_request_is_believed() -> None:
    long, heard = ask([says({"error": {"message": "too many tokens", "code": "context_length_exceeded"}})])
    assert long.status is Status.CONTEXT_EXCEEDED
    assert len(heard.bodies) == 1
    filtered, heard = ask([says({"error": {"message": "no", "code": "content_filter"}})])
    assert filtered.status is Status.REFUSED
    assert len(heard.bodies) == 1


def test_replies_of_earlier_versions(tmp_path: Path) -> None:
    """Their store holds no thoughts, and what a server broke off as if it were an answer."""
    folder = f"answerer.response_store={tmp_path}"
    with misbehaving([GOOD]) as (url, heard):
        list(made(url, folder).answer([asked()], 1))
        (file,) = tmp_path.rglob("*.json")
        kept = json.loads(file.read_bytes())
        del kept["thought"]
        file.write_text(json.dumps(kept | {"text": "<think>C?</think>B"}))
        (answer,) = made(url, folder).answer([asked()], 1)
        assert (answer.text, answer.thought, answer.option) == ("B", "<think>C?</think>", 1)
        assert len(heard.bodies) == 1
        file.write_text(json.dumps(kept | {"text": "C", "finish": "error"}))
        (answer,) = made(url, folder).answer([asked()], 1)
        assert answer.option == 1
        assert len(heard.bodies) == 2


def test_thoughts_alone_are_kept_as_they_were_paid_for(tmp_path: Path) -> None:
    first, again, requests = twice(tmp_path, [reply(None, "length", reasoning="C? B?")])
    assert first.status is again.status is Status.TRUNCATED_OUTPUT
    assert again.thought == "C? B?"
    assert requests == 1


LOOPS = ['{"a":' * 1200, "red, blue, " * 1000, "[" * 5000, "<think>" * 2000, "{" * 5000 + "}" * 5000]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_that_loops_costs_its_own_question(loop: str, tmp_path: Path) -> None:
    with misbehaving([GOOD, reply(loop), GOOD]) as (url, heard):
        for _ in range(2):
            answerer = made(url, f"answerer.response_store={tmp_path}")
            answers = list(answerer.answer(map(asked, range(3)), 1))
            assert [answer.option for answer in answers] == [1, None, 1]
            assert answers[1].status in (Status.UNPARSED, Status.TRUNCATED_OUTPUT)
            assert answers[1].text + answers[1].thought == loop
    assert len(heard.bodies) == 3
