"""A CUDA build of torchvision is imported beside a CPU build of torch, whoever imports it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from pipeline.families import loading

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
CLASH = torch.version.cuda is None and loading._is_built_for_cuda()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", ["torchvision.transforms", "transformers.image_utils"])
def test_it_is_imported_after_any_module_of_ours_that_knows_models(first: str) -> None:
    done = run(f"import pipeline.families.loading.checkpoint, {first}; import torchvision.transforms.v2.functional")
    assert done.returncode == 0, done.stderr


def test_preparing_imports_nothing() -> None:
    done = run(
        "import pipeline.families.loading, sys; print({'torch', 'torchvision', 'transformers'} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.skipif(not CLASH, reason="the two builds go together by themselves")
def test_without_it_the_import_fails() -> None:
    done = run("import torchvision")
    assert "operator torchvision::nms does not exist" in done.stderr


def test_a_build_that_has_its_operators_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_is_built_for_cuda", lambda: False)
    monkeypatch.setattr(loading, "_declared", [])
    loading._declare_operators()
    assert loading._declared == []
