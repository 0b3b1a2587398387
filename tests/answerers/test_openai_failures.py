"""Every way in which a server can fail has its status and its remedy, against a local server that does fail so."""

from __future__ import annotations

import builtins
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from misbehaving import (
    Answering,
    completion,
    cut_stream,
    echoes_key,
    fails,
    half,
    hangs_up,
    misbehaving,
    says,
    waits,
)
from openai_cases import KEY, KEY_NAME, ask, asked, made, twice

from pipeline.answerers import AnswerRequest
from pipeline.domain import Answer, Cost, Status
from pipeline.errors import CheckpointError, ConfigError, MissingExtraError, PipelineError
from pipeline.ledger import spent

GOOD = says(completion("B"))


def test_an_answer_comes_with_its_tokens_dollars_and_the_reason_why_it_ended() -> None:
    answer, heard = ask([GOOD], "answerer.prices={input: 2.5, output: 10.0}")
    assert (answer.status, answer.text, answer.option, answer.finish) == (Status.OK, "B", 1, "stop")
    assert (answer.cost.prompt_tokens, answer.cost.output_tokens) == (1000, 10)
    assert answer.cost.dollars == pytest.approx(0.0026)
    assert answer.cost.seconds > 0
    assert answer.frame_times == (2.0, 12.48)
    assert answer.form == "images, jpeg 90, longer side at most 512; text before each image: '[12.5s]'"
    assert len(heard.bodies) == 1


def test_thoughts_that_only_the_total_counts_are_output() -> None:
    counted = completion("B") | {"usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1310}}
    answer, _ = ask([says(counted)])
    assert answer.cost.output_tokens == 310
    uncounted = {name: value for name, value in completion("B").items() if name != "usage"}
    answer, _ = ask([says(uncounted)])
    assert (answer.option, answer.cost.prompt_tokens) == (1, 0)


@pytest.mark.parametrize("number", [408, 409, 429, 500, 503])
def test_what_passes_is_asked_again(number: int) -> None:
    answer, heard = ask([fails(number), GOOD])
    assert answer.option == 1
    assert len(heard.bodies) == 2
    assert heard.bodies[0] == heard.bodies[1]


SOON = 30
"""Seconds: long for a machine with much else to do, and short beside the waits that these tests are about."""

SOON_AGAIN = {"Retry-After": "0.01"}

BROKEN = {"hangs up": hangs_up, "half a body": half(completion("B")), "cut stream": cut_stream}


@pytest.mark.parametrize("failing", BROKEN.values(), ids=BROKEN)
def test_a_broken_response_is_asked_again(failing: Answering) -> None:
    answer, heard = ask([failing, GOOD])
    assert answer.option == 1
    assert len(heard.bodies) == 2


def test_retry_after_is_waited_for_and_an_hour_is_not() -> None:
    answer, heard = ask([fails(429, retry_after="1"), GOOD])
    assert answer.option == 1
    assert 1.0 <= heard.moments[1] - heard.moments[0] < SOON
    started = time.monotonic()
    answer, heard = ask([fails(429, retry_after="3600"), GOOD])
    assert answer.status is Status.UNREACHABLE
    assert "asked once. It says to come back after 3600 s." in answer.detail
    assert len(heard.bodies) == 1
    assert time.monotonic() - started < SOON


@pytest.mark.parametrize(
    ("failing", "tries", "said"),
    [
        (fails(500, "the engine is dead"), 2, "500: the engine is dead, asked 2 times"),
        (fails(429, "slow down"), 2, "429: slow down"),
        (says(b"<html>busy</html>", 502, {"Retry-After": "0.01"}, "html"), 2, "502"),
        *((broken, 2, "cannot be reached, or broke off") for broken in BROKEN.values()),
        (says(b"<html>welcome</html>", 200, SOON_AGAIN, "html"), 2, "not a chat completion"),
        (says(b"\xff\xfe garbage", 200, SOON_AGAIN), 2, "not a chat completion"),
        (says(b"", 200, SOON_AGAIN), 2, "not a chat completion (it is empty), asked 2 times"),
        (says(b'{"a":' * 5000, 200, SOON_AGAIN), 2, "not a chat completion ("),
        (says([], 200, SOON_AGAIN), 2, "not a chat completion"),
        (says({"error": {"message": "upstream is gone"}}, 200, SOON_AGAIN), 2, "upstream is gone, asked 2 times"),
        (says({"error": "upstream is gone"}, 200, SOON_AGAIN), 2, "upstream is gone, asked 2 times"),
        (
            says({"object": "error", "message": "engine dead", "code": 500}, 200, SOON_AGAIN),
            2,
            "error 500: engine dead",
        ),
        (says({"detail": [{"msg": "gone"}]}, 200, SOON_AGAIN), 2, "gone"),
        (says(completion("B") | {"choices": []}, 200, SOON_AGAIN), 2, "not a chat completion (it holds no choice)"),
        (says(completion("B") | {"choices": None}, 200, SOON_AGAIN), 2, "not a chat completion"),
        (says(completion("B") | {"choices": [None]}, 200, SOON_AGAIN), 2, "not a chat completion"),
        (says({"choices": [{"message": {"content": None}}]}, 200, SOON_AGAIN), 2, "no reason why the text ended"),
        (says({"choices": [{"message": None}]}, 200, SOON_AGAIN), 2, "not a chat completion"),
        (says({"error": {"message": "bad field", "code": 400}}), 1, "error 400: bad field"),
        (fails(403, "Country not supported"), 1, "403: Country not supported"),
        (says(b"<html>403 Forbidden: flagged for your safety</html>", 403, kind="html"), 1, "403"),
        (fails(418, "teapot"), 1, "418: teapot"),
        (says({"detail": "what is this?"}, 422), 1, "422: what is this?"),
        (says({"object": "error", "message": "no image"}, 400), 1, "400: no image"),
        (says([{"error": {"message": "INVALID_ARGUMENT"}}], 400), 1, "INVALID_ARGUMENT"),
        (fails(400, "frequency_penalty is not supported"), 1, "400: frequency_penalty"),
    ],
)
def test_no_usable_response_is_unreachable_and_worth_another_run(failing: Answering, tries: int, said: str) -> None:
    answer, heard = ask([failing])
    assert answer.status is Status.UNREACHABLE
    assert not answer.status.is_final
    assert said in answer.detail
    assert "the same command asks again" in answer.detail.split("what to do: ")[1]
    assert len(heard.bodies) == tries
    assert (answer.text, answer.option, answer.finish) == ("", None, "")
    assert answer.frame_times == (2.0, 12.48)


def test_as_often_as_is_set_and_no_more() -> None:
    for retries in (0, 3):
        _, heard = ask([fails(503)], f"answerer.retries={retries}")
        assert len(heard.bodies) == retries + 1


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    started = time.monotonic()
    answer, heard = ask([waits(2 * SOON, GOOD)], "answerer.timeout=0.3")
    assert answer.status is Status.UNREACHABLE
    assert "did not answer within 0.3 s, asked 2 times" in answer.detail
    assert "answerer.timeout=0.6" in answer.detail
    assert len(heard.bodies) == 2
    assert time.monotonic() - started < SOON


def test_where_no_server_listens() -> None:
    answerer = made("http://127.0.0.1:9/v1", "answerer.retries=0")
    (answer,) = answerer.answer([asked()], 1)
    assert answer.status is Status.UNREACHABLE
    assert "127.0.0.1:9" in answer.detail
    assert "answerer.base_url" in answer.detail


def test_a_dead_server_is_not_waited_for_by_every_question() -> None:
    answerer = made("http://127.0.0.1:9/v1", "answerer.retries=0", "answerer.give_up_after=0")
    answers = list(answerer.answer(map(asked, range(6)), 1))
    assert {answer.status for answer in answers} == {Status.UNREACHABLE}
    assert ["was not sent" in answer.detail for answer in answers] == [False] * 3 + [True] * 3
    assert "answerer.base_url" in answers[-1].detail
    answerer.close()
    assert "was not sent" not in next(answerer.answer([asked()], 1)).detail
    patient = made("http://127.0.0.1:9/v1", "answerer.retries=0")
    assert not any("was not sent" in answer.detail for answer in patient.answer(map(asked, range(6)), 1))


def test_a_word_of_the_server_ends_its_silence() -> None:
    broken = half(completion("B"))
    script = [broken, broken, fails(500), broken, broken, GOOD, broken, broken, broken]
    with misbehaving(script) as (url, heard):
        answerer = made(url, "answerer.retries=0", "answerer.give_up_after=0")
        answers = list(answerer.answer(map(asked, range(11)), 1))
    assert len(heard.bodies) == 9
    assert ["was not sent" in answer.detail for answer in answers] == [False] * 9 + [True] * 2


@pytest.mark.parametrize(
    ("failing", "text"),
    [
        (says(completion(None, refusal="I won't.")), "I won't."),
        (says(completion(None, "content_filter")), ""),
        (says(completion(None, "PROHIBITED_CONTENT")), ""),
        (says(completion("I'm sorry, but I can't assist with that.")), "I'm sorry, but I can't assist with that."),
        (fails(400, "The response was filtered", code="content_filter"), ""),
        (fails(400, "Your input was flagged as against our usage policy"), ""),
        (fails(403, "flagged by moderation"), ""),
    ],
)
def test_a_refusal_is_a_status_and_final(failing: Answering, text: str) -> None:
    answer, heard = ask([failing])
    assert answer.status is Status.REFUSED
    assert answer.status.is_final
    assert answer.text == text
    assert answer.option is None
    assert "what to do: " in answer.detail
    assert len(heard.bodies) == 1


def test_nothing_written_and_too_much_written() -> None:
    empty, _ = ask([says(completion("  "))])
    assert empty.status is Status.EMPTY_ANSWER
    cut, _ = ask([says(completion("Let me see. In the first frame (B) is", "length"))])
    assert (cut.status, cut.finish) == (Status.UNPARSED, "length")
    assert "The token limit cut the text" in cut.detail
    assert "answerer.max_new_tokens=" in cut.detail
    thought, _ = ask([says(completion(None, "MAX_TOKENS"))])
    assert thought.status is Status.EMPTY_ANSWER
    assert "answerer.max_new_tokens=" in thought.detail
    decided, _ = ask([says(completion("The answer is B, because it", "length"))])
    assert (decided.status, decided.option, decided.finish) == (Status.OK, 1, "length")


@pytest.mark.parametrize(
    ("number", "message", "remedy"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, your request has 9000", "answerer.frame"),
        (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096", "selection.budget=1"),
        (400, "The input (9000 tokens) is longer than the model's context length (4096 tokens).", "selection.budget=1"),
        (400, "The input token count (2845475) exceeds the maximum number of tokens allowed", "selection.budget=1"),
        (413, "Request Entity Too Large", "answerer.frame.max_side=256"),
        (400, "At most 5 image(s) may be provided in one request.", "answerer.max_frames=5"),
        (400, "Exceeded maximum number of images (50) allowed in the request.", "answerer.max_frames=50"),
    ],
)
def test_what_is_too_much_for_the_server_says_how_to_make_it_less(number: int, message: str, remedy: str) -> None:
    answer, heard = ask([fails(number, message)])
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert remedy in answer.detail.split("what to do: ")[1]
    assert len(heard.bodies) == 1


@pytest.mark.parametrize(
    ("failing", "kind", "remedy"),
    [
        (fails(401, f"Incorrect API key provided: {KEY}"), ConfigError, KEY_NAME),
        (fails(400, f"API key not valid: {KEY}"), ConfigError, KEY_NAME),
        (fails(402, "no credits left"), ConfigError, "Pay in"),
        (says({"error": {"message": f"Bad key {KEY}", "code": 401}}), ConfigError, KEY_NAME),
        (says({"error": {"message": "quota", "code": "insufficient_quota"}}), ConfigError, "Pay in"),
        (fails(404, "The model `m` does not exist"), CheckpointError, "answerer.model="),
        (fails(429, "quota", code="insufficient_quota"), ConfigError, "Pay in"),
        (
            fails(400, "Use max_completion_tokens", code="unsupported_parameter", param="max_tokens"),
            ConfigError,
            "answerer.max_tokens_field=max_completion_tokens",
        ),
        (
            fails(400, "Only the default (1)", code="unsupported_value", param="temperature"),
            ConfigError,
            "answerer.temperature=null",
        ),
    ],
)
def test_what_every_question_would_meet_ends_the_command(
    failing: Answering, kind: type[PipelineError], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    with misbehaving([GOOD, GOOD, failing]) as (url, heard):
        answerer = made(url, "answerer.retries=1", f"answerer.api_key_env={KEY_NAME}")
        given: list[Answer] = []
        with pytest.raises(kind) as raised:
            given.extend(answerer.answer([asked(number) for number in range(50)], 1))
    assert [answer.option for answer in given] == [1, 1]  # nothing that was paid for is lost
    assert len(heard.bodies) < 6
    assert remedy in str(raised.value)
    assert KEY not in str(raised.value)
    assert raised.value.remedy


PAGE = says(b"<html><title>403 Forbidden</title>Request blocked</html>", 403, kind="html")


@pytest.mark.parametrize("refusing", [PAGE, fails(403, "Forbidden"), says(b"<html>404</html>", 404, kind="html")])
def test_one_request_that_is_turned_away_costs_one_question(refusing: Answering) -> None:
    with misbehaving([GOOD, refusing, GOOD]) as (url, heard):
        answers = list(made(url, "answerer.retries=1").answer(map(asked, range(5)), 1))
    assert [answer.option for answer in answers] == [1, None, 1, 1, 1]
    assert answers[1].status is Status.UNREACHABLE
    assert "firewall" in answers[1].detail
    assert len(heard.bodies) == 5


def test_a_server_that_turns_everything_away_is_not_asked_the_rest() -> None:
    with misbehaving([GOOD, PAGE]) as (url, heard):
        answerer = made(url, "answerer.retries=0")
        answers = list(answerer.answer(map(asked, range(30)), 1))
        assert len(heard.bodies) == 11
        assert [answer.status for answer in answers] == [Status.OK] + [Status.UNREACHABLE] * 29
        assert ["was not sent" in answer.detail for answer in answers] == [False] * 11 + [True] * 19
        answerer.close()
        assert "was not sent" not in next(answerer.answer([asked()], 1)).detail
        patient = made(url, "answerer.retries=0", "answerer.give_up_after=null")
        assert not any("was not sent" in answer.detail for answer in patient.answer(map(asked, range(12)), 1))


def test_an_answer_in_between_shows_that_not_everything_is_turned_away() -> None:
    script = [*[PAGE] * 9, GOOD, *[PAGE] * 9, fails(400, "flagged by moderation"), *[PAGE] * 9, GOOD]
    with misbehaving(script) as (url, heard):
        answers = list(made(url, "answerer.retries=0").answer(map(asked, range(30)), 1))
    assert len(heard.bodies) == 30
    assert answers[-1].option == 1


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, f"{KEY}\n")  # as `$(cat file)` leaves it in some shells
    named = f"answerer.api_key_env={KEY_NAME}"
    for number in (200, 400, 500):
        answer, heard = ask([echoes_key(number)], named)
        assert heard.keys[0] == f"Bearer {KEY}"
        assert KEY not in json.dumps([answer.text, answer.detail])
        assert f"<{KEY_NAME}>" in answer.text + answer.detail
    _, heard = ask([GOOD])
    assert heard.keys == ["Bearer none"]
    # A word that only stands in for a key is not a secret, and answers are not to be cut up for it.
    monkeypatch.setenv(KEY_NAME, "B")
    answer, _ = ask([GOOD], named)
    assert (answer.text, answer.option) == ("B", 1)
    monkeypatch.setenv(KEY_NAME, "sk-\nbroken")
    with pytest.raises(ConfigError) as raised:
        ask([GOOD], named)
    assert "broken" not in str(raised.value)


def test_without_the_client_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "openai":
            raise ImportError(name)
        return stock(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(sys.modules, "openai", raising=False)
    with pytest.raises(MissingExtraError) as raised:
        made("http://localhost:8000/v1").identity()
    assert raised.value.remedy == "pip install 'gens-videoqa[api]'"


def test_so_many_requests_are_under_way_as_are_asked_for_and_answers_come_as_they_are_there() -> None:
    drawn: list[int] = []

    def requests() -> Iterator[AnswerRequest]:
        for number in range(12):
            drawn.append(number)
            yield asked(number)

    slow = waits(0.6, GOOD)
    with misbehaving([slow, *[waits(0.05, GOOD)] * 20]) as (url, heard):
        answers = made(url).answer(requests(), 4)
        first = next(answers)
        assert len(drawn) <= 8  # under way, on the way to the reader, one ahead: not all of them
        rest = list(answers)
    assert heard.at_once == 4
    order = [answer.question_id for answer in (first, *rest)]
    assert sorted(order) == sorted(f"q{number}" for number in range(12))
    sent_first = heard.bodies[0]["messages"][0]["content"][-1]["text"]
    assert f"is {order[0][1:]}?" not in sent_first  # the slow one


def test_an_error_in_drawing_ends_the_iteration_after_what_is_under_way() -> None:
    def requests() -> Iterator[AnswerRequest]:
        yield asked(0)
        yield asked(1)
        raise OSError("the disk is gone")

    given: list[Answer] = []
    with misbehaving([waits(0.1, GOOD)]) as (url, _), pytest.raises(OSError, match="the disk is gone"):
        given.extend(made(url).answer(requests(), 4))
    assert sorted(answer.question_id for answer in given) == ["q0", "q1"]


def test_closing_the_iteration_stops_the_drawing_and_waits_for_no_server() -> None:
    drawn: list[int] = []

    def requests() -> Iterator[AnswerRequest]:
        for number in range(1000):
            drawn.append(number)
            yield asked(number)

    with misbehaving([GOOD, waits(2 * SOON, GOOD)]) as (url, _):
        answers = made(url).answer(requests(), 2)
        next(answers)
        started = time.monotonic()
        answers.close()
        assert time.monotonic() - started < SOON
        count = len(drawn)
        time.sleep(0.2)
    assert len(drawn) == count <= 6
    assert not [thread for thread in threading.enumerate() if not thread.daemon and "ahead" in thread.name]


def test_a_good_reply_is_paid_for_once(tmp_path: Path) -> None:
    first, again, requests = twice(tmp_path, [GOOD])
    assert requests == 1
    assert first.cost.dollars > 0
    assert first.cost.seconds > 0
    assert (again.text, again.option, again.finish, again.status) == ("B", 1, "stop", Status.OK)
    assert (again.cost.prompt_tokens, again.cost.output_tokens) == (1000, 10)
    assert (first.cached, again.cached) == (False, True)
    assert spent(again) == Cost()
    assert again.cost == first.cost  # it costs what it cost, in seconds and dollars too


@pytest.mark.parametrize(
    "bad", [fails(500), says(b"garbage"), says(completion("")), says(completion(None, refusal="no"))]
)
def test_a_bad_reply_is_asked_for_again(bad: Answering, tmp_path: Path) -> None:
    first, again, requests = twice(tmp_path, [bad, GOOD])
    assert first.option is None
    assert again.option == 1
    assert requests == 2


def test_another_request_is_another_reply_and_a_damaged_one_is_asked_for_again(tmp_path: Path) -> None:
    with misbehaving([GOOD]) as (url, heard):
        for number, override in enumerate(
            ("answerer.seed=1", "answerer.seed=2", "answerer.model=n", "answerer.frame.quality=80"), start=1
        ):
            list(made(url, f"answerer.response_store={tmp_path}", override).answer([asked()], 1))
            assert len(heard.bodies) == number
        for file in tmp_path.rglob("*.json"):
            file.write_bytes(b"{")
        (answer,) = made(url, f"answerer.response_store={tmp_path}", "answerer.seed=1").answer([asked()], 1)
    assert answer.option == 1
    assert len(heard.bodies) == 5


def test_another_server_gives_replies_of_its_own(tmp_path: Path) -> None:
    for said, option in (("A", 0), ("B", 1)):
        with misbehaving([says(completion(said))]) as (url, _):
            (answer,) = made(url, f"answerer.response_store={tmp_path}").answer([asked()], 1)
        assert answer.option == option


def test_questions_that_cannot_be_asked_reach_no_server() -> None:
    with misbehaving([GOOD]) as (url, heard):
        bare = AnswerRequest(asked(0).question, asked(0).video, ())
        answers = {one.question_id: one for one in made(url).answer([bare, asked(1, text=" "), asked(2)], 2)}
    assert answers["q0"].status is Status.NO_FRAMES
    assert answers["q1"].status is Status.INVALID_QUESTION
    assert answers["q2"].option == 1
    assert len(heard.bodies) == 1


def test_after_close_it_answers_again() -> None:
    with misbehaving([GOOD]) as (url, _):
        answerer = made(url)
        for _ in range(2):
            (answer,) = answerer.answer([asked()], 1)
            assert answer.option == 1
            answerer.close()
            answerer.close()
