"""What check says of the sizes of frames is what the answerer's own rule makes of them."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipeline.answerers import AnswererLimits
from pipeline.checks import Finding, Level, limits, sizes
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Video
from pipeline.errors import FramesError
from pipeline.selection.sizes import Size

CLIPS = {"q": Video("film.mp4", "f", 3600.0, 10.0, 36_000, 1280, 720)}


@cache
def composed(*words: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", list(words))


def parts(answerer: str, selection: str, *overrides: str) -> tuple[Any, Any]:
    config = OmegaConf.unsafe_merge(
        copy.deepcopy(composed(f"answerer={answerer}", f"selection={selection}")), OmegaConf.from_dotlist([*overrides])
    )
    return build(config.answerer, "answerer"), build(config.selection, "selection")


def law_findings(answerer: Any, policy: Any) -> list[Finding]:
    return sizes.law_findings(policy, answerer, CLIPS, sizes.of_policy(policy, CLIPS, []))


@pytest.mark.parametrize(("answerer", "unit"), [("qwen2_5_vl_7b", 28), ("qwen3_vl_4b", 32), ("glm4_6v_flash", 28)])
def test_the_law_counts_as_the_answerer_does(answerer: str, unit: int) -> None:
    asked, policy = parts(answerer, "lohi", "answerer.form=images")
    assert policy.law.unit == unit
    assert law_findings(asked, policy) == []
    total = sum(each.frames * asked.visual_tokens(720, 1280, each.scale) for each in policy.sizes(CLIPS["q"]))
    assert 0.9 < total / (16 * asked.visual_tokens(720, 1280, 1.0)) <= 1  # less where the large ones are native
    _, other = parts(answerer, "lohi", f"selection.law.unit={60 - unit}")
    (finding,) = law_findings(asked, other)
    assert (finding.level, finding.remedy) == (Level.CANNOT_RUN, f"count as it does: selection.law.unit={unit}")


def test_a_video_has_frames_of_one_size() -> None:
    asked, mixed = parts("qwen3_vl_4b", "q_frame")
    assert asked.form == "video"
    with pytest.raises(FramesError, match=r"differ in size.*\n?.*answerer\.form=images"):
        sizes.check_taken(asked, mixed, sizes.of_policy(mixed, CLIPS, []))
    with pytest.raises(FramesError, match="differ in size"):  # also before any video is known
        sizes.check_taken(asked, mixed, {})
    sizes.check_taken(asked, None, {"q": (Size(256, 0.25),)})
    server, _ = parts("gpt4o", "q_frame")
    sizes.check_taken(server, mixed, sizes.of_policy(mixed, CLIPS, []))


class Counter:
    """Frames of ten tokens of a label and as many of pixels as their area is larger than 1 / 100."""

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        return 10 + self.visual_tokens(height, width, scale)

    def visual_tokens(self, height: int, width: int, scale: float | None) -> int:
        return round(100 * (1.0 if scale is None else scale) ** 2)

    def check_scales(self, scales: Any) -> None:
        return


def load(context: int, *of: Size) -> limits.Load:
    told = AnswererLimits(context, 110, None, "")
    asked = [Question("q", "film.mp4", "?")]
    (found,) = limits.fit(asked, CLIPS, {"q": of}, told, Counter(), {"q": 50}, 36, True).loads
    return found


def test_frames_of_several_sizes_are_counted_each_with_its_own() -> None:
    mixed = (Size(100, 0.1), Size(8, 1.0))  # 100 x (10 + 1) and 8 x (10 + 100)
    all_fit = load(10_000, *mixed)
    assert (all_fit.frames, all_fit.shown_tokens, all_fit.visual_tokens) == (108, 1980, 900)
    assert all_fit.tokens == 1980 + 50 + limits.TEMPLATE_TOKENS
    few = load(150 + 880 + 11 * 7 + 5, *mixed)  # 150 for words, answer and template; the large ones count first
    assert (few.fitting, few.shown_tokens) == (15, 880 + 11 * 7)
    none_small = load(150 + 879, *mixed)
    assert (none_small.fitting, none_small.visual_tokens) == (7, 700)
    assert load(150 + 11 * 300, Size(256, 0.1)).fitting == 300  # more than there are, as for frames of one size


class Bounded(Counter):
    """Brings frames to a quarter of each side, those that are so small already as well."""

    name = "bounded"
    frame = SimpleNamespace(max_side=320)

    def visual_tokens(self, height: int, width: int, scale: float | None) -> int:
        return round(100 * min(0.25, 1.0 if scale is None else scale) ** 2 * 16)


def test_a_law_that_an_answerer_breaks_is_told_with_what_it_counts() -> None:
    _, policy = parts("qwen3_vl_4b", "lohi")
    (finding,) = law_findings(Bounded(), policy)
    assert finding.level is Level.NOTE
    assert finding.places == (
        "1280 x 720: 12800 tokens, 1600 by the law",
    )  # 128 frames that cost as much as 16 do each
    assert finding.remedy == "answerer.frame.max_side=null"
