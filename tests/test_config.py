from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import InstanceOf

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Window:
    frames: int
    overlap: int


@dataclass(frozen=True)
class Part:
    name: str
    window: Window
    ties: Literal["earliest", "spread"]
    limit: int | None


@runtime_checkable
class HasName(Protocol):
    name: str


@dataclass(frozen=True)
class Holder:
    inner: InstanceOf[HasName]


HERE = f"{__name__}.Part"
GOOD = {
    "_target_": HERE,
    "about": {"what": "a part"},
    "name": "p",
    "window": {"frames": 8, "overlap": 0},
    "ties": "spread",
    "limit": None,
}


def built(**changes: object) -> Part:
    part = build(OmegaConf.create(GOOD | changes), "sampler", plugins=[__name__])
    assert isinstance(part, Part)
    return part


def test_nested_settings_become_typed_objects() -> None:
    assert built() == Part("p", Window(8, 0), "spread", None)


def test_a_part_may_hold_another() -> None:
    node = OmegaConf.create({"_target_": f"{__name__}.Holder", "inner": GOOD})
    assert build(node, "sampler", plugins=[__name__]) == Holder(built())
    node.inner.ties = "latest"
    with pytest.raises(ConfigError, match=r"sampler\.inner\.ties='latest'"):
        build(node, "sampler", plugins=[__name__])
    node.inner = "gens"
    with pytest.raises(ConfigError, match=r"sampler\.inner='gens'.*HasName"):
        build(node, "sampler", plugins=[__name__])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tise": "spread"}, r"sampler\.tise.*Did you mean 'ties'"),
        ({"window": {"frames": 8, "overlap": 0, "frame": 1}}, r"sampler\.window\.frame is not.*'frames'"),
        ({"window": {"frames": 8}}, r"sampler\.window\.overlap is missing"),
        ({"window": {"frames": "many", "overlap": 0}}, r"sampler\.window\.frames='many'.*integer"),
        ({"ties": "latest"}, r"sampler\.ties='latest'.*'earliest' or 'spread'"),
        ({"_target_": "os.system"}, r"outside pipeline.*, and os is a part of Python"),
        ({"_target_": "mine.Part"}, r"outside pipeline.*\n.*plugins=\[mine\]"),
        ({"_target_": "pipeline.domain.Nothing"}, "cannot be imported"),
        ({"ties": "latest"}, r"what to do: set one of earliest, spread: sampler\.ties=earliest$"),
        ({"name": "???"}, "name is missing"),
    ],
)
def test_a_wrong_setting_names_the_key_and_the_way_out(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        built(**changes)


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [
        ("topk", "budget=auto", "budget=8"),
        ("uniform_low", "budget=null", "budget=256"),  # its own, not that of another policy of the class
        ("lohi", "large.budget=2.5", "large.budget=8"),
        ("lohi", "large.budget=1e20", "large.budget=8"),
    ],
)
def test_a_value_of_another_type_is_answered_with_one_that_works(option: str, wrong: str, right: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        given = compose("sample", [f"selection={option}", f"selection.{wrong}"])
        with pytest.raises(ConfigError) as error:
            build(given.selection, "selection")
        assert error.value.remedy == f"set it: selection.{right}"
        build(compose("sample", [f"selection={option}", f"selection.{right}"]).selection, "selection")


@pytest.mark.parametrize(
    ("path", "now"),
    [
        ("pipeline.answerers.qwen_vl.QwenVL", "pipeline.families.qwen.answerer.QwenVL"),
        ("pipeline.samplers.frames.FrameSize", "pipeline.families.qwen.processor.FrameSize"),
        ("pipeline.samplers.aria_frames.Canvas", "pipeline.families.aria.processor.Canvas"),
        ("pipeline.samplers.clip.ClipSampler3", "pipeline.samplers.clip.ClipSampler"),  # misspelt
        ("pipeline.foreign.tables.Aks", "pipeline.foreign.aks.Aks"),  # there is one in selection, too
    ],
)
def test_a_class_of_ours_that_is_elsewhere_is_named(path: str, now: str) -> None:
    with pytest.raises(ConfigError, match=rf"the class is {now}: .* sampler\.frame\._target_={now}$"):
        build(OmegaConf.create({"_target_": path}), "sampler.frame")


def test_classes_of_undeclared_packages_are_not_made() -> None:
    with pytest.raises(ConfigError, match=r"plugins=\["):
        build(OmegaConf.create(GOOD), "sampler")
