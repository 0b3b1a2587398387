"""A new family is one folder and one YAML: a made-up one is put into a copy of the package, and everything finds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_internvl
import tiny_native
from made import write_video
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.moving

ROOT = Path(__file__).parents[2]
FOLDER = '''"""ToyVL, which nobody has heard of."""

from pipeline.families.known import KnownModel

NAMES = {"toy_vl": "ToyVL"}


def known_model(config):
    """The model of a ``config.json``."""
    return KnownModel("ToyVL", ("answerer=toy_1b",)) if config.get("model_type") in NAMES else None


def open_images(checkpoint, max_pixels):
    """For a sampler that shows one frame at a time."""
    from pipeline.families.chat import FrameLines
    from pipeline.families.seam import Opened
    from pipeline.families.toy.model import load_toy
    from pipeline.families.toy.processor import open_processor

    processor = open_processor(checkpoint, FrameLines("", ""), None)
    return Opened(processor, lambda: load_toy(checkpoint, processor))
'''
CLASSES = """from transformers import InternVLConfig, InternVLForConditionalGeneration


class ToyConfig(InternVLConfig):
    model_type = "toy_vl"


class ToyForConditionalGeneration(InternVLForConditionalGeneration):
    config_class = ToyConfig

"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a folder and a YAML more: a family like InternVL, of another name and other classes."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "pipeline", tree / "pipeline", ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    shutil.copytree(ROOT / "conf", tree / "conf")
    folder = tree / "pipeline" / "families" / "toy"
    folder.mkdir()
    (folder / "__init__.py").write_text(FOLDER)
    for name in ("processor", "model", "answerer"):
        code = (ROOT / "pipeline" / "families" / "internvl" / f"{name}.py").read_text()
        code = code.replace("from transformers import InternVLForConditionalGeneration\n", "CLASSES\n")
        code = code.replace("internvl", "toy").replace("InternVL", "Toy").replace("CLASSES\n", CLASSES)
        (folder / f"{name}.py").write_text(code)
    yaml = (ROOT / "conf" / "answerer" / "internvl3_8b.yaml").read_text()
    for old, new in (
        ("internvl3_8b", "toy_1b"),
        ("families.internvl", "families.toy"),
        ("answerer.InternVL", "answerer.Toy"),
    ):
        yaml = yaml.replace(old, new)
    (tree / "conf" / "answerer" / "toy_1b.yaml").write_text(yaml)
    write_video(tree / "clip.mp4", seconds=3)
    return tree


@pytest.fixture(scope="module")
def checkpoint(tree: Path) -> Path:
    folder = tiny_internvl.write_internvl(tree / "checkpoint")
    tiny_native.rewrite(folder, "config.json", model_type="toy_vl", architectures=["ToyForConditionalGeneration"])
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("language_model.lm_head.weight")  # as the class has it
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def gens(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the copy."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "GENS_CACHE": str(tree / "cache"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_listed_with_its_size(tree: Path) -> None:
    listed = gens(tree, "list", "answerers")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^.*\btoy_1b\b.*numbered, labelled images", listed.stdout, re.MULTILINE)


def test_a_checkpoint_of_it_is_named_to_who_takes_it_for_another(tree: Path, checkpoint: Path) -> None:
    words = ("ask", "video=clip.mp4", "question=Why?", "sampler=uniform")
    for other in ("qwen2_5_vl_7b", "transformers"):
        refused = gens(tree, *words, f"answerer={other}", f"answerer.checkpoint.source={checkpoint}")
        assert refused.returncode != 0
        told = " ".join(refused.stderr.split())
        assert "it is ToyVL" in told, told
        assert f"answerer=toy_1b answerer.checkpoint.source={checkpoint}" in told, told


def test_it_answers_and_it_judges_frames(tree: Path, checkpoint: Path) -> None:
    words = ["video=clip.mp4", "question=What colour is the square?", "selection.budget=2", "answerer.max_new_tokens=8"]
    for stage, name in (("sampler", "vlm_yesno"), ("answerer", "toy_1b")):
        words += [f"{stage}={name}", f"{stage}.checkpoint.source={checkpoint}", f"{stage}.checkpoint.device=cpu"]
    asked = gens(tree, "ask", *words)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert re.search(r"^answer: .", asked.stdout)
    assert len(re.findall(r"score 0\.\d+ +sampler$", asked.stdout, re.MULTILINE)) == 2


# ------------------------------------------------------------------------------------- one that was added in this way

NAMED = re.compile(r"glm_?4(?:_?6)?v|families[./]glm", re.IGNORECASE)
"""Types, sizes and the folder of GLM-4.6V."""


def test_glm_is_named_by_its_folder_and_its_yamls_alone() -> None:
    """But for pages, and the table of types whose own video tells true times."""
    named = {
        str(path.relative_to(ROOT))
        for room in ("pipeline", "conf", "scripts")
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".toml", ".jinja", ".json", "")
        and path.is_file()
        and NAMED.search(path.read_text(encoding="utf-8"))
    }
    own = {f"pipeline/families/glm/{name}.py" for name in ("__init__", "processor", "model", "answerer")}
    sizes = {"conf/answerer/glm4_6v.yaml", "conf/answerer/glm4_6v_flash.yaml"}
    assert named == own | sizes | {"pipeline/families/transformers/videos.py"}
    assert not NAMED.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
