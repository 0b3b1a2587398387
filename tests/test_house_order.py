"""What may import what, and what is imported only when a model is about to be used."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import pipeline
from pipeline.families.known import families

PACKAGE = Path(pipeline.__file__).parent
HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "statsmodels",
    "openai",
    "pyarrow",
    "ray",
    "pandas",
    "av",
    "decord",
    "torchcodec",
)
WITH_TORCH = (
    "pipeline.generation",
    "pipeline.families.*.model",
    "pipeline.families.fused",
    "pipeline.families.fused_kernels",
    "pipeline.families.transformers.generation",
    "pipeline.samplers.backbone",
    "pipeline.samplers.reply_probability",
)
"""Where tensors are computed with; imported inside functions by all others."""

MOST_BESIDE_FAMILIES = 28
"""Modules in ``families/`` and ``answerers/`` beside the four of each family."""

UNDER_ALL = ("identity", "ledger", "paths", "spans", "thoughts", "wellformed")
"""Modules that every room may know, and that know no room."""

LOWER: dict[str, tuple[str, ...]] = {
    "paths": ("errors",),
    "spans": (),
    "thoughts": (),
    "wellformed": (),
    "identity": ("errors",),
    "ledger": ("domain",),
    "domain": (),
    "errors": ("domain",),
    "terminal": ("errors", "secrecy"),
    "secrecy": (),
    "quoting": (),
    "stopping": (),
    "versions": (),
    "environment": ("errors", "secrecy"),
    "trust": ("errors",),
    "config": ("environment", "errors", "secrecy", "trust"),
    "option_labels": ("domain",),
    "functions": ("config", "domain", "errors"),
    "progress": ("terminal",),
    "families": ("answerers", "artefacts", "domain", "errors", "generation", "progress", "terminal"),
    "generation": ("errors", "families"),
    "subtitles": ("domain", "errors"),
    "validation": ("domain", "errors"),
    "artefacts": ("config", "domain", "errors", "validation"),
    "answer_requests": ("answerers", "artefacts", "domain", "errors", "secrecy", "selection", "subtitles", "video"),
    "execution": (
        *("answer_requests", "answerers", "artefacts", "config", "domain", "errors", "families", "library_messages"),
        *("progress", "samplers", "secrecy", "stopping", "subtitles", "terminal", "validation", "versions", "video"),
    ),
    "video": ("artefacts", "config", "domain", "errors"),
    "selection": ("artefacts", "domain", "errors", "functions"),
    "benchmarks": ("artefacts", "config", "domain", "errors", "option_labels", "validation"),
    "answerers": (
        *("artefacts", "config", "domain", "errors", "families", "functions", "generation", "option_labels"),
        "selection",
    ),
    "foreign": ("answerers", "artefacts", "domain", "errors", "option_labels", "progress", "selection", "video"),
    "samplers": (
        *("artefacts", "config", "domain", "errors", "families", "foreign", "functions", "generation", "progress"),
        *("selection", "subtitles", "video"),
    ),
    "judging": ("answerers", "artefacts", "domain", "errors", "progress", "subtitles", "video"),
    "reports": ("artefacts", "benchmarks", "config", "domain", "errors", "progress", "video", "terminal"),
}
"""The rooms that each room may know. Samplers, answerers and benchmarks do not know one another."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", LOWER)
def test_a_room_knows_only_those_below_it(room: str) -> None:
    above = {
        f"{name} imports {other}"
        for name, path in modules()
        if (name + ".").startswith(f"pipeline.{room}.")
        for other in imported(path)
        if other.startswith("pipeline.") and other.split(".")[1] not in (room, *UNDER_ALL, *LOWER[room])
    }
    assert not above


FAMILIES = sorted(path.name for path in (PACKAGE / "families").iterdir() if (path / "processor.py").is_file())


def test_only_the_answerer_of_a_family_knows_answerers() -> None:
    """Processor and model serve both stages."""
    above = {
        f"{name} imports {other}"
        for name, path in modules()
        if name.startswith("pipeline.families.") and not name.endswith(".answerer")
        for other in imported(path)
        if other.startswith("pipeline.answerers")
    }
    assert not above


def test_answerers_generation_and_the_seam_know_no_family() -> None:
    known = {
        f"{name} imports {other}"
        for name, path in modules()
        if name.startswith(("pipeline.answerers", "pipeline.generation", "pipeline.families.loading"))
        or (name.rpartition(".")[0] == "pipeline.families" and path.name != "__init__.py")
        for other in imported(path)
        if other.startswith(tuple(f"pipeline.families.{family}" for family in FAMILIES))
    }
    assert not known


def test_families_do_not_know_one_another() -> None:
    others = {
        f"{name} imports {other}"
        for name, path in modules()
        for family in FAMILIES
        if name.startswith(f"pipeline.families.{family}.")
        for other in imported(path)
        if other.startswith(tuple(f"pipeline.families.{each}." for each in FAMILIES if each != family))
    }
    assert not others


def test_a_model_type_is_named_in_its_familys_folder_alone() -> None:
    """The rule of a new family: one folder and one YAML."""
    types = {
        kind: folder.__name__.rpartition(".")[2]
        for folder in families()
        for kind in getattr(folder, "NAMES", {}) | getattr(folder, "NAMES_3", {})
    }
    assert len(types) >= 8
    named = {
        f"{path.relative_to(PACKAGE)} names {kind}"
        for _, path in modules()
        for kind, family in types.items()
        if f'"{kind}"' in path.read_text(encoding="utf-8")
        and path.parent.name not in (family, "encoders", "transformers")
    }
    assert not named


def test_families_and_answerers_are_few_modules() -> None:
    """56 with seven families: what is read together is one module, and a new family adds its four and nothing else.

    Every ``.py`` file counts, also ``__init__.py``, except in the folders of the samplers' encoders and of the models
    that transformers loads by itself.
    """
    families = [name for name in FAMILIES if name != "transformers"]
    counted = [
        path.relative_to(PACKAGE)
        for room in ("families", "answerers")
        for path in (PACKAGE / room).rglob("*.py")
        if path.parent.name not in ("encoders", "transformers")
    ]
    assert len(counted) <= MOST_BESIDE_FAMILIES + 4 * len(families), sorted(map(str, counted))


def test_no_test_reaches_for_the_model_behind_an_answerer() -> None:
    mark = "._" + "local"
    reaching = [path.name for path in Path(__file__).parent.rglob("*.py") if mark in path.read_text(encoding="utf-8")]
    assert not reaching


def test_no_two_files_of_the_tests_have_one_name() -> None:
    """Pytest imports each by its name alone, and collects nothing where a name comes twice."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == ["conftest.py"]


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    light = [name for name, _ in modules() if not any(fnmatch(f"{name}.", f"{each}.*") for each in WITH_TORCH)]
    light.remove("pipeline.__main__")
    if importlib.util.find_spec("mcp") is None:
        light.remove("pipeline.serving.mcp")  # made of an extra's classes, and imported by its command alone
    assert len(light) > 150
    code = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = set({HEAVY!r}) & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_module_prints() -> None:
    """What others wrote would act on the terminal from anywhere else."""
    elsewhere = {
        f"{name}:{call.lineno}"
        for name, path in modules()
        if name != "pipeline.terminal"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("print", "Console", "sys.stdout.write", "sys.stderr.write")
    }
    assert not elsewhere


def test_a_docstring_says_what_it_documents() -> None:
    """One that begins with "See" sends its reader elsewhere."""
    elsewhere = {
        f"{name}:{node.name}"
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (ast.get_docstring(node) or "").startswith("See ")
    }
    assert not elsewhere


def test_a_docstring_is_a_phrase_of_its_own() -> None:
    """One that begins with "Of" goes on where the name ends, and does not say what is given."""
    going_on = {
        f"{name}:{node.name}"
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and (ast.get_docstring(node) or "").startswith(("Of ", "And ", "That "))
    }
    assert not going_on


def test_a_class_is_called_by_the_fields_words() -> None:
    """These names say what happens to a thing, or where it stands, and not what it is."""
    named = {
        f"{name}:{node.name}"
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and node.name.strip("_") in ("Heard", "Said", "Listener", "Material", "Surroundings")
    }
    assert not named
