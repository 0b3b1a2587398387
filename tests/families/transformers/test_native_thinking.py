"""Thoughts: switched in the template and seen in the prompt, limited apart from the answer, stored apart."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_native
from asking import Saying, answered
from command_line import gens
from hydra import compose, initialize_config_dir
from made import write_video
from native import Folders, Stock, answerer, requests

from pipeline.config import build, conf_dir
from pipeline.domain import Answer, Status
from pipeline.errors import CheckpointError, ConfigError, PipelineError
from pipeline.families.thinking import Beginning
from pipeline.families.transformers.answerer import NativeRequestProcessor, Transformers
from pipeline.generation.limits import OutputLimits

pytestmark = [
    pytest.mark.moving,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

MODES = ("never", "always", "checkpoint")
ALWAYS_OPEN = tiny_native.chatml("<|vision_start|><|image_pad|><|vision_end|>", thought="{{ '<think>\\n' }}")
DEAF = ALWAYS_OPEN + "{%- if enable_thinking -%}{%- endif -%}"
"""Reads the switch and does nothing about it."""
PLAIN = tiny_native.chatml("<|vision_start|><|image_pad|><|vision_end|>")


@pytest.mark.parametrize("mode", MODES)
def test_each_setting_is_read_from_yaml_and_from_the_command_line(mode: str, tmp_path: Path) -> None:
    (tmp_path / "answerer").mkdir()
    (tmp_path / "answerer" / "mine.yaml").write_text(f"defaults: [transformers, _self_]\nthinking: {mode}\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    for overrides in ([f"answerer.thinking={mode}"], [f"answerer.thinking='{mode}'"]):
        assert answerer(tmp_path, *overrides).thinking == mode
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", [path, "answerer=mine", "answerer.checkpoint.source=FOLDER"])
    made = build(config.answerer, "answerer")
    assert isinstance(made, Transformers)
    assert made.thinking == mode


@pytest.mark.parametrize("word", ["off", "on", "no", "yes", "true", "false", "null", "Never"])
def test_words_that_yaml_reads_as_truth_values_are_refused(word: str, tmp_path: Path) -> None:
    import yaml

    (tmp_path / "answerer").mkdir()
    (tmp_path / "answerer" / "mine.yaml").write_text(f"defaults: [transformers, _self_]\nthinking: {word}\n")
    with pytest.raises(ConfigError, match=r"answerer\.thinking=.*'never', 'always' or 'checkpoint'"):
        answerer(tmp_path, f"answerer.thinking={word}")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", [f"hydra.searchpath=[file://{tmp_path}]", "answerer=mine"])
    config.answerer.checkpoint.source = "FOLDER"
    config.answerer.thinking = yaml.safe_load(word)
    with pytest.raises(ConfigError, match=r"answerer\.thinking="):
        build(config.answerer, "answerer")


@pytest.mark.parametrize(
    ("name", "mode", "beginning", "ending", "tokens"),
    [
        ("qwen3_5", "never", Beginning.CLOSED, "<think>\n\n</think>\n\n", 0),
        ("qwen3_5", "always", Beginning.OPEN, "<think>\n", 4096),
        ("qwen3_5", "checkpoint", Beginning.OPEN, "<think>\n", 4096),
        ("glm46v", "never", Beginning.CLOSED, "/nothink<|assistant|>\n<think></think>\n", 0),
        ("glm46v", "always", Beginning.FREE, "<|assistant|>\n", 4096),
        ("glm46v", "checkpoint", Beginning.FREE, "<|assistant|>\n", 4096),
        ("gemma4", "never", Beginning.FREE, "<|turn>model\n", 0),
        ("gemma4", "always", Beginning.FREE, "<|turn>model\n", 4096),
        ("mistral3", "never", Beginning.FREE, "[/INST]", 0),
        ("mistral3", "checkpoint", Beginning.FREE, "[/INST]", 4096),
    ],
)
def test_the_switch_is_found_and_seen_in_the_prompt(
    folders: Folders, name: str, mode: str, beginning: Beginning, ending: str, tokens: int
) -> None:
    ours = answerer(folders[name], f"answerer.thinking={mode}")
    ours.check_checkpoint()
    switch = ours.processor.processor.switch
    assert (switch.beginning, switch.tokens) == (beginning, tokens)
    ids = ours.encode(requests()[0]).input_ids.tolist()
    prompt = ours.processor.tokenizer.decode(ids)
    assert prompt.endswith(ending)
    assert ("<|think|>" in prompt) is (name == "gemma4" and mode == "always")
    assert ours.output_tokens() == tokens + 8
    assert "thinking" in ours.processor.describe(())


@pytest.mark.parametrize(
    ("template", "mode", "problem", "remedy"),
    [
        (ALWAYS_OPEN, "never", "always thinks", "answerer.thinking=always"),
        (DEAF, "never", "the prompt is the same with either value", "answerer.thinking=checkpoint"),
        (DEAF, "always", "the prompt is the same with either value", "answerer.thinking=checkpoint"),
        (PLAIN, "always", "has no switch for thinking, and opens no thought", "answerer.thinking=checkpoint"),
    ],
)
def test_a_setting_that_the_template_ignores_is_refused(
    folders: Folders, template: str, mode: str, problem: str, remedy: str
) -> None:
    folder = folders.copy("qwen3_5")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError) as caught:
        answerer(folder, f"answerer.thinking={mode}").check_checkpoint()
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    answerer(folder, remedy).check_checkpoint()


def test_a_template_without_a_switch_passes_where_it_opens_no_thought(folders: Folders) -> None:
    folder = folders.copy("qwen3_5")
    (folder / "chat_template.jinja").write_text(PLAIN)
    ours = answerer(folder)
    ours.check_checkpoint()
    assert "no switch" in ours.processor.describe(())


def test_a_variable_of_another_name_is_named(folders: Folders) -> None:
    folder = folders.copy("qwen3_5")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("enable_thinking", "ponder"))
    with pytest.raises(CheckpointError, match="always thinks"):
        answerer(folder).check_checkpoint()
    answerer(folder, "answerer.thinking_variable=ponder").check_checkpoint()
    with pytest.raises(ConfigError, match=r"(?s)does not read it.*ponder"):
        answerer(folder, "answerer.thinking_variable=enable_thinking").check_checkpoint()


def test_a_prompt_that_begins_the_answer_does_not_go_with_a_thought(folders: Folders) -> None:
    begun = ["answerer.prompt.answer_prefix='Answer: '"]
    with pytest.raises(ConfigError, match="a thought comes first"):
        answerer(folders["qwen3_5"], *begun, "answerer.thinking=always")
    with pytest.raises(ConfigError, match="the chat template begins a thought"):
        answerer(folders["qwen3_5"], *begun, "answerer.thinking=checkpoint").check_checkpoint()
    answerer(folders["qwen3_5"], *begun).check_checkpoint()


def test_tokens_are_those_of_stock_generate_up_to_the_thoughts_limit(folders: Folders) -> None:
    """A random model's thought does not end: it is cut at its limit, and has no answer."""
    stock = Stock(folders["qwen3_5"], "qwen3_5")
    ours = answerer(folders["qwen3_5"], "answerer.thinking=always", "answerer.max_thinking_tokens=12")
    for asked, answer in zip(requests(), answered(ours, requests()), strict=True):
        expected = stock.tokens(stock.inputs(asked, ours.prompt.words(asked).text, enable_thinking=True), 12)
        ids = ours.processor.tokenizer.decode(expected, skip_special_tokens=True)
        if set(expected) & {408, stock.processor.tokenizer.eos_token_id}:
            continue
        assert answer.status is Status.TRUNCATED_OUTPUT
        assert answer.thought == ids.strip()
        assert answer.text == ""
        assert answer.cost.more["thinking_tokens"] == answer.cost.output_tokens == 12
        assert "Try answerer.max_thinking_tokens=24" in answer.detail
        break
    else:
        pytest.fail("every thought ended")


def says(folders: Folders, monkeypatch: pytest.MonkeyPatch, name: str, said: str, *overrides: str) -> Answer:
    """The answer of a model that writes these words, for as long as its limits allow."""
    ours = answerer(folders[name], *overrides)
    tokenizer = ours.processor.tokenizer
    opened = type(ours).open
    monkeypatch.setattr(type(ours), "writer", lambda self, model, limits: Saying(tokenizer, said, limits))
    monkeypatch.setattr(
        type(ours),
        "open",
        lambda self: dataclasses.replace(opened(self), load=lambda: SimpleNamespace(device_name="none")),
    )
    [answer] = answered(dataclasses.replace(ours), requests()[:1])
    return answer


def test_thought_and_answer_are_told_apart(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    always = "answerer.thinking=always"
    answer = says(folders, monkeypatch, "qwen3_5", "Red? A. No, wait.</think>\n\nB", always)
    assert (answer.status, answer.option, answer.text) == (Status.OK, 1, "B")
    assert answer.thought == "Red? A. No, wait.</think>"
    assert 0 < answer.cost.more["thinking_tokens"] < answer.cost.output_tokens
    answer = says(
        folders,
        monkeypatch,
        "glm46v",
        "<think>A or B?</think><|begin_of_box|>B<|end_of_box|>",
        "answerer.thinking=always",
    )
    assert (answer.status, answer.option, answer.text) == (Status.OK, 1, "B")
    answer = says(folders, monkeypatch, "gemma4", "<|channel>thought\nThe answer is A? No.<channel|>B", always)
    assert (answer.status, answer.option, answer.text) == (Status.OK, 1, "B")
    assert "The answer is A" in answer.thought
    answer = says(folders, monkeypatch, "mistral3", "[THINK]A?[/THINK]B", "answerer.thinking=checkpoint")
    assert (answer.status, answer.option, answer.text) == (Status.OK, 1, "B")


def test_a_thought_with_nothing_behind_it_is_an_empty_answer(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = says(folders, monkeypatch, "qwen3_5", "So it is A.</think>\n", "answerer.thinking=always")
    assert (answer.status, answer.option) == (Status.EMPTY_ANSWER, None)


def test_a_cut_thought_names_its_own_limit_and_a_cut_answer_the_answers(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("answerer.thinking=always", "answerer.max_thinking_tokens=10", "answerer.max_new_tokens=6")
    thinking = says(folders, monkeypatch, "qwen3_5", "The best answer is A. But wait, " * 4, *given)
    assert (thinking.status, thinking.option) == (Status.TRUNCATED_OUTPUT, None)
    assert "answerer.max_thinking_tokens=20" in thinking.detail
    assert thinking.cost.output_tokens == 10
    rambling = says(folders, monkeypatch, "qwen3_5", "A?</think>\n\n" + "I think about it. " * 9, *given)
    assert rambling.status is Status.UNPARSED
    assert re.search(r"answerer\.max_new_tokens=16\b", rambling.detail)
    assert rambling.cost.output_tokens - rambling.cost.more["thinking_tokens"] == 6


def test_a_thought_that_comes_though_none_was_wanted_is_told_how_to_get_room(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = says(folders, monkeypatch, "mistral3", "[THINK]Red, or is it blue? The best answer is A")
    assert answer.status is Status.TRUNCATED_OUTPUT
    assert "answerer.thinking=checkpoint answerer.max_thinking_tokens=8192" in answer.detail


def test_a_run_stores_thought_and_answer_apart(folders: Folders, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", seconds=6)
    row = {"video": "clip.mp4", "question": "what?", "options": ["a", "b"], "answer": "b", "id": "q"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    done = gens(
        "evaluate",
        *("benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2"),
        *(
            "answerer=transformers",
            f"answerer.checkpoint.source={folders['qwen3_5']}",
            "answerer.checkpoint.device=cpu",
        ),
        *("answerer.thinking=always", "answerer.max_thinking_tokens=6", "answerer.max_new_tokens=4"),
        *(f"paths.runs={tmp_path / 'runs'}",),
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    [file] = (tmp_path / "runs").rglob("answers.jsonl")
    [answer] = [json.loads(line)["answer"] for line in file.read_text().splitlines() if '"q"' in line]
    assert answer["status"] == "truncated_output"
    assert answer["thought"]
    assert answer["cost"]["more"]["thinking_tokens"] == answer["cost"]["output_tokens"] == 6
    assert "answerer.max_thinking_tokens=12" in answer["detail"]
    assert "thinking on by enable_thinking: the prompt opens a thought" in answer["form"]


def test_room_for_a_thought_is_kept_in_the_context(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    folder = tiny_native.write_qwen3_5(tmp_path, context=400)
    [answer] = answered(answerer(folder, "answerer.thinking=always"), requests()[:1])
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert "4104 are kept for the answer and its thought" in answer.detail
    short = answerer(folder, "answerer.thinking=always", "answerer.max_thinking_tokens=16")
    assert answered(short, requests()[:1])[0].status is not Status.CONTEXT_EXCEEDED


def test_limits_count_thought_and_answer_apart() -> None:
    limits = OutputLimits(answer=3, thought=5, begins_open=True, ending=frozenset({9}))
    written = [1, 1, 9, 2, 2, 2, 2]
    reached = [limits.are_reached(written[:count]) for count in range(1, 8)]
    assert reached == [False, False, False, False, False, True, True]
    assert [limits.are_reached([1] * count) for count in (4, 5)] == [False, True]
    free = OutputLimits(answer=3, thought=5, opening=frozenset({8}), ending=frozenset({9}))
    assert [free.are_reached([1] * count) for count in (2, 3)] == [False, True]
    assert [free.are_reached([8, *[1] * count]) for count in (3, 4)] == [False, True]
    assert not free.are_reached([8, 1, 1, 1, 9])
    unmarked = OutputLimits(answer=3, thought=5, begins_open=True)
    assert [unmarked.are_reached([1] * count) for count in (7, 8)] == [False, True]


def test_limits_below_one_are_refused() -> None:
    for key in ("max_thinking_tokens", "max_new_tokens"):
        with pytest.raises(PipelineError, match=rf"answerer\.{key}=0"):
            answerer(Path("FOLDER"), f"answerer.{key}=0")


def test_readers_say_what_was_decided(folders: Folders) -> None:
    reader: NativeRequestProcessor = answerer(folders["glm46v"]).processor
    assert reader.describe(()).endswith("thinking off by enable_thinking: the prompt closes an empty thought")
