"""Every YAML composes and makes an object that fits its seam, without a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from pipeline.answerers import Answerer
from pipeline.benchmarks import Benchmark
from pipeline.cli import VERBS
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.foreign import AnswerForm, FolderForm, SelectionForm, SelectionFormat
from pipeline.judging import Judge
from pipeline.samplers import Sampler
from pipeline.selection import SelectionPolicy

JUDGES = {
    "openai": ["judge.base_url=http://localhost:8000/v1", "judge.model=NAME"],
    "given": ["judge.path=anna.json"],
}
SEAMS = {"sampler": Sampler, "selection": SelectionPolicy, "answerer": Answerer, "benchmark": Benchmark}
OPTIONS = [(group, path.stem) for group in SEAMS for path in sorted((conf_dir() / group).glob("*.yaml"))]
GIVEN = {
    "jsonl": ["benchmark.path=questions.jsonl"],
    "gens_video": ["benchmark.path=train.jsonl"],
    "file": ["sampler.path=rag.jsonl"],
    "openai": ["answerer.base_url=http://localhost:8000/v1", "answerer.model=NAME"],
    "vllm": ["answerer.model=NAME"],
    "transformers": ["answerer.checkpoint.source=FOLDER_OR_ID"],
}
FUNCTIONS = {
    "sampler": ["sampler.function=user_functions.score"],
    "answerer": ["answerer.function=user_functions.answer"],
    "selection": ["selection.choice.function=user_functions.choose"],
}


@pytest.fixture(autouse=True)
def _resolvers() -> None:
    register_resolvers()


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_and_fits_its_seam(group: str, name: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        given = FUNCTIONS[group] if name == "function" else GIVEN.get(name, [])
        config = compose("evaluate", [f"{group}={name}", f"paths.cache={tmp_path}", *given])
    made = build(config[group], group, ["user_functions"])
    assert isinstance(made, SEAMS[group])
    assert made.name == name


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_says_what_it_is(group: str, name: str) -> None:
    about = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text())["about"]
    assert set(about) == {"what", "checkpoint", "memory", "extra"}
    assert about["what"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "judge").glob("*.yaml")))
def test_every_judge_composes_and_fits_its_seam(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("judge", ["run=runs/r", f"judge={name}", *JUDGES.get(name, [])])
    made = build(config.judge, "judge")
    assert isinstance(made, Judge)
    assert made.name == name


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "judge" / "rubric").glob("*.yaml")))
def test_every_rubric_composes_and_is_for_benchmarks_that_exist(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("judge", ["run=runs/r", "judge=openai", f"judge/rubric={name}", *JUDGES["openai"]])
    rubric = build(config.judge, "judge").rubric
    assert rubric.name == name
    others = {path.stem for path in (conf_dir() / "benchmark").glob("*.yaml")} | {"mmvu"}  # which has no loader here
    assert set(rubric.benchmarks) <= others


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_primary_config(verb: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose(verb) is not None


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "sampler" / "format").glob("*.yaml")))
def test_every_format_of_a_selection_file_composes(name: str) -> None:
    given = ["sampler.format.annotations=lvb_val.json"] if name == "aks" else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("sample", ["sampler=file", f"sampler/format={name}", "sampler.path=chosen.json", *given])
    assert isinstance(build(config.sampler, "sampler").format, SelectionFormat)


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "form").glob("*.yaml")))
def test_every_form_of_an_export_composes(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("export", ["selections=selections.jsonl", f"form={name}"])
    form = build(config.form, "form")
    assert sum(isinstance(form, seam) for seam in (SelectionForm, AnswerForm, FolderForm)) == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "answerer" / "prompt").glob("*.yaml")))
@pytest.mark.parametrize("answerer", ["qwen2_vl_7b", "qwen2_vl_micro", "llava_video_7b", "vila15_3b", "aria"])
def test_every_named_prompt_goes_with_every_answerer(answerer: str, name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{answerer}", [f"answerer/prompt={name}"])
    assert build(config.answerer, "answerer").prompt.name == name
    about = yaml.safe_load((conf_dir() / "answerer" / "prompt" / f"{name}.yaml").read_text())["about"]
    assert about["what"]
