"""What all embedding samplers share, on a tiny CLIP: one pass over a video, kept vectors, forms of the question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_samplers import Counted, ask, built, counted
from tiny_encoders import write_clip

from pipeline.artefacts.features import FeatureStore
from pipeline.domain import Question, Status
from pipeline.errors import ConfigError
from pipeline.samplers import Sampler

SECONDS = 7
LONG = "and then the dog sleeps in the garden while the red circle leaves " * 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"), seed=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with counted(tmp_path_factory.mktemp("video") / "clip.mp4", seconds=SECONDS) as source:
        yield source


@pytest.fixture
def source(clip: Counted) -> Counted:
    return Counted(clip.source)


class Calls:
    """How often each tower of a sampler's model runs, and over how many items."""

    def __init__(self, sampler: Any) -> None:
        model = sampler._encoder._model
        self.frames: list[int] = []
        self.texts: list[int] = []
        model.vision_model.register_forward_hook(lambda *call: self.frames.append(len(call[2].pooler_output)))
        model.text_model.register_forward_hook(lambda *call: self.texts.append(len(call[2].pooler_output)))


def test_one_pass_over_the_video_serves_every_question(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("clip", checkpoint, tmp_path, "frames_at_once=3")
    assert isinstance(sampler, Sampler)
    calls = Calls(sampler)
    found = sampler.score(source.video, source, ask("a red square", "the dog is cooking", "a star"))
    assert calls.frames == [3, 3, 1]
    assert calls.texts == [3]
    assert source.asked == SECONDS
    assert [one.question_id for one in found] == ["q0", "q1", "q2"]
    for one in found:
        assert one.status is Status.OK
        assert one.times == tuple(float(second) for second in range(SECONDS))
        assert one.named_above is None
        assert all(-1 <= score <= 1 for score in one.scores)
    assert len({one.scores for one in found}) == 3


def test_new_questions_decode_nothing_and_run_the_text_tower_alone(
    checkpoint: Path, source: Counted, tmp_path: Path
) -> None:
    first = built("clip", checkpoint, tmp_path)
    before = first.score(source.video, source, ask("a red square"))
    later = built("clip", checkpoint, tmp_path, "query_form=best_option", "frames_at_once=2")
    calls, untouched = Calls(later), Counted(source.source)
    after = later.score(untouched.video, untouched, ask("a red square", "where is the cat"))
    assert (untouched.asked, calls.frames, calls.texts) == (0, [], [2])
    assert after[0].scores == pytest.approx(before[0].scores, abs=1e-6)


@pytest.mark.parametrize("change", ["fps=2.0", "checkpoint.dtype=bfloat16"])
def test_what_changes_the_vectors_is_embedded_anew(
    checkpoint: Path, source: Counted, tmp_path: Path, change: str
) -> None:
    built("clip", checkpoint, tmp_path).score(source.video, source, ask("a red square"))
    decoded = source.asked
    built("clip", checkpoint, tmp_path, change).score(source.video, source, ask("a red square"))
    assert source.asked > decoded


def test_another_video_and_another_checkpoint_have_vectors_of_their_own(
    checkpoint: Path, source: Counted, tmp_path: Path
) -> None:
    sampler = built("clip", checkpoint, tmp_path / "store")
    ours = sampler.score(source.video, source, ask("a star"))[0]
    with counted(tmp_path / "other.mp4", seconds=3, seed=9) as other:
        theirs = sampler.score(other.video, other, ask("a star"))[0]
    sibling = built("clip", write_clip(tmp_path / "sibling", seed=4), tmp_path / "store")
    again = sibling.score(source.video, source, ask("a star"))[0]
    assert len({ours.features, theirs.features, again.features}) == 3
    assert sibling.identity() != sampler.identity()


def test_vectors_belong_to_what_a_file_holds_and_not_to_its_path(checkpoint: Path, tmp_path: Path) -> None:
    sampler = built("clip", checkpoint, tmp_path / "store")

    def embedded(path: Path, seed: int) -> tuple[str | None, int]:
        with counted(path, seconds=3, seed=seed) as source:
            return sampler.score(source.video, source, ask("a star"))[0].features, source.asked

    path, moved = tmp_path / "clip.mp4", tmp_path / "moved.mp4"
    first = embedded(path, 1)
    path.rename(moved)
    assert embedded(moved, 1) == (first[0], 0)
    other = embedded(path, 2)
    assert other[0] != first[0]
    assert other[1] == 3


def test_the_record_names_the_vectors_that_policies_need(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    found = built("clip", checkpoint, tmp_path).score(source.video, source, ask("a red square"))[0]
    assert found.features is not None
    features = FeatureStore(tmp_path).find(found.features)
    assert features is not None
    assert features.times == found.times
    assert np.linalg.norm(features.vectors, axis=1) == pytest.approx(np.ones(SECONDS), abs=1e-6)


def test_a_still_picture_is_one_candidate(checkpoint: Path, tmp_path: Path) -> None:
    with counted(tmp_path / "clip.mp4", seconds=2, fps=1) as source:
        found = built("clip", checkpoint, tmp_path, "fps=4.0").score(source.video, source, ask("a star"))[0]
    assert found.times == (0.0, 1.0)


def test_the_best_option_counts(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    options = ("red", "green", "a dog")
    question = ask("what is there?", options=options)
    best = built("clip", checkpoint, tmp_path, "query_form=best_option").score(source.video, source, question)[0]
    plain = built("clip", checkpoint, tmp_path)
    apart = plain.score(source.video, source, ask(*[f"what is there? {option}" for option in options]))
    assert best.scores == pytest.approx(np.max([one.scores for one in apart], axis=0), abs=1e-6)
    assert plain.score(source.video, source, question)[0].scores != pytest.approx(best.scores, abs=1e-4)


def test_options_are_part_of_the_cache_key_only_where_they_matter(checkpoint: Path, tmp_path: Path) -> None:
    with_, without = ask("where?", options=("here", "there"))[0], ask("where?")[0]
    forms = {
        form: built("clip", checkpoint, tmp_path, f"query_form={form}")
        for form in ("question", "question_and_options", "best_option")
    }
    assert forms["question"].query(with_) == forms["question"].query(without)
    assert forms["best_option"].query(with_) != forms["best_option"].query(without)
    assert len({str(sampler.identity()) for sampler in forms.values()}) == 3


def test_only_what_decides_scores_is_identity(checkpoint: Path, tmp_path: Path) -> None:
    here = built("clip", checkpoint, tmp_path / "a").identity()
    assert built("clip", checkpoint, tmp_path / "b", "frames_at_once=1").identity() == here


def test_a_long_question_is_heard_to_its_end(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("clip", checkpoint, tmp_path)
    long, other = (sampler.score(source.video, source, ask(LONG + end))[0] for end in ("a star", "yellow yellow"))
    assert long.status is Status.OK
    assert long.scores != pytest.approx(other.scores, abs=1e-5)


def test_questions_that_cannot_be_asked_keep_their_place(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("clip", checkpoint, tmp_path)
    found = sampler.score(source.video, source, ask("  ", "a star", "what is <|endoftext|> for"))
    assert [one.status for one in found] == [Status.INVALID_QUESTION, Status.OK, Status.INVALID_QUESTION]
    assert [one.question_id for one in found] == ["q0", "q1", "q2"]
    assert "<|endoftext|>" in found[2].detail
    only = Counted(source.source)
    assert sampler.score(only.video, only, ask(""))[0].status is Status.INVALID_QUESTION
    assert only.asked == 0


def test_out_of_memory_is_a_status_with_its_override_and_nothing_is_kept(
    checkpoint: Path, source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = built("clip", checkpoint, tmp_path, "frames_at_once=6")

    def too_large(prepared: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(sampler._encoder, "embed_frames", too_large)
        found = sampler.score(source.video, source, ask("a star", "", "a dog"))
    assert [one.status for one in found] == [Status.OUT_OF_MEMORY, Status.INVALID_QUESTION, Status.OUT_OF_MEMORY]
    assert "sampler.frames_at_once=3" in found[0].detail
    assert not found[0].is_final
    assert sampler.score(source.video, source, ask("a star"))[0].status is Status.OK


def test_a_closed_sampler_opens_again(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("clip", checkpoint, tmp_path)
    before = sampler.score(source.video, source, ask("a star"))[0]
    sampler.close()
    sampler.close()
    assert sampler.score(source.video, source, ask("a star"))[0].scores == before.scores


def test_making_one_loads_nothing(tmp_path: Path) -> None:
    sampler = built("clip", tmp_path / "no-such-folder", tmp_path)
    assert sampler.query(Question("q", "v", " a star ")) == "a star"


def test_no_frames_at_once_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.frames_at_once"):
        built("clip", checkpoint, tmp_path, "frames_at_once=0")
