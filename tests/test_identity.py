"""Every setting of every configurable class, changed by itself: what must be computed again, and in which run folder.

The tables below are written by hand. A setting that is missing from them is content: changing it must change both the
identity and the name of the run folder.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Relevance
from pipeline.errors import CheckpointError, ConfigError, PipelineError
from pipeline.families.loading import checkpoint
from pipeline.identity import (
    FRAMES_VERSION,
    Identified,
    InQuery,
    Label,
    Place,
    RowFile,
    Speed,
    answer_key,
    configured,
    digest,
    features_key,
    identity_of,
    relevance_key,
    roles_of,
    settings_of,
    unkeyed,
)

NOWHERE = {
    *("name", "prices", "evidence_from", "rows"),
    *("probe_store", "feature_store", "digest_store", "response_store"),
    *("video_root", "subtitle_root", "image_root", "root"),
    *("api_key_env", "timeout", "retries", "give_up_after"),
    *("device", "attention", "backend", "threads", "frames_at_once", "questions_at_once", "windows_at_once"),
    *("calls_at_once", "is_repeatable"),
}
"""In no identity and in no run folder's name."""
FOLDER_ONLY = {"question_form", "texts", "file", "classifier", "path", "ids"}
"""In the name of the run folder; for results they show in each question."""
FIXED = {("inner", "max_frames"), ("rewards", "max_frames")}
"""A part of another sampler that may limit nothing."""
NAMED = {"benchmark": {"name"}}
"""A benchmark's name is what its question set is called."""

GROUPS = ("sampler", "selection", "answerer", "reader", "benchmark")
OPTIONS = {  # one for each class
    target: (group, path.stem)
    for group in GROUPS
    for path in sorted((conf_dir() / group).glob("*.yaml"))
    for target in re.findall(r"^_target_: *(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
CHOICES = [("selection", path.stem) for path in sorted((conf_dir() / "selection").glob("*.yaml"))]
PLUGINS = ["user_functions"]
NEEDED = {
    ("answerer", "openai"): [
        *("answerer.base_url=http://localhost:8000/v1", "answerer.model=m", "answerer.continues_answer=true"),
        *("answerer.prices={input: 1.0, output: 2.0}", "answerer.thinking=never"),
    ],
    ("answerer", "vllm"): ["answerer.base_url=http://localhost:8000/v1", "answerer.model=m"],
    ("answerer", "transformers"): ["answerer.checkpoint.source=/nowhere"],
    # The pooling of a checkpoint whose settings are known is the one in effect, which two settings may give.
    ("answerer", "llava_video_7b"): ["answerer.checkpoint.source=/nowhere"],
    ("sampler", "function"): ["sampler.function=user_functions.score", "sampler.load=user_functions.load"],
    ("answerer", "function"): ["answerer.function=user_functions.answer", "answerer.load=user_functions.load"],
    ("selection", "function"): ["selection.choice.function=user_functions.choose"],
    ("sampler", "file"): ["sampler.path=x.json", "sampler/format=seconds"],
    ("benchmark", "jsonl"): ["benchmark.path=q.jsonl"],
    ("benchmark", "gens_video"): ["benchmark.path=q.json"],
}


@pytest.fixture(autouse=True)
def content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints that are not here: their content goes with source and revision."""
    monkeypatch.setattr(checkpoint, "fingerprint", lambda given: f"{given.source}@{given.revision}")
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_X", "GEMINI_API_KEY", "GEMINI_API_KEY_X", "A_KEY"):
        monkeypatch.setenv(name, "key")


def composed(group: str, option: str) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", [f"{group}={option}", *NEEDED.get((group, option), ())])
    node = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(node, dict)
    return typing.cast("dict[str, Any]", node)


def identity(part: Any) -> Any:
    try:
        return identity_of(part)
    except (CheckpointError, AttributeError):  # another check of the checkpoint, or no identity: a benchmark, a reader
        return settings_of(part)


def leaves(node: Mapping[str, Any], kind: type | None = None) -> Iterator[tuple[tuple[str, ...], type, Any]]:
    """Every setting with its class and type, by its place."""
    import importlib

    target = node.get("_target_")
    if isinstance(target, str):
        module, _, name = target.rpartition(".")
        kind = getattr(importlib.import_module(module), name)
    assert kind is not None
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if not field.init or field.name not in node:
            continue
        value, hint = node[field.name], hints[field.name]
        inner = next((each for each in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(each)), None)
        if isinstance(value, Mapping) and ("_target_" in value or inner is not None):
            yield (field.name,), kind, None  # a part as a whole: only its role matters
            for place, owner, what in leaves(value, typing.cast("type | None", inner)):
                yield (field.name, *place), owner, what
        else:
            yield (field.name,), kind, hint


def others(value: Any, hint: Any) -> Iterator[Any]:
    """Other values that may be allowed."""
    flat = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for each in flat:
        if typing.get_origin(each) is typing.Literal:
            yield from (choice for choice in typing.get_args(each) if choice != value)
        elif isinstance(each, type) and issubclass(each, Enum):
            yield from (choice.value for choice in each if choice.value != value)
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value * 2, value * 64, value - 1)
        case float():
            yield from (value / 2, value * 2, value + 0.5, 0.25)
        case str():
            yield from (
                f"{value}x",
                f"{value}_X",
                f"{value} {{question}}",
                f"{{time}}{value}",
                value.upper(),
                "http://other:1/v1",
                "http://other:1/v2",
                "2025-12-31",
            )
        case list():
            yield from (["sub_scene"], ["a"], [*value, *value[:1]], value[:-1], [*value, "x"], [28, 28])
        case Mapping():
            yield {**value, "top_k": 1}
        case None:
            yield from (7, 0.5, "x", "A_KEY", "{question} {options}", [56, 56], [64, 64], ["x"], 4096)


def different(value: Any, hint: Any) -> Iterator[Any]:
    return (other for other in others(value, hint) if other != value)


def changed(node: Mapping[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = place
    return {**node, first: changed(node[first], tuple(rest), value) if rest else value}


def at(node: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    for name in place:
        node = node[name]
    return node


@pytest.mark.parametrize(("group", "option"), sorted({*OPTIONS.values(), *CHOICES}))
def test_each_setting_decides_what_it_declares(group: str, option: str) -> None:
    node = composed(group, option)
    part = build(OmegaConf.create(node), group, PLUGINS)
    before, folder = identity(part), configured(node)
    tried = 0
    for place, _, hint in leaves(node):
        if hint is None or place in FIXED:
            continue
        name, value = place[-1], at(node, place)
        outside = set(place) & NOWHERE - (NAMED.get(group, set()) if len(place) == 1 else set())
        only_folder = set(place) & FOLDER_ONLY and not outside
        for other in different(value, hint):
            another = changed(node, place, other)
            if name == "budget" and "of" in node:  # it is the same in both
                another = changed(changed(another, ("budget",), other), ("of", "budget"), other)
            if name == "placement":  # the other place has no block
                another = changed(another, (*place[:-1], "block"), "")
            try:
                made = build(OmegaConf.create(another), group, PLUGINS)
            except (PipelineError, TypeError):
                continue
            told = ".".join((group, *place))
            assert (identity(made) == before) is bool(outside or only_folder), f"identity under {told}={other!r}"
            assert (configured(another) == folder) is bool(outside), f"run folder under {told}={other!r}"
            tried += 1
            break
        else:
            raise AssertionError(f"no other value of {group}.{name} was tried: {value!r} of {hint}")
    assert tried


def test_a_file_of_rows_names_a_folder_without_its_place() -> None:
    here = composed("benchmark", "jsonl")
    assert configured({**here, "path": "/elsewhere/q.jsonl"}) == configured(here)
    assert configured({**here, "path": "other.jsonl"}) != configured(here)


def test_digests_are_of_plain_values_alone() -> None:
    assert digest({"a": 1, "b": [2.5, None, "ü"]}) == digest({"b": [2.5, None, "ü"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    for value in (Path("x"), object(), {1, 2}, b"x"):
        with pytest.raises(TypeError):
            digest({"a": value})


class Colour(StrEnum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Mixed(Identified):
    size: int
    colour: Colour
    parts: tuple[int, ...]
    folder: Place[Path]
    threads: Speed[int]
    form: InQuery[str]
    rows: RowFile[str]


class Loose:
    """No dataclass: says what it is by its attributes and its identity."""

    def __init__(self, shown: int, said: int, unsaid: int) -> None:
        self.shown = shown
        self._said = said
        self._unsaid = unsaid

    def identity(self) -> dict[str, Any]:
        return {"said": self._said}


@dataclasses.dataclass(frozen=True)
class Holder(Identified):
    name: Label[str]
    part: Mixed
    loose: Loose


def test_roles_stand_on_the_field() -> None:
    part = Mixed(1, Colour.RED, (1, 2), Path("here"), 4, "short", "rows.json")
    assert settings_of(part) == {"kind": "Mixed", "size": 1, "colour": "red", "parts": [1, 2]}
    assert unkeyed(part) == ("folder", "threads")
    assert unkeyed(Holder("holder", part, Loose(1, 2, 3))) == ("part.folder", "part.threads", "loose.unsaid")
    assert {name: role and role.value for name, role in roles_of(Mixed).items() if name != "kind"} == {
        "size": None,
        "colour": None,
        "parts": None,
        "folder": "place",
        "threads": "speed",
        "form": "in_query",
        "rows": "row_file",
    }


@dataclasses.dataclass(frozen=True)
class Undeclared:
    folder: Path


def test_a_setting_of_an_unknown_type_is_an_error_and_not_its_repr() -> None:
    with pytest.raises(ConfigError, match=r"Undeclared\.folder is a PosixPath") as raised:
        identity_of(Undeclared(Path("x")))
    assert "Place" in raised.value.remedy


@pytest.mark.parametrize("version", [1, FRAMES_VERSION + 1])
def test_every_key_carries_the_version_of_the_decoding_contract(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[str]:
        return [relevance_key("v", "q", {}), features_key("v", {}), answer_key({}, {})]

    before = keys()
    assert len(set(before)) == 3
    monkeypatch.setattr("pipeline.identity.FRAMES_VERSION", version)
    assert not set(before) & set(keys())


# Plug-ins: classes of packages that are not ours

PLUGIN = """
from dataclasses import dataclass
from pipeline.domain import Relevance

@dataclass(frozen=True)
class Mine:
    name: str
    bias: float

    def identity(self):
        return {"sampler": "mine"}  # forgets the bias

    def query(self, question):
        return question.text

    def score(self, video, frames, questions):
        return [Relevance(question.id, (0.0,), (self.bias,)) for question in questions]

    def close(self):
        pass
"""


def plugin(folder: Path, name: str, source: str = PLUGIN) -> Path:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(source)
    return package


def test_a_plugin_that_forgets_a_setting_does_not_share_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin(tmp_path, "forgetful_plugin")
    node = {"_target_": "forgetful_plugin.mine.Mine", "name": "mine", "bias": 1.0}
    one = identity_of(build(OmegaConf.create(node), "sampler", ["forgetful_plugin"]))
    two = identity_of(build(OmegaConf.create({**node, "bias": 2.0}), "sampler", ["forgetful_plugin"]))
    assert one != two
    assert digest(one) != digest(two)


def test_a_changed_line_anywhere_in_a_plugin_is_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = plugin(tmp_path, "edited_plugin")
    (package / "inner").mkdir()
    (package / "inner" / "maths.py").write_text("FACTOR = 1\n")
    script = (
        "from pipeline.identity import digest, identity_of\nfrom edited_plugin.mine import Mine\n"
        "print(digest(identity_of(Mine('m', 1.0))))"
    )

    def told() -> str:
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(checkpoint.__file__).parents[2]}")
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    first = told()
    assert told() == first
    (package / "inner" / "maths.py").write_text("FACTOR = 2\n")
    assert told() != first


def test_a_class_without_source_is_reused_only_under_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook: Any = types.ModuleType("a_notebook_without_files")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec(compile(PLUGIN, "<cell>", "exec"), vars(notebook))
    mine = notebook.Mine("m", 1.0)
    unversioned = identity_of(mine)
    assert unversioned["source"].startswith("unknown ")
    notebook.Mine.version = "3"
    assert identity_of(mine)["source"] == "version 3"
    assert isinstance(mine.score(None, None, [type("Q", (), {"id": "q"})])[0], Relevance)
