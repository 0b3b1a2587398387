"""What cannot be used is refused by name before the run, with a remedy that works when it is typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_native
import torch
from asking import answered
from command_line import gens
from made import write_video
from native import Folders, answerer, frames, requests

from pipeline.answerers import AnswerRequest
from pipeline.domain import Question, Status
from pipeline.errors import CheckpointError, ConfigError, FramesError, MissingExtraError, PipelineError
from pipeline.families.transformers import loading
from pipeline.families.transformers.generation import prepared
from pipeline.families.transformers.loading import load_model

pytestmark = [
    pytest.mark.moving,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def refused(folder: Path, *overrides: str) -> PipelineError:
    """The error of the check that a run and ``gens check`` make."""
    with pytest.raises(PipelineError) as caught:
        answerer(folder, *overrides).check_checkpoint()
    return caught.value


def overrides_in(remedy: str) -> list[str]:
    """What a remedy says to type under ``answerer``."""
    return [word.rstrip(",;") for word in re.findall(r"[+~]?answerer\.[\w.]+(?:=\S+)?", remedy) if "..." not in word]


def config_alone(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "problem", "remedy"),
    [
        (
            {"model_type": "internvl_chat", "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"}},
            "needs its authors' code, which is not run",
            "answerer=vllm answerer.model=",
        ),
        ({"model_type": "of_tomorrow"}, "does not know the model_type 'of_tomorrow'", "pip install -U transformers"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "is a text model", "Qwen/Qwen3.5-4B"),
        ({"model_type": "siglip"}, "model without text output", "Qwen/Qwen3.5-4B"),
        ({"model_type": "yi_vl"}, "it is GenS", "sampler=gens answerer.checkpoint.source="),
        (
            {"model_type": "glm4v", "architectures": ["Glm46VForConditionalGeneration"]},
            "says that its class is Glm46VForConditionalGeneration, and transformers loads its model_type glm4v as",
            "Restore config.json",
        ),
        ({"model_type": "qwen3_5", "text_config": 3}, "text_config=3", "Restore"),
    ],
)
def test_what_is_no_such_model_is_said_by_its_config_alone(
    tmp_path: Path, config: dict[str, Any], problem: str, remedy: str
) -> None:
    folder = config_alone(tmp_path / "model", **config)
    for call in ("check_checkpoint", "limits", "identity"):
        with pytest.raises(CheckpointError) as caught:
            getattr(answerer(folder), call)()
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy


def test_without_torchvision_the_line_that_installs_the_matching_one_is_told(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    error = refused(folders["mistral3"])
    assert isinstance(error, MissingExtraError)
    minor = int(torch.__version__.split(".")[1])
    assert f"pip install 'torchvision==0.{minor + 15}.*'" in error.remedy


def test_a_processor_that_needs_a_package_names_it(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    folder = folders["smolvlm"]
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "num2words" else object())
    error = refused(folder)
    assert isinstance(error, MissingExtraError)
    assert error.remedy == "pip install num2words"


@pytest.mark.parametrize(
    ("message", "package"),
    [
        ("Package `absent_one` is required to run it. Install it with `pip install absent_one`.", "absent_one"),
        ("X requires the absent_two library but it was not found in your environment.", "absent_two"),
        ("No module named 'absent_three'", "absent_three"),
        ("You need `pip install -U absent-four` for this tokenizer", "absent-four"),
        ("one of the following keys: aria, timm_wrapper, absent_five", None),
        ("pip install numpy", None),
    ],
)
def test_the_package_of_a_message_is_found(message: str, package: str | None) -> None:
    assert loading._missing_package(message) == package


def test_an_image_processor_that_is_unknown_is_no_missing_package(folders: Folders) -> None:
    """The message lists every type that is known, packages' names among them."""
    folder = folders.copy("qwen3_5")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["image_processor_type"] = "OfTomorrowImageProcessor"
    file.write_text(json.dumps(settings))
    error = refused(folder)
    assert isinstance(error, CheckpointError)
    assert "cannot be read" in error.problem


def test_a_checkpoint_without_a_processors_files_is_named(folders: Folders) -> None:
    """As Mistral publishes its own: the tokenizer alone is there."""
    folder = folders.copy("mistral3")
    (folder / "processor_config.json").unlink()
    error = refused(folder)
    assert "has no settings of a processor" in error.problem
    assert "answerer=vllm" in error.remedy


def test_without_a_template_one_can_be_named(folders: Folders, tmp_path: Path) -> None:
    folder = folders.copy("mistral3")
    template = (folder / "chat_template.jinja").rename(tmp_path / "mine.jinja")
    assert "answerer.template=FILE.jinja" in refused(folder).remedy
    ours = answerer(folder, f"answerer.template={template}")
    ours.check_checkpoint()
    before = ours.identity()
    template.write_text(template.read_text() + "\n")
    assert ours.identity() != before


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # transformers leaves them open
def test_of_several_templates_the_default_is_taken_or_one_is_named(folders: Folders) -> None:
    folder = folders.copy("mistral3")
    own, more = folder / "chat_template.jinja", folder / "additional_chat_templates"
    more.mkdir()
    for name in ("short", "tools"):
        (more / f"{name}.jinja").write_text(own.read_text())
    answerer(folder).check_checkpoint()
    own.unlink()
    error = refused(folder)
    assert "short, tools" in error.problem
    [typed] = overrides_in(error.remedy)
    answerer(folder, typed).check_checkpoint()
    assert "short, tools" in refused(folder, "answerer.template=other").problem


def test_a_tokenizer_without_the_pictures_token_is_refused(folders: Folders) -> None:
    folder = folders.copy("qwen3_5")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] != "<|image_pad|>"]
    file.write_text(json.dumps(content))
    assert "has no token <|image_pad|>" in refused(folder).problem


def test_a_pictures_token_under_another_number_than_the_models_is_refused_before_weights_are_read(
    folders: Folders,
) -> None:
    """As where tokenizer_config.json alone still names the token: the tokenizer then adds it at its end."""
    folder = folders.copy("qwen3_5")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] != "<|image_pad|>"]
    file.write_text(json.dumps(content))
    named = folder / "tokenizer_config.json"
    token = {"extra_special_tokens": {"image_token": "<|image_pad|>"}}
    named.write_text(json.dumps(json.loads(named.read_text()) | token))
    number = json.loads((folder / "config.json").read_text())["image_token_id"]
    assert f"has image_token_id={number}, and its tokenizer's <|image_pad|> is 408" in refused(folder).problem


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("internvl", ["answerer.frame.tiles=checkpoint", "answerer.frame.max_tokens=20"]),
        ("smolvlm", ["answerer.frame.tiles=checkpoint", "answerer.frame.max_tokens=20"]),
        ("minicpmv4_6", ["answerer.frame.tiles=checkpoint", "answerer.frame.max_tokens=20"]),
        ("mistral3", ["answerer.frame.max_tokens=9"]),
    ],
)
def test_an_exploding_frame_is_told_an_override_that_bounds_it(
    folders: Folders, name: str, overrides: list[str]
) -> None:
    error = refused(folders[name], *overrides)
    assert "of a frame of 1280 x 720 pixels, more than the" in error.problem
    ways = overrides_in(error.remedy)
    assert len(ways) == 2
    for way in ways:
        ours = answerer(folders[name], *overrides, way)
        ours.check_checkpoint()
        assert ours.frame_tokens(900, 900)  # holds for any shape of frame: a square takes the most


def test_where_scaling_does_not_help_the_processors_own_keyword_is_named(folders: Folders) -> None:
    error = refused(folders["gemma4"], "answerer.frame.max_tokens=50")
    assert "Scaling frames down does not help with this type" in error.remedy
    assert "+answerer.processor_kwargs.max_soft_tokens=" in error.remedy


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("glm46v", "+answerer.processor_kwargs.max_pixels=1568"),  # works in Qwen's processors alone
        ("qwen3_5", "+answerer.processor_kwargs.max_sides=64"),
        ("gemma4", "+answerer.processor_kwargs.max_soft_tokens=70"),  # as it is already
    ],
)
def test_a_bound_that_does_nothing_is_refused(folders: Folders, name: str, given: str) -> None:
    error = refused(folders[name], given)
    assert "changes nothing" in error.problem
    assert f"~{given[1:].partition('=')[0]}" in error.remedy


def test_a_bound_that_acts_is_taken_and_counted(folders: Folders) -> None:
    ours = answerer(folders["gemma4"], "+answerer.processor_kwargs.max_soft_tokens=140")
    ours.check_checkpoint()
    assert ours.frame_tokens(720, 1280) > answerer(folders["gemma4"]).frame_tokens(720, 1280)
    for asked in requests():
        assert ours.processor.count(asked.frames, ours.prompt.words(asked)) == len(ours.encode(asked).input_ids)


def test_a_side_is_a_bound_where_the_type_goes_by_the_frames_size(folders: Folders) -> None:
    small, large = (answerer(folders["mistral3"], f"answerer.frame.max_side={side}") for side in (56, 112))
    assert small.frame_tokens(720, 1280) < large.frame_tokens(720, 1280)
    with pytest.raises(ConfigError, match=r"answerer\.frame\.max_side=768"):
        answerer(folders["mistral3"], "answerer.frame.max_side=0")


def test_flash_attention_that_a_class_cannot_use_is_refused_and_not_taken_by_itself(folders: Folders) -> None:
    error = refused(folders["gemma4"], "answerer.checkpoint.attention=flash_attention_2")
    [typed] = overrides_in(error.remedy)
    answerer(folders["gemma4"], typed).check_checkpoint()


def _lost_projector(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "multi_modal_projector" in name:
            tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _lost_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors[next(name for name in tensors if "multi_modal_projector" in name)]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(_lost_projector, "does not see its pictures"), (_lost_tensor, r"1 missing \(")],
)
def test_a_model_that_cannot_see_is_refused_when_it_is_loaded(
    folders: Folders, damage: Callable[[Path], None], problem: str
) -> None:
    folder = folders.copy("internvl")
    damage(folder)
    with pytest.raises(CheckpointError, match=problem):
        answered(answerer(folder), requests()[:1])


def test_a_processor_that_does_not_go_with_its_model_is_refused_when_it_is_loaded(folders: Folders) -> None:
    folder = folders.copy("internvl")
    file = folder / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_seq_length": 5}))
    ours = answerer(folder)
    ours.check_checkpoint()
    with pytest.raises(CheckpointError, match=r"cannot be used: its first look at two pictures fails with ValueError"):
        answered(ours, requests()[:1])


def test_what_a_checkpoint_samples_with_is_not_taken_over(folders: Folders) -> None:
    settings = load_model(answerer(folders["glm46v"]).checkpoint).generation_config
    assert settings.do_sample is False
    assert settings.repetition_penalty in (None, 1.0)
    assert len(settings.eos_token_id) == 2


def test_a_template_that_puts_pictures_first_has_them_written_where_they_belong(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    first = (
        "{%- for message in messages -%}<|im_start|>{{ message.role }}\n{%- for part in message.content -%}"
        "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- endif -%}{%- endfor -%}"
        "{%- for part in message.content -%}{%- if part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}"
        "<|im_end|>\n{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
    )
    ours = answerer(tiny_native.write_qwen3_5(tmp_path, template=first))
    asked = requests()[0]
    text = ours.processor.tokenizer.decode(ours.encode(asked).input_ids.tolist())
    assert re.search(r"<0\.0 seconds>(<\|image_pad\|>)+<4\.0 seconds>(<\|image_pad\|>)+What colour", text)


def test_a_template_that_trims_the_system_turn_is_given_text(folders: Folders) -> None:
    """Of blocks it would write what Python shows of them, as Gemma 4's does."""
    folder = folders.copy("gemma4")
    template = folder / "chat_template.jinja"
    system = "{%- if messages[0].role == 'system' -%}{{ '<|turn>system\\n' }}{{ messages[0].content | trim }}<turn|>\n"
    users = "{%- set messages = messages[1:] -%}{%- endif -%}"
    own = template.read_text()
    template.write_text(
        own.replace("{%- for message in messages -%}", f"{system}{users}{{%- for message in messages -%}}", 1)
    )
    ours = answerer(folder, "answerer.system='  Be brief. '")
    text = ours.processor.tokenizer.decode(ours.encode(requests()[0]).input_ids.tolist())
    assert "<|turn>system\nBe brief.<turn|>" in text
    assert "'type'" not in text


def test_a_template_that_knows_no_blocks_is_given_text(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    plain = (
        "{%- for message in messages -%}<|im_start|>{{ message['content'] | trim }}<|im_end|>{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
    )
    ours = answerer(tiny_native.write_qwen3_5(tmp_path, template=plain))
    text = ours.processor.tokenizer.decode(ours.encode(requests()[0]).input_ids.tolist())
    assert re.match(r"<\|im_start\|><0\.0 seconds>(<\|image_pad\|>)+<4\.0 seconds>(<\|image_pad\|>)+What colour", text)


def test_a_template_without_a_place_for_pictures_is_refused(folders: Folders) -> None:
    folder = folders.copy("mistral3")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}What is shown?")
    assert "does not write [IMG] where a picture belongs" in refused(folder).problem


@pytest.mark.parametrize("text", ["{{ messages", "{{ raise_exception('no') }}", "{{ messages[9].content }}"])
def test_a_template_that_cannot_be_filled_in_is_refused(folders: Folders, text: str) -> None:
    folder = folders.copy("mistral3")
    (folder / "chat_template.jinja").write_text(text)
    assert "cannot be filled in" in refused(folder).problem


def test_a_variable_that_the_template_does_not_read_is_refused(folders: Folders) -> None:
    error = refused(folders["qwen3_5"], "+answerer.template_variables.reasoning_effort=low")
    assert "does not read it" in error.problem
    assert "enable_thinking" in error.remedy


def test_a_template_that_writes_the_date_writes_the_same_one_on_any_day(folders: Folders) -> None:
    folder = folders.copy("mistral3")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("{{ '[INST]' }}", "{{ '[INST]' }}{{ strftime_now('%d %B %Y') }}"))

    def asked(*overrides: str) -> str:
        ours = answerer(folder, *overrides)
        text: str = ours.processor.tokenizer.decode(ours.encode(requests()[0]).input_ids.tolist())
        return text

    assert "01 January 2026" in asked()
    assert "09 May 2027" in asked("answerer.template_date=2027-05-09")
    with pytest.raises(ConfigError, match=r"answerer\.template_date='soon'"):
        answerer(folder, "answerer.template_date=soon")


def test_a_frame_with_a_scale_of_its_own_is_scaled_and_counted(folders: Folders) -> None:
    ours = answerer(folders["mistral3"])
    words = requests()[0]
    plain = frames(0.0, 1.0, height=90, width=100)
    halved = (plain[0], replace(plain[1], scale=0.5))
    lengths = []
    for shown in (plain, halved):
        asked = replace(words, frames=shown)
        lengths.append(len(ours.encode(asked).input_ids))
        assert ours.processor.count(shown, ours.prompt.words(asked)) == lengths[-1]
    assert lengths[1] < lengths[0]


def test_a_system_turn_that_the_template_leaves_out_is_refused(folders: Folders) -> None:
    folder = folders.copy("mistral3")
    template = folder / "chat_template.jinja"
    template.write_text(
        template.read_text().replace("{{ part.text }}{%- endfor -%}{{ '[/SYSTEM", "{%- endfor -%}{{ '[/SYSTEM")
    )
    error = refused(folder, "answerer.system=Be brief.")
    assert "leaves out the system turn" in error.problem
    answerer(folder, *[word for word in overrides_in(error.remedy) if word.startswith("answerer.")]).check_checkpoint()


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|image_pad|>", "<image_id>"])
def test_markup_in_a_question_is_refused(folders: Folders, mark: str) -> None:
    asked = AnswerRequest(Question("q", "clip.mp4", f"What is {mark}?"), requests()[0].video, frames(0.0))
    [answer] = answered(answerer(folders["minicpmv4_6"]), [asked])
    assert answer.status is Status.INVALID_QUESTION
    assert mark in answer.detail


def test_frames_that_do_not_fit_are_told_how_many_do(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    ours = answerer(tiny_native.write_mistral3(tmp_path, context=200))
    shown = frames(*range(20), height=90, width=160)
    asked = AnswerRequest(Question("q", "clip.mp4", "Why?"), requests()[0].video, shown)
    fitting = ours.capacity(asked)
    assert 0 < fitting < 20
    [answer] = answered(ours, [asked])
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert f"selection.budget={fitting}" in answer.detail
    assert "answerer.frame.max_side=384" in answer.detail
    kept = AnswerRequest(asked.question, asked.video, shown[-fitting:])
    assert len(ours.encode(kept).input_ids) + 8 <= 200
    assert answered(ours, [kept])[0].status is Status.OK


def test_frames_that_a_processor_cannot_take_fail_their_own_questions(folders: Folders) -> None:
    """Qwen's takes no side more than 200 times the other."""
    ours = answerer(folders["qwen3_5"])
    usual = requests()[0]
    thin = AnswerRequest(Question("thin", "clip.mp4", "Why?"), usual.video, frames(0.0, 1.0, height=2, width=600))
    answers = answered(ours, [thin, usual])
    assert answers[0].status is Status.UNSUPPORTED
    assert "does not take frames of 600 x 2 pixels" in answers[0].detail
    assert answers[1].status not in (Status.UNSUPPORTED, Status.CONTEXT_EXCEEDED)
    assert ours.frame_tokens(2, 600) == ours.frame_tokens(720, 1280)


def test_a_processor_that_takes_nothing_is_the_checkpoints_fault(folders: Folders) -> None:
    folder = folders.copy("mistral3")
    settings = json.loads((folder / "processor_config.json").read_text())
    settings["patch_size"] = 0
    (folder / "processor_config.json").write_text(json.dumps(settings))
    assert "its processor fails with" in refused(folder).problem


def test_check_refuses_what_a_run_would_refuse(folders: Folders, tmp_path: Path) -> None:
    """And says the same, with an override that ends it."""
    folder = folders["internvl"]
    write_video(tmp_path / "clip.mp4", seconds=6)
    row = {"video": "clip.mp4", "question": "what?", "options": ["a", "b"], "answer": "b", "id": "q"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    words = [
        *("benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2"),
        *("answerer=transformers", f"answerer.checkpoint.source={folder}", "answerer.checkpoint.device=cpu"),
        "answerer.max_new_tokens=8",
    ]
    fine = gens("check", *words, cwd=tmp_path)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    tiled = [*words, "answerer.frame.tiles=checkpoint", "answerer.frame.max_tokens=30"]
    for verb in ("check", "evaluate"):
        done = gens(verb, *tiled, cwd=tmp_path)
        assert done.returncode == 2
        said = " ".join((done.stdout + done.stderr).split())
        assert "answerer.frame.tiles=one" in said
    assert gens("check", *tiled, *shlex.split("answerer.frame.tiles=one"), cwd=tmp_path).returncode == 0


def test_every_type_sees(folders: Folders) -> None:
    for name in ("mistral3", "glm46v"):
        ours = answerer(folders[name])
        prepared(load_model(ours.checkpoint), ours.processor.processor)


def test_a_scale_that_would_only_blur_is_refused_before_the_run_and_by_question(folders: Folders) -> None:
    """InternVL's frames have one tile, whatever they are; Mistral's cost as much as they are large."""
    fixed, any_size = answerer(folders["internvl"]), answerer(folders["mistral3"])
    any_size.check_scales([0.5, 1.0, None])
    assert any_size.visual_tokens(90, 100, 0.5) < any_size.visual_tokens(90, 100, None)
    fixed.check_scales([None, 1.0])
    assert fixed.visual_tokens(90, 100, 0.5) == fixed.visual_tokens(90, 100, None)
    with pytest.raises(FramesError, match=r"scaled by 0\.5.*one size"):
        fixed.check_scales([1.0, 0.5])
    asked = requests()[0]
    shown = tuple(replace(frame, scale=0.5) for frame in asked.frames)
    with pytest.raises(FramesError, match=r"scaled by 0\.5.*one size"):
        fixed.processor.count(shown, fixed.prompt.words(asked))
