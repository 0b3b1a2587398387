from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.domain import FrameOrigin, Question, Status, Video
from pipeline.errors import InputError
from pipeline.foreign.bolt import Bolt
from pipeline.foreign.frag import Frag
from pipeline.foreign.seconds import SecondsList
from pipeline.foreign.videoitg import VideoItg
from pipeline.samplers import ChecksQuestions, Sampler, WithoutPictures
from pipeline.samplers.file import FileSampler
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video import Reader
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
    assert "v.mp4, of which the question may see 0.000 s to 100.000 s" in error.value.problem


def test_a_score_that_is_no_number_names_the_row(tmp_path: Path) -> None:
    made = sampler(tmp_path, [{"id": "v-1", "frames": [1], "scores": [float("nan")]}], format=Frag())
    error = refused(made, QUESTIONS[0])
    assert "entry 1: scores.0: Input should be a finite number" in error.problem
    assert "sampler.missing=record" in error.remedy


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
    assert "entry 2: the id 'v-1' is at" in error.problem


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


def test_a_damaged_row_costs_its_question_where_that_is_declared(tmp_path: Path) -> None:
    rows = [{"id": "v-1", "frames": [[1.5]], "scores": [1.0]}, {"id": "v-2", "frames": [[25]], "scores": [0.5]}]
    lenient = sampler(tmp_path, rows, format=Frag(), missing="record")
    lenient.check(QUESTIONS)
    damaged, fine = lenient.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS)
    assert (damaged.status, fine.status, fine.times) == (Status.NO_SCORES, Status.OK, (1.0,))
    assert "entry 1: frames.0" in damaged.detail
    assert "entry 1: frames.0" in refused(sampler(tmp_path, rows, format=Frag())).problem


def test_a_line_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    lines = '{"id": "v-1", "frames": [1], "scores": [1]}\n{"id": "v-2", "frames"\n'
    made = sampler(tmp_path, format=Frag())
    Path(made.path).write_text(lines)
    error = refused(made)
    assert "chosen.json:2: not JSON" in error.problem
    assert "sampler.surplus=ignore" in error.remedy
    lenient = replace(made, surplus="ignore", missing="record")
    lenient.check(QUESTIONS)
    (relevance,) = lenient.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[1:])
    assert "no row for this question; 1 rows cannot be read, the first: " in relevance.detail
    assert "chosen.json:2" in relevance.detail


def test_a_moment_behind_the_end_costs_its_question_where_that_is_declared(tmp_path: Path) -> None:
    late = {"v-1": [3600.0], "v-2": [7.5]}
    found = sampler(tmp_path, late, missing="record").score(VIDEO, UnseenFrames(VIDEO), QUESTIONS)
    assert [relevance.status for relevance in found] == [Status.NO_SCORES, Status.OK]
    assert "second 3600.000 is not in v.mp4" in found[0].detail


def bolt(*rows: tuple[str, str, list[float]]) -> dict[str, Any]:
    """As BOLT writes MLVU: the video's file name in the place of an id."""
    found: dict[str, Any] = {}
    for video, text, seconds in rows:
        found.setdefault(video, []).append({"question_id": f"{video}.mp4", "question": text, "frames": seconds})
    return found


MLVU = [
    Question("Q0", "/data/video/needle_1.mp4", "What does the hand do?", ("waves", "points")),
    Question("Q1", "/data/video/needle_1.mp4", "What is red?\nLook well.", ("car", "bus")),
    Question("Q2", "/data/video/needle_2.mkv", "What does the hand do?", ("waves", "points")),
]


def test_rows_with_the_video_for_an_id_are_joined_by_video_and_text(tmp_path: Path) -> None:
    content = bolt(
        ("needle_2", "What does the hand do?", [5.0]),
        ("needle_1", "What is red?", [3.0]),  # the first line of the question
        ("needle_1", "what does  the hand do?", [1.0, 2.0]),
    )
    made = sampler(tmp_path, content, format=Bolt())
    made.check(MLVU)
    found = made.score(VIDEO, UnseenFrames(VIDEO), MLVU)
    assert [relevance.times for relevance in found] == [(1.0, 2.0), (3.0,), (5.0,)]
    with_another = {**content, "needle_3": content["needle_2"]}
    assert (
        "'needle_2.mp4' of the video 'needle_3' is not the id"
        in refused(sampler(tmp_path, with_another, format=Bolt()), *MLVU).problem
    )


def test_two_rows_of_one_video_and_text_are_refused_unless_they_are_equal(tmp_path: Path) -> None:
    twice = bolt(("needle_1", "What is it?", [1.0]), ("needle_1", "What is it?", [1.0]))
    asked = [
        Question("Q0", "/v/needle_1.mp4", "What is it?", ("a", "b")),
        Question("Q1", "/v/needle_1.mp4", "What is it?"),
    ]
    made = sampler(tmp_path, twice, format=Bolt())
    made.check(asked)
    assert [relevance.times for relevance in made.score(VIDEO, UnseenFrames(VIDEO), asked)] == [(1.0,), (1.0,)]
    other = bolt(("needle_1", "What is it?", [1.0]), ("needle_1", "What is it?", [2.0]))
    error = refused(sampler(tmp_path, other, format=Bolt()), *asked)
    assert "'needle_1', entry 2: the id 'needle_1.mp4' is at" in error.problem
    assert "the question 'Q0'" in error.problem


def test_the_order_of_a_ranked_row_decides_among_equal_scores(tmp_path: Path) -> None:
    row = {"doc_id": "v-1", "index": [2000, 25, 1000, 500], "logits": [0.9, 0.9, 0.9, 0.1]}
    made = sampler(tmp_path, [row], format=VideoItg(None, "id"))
    (relevance,) = made.score(VIDEO, UnseenFrames(VIDEO), QUESTIONS[:1])
    assert [frame.index for frame in topk(2).select(relevance, VIDEO).frames] == [25, 2000]
    assert relevance.scores == pytest.approx((0.9, 0.1, 0.9, 0.9))
    assert relevance.scores[1::2] == (0.1, 0.9)  # a score that is the first of its kind is told as it is


def test_a_question_that_cannot_be_asked_needs_no_row_and_is_no_surplus(tmp_path: Path) -> None:
    asked = [QUESTIONS[0], replace(QUESTIONS[1], fault="q.jsonl:2: broken")]
    sampler(tmp_path).check(asked)
    sampler(tmp_path, {"v-1": [1.0]}).check(asked)


def test_native_frames_of_an_uneven_video_have_their_real_time(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for second in (0, 1, 2, 40, 100):
        Image.new("RGB", (64, 48)).save(folder / f"sec{second:03d}.png")
    made = sampler(tmp_path, [{"id": "v-1", "frames": [[4], [3], [0]], "scores": [0.9, 0.5, 0.1]}], format=Frag())
    reader = Reader("default", "auto", 1, 1.0)
    with reader.open(folder) as frames:
        (relevance,) = made.score(frames.video, frames, QUESTIONS[:1])
    assert relevance.times == (0.0, 40.0, 100.0)
    assert relevance.scores == (0.1, 0.5, 0.9)
