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

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError, FramesError
from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import VideoPatches, load_qwen
from pipeline.families.qwen.processor import (
    FrameScale,
    Grids,
    ImagesForm,
    QwenProcessor,
    load_image_processor,
    open_processor,
)
from pipeline.families.seam import PreparedFrame, Words

pytestmark = pytest.mark.moving

LIMITS = FrameScale(3136, 28 * 28 * 16, None)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    return load_image_processor(folder)


def opened(folder: Path, scale: FrameScale = LIMITS) -> QwenProcessor:
    checkpoint = Checkpoint(str(folder), None, "auto", "sdpa", "cpu")
    return open_processor(checkpoint, scale, ImagesForm(FrameLabels("", "")), None)


@pytest.fixture(scope="module")
def processor(folder: Path) -> QwenProcessor:
    return opened(folder)


FLOAT = torch.zeros(())


def patches(processor: QwenProcessor) -> VideoPatches:
    return VideoPatches(processor.levels, processor.scale.unit)


def images(processor: QwenProcessor, frames: list[PreparedFrame]) -> torch.Tensor:
    return patches(processor).images(frames, FLOAT)


def grids(processor: QwenProcessor, frames: list[PreparedFrame]) -> list[list[int]]:
    return [patches(processor).grid(frame.shape) for frame in frames]


def video(processor: QwenProcessor, frames: list[PreparedFrame], *pairs: tuple[int, int]) -> torch.Tensor:
    return patches(processor).video(frames, Grids(pairs, (), is_one_video=True), FLOAT)


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
def test_pixels_are_those_of_the_checkpoints_own_processor(
    processor: QwenProcessor, stock: Any, height: int, width: int
) -> None:
    frame = picture(height, width)
    ours = [processor.prepare(frame)]
    theirs = stock(
        images=[frame],
        return_tensors="pt",
        size={"shortest_edge": LIMITS.min_pixels, "longest_edge": LIMITS.max_pixels},
    )
    assert torch.equal(images(processor, ours), theirs["pixel_values"])
    assert grids(processor, ours) == theirs["image_grid_thw"].tolist()
    shape = ours[0].shape
    assert (shape.patches, shape.tokens) == (len(theirs["pixel_values"]), LIMITS.tokens(height, width))


def test_a_fixed_size_holds_for_any_shape(folder: Path) -> None:
    processor = opened(folder, FrameScale(1, 784, (56, 84)))
    frames = [processor.prepare(picture(90, 160)), processor.prepare(picture(500, 20))]
    assert grids(processor, frames) == [[1, 4, 6], [1, 4, 6]]
    assert [frame.shape.tokens for frame in frames] == [6, 6]
    with pytest.raises(FramesError, match=r"answerer\.frame_size=null"):
        processor.prepare(picture(90, 160), scale=0.5)


def test_a_scale_is_a_factor_on_each_side_in_place_of_the_limits(processor: QwenProcessor) -> None:
    sides = [(shape.height, shape.width) for shape in (processor.shape(1080, 1920, s) for s in (1.0, 0.5, 0.25, 0.01))]
    assert sides == [(1092, 1932), (532, 952), (280, 476), (28, 28)]
    scaled = [Frame(0.0, 0, picture(112, 112), scale=0.5), Frame(1.0, 25, picture(112, 112))]
    assert [frame.pixels.shape for frame in processor.prepared(scaled)] == [(56, 56, 3), (112, 112, 3)]
    assert processor.count(scaled, Words("Why?")) - processor.count(scaled[1:], Words("Why?")) >= 4


def test_preparing_frames_needs_no_torch(folder: Path) -> None:
    import pickle
    import subprocess
    import sys

    code = (
        "import pickle, sys; import numpy as np; processor = pickle.load(open(sys.argv[1], 'rb'));"
        "assert processor.prepare(np.zeros((90, 160, 3), np.uint8)).shape.tokens == 15"
    )
    bare = __import__("dataclasses").replace(opened(folder), tokenizer=None)
    path = folder / "processor.pickle"
    path.write_bytes(pickle.dumps(bare))
    checked = f"{code}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", checked, str(path)], check=True)
    path.write_bytes(pickle.dumps(opened(folder)))
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_grey_frame_is_the_normalised_grey(processor: QwenProcessor, stock: Any) -> None:
    values = images(processor, [processor.prepare(np.full((56, 56, 3), 128, dtype=np.uint8))])
    mean, std = torch.tensor(stock.image_mean), torch.tensor(stock.image_std)
    expected = ((128 / 255 - mean) / std).repeat_interleave(2 * 14 * 14)
    assert torch.allclose(values, expected.expand_as(values), atol=1e-6)


def test_a_frame_by_itself_in_a_video_is_its_image(processor: QwenProcessor) -> None:
    frames = [processor.prepare(picture(90, 160, seed)) for seed in range(3)]
    assert torch.equal(video(processor, frames, (0, 0), (1, 1), (2, 2)), images(processor, frames))


def test_a_pair_takes_the_first_half_in_time_from_one_frame_and_the_second_from_the_other(
    processor: QwenProcessor,
) -> None:
    black, white = np.zeros((56, 56, 3), np.uint8), np.full((56, 56, 3), 255, np.uint8)
    frames = [processor.prepare(black), processor.prepare(white)]
    patch = video(processor, frames, (0, 1))[0].view(3, 2, 14, 14)
    assert (patch[:, 0] < 0).all()
    assert (patch[:, 1] > 0).all()


def test_the_vision_tower_sees_a_video_of_lone_frames_as_those_images(folder: Path, processor: QwenProcessor) -> None:
    model = load_qwen(Checkpoint(str(folder), None, "auto", "sdpa", "cpu"), processor)
    frames = [processor.prepare(picture(90, 160, seed)) for seed in range(3)]
    grid = torch.tensor(grids(processor, frames))
    filmed = model.network.model.get_video_features(
        video(processor, frames, (0, 0), (1, 1), (2, 2)), torch.tensor([[3, *grid[0, 1:].tolist()]])
    ).pooler_output
    assert torch.allclose(torch.cat(model.features(frames)), torch.cat(tuple(filmed)), atol=1e-5)


def test_features_do_not_depend_on_company(folder: Path, processor: QwenProcessor) -> None:
    model = load_qwen(Checkpoint(str(folder), None, "auto", "sdpa", "cpu"), processor)
    frames = [processor.prepare(picture(height, 160, height)) for height in (90, 90, 60, 90)]
    together = model.features(frames)
    assert [len(features) for features in together] == [frame.shape.tokens for frame in frames]
    for frame, features in zip(frames, together, strict=True):
        assert torch.allclose(model.features([frame])[0], features, atol=1e-5)


def test_patches_are_those_of_the_stock_video_processor(processor: QwenProcessor) -> None:
    pytest.importorskip("torchvision", reason="the stock video processor needs torchvision", exc_type=ImportError)
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    pictures = [picture(56, 84, seed) for seed in range(5)]  # resized by neither
    stock = Qwen2VLVideoProcessor()(
        videos=[np.stack(pictures)], do_sample_frames=False, do_resize=False, return_tensors="pt"
    )
    frames = [processor.prepare(each) for each in pictures]
    ours = video(processor, frames, (0, 1), (2, 3), (4, 4))
    assert torch.allclose(ours, stock["pixel_values_videos"], atol=1e-5)


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
