"""An embedding sampler keeps frames and GenS reads these alone, both over tiny checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from embedding_samplers import READER, Counted, ask, counted, write_folder
from hydra import compose, initialize_config_dir
from tiny import write_qwen2_5_vl
from tiny_encoders import write_clip

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Cost, Question, Relevance, Span, Status, Video
from pipeline.errors import CheckpointError, ConfigError
from pipeline.generation.texts import Generated
from pipeline.samplers import Sampler
from pipeline.samplers.backbone import Rows
from pipeline.samplers.hybrid import HybridSampler
from pipeline.samplers.oracle import OracleSampler
from pipeline.video.timeline import candidate_times
from pipeline.video.unseen import UnseenFrames

SECONDS = 8


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {"first": write_clip(folder / "clip", seed=3), "second": write_qwen2_5_vl(folder / "gens", seed=5)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("video") / "clip.mp4", seconds=SECONDS) as source:
        yield source


@pytest.fixture
def source(clip: Counted) -> Counted:
    return Counted(clip.source)


def hybrid(checkpoints: dict[str, Path], store: Path, *overrides: str) -> Any:
    """As the command line makes it, of CLIP and GenS."""
    small = ("frame.height=56", "frame.width=56", "max_new_tokens=12")
    return composed(checkpoints, store, *(f"sampler.second.{override}" for override in small), *overrides)


def composed(checkpoints: dict[str, Path], store: Path, *overrides: str) -> Any:
    register_resolvers()
    given = [f"paths.cache={store}"]
    for part, folder in checkpoints.items():
        held = {"source": folder, "device": "cpu", "attention": "sdpa"}
        given += [f"sampler.{part}.checkpoint.{key}={value}" for key, value in held.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("sample", ["sampler=hybrid", *given, *overrides]).sampler, "sampler")


def said(relevances: list[Relevance]) -> list[Relevance]:
    """Without what it took, and how overrides are called."""
    return [replace(relevance, cost=Cost(), detail="") for relevance in relevances]


def best(sampler: Any, source: Counted, text: str, keep: int, of: int = SECONDS) -> list[float]:
    """Seconds that the first sampler likes best, in order of time."""
    (looked,) = sampler.first.score(source.video, Counted(source.source), ask(text))
    ranked = sorted(zip(looked.scores[:of], looked.times[:of], strict=True), reverse=True)
    return sorted(second for _, second in ranked[:keep])


def test_the_second_reads_the_best_frames_as_if_they_were_the_video(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=3")
    assert isinstance(sampler, Sampler)
    found = sampler.score(source.video, source, ask("a red square", "the dog is cooking"))
    for one, text in zip(found, ("a red square", "the dog is cooking"), strict=True):
        kept = best(sampler, source, text, 3)
        assert list(one.times) == kept
        with READER.open(str(write_folder(tmp_path / text, source.source, kept))) as alone:
            (expected,) = sampler.second.score(alone.video, alone, ask(text))
        assert [window.raw for window in one.windows] == [window.raw for window in expected.windows]
        assert (one.windows[0].start, one.windows[0].end) == (kept[0], kept[-1])
    assert found[0].times != found[1].times


def test_scores_stand_at_the_frames_own_seconds(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=4")

    step = Rows.step

    def says(rows: Rows) -> list[tuple[Any, Generated]]:
        return [(key, Generated('{"1": 5, "3": 2}', (1,), True)) for key, _ in step(rows)]

    monkeypatch.setattr(Rows, "step", says)
    (one,) = sampler.score(source.video, source, ask("a red square"))
    assert one.times == tuple(best(sampler, source, "a red square", 4))
    assert one.scores == (0, 5, 0, 2)
    assert one.status is Status.OK
    assert one.named_above == 0


def test_only_what_was_kept_is_decoded_again(checkpoints: dict[str, Path], source: Counted, tmp_path: Path) -> None:
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=2")
    sampler.score(source.video, source, ask("a red square", "the dog is cooking"))
    assert source.asked == SECONDS + 2 * 2


class FewFrames(OracleSampler):
    """Says which seconds it is shown."""

    def __init__(self) -> None:
        super().__init__("second", 1.0)

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        times = candidate_times(video, 1.0)
        return [Relevance(each.id, times, (5.0,) * len(times)) for each in questions]


def test_frames_that_the_first_does_not_name_are_not_kept() -> None:
    video = Video("v.mp4", "f", 10.0, 1.0, 10, 64, 48)
    question = Question("q", "v.mp4", "what?", evidence=(Span(6, 7),))
    sampler = HybridSampler("hybrid", OracleSampler("first", 1.0), FewFrames(), 4)
    (one,) = sampler.score(video, UnseenFrames(video), [question])
    assert one.times == (0.0, 1.0)  # two frames, and not the first two seconds besides, which are not worse than others


def test_a_folder_that_begins_in_the_middle_keeps_its_seconds(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "frames", source, [0.0, 1.0, 2.0, 3.0, 4.0], first=30)
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=3")
    with READER.open(str(folder)) as late:
        (one,) = sampler.score(late.video, late, ask("a red square"))
    assert [second - 30 for second in one.times] == best(hybrid(checkpoints, tmp_path), source, "a red square", 3, 5)


def test_a_short_video_is_read_whole_and_once_for_all_questions(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    sampler = hybrid(checkpoints, tmp_path)
    looked: list[int] = []
    sampler.second._backbone.model.network.model.visual.register_forward_hook(lambda *call: looked.append(1))
    questions = ask("a red square", "the dog is cooking")
    found = sampler.score(source.video, source, questions)
    assert looked == [1]
    assert source.asked == 2 * SECONDS
    assert said(found) == said(sampler.second.score(source.video, source, questions))


def test_what_the_first_cannot_score_keeps_its_status_and_names_its_override(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=2")
    found = sampler.score(source.video, source, ask("", "a red square"))
    assert found[0].status is Status.INVALID_QUESTION
    assert len(found[1].times) == 2

    def too_large(prepared: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    other = hybrid(checkpoints, tmp_path / "elsewhere")
    monkeypatch.setattr(other.first._encoder, "embed_frames", too_large)
    (failed,) = other.score(source.video, source, ask("a red square"))
    assert failed.status is Status.OUT_OF_MEMORY
    assert "sampler.first.frames_at_once=32" in failed.detail


def test_failures_of_the_second_name_its_override(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    (one,) = hybrid(checkpoints, tmp_path).score(source.video, source, ask("a red square"))
    assert one.status is Status.NO_SCORES
    assert "sampler.second.prompt" in one.detail


def test_a_checkpoint_of_another_family_names_the_part(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    swapped = hybrid({"first": checkpoints["second"], "second": checkpoints["first"]}, tmp_path)
    with pytest.raises(CheckpointError, match=r"sampler\.first\.checkpoint"):
        swapped.score(source.video, source, ask("a red square"))


def test_any_samplers_may_be_the_parts(checkpoints: dict[str, Path], source: Counted, tmp_path: Path) -> None:
    sampler = composed(checkpoints, tmp_path, "sampler@sampler.second=vlm_yesno", "sampler.keep=3")
    (one,) = sampler.score(source.video, source, ask("a red square"))
    assert one.times == tuple(best(sampler, source, "a red square", 3))
    assert all(0 < score < 1 for score in one.scores)


def test_a_first_sampler_without_scores_is_a_status(
    checkpoints: dict[str, Path], source: Counted, tmp_path: Path
) -> None:
    sampler = composed({"second": checkpoints["second"]}, tmp_path, "sampler@sampler.first=uniform")
    (one,) = sampler.score(source.video, source, ask("a red square"))
    assert one.status is Status.NO_SCORES
    assert "sampler@sampler.first=clip" in one.detail


def test_both_parts_and_their_number_are_identity(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    here = hybrid(checkpoints, tmp_path)
    for change in ("sampler.keep=7", "sampler.first.fps=2.0", "sampler.second.prompt.first_number=1"):
        assert hybrid(checkpoints, tmp_path, change).identity() != here.identity()
    with_options = ask("where?", options=("here", "there"))[0]
    told = hybrid(checkpoints, tmp_path, "sampler.first.query_form=best_option")
    assert here.query(with_options) == "where?"
    assert "there" in told.query(with_options)


@pytest.mark.parametrize("wrong", ["sampler.keep=0", "sampler.second.fps=0.5"])
def test_settings_that_cannot_be_are_refused_with_their_override(
    checkpoints: dict[str, Path], tmp_path: Path, wrong: str
) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0].replace(".", r"\.")):
        hybrid(checkpoints, tmp_path, wrong)


def test_a_closed_sampler_opens_again(checkpoints: dict[str, Path], source: Counted, tmp_path: Path) -> None:
    sampler = hybrid(checkpoints, tmp_path, "sampler.keep=2")
    before = sampler.score(source.video, source, ask("a red square"))
    sampler.close()
    assert said(sampler.score(source.video, source, ask("a red square"))) == said(before)
