from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import correct_positions, rope_index, stock_is_right, true_times
from pipeline.families.qwen.model import load_qwen as load_model
from pipeline.families.qwen.processor import FrameScale, ImagesForm, open_processor

pytestmark = pytest.mark.moving


def load_qwen(checkpoint: Checkpoint) -> Any:
    scale = FrameScale(784, 12544, None)
    return load_model(checkpoint, open_processor(checkpoint, scale, ImagesForm(FrameLabels("", "")), None)).network


def model_like(tokens_per_second: int | None) -> Any:
    vision = {"spatial_merge_size": 2} | ({"tokens_per_second": tokens_per_second} if tokens_per_second else {})
    return SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(**vision)))


def positions(kinds: list[int], tokens_per_second: int | None = None, **given: Any) -> tuple[list[list[int]], int]:
    row = torch.tensor([kinds])
    found, delta = rope_index(model_like(tokens_per_second), torch.zeros_like(row), row, **given)
    return found[:, 0].tolist(), int(delta)


# One text token, a video of 3 temporal grids of 1 x 2 tokens, two text tokens; worked by hand from the paper's rule.
KINDS = [0, *[2] * 6, 0, 0]
GRID = torch.tensor([[3, 2, 4]])


def test_text_stands_after_all_of_a_long_narrow_video() -> None:
    found, delta = positions(KINDS, video_grid_thw=GRID)
    assert found == [
        [0, 1, 1, 2, 2, 3, 3, 4, 5],
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 2, 1, 2, 1, 2, 4, 5],
    ]
    assert delta == 6 - 9


def test_seconds_between_grids_spread_the_temporal_positions() -> None:
    found, delta = positions(KINDS, 2, video_grid_thw=GRID, second_per_grid_ts=torch.tensor([1.5]))
    assert found[0] == [0, 1, 1, 4, 4, 7, 7, 8, 9]
    assert delta == 10 - 9


def test_uneven_times_give_uneven_positions() -> None:
    found, _ = positions(KINDS, 2, video_grid_thw=GRID, grid_times=[(10.0, 11.0, 50.0)])
    assert found[0] == [0, 1, 1, 3, 3, 81, 81, 82, 83]


def test_binary_rounding_does_not_lose_a_position() -> None:
    found, _ = positions(KINDS, 2, video_grid_thw=GRID, grid_times=[(0.7, 1.2, 1.7)])
    assert found[0][1:7] == [1, 1, 2, 2, 3, 3]


def test_a_model_that_does_not_encode_seconds_ignores_them() -> None:
    told = positions(KINDS, None, video_grid_thw=GRID, grid_times=[(0.0, 9.0, 99.0)])
    assert told == positions(KINDS, None, video_grid_thw=GRID)


def test_padding_on_the_left_changes_nothing_for_the_rest() -> None:
    row = torch.tensor([[0, 0, *KINDS]])
    mask = torch.tensor([[0, 0, *[1] * len(KINDS)]])
    found, delta = rope_index(model_like(None), torch.zeros_like(row), row, video_grid_thw=GRID, attention_mask=mask)
    alone, alone_delta = positions(KINDS, video_grid_thw=GRID)
    assert found[:, 0, 2:].tolist() == alone
    assert int(delta) == alone_delta


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = getattr(tiny, f"write_{request.param}")(tmp_path_factory.mktemp(request.param))
    return load_qwen(Checkpoint(str(folder), None, "auto", "sdpa", "cpu"))


def test_a_loaded_model_puts_text_after_its_video(model: Any) -> None:
    kinds = torch.tensor([[0, *[2] * 32, 0]])
    found, _ = model.model.get_rope_index(
        torch.zeros_like(kinds), mm_token_type_ids=kinds, video_grid_thw=torch.tensor([[32, 2, 2]])
    )
    assert found[:, 0, -1].tolist() == [int(found[:, 0, :-1].max()) + 1] * 3


def test_the_stock_positions_stay_where_they_are_right(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = model.model
    monkeypatch.setattr(type(inner), "get_rope_index", rope_index)
    inner.__dict__.pop("get_rope_index", None)
    assert stock_is_right(inner)
    correct_positions(model)
    assert "get_rope_index" not in inner.__dict__
    monkeypatch.undo()
    correct_positions(model)


def test_images_stand_as_in_the_stock_model(model: Any) -> None:
    kinds = torch.tensor([[0, 0, *[1] * 6, 0, *[1] * 4, 0]])
    grids = torch.tensor([[1, 4, 6], [1, 4, 4]])
    stock = type(model.model).get_rope_index(model.model, torch.zeros_like(kinds), kinds, image_grid_thw=grids)
    ours = rope_index(model.model, torch.zeros_like(kinds), kinds, image_grid_thw=grids)
    assert torch.equal(stock[0], ours[0])
    assert torch.equal(stock[1], ours[1])


def test_true_times_hold_within_their_context_only(model: Any) -> None:
    kinds = torch.tensor([KINDS])
    given = {"mm_token_type_ids": kinds, "video_grid_thw": GRID}
    before, _ = model.model.get_rope_index(torch.zeros_like(kinds), **given)
    with true_times(model, [(0.0, 20.0, 21.0)]):
        within, _ = model.model.get_rope_index(torch.zeros_like(kinds), **given)
    after, _ = model.model.get_rope_index(torch.zeros_like(kinds), **given)
    assert torch.equal(before, after)
    encodes_seconds = model.config.model_type == "qwen2_5_vl"
    assert torch.equal(before, within) != encodes_seconds


@pytest.mark.parametrize(("name", "tokens_per_second"), [("Qwen2VL", None), ("Qwen2_5_VL", 4)])
def test_equal_to_transformers_4_57(name: str, tokens_per_second: int | None) -> None:
    """Two videos and two images in one sequence, against the numbers that 4.57.6 gave for both models."""
    root = os.environ.get("GENS_FIXTURES")
    if root is None:
        pytest.skip("GENS_FIXTURES does not name the folder with the numbers of transformers 4.57.6")
    numbers = json.loads((Path(root) / "qwen-4.57" / "positions.json").read_text())
    kinds = [0] * 3
    for kind, grid in ((2, (32, 16, 28)), (1, (1, 20, 12)), (2, (5, 8, 8)), (1, (1, 4, 4))):
        kinds += [0, *[kind] * (grid[0] * grid[1] * grid[2] // 4), 0, 0]
    seconds = numbers["second_per_grid_ts"][name]
    found, delta = positions(
        [*kinds, *[0] * 5],
        tokens_per_second,
        image_grid_thw=torch.tensor([[1, 20, 12], [1, 4, 4]]),
        video_grid_thw=torch.tensor([[32, 16, 28], [5, 8, 8]]),
        second_per_grid_ts=None if seconds is None else torch.tensor(seconds),
    )
    assert found == numbers[name]["position_ids"]
    assert [[delta]] == numbers[name]["rope_delta"]
