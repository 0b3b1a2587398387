from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from pipeline.errors import CheckpointError, ConfigError, FramesError
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.qwen_family import load_qwen
from pipeline.models.qwen_pixels import FrameScale, image_patches, load_image_processor, video_patches

pytestmark = pytest.mark.moving

LIMITS = FrameScale(3136, 28 * 28 * 16, None)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return load_image_processor(folder)


def qwen_vl_utils_smart_resize() -> Callable[..., tuple[int, int]]:
    """The function itself, cut out of the installed package: importing that package needs torchvision."""
    found = importlib.util.find_spec("qwen_vl_utils")
    assert found is not None
    assert found.origin is not None
    tree = ast.parse((Path(found.origin).parent / "vision_process.py").read_text())
    names = {"round_by_factor", "ceil_by_factor", "floor_by_factor", "smart_resize"}
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    constants = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    scope: dict[str, Any] = {"math": math}
    exec("from typing import *", scope)
    exec(compile(ast.Module([*constants, *kept], []), "vision_process.py", "exec"), scope)
    rule: Callable[..., tuple[int, int]] = scope["smart_resize"]
    return rule


def test_sizes_are_those_of_qwen_vl_utils() -> None:
    rule = qwen_vl_utils_smart_resize()
    for height in (28, 90, 112, 360, 480, 720, 1080, 2160):
        for width in (28, 64, 160, 448, 640, 1280, 1920, 3840):
            for scale in (LIMITS, FrameScale(128 * 784, 768 * 784, None), FrameScale(3136, 12845056, None)):
                expected = rule(height, width, 28, scale.min_pixels, scale.max_pixels)
                if 0 not in expected:  # theirs gives up on long strips that must shrink
                    assert scale.size(height, width) == tuple(expected), (height, width, scale)


@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (1080, 1920), (20, 30), (33, 33)])
def test_pixels_are_those_of_the_checkpoints_own_processor(processor: Any, height: int, width: int) -> None:
    frame = picture(height, width)
    ours = image_patches(processor, [frame], LIMITS)
    stock = processor(
        images=[frame],
        return_tensors="pt",
        size={"shortest_edge": LIMITS.min_pixels, "longest_edge": LIMITS.max_pixels},
    )
    assert torch.equal(ours.values, stock["pixel_values"])
    assert torch.equal(ours.grids, stock["image_grid_thw"])
    assert ours.tokens == [LIMITS.tokens(height, width)]


def test_a_fixed_size_holds_for_any_shape(processor: Any) -> None:
    scale = FrameScale(1, 784, (56, 84))
    patches = image_patches(processor, [picture(90, 160), picture(500, 20)], scale)
    assert patches.grids.tolist() == [[1, 4, 6], [1, 4, 6]]
    assert patches.tokens == [6, 6]


def test_a_grey_frame_of_a_video_is_the_normalised_grey(processor: Any) -> None:
    grey = np.full((56, 56, 3), 128, dtype=np.uint8)
    values = image_patches(processor, [grey], LIMITS).values
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    expected = ((128 / 255 - mean) / std).repeat_interleave(2 * 14 * 14)
    assert torch.allclose(values, expected.expand_as(values), atol=1e-6)


def test_a_frame_by_itself_in_a_video_is_its_image(processor: Any) -> None:
    images = image_patches(processor, [picture(90, 160, seed) for seed in range(3)], LIMITS)
    video = video_patches(images, [(0, 0), (1, 1), (2, 2)])
    assert torch.equal(video.values, images.values)
    assert video.grids.tolist() == [[3, *images.grids[0, 1:].tolist()]]


def test_a_pair_takes_the_first_half_in_time_from_one_frame_and_the_second_from_the_other(processor: Any) -> None:
    black, white = np.zeros((56, 56, 3), np.uint8), np.full((56, 56, 3), 255, np.uint8)
    images = image_patches(processor, [black, white], LIMITS)
    patch = video_patches(images, [(0, 1)]).values[0].view(3, 2, 14, 14)
    assert (patch[:, 0] < 0).all()
    assert (patch[:, 1] > 0).all()


def test_the_vision_tower_sees_a_video_of_lone_frames_as_those_images(folder: Path, processor: Any) -> None:
    model = load_qwen(Checkpoint(str(folder), None, "auto", "sdpa", "cpu"))
    images = image_patches(processor, [picture(90, 160, seed) for seed in range(3)], LIMITS)
    video = video_patches(images, [(i, i) for i in range(3)])
    seen = model.model.get_image_features(images.values, images.grids).pooler_output
    filmed = model.model.get_video_features(video.values, video.grids).pooler_output
    assert torch.allclose(torch.cat(tuple(seen)), torch.cat(tuple(filmed)), atol=1e-5)


def test_patches_are_those_of_the_stock_video_processor(processor: Any) -> None:
    pytest.importorskip("torchvision", reason="the stock video processor needs torchvision", exc_type=ImportError)
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    frames = [picture(56, 84, seed) for seed in range(5)]  # resized by neither
    stock = Qwen2VLVideoProcessor()(
        videos=[np.stack(frames)], do_sample_frames=False, do_resize=False, return_tensors="pt"
    )
    ours = video_patches(image_patches(processor, frames, LIMITS), [(0, 1), (2, 3), (4, 4)])
    assert torch.equal(ours.grids, stock["video_grid_thw"])
    assert torch.allclose(ours.values, stock["pixel_values_videos"], atol=1e-5)


def test_a_strip_is_refused() -> None:
    with pytest.raises(FramesError, match="too long a strip"):
        LIMITS.size(4, 1000)


@pytest.mark.parametrize(
    ("settings", "override"),
    [
        ((5000, 4000, None), "answerer.max_pixels="),
        ((0, 4000, None), "answerer.min_pixels="),
        ((1, 700, None), "answerer.max_pixels="),
        ((3136, 4000, (50, 84)), "answerer.frame_size="),
    ],
)
def test_settings_that_leave_no_size_name_the_override(settings: Any, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FrameScale(*settings)
    assert override in caught.value.remedy


def test_a_folder_of_another_family(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)cannot be read.*preprocessor_config\.json"):
        load_image_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "X", "patch_size": 16}')
    with pytest.raises(CheckpointError, match=r"patch, merge and temporal sizes \(16, 2, 2\)"):
        load_image_processor(tmp_path)
