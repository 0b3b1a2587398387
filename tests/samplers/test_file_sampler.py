from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import FrameOrigin, Question, Status, Video
from pipeline.errors import InputError
from pipeline.foreign.bolt import Bolt
from pipeline.foreign.frag import Frag
from pipeline.foreign.seconds import SecondsList
from pipeline.samplers import ChecksQuestions, Sampler, WithoutPictures
from pipeline.samplers.file import FileSampler
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "seen", 100.0, 25.0, 2500, 64, 48)
QUESTIONS = [Question("v-1", "v.mp4", "What is it?"), Question("v-2", "v.mp4", "And then?")]
PLAIN = {"v-1": [40.0, 3.0], "v-2": [7.5]}


def sampler(folder: Path, content: Any = PLAIN, **settings: Any) -> FileSampler:
    (folder / "chosen.json").write_text(json.dumps(content))
    given = {"format": SecondsList(), "surplus": "refuse", "missing": "refuse"} | settings
    return FileSampler("file", str(folder / "chosen.json"), **given)


def topk(budget: int) -> Policy:
    return Policy("topk", budget, TopK(), ties="spread", fits="all", fill="none", fallback="none", uniform="linspace")


def refused(made: FileSampler, *questions: Question) -> InputError:
    with pytest.raises(InputError) as error:
        made.check(questions or QUESTIONS)
    return error.value


def test_it_fits_the_seams(tmp_path: Path) -> None:
    made = sampler(tmp_path)
    assert isinstance(made, Sampler)
    assert isinstance(made, ChecksQuestions)
    assert isinstance(made, WithoutPictures)
    made.check(QUESTIONS)


def test_a_selection_that_fits_the_budget_passes_unchanged(tmp_path: Path) -> None:
    scored = sampler(tmp_path, [{"id": "v-1", "frames": [1000, 75, 500], "scores": [-2.0, 0.3, 0.1]}], format=Frag())
    (relevance,) = scored.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    selection = topk(3).select(relevance, VIDEO)
    assert [(frame.time, frame.index, frame.score) for frame in selection.frames] == [
        (3, 75, 0.3),
        (20, 500, 0.1),
        (40, 1000, -2.0),
    ]
    assert {frame.source for frame in selection.frames} == {FrameOrigin.SAMPLER}
    assert selection.status is Status.OK
    assert [frame.time for frame in topk(2).select(relevance, VIDEO).frames] == [3, 20]


def test_frames_without_scores_are_cut_the_same_way_each_time(tmp_path: Path) -> None:
    (relevance,) = sampler(tmp_path, {"v-1": [90, 10, 11, 10]}).score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    assert relevance.times == (10, 11, 90)  # a moment that stands twice is one
    assert [frame.time for frame in topk(8).select(relevance, VIDEO).frames] == [10, 11, 90]
    assert [frame.time for frame in topk(2).select(relevance, VIDEO).frames] == [10, 90]


def test_the_last_frame_of_two_readers_is_one(tmp_path: Path) -> None:
    (relevance,) = sampler(tmp_path, {"v-1": [100.01]}).score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    assert relevance.times == (99.96,)


@pytest.mark.parametrize("second", [100.05, 3600.0, -1.0])
def test_a_second_beyond_the_video_names_row_and_video(tmp_path: Path, second: float) -> None:
    with pytest.raises(InputError) as error:
        sampler(tmp_path, {"v-1": [5.0, second]}).score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    assert "'v-1'" in error.value.problem
    assert "v.mp4, which lasts 100.000 s" in error.value.problem


def test_a_score_that_is_no_number_names_the_row(tmp_path: Path) -> None:
    made = sampler(tmp_path, [{"id": "v-1", "frames": [1], "scores": [float("nan")]}], format=Frag())
    with pytest.raises(InputError, match="entry 1: nan is not a score"):
        made.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])


def test_an_unknown_id_is_refused_or_declared(tmp_path: Path) -> None:
    extra = {**PLAIN, "v-3": [1.0], "w-1": [1.0]}
    error = refused(sampler(tmp_path, extra))
    assert "'v-3' is not the id of a question of this run, and 1 more" in error.problem
    assert "sampler.surplus=ignore" in error.remedy
    sampler(tmp_path, extra, surplus="ignore").check(QUESTIONS)


def test_a_missing_id_is_refused_or_recorded(tmp_path: Path) -> None:
    error = refused(sampler(tmp_path, {"v-1": [1.0]}))
    assert "no row for the question 'v-2'" in error.problem
    assert "sampler.missing=record" in error.remedy
    lenient = sampler(tmp_path, {"v-1": [1.0]}, missing="record")
    lenient.check(QUESTIONS)
    found = lenient.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS)
    assert [relevance.status for relevance in found] == [Status.OK, Status.NO_SCORES]
    assert "no row for this question" in found[1].detail


def test_a_duplicate_id_is_refused(tmp_path: Path) -> None:
    rows = [{"id": "v-1", "frames": [1], "scores": [1.0]}, {"id": "v-1", "frames": [2], "scores": [1.0]}]
    error = refused(sampler(tmp_path, rows, format=Frag()))
    assert "entry 2: the id 'v-1' stands at" in error.problem


def test_a_row_of_another_question_under_the_same_id_is_refused(tmp_path: Path) -> None:
    def asks(text: str) -> FileSampler:
        row = {"question_id": "v-1", "question": text, "frames": [1]}
        return sampler(tmp_path, {"v": [row]}, format=Bolt())

    error = refused(asks("Who is it?"), QUESTIONS[0])
    assert "the row asks 'Who is it?'" in error.problem
    asks("What  is it?\n(A) a cup\n(B) a plate").check(QUESTIONS[:1])
    asks("Watch the video. WHAT IS IT? Answer with a letter.").check(QUESTIONS[:1])


def test_a_row_without_frames_says_so(tmp_path: Path) -> None:
    (relevance,) = sampler(tmp_path, {"v-1": []}).score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    assert relevance.status is Status.NOTHING_RELEVANT
    assert topk(4).select(relevance, VIDEO).frames == ()


def test_two_questions_of_one_text_and_a_mended_row_are_not_mixed_up_in_the_cache(tmp_path: Path) -> None:
    twins = [QUESTIONS[0], replace(QUESTIONS[1], text=QUESTIONS[0].text)]
    before = sampler(tmp_path)
    assert before.query(twins[0]) != before.query(twins[1])
    kept, changed = (before.query(twin) for twin in twins)
    mended = sampler(tmp_path, {**PLAIN, "v-2": [8.0]})
    assert mended.identity() == before.identity()
    assert mended.query(twins[0]) == kept
    assert mended.query(twins[1]) != changed
