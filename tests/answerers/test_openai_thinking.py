"""Thoughts of servers' models: switched in the request, limited and counted apart from the answer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir
from made import write_video
from misbehaving import completion, fails, misbehaving, says
from openai_cases import ask, asked, made

from pipeline.answerers.openai import OpenAICompatible
from pipeline.config import build, conf_dir
from pipeline.domain import Answer, Status
from pipeline.errors import ConfigError
from pipeline.identity import digest, identity_of

URL = "http://localhost:8000/v1"
ALWAYS = ("answerer.thinking=always", "answerer.max_thinking_tokens=1000")


def composed(folder: Path, yaml: str, *overrides: str) -> OpenAICompatible:
    """From a YAML of one's own over openai.yaml, and what is typed."""
    (folder / "answerer").mkdir(exist_ok=True)
    (folder / "answerer" / "mine.yaml").write_text(f"defaults: [openai, _self_]\nbase_url: {URL}\nmodel: m\n{yaml}")
    given = [f"hydra.searchpath=[file://{folder}]", "answerer=mine", "answerer.response_store=null", *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", given)
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, OpenAICompatible)
    return answerer


@pytest.mark.parametrize("mode", ["never", "always", "checkpoint"])
def test_each_setting_is_read_from_yaml_and_from_the_command_line(mode: str, tmp_path: Path) -> None:
    limit = "answerer.max_thinking_tokens=9"
    assert composed(tmp_path, f"thinking: {mode}\n", limit).thinking == mode
    for word in (mode, f"'{mode}'"):
        assert composed(tmp_path, "", f"answerer.thinking={word}", limit).thinking == mode


@pytest.mark.parametrize("word", ["off", "on", "no", "yes", "true", "false", "null", "Never"])
def test_words_that_yaml_reads_as_truth_values_are_refused(word: str, tmp_path: Path) -> None:
    for yaml, overrides in ((f"thinking: {word}\n", ()), ("", (f"answerer.thinking={word}",))):
        with pytest.raises(ConfigError, match=r"answerer\.thinking=.*'never', 'always' or 'checkpoint'"):
            composed(tmp_path, yaml, *overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "sent"),
    [
        ("openai", ("answerer.thinking=never",), {"chat_template_kwargs": {"enable_thinking": False}}),
        ("openai", ALWAYS, {"chat_template_kwargs": {"enable_thinking": True}}),
        (
            "openai",
            ("answerer.thinking=never", "answerer.thinking_switch.field=chat_template_kwargs.thinking"),
            {"chat_template_kwargs": {"thinking": False}},
        ),
        (
            "openai",
            ("answerer.thinking=never", "+answerer.extra_body.chat_template_kwargs.reasoning_effort=low"),
            {"chat_template_kwargs": {"reasoning_effort": "low", "enable_thinking": False}},
        ),
        ("vllm", ALWAYS, {"chat_template_kwargs": {"enable_thinking": True}, "thinking_token_budget": 1000}),
        ("vllm", ("answerer.thinking=never",), {"chat_template_kwargs": {"enable_thinking": False}}),
        ("gpt4o", ("answerer.thinking=never",), {"reasoning_effort": "none"}),
        ("gpt4o", ALWAYS, {"reasoning_effort": "medium"}),
        ("gemini", (*ALWAYS, "~answerer.extra_body.reasoning_effort"), {"reasoning_effort": "medium"}),
    ],
)
def test_the_switch_is_the_one_that_the_server_understands(
    name: str, overrides: tuple[str, ...], sent: dict[str, Any]
) -> None:
    """With the sizes of a thought and an answer as one limit; ``checkpoint`` sends what was sent before."""
    answerer = made(URL, *overrides, name=name)
    plain = dict(made(URL, name=name).body(asked()))
    plain.pop("reasoning_effort", None)
    limit = answerer.max_tokens_field
    room = 1000 if "always" in overrides[0] else 0
    assert answerer.body(asked()) == {**plain, **sent, limit: plain[limit] + room}
    assert answerer.output_tokens() == plain[limit] + room


def test_a_switch_leaves_the_settings_of_others_alone() -> None:
    extra = "+answerer.extra_body.chat_template_kwargs.reasoning_effort=low"
    answerer = made(URL, "answerer.thinking=never", extra)
    for _ in range(2):
        answerer.body(asked())
    assert answerer.extra_body == {"chat_template_kwargs": {"reasoning_effort": "low"}}


def settings_key(answerer: OpenAICompatible) -> str:
    return digest({name: value for name, value in identity_of(answerer).items() if name != "prompt"})


def test_keys_without_a_switch_are_those_of_before() -> None:
    """The digests are those of the commit before thoughts were switched, without the prompt."""
    before = {"openai": "5a1bd6218cb3eb5f447123680c38c42e", "vllm": "68378e78eef832e1f90bf94d2de39884"}
    for name, key in before.items():
        assert settings_key(made(URL, name=name)) == key
    others = [
        ("answerer.thinking=never",),
        ALWAYS,
        ("answerer.thinking=always", "answerer.max_thinking_tokens=1001"),
        ("answerer.max_thinking_tokens=1000",),
        (*ALWAYS, "answerer.thinking_switch.field=chat_template_kwargs.thinking"),
        (*ALWAYS, "answerer.thinking_switch.budget=thinking_token_budget"),
    ]
    keys = {settings_key(made(URL, *overrides)) for overrides in others}
    assert len({before["openai"], *keys}) == 1 + len(others)


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (("answerer.thinking=always",), "answerer.max_thinking_tokens=4096"),
        ((*ALWAYS[:1], "answerer.max_thinking_tokens=0"), "answerer.thinking=never"),
        ((*ALWAYS, "answerer.thinking_switch.field=max_tokens"), "answerer.thinking_switch.field="),
        ((*ALWAYS, "answerer.thinking_switch.budget=seed"), "answerer.thinking_switch.field="),
        ((*ALWAYS, "answerer.thinking_switch.field=a..b"), "answerer.thinking_switch.budget=null"),
        (
            (*ALWAYS, "+answerer.extra_body.chat_template_kwargs.enable_thinking=true"),
            "'~answerer.extra_body.chat_template_kwargs.enable_thinking'",
        ),
        ((*ALWAYS, "+answerer.extra_body.chat_template_kwargs=4"), "answerer.thinking=checkpoint"),
        ((*ALWAYS, "answerer.continues_answer=true", "answerer.prompt.answer_prefix='('"), "answerer/prompt=letter"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_what_to_type(
    overrides: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        made(URL, *overrides)
    assert remedy in caught.value.remedy


def replied(usage: dict[str, Any], content: str | None, finish: str, *overrides: str, **message: Any) -> Answer:
    body = completion(content, finish, **message)
    body["usage"] |= usage
    answer, _ = ask([says(body)], *overrides)
    return answer


@pytest.mark.parametrize(
    ("usage", "output", "thinking"),
    [
        ({"completion_tokens_details": {"reasoning_tokens": 7}}, 10, {"thinking_tokens": 7}),
        ({"reasoning_tokens": 7}, 10, {"thinking_tokens": 7}),
        ({"total_tokens": 1070}, 70, {"thinking_tokens": 60}),  # Gemini's, in the total alone
        ({"completion_tokens_details": {"reasoning_tokens": 99}}, 10, {"thinking_tokens": 10}),
        ({"completion_tokens_details": {"reasoning_tokens": 0}}, 10, {}),
        ({"completion_tokens_details": None}, 10, {}),
        ({"completion_tokens": None, "total_tokens": 1070}, 70, {}),
    ],
)
def test_tokens_of_thoughts_are_counted_among_those_of_the_output(
    usage: dict[str, Any], output: int, thinking: dict[str, int]
) -> None:
    answer = replied(usage, "B", "stop", *ALWAYS, reasoning="C? no")
    assert (answer.text, answer.thought, answer.option) == ("B", "C? no", 1)
    assert answer.cost.output_tokens == output
    told = {name: count for name, count in answer.cost.more.items() if name == "thinking_tokens"}
    assert told == thinking
    assert answer.form.endswith("; thinking always, by chat_template_kwargs.enable_thinking")


COUNTED = {"completion_tokens_details": {"reasoning_tokens": 10}}


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (lambda: replied({}, None, "length", *ALWAYS, reasoning="C? B?"), "answerer.max_thinking_tokens=2000"),
        (lambda: replied({}, "C, or so it seems", "length", *ALWAYS), "answerer.max_thinking_tokens=2000"),
        (lambda: replied({}, None, "length", *ALWAYS), "answerer.max_thinking_tokens=2000"),
        (lambda: replied(COUNTED, None, "length"), "answerer.max_thinking_tokens=4096"),
        (
            lambda: replied({}, "<think>C", "length", "answerer.thinking=never"),
            "answerer.thinking=always answerer.max_thinking_tokens=4096",
        ),
    ],
)
def test_a_thought_that_did_not_end_is_no_answer(answer: Any, remedy: str) -> None:
    given = answer()
    assert (given.status, given.option) == (Status.TRUNCATED_OUTPUT, None)
    assert "thoughts did not end" in given.detail
    assert f"Try {remedy}, or" in given.detail
    made(URL, *remedy.split())


def test_a_cut_answer_after_a_thought_that_is_not_shown_is_read() -> None:
    effort = "answerer.thinking_switch.field=reasoning_effort"
    assert replied(COUNTED, "The answer is B. It", "length", *ALWAYS, effort).option == 1


def test_a_thought_that_comes_though_it_is_switched_off_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    script = [says(completion("B", reasoning="C? no"))]
    with misbehaving(script) as (url, _), caplog.at_level(logging.WARNING):
        answers = list(made(url, "answerer.thinking=never").answer(map(asked, range(3)), 1))
        list(made(url).answer([asked()], 1))
    assert [answer.option for answer in answers] == [1, 1, 1]
    (record,) = caplog.records
    assert "thinks although answerer.thinking=never sets chat_template_kwargs.enable_thinking" in record.getMessage()


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("thinking_token_budget is set but reasoning_config is not configured", "answerer.thinking_switch.budget=null"),
        ("Unrecognized request argument supplied: chat_template_kwargs", "answerer.thinking=checkpoint"),
        ("Unknown parameter: 'reasoning_effort'.", "answerer.thinking=checkpoint"),
    ],
)
def test_a_server_that_takes_no_such_switch_ends_the_run_with_what_to_type(message: str, remedy: str) -> None:
    with misbehaving([fails(400, message)]) as (url, heard), pytest.raises(ConfigError) as caught:
        list(made(url, *ALWAYS, name="vllm").answer([asked()], 1))
    assert remedy in caught.value.remedy
    assert len(heard.bodies) == 1


def test_thought_and_answer_are_shown_apart(tmp_path: Path) -> None:
    """On the terminal and on the page."""
    write_video(tmp_path / "clip.mp4")
    thought = "Green? " * 100 + "No."
    words = ("ask", "video=clip.mp4", "question=Which?", "options=[red, green]", "sampler=uniform", "answerer=openai")
    with misbehaving([says(completion("A", reasoning=thought))]) as (url, _):
        done = gens(*words, f"answerer.base_url={url}", "answerer.model=m", cwd=tmp_path)
    answer, shown = done.stdout.splitlines()[:2]
    assert answer == "answer: A. red"
    assert shown.startswith("its thought, which is not graded: Green? Green?")
    assert shown.endswith(" ...")
    (page,) = tmp_path.glob("runs/ask-*/report.html")
    html = page.read_text()
    assert f'<details class="thought"><summary>Thoughts, which are not graded</summary><blockquote>{thought}' in html
