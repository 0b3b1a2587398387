"""Subtitles and stretches on their way through both stages, over real files with a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from made import write_video
from rows_on_disk import rows_of
from tiny import write_qwen2_vl

from pipeline.answer_requests import OverLimit
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Span, Status, Subtitles
from pipeline.ledger import alone
from pipeline.orchestrator import answer, sample, select
from pipeline.subtitles import SubtitleChoice

NONE, AT_FRAMES, FULL = SubtitleChoice
OPTIONS = ("red", "blue")
SRT = """1
00:00:00,000 --> 00:00:02,000
<font color="white" size=".72c">at the first frame</font>

2
00:00:03,000 --> 00:00:03,500
between two frames

3
00:00:08,000 --> 00:00:11,900
at the last one
"""


class Run:
    """Uniform frames and a tiny Qwen2-VL; the folder of a run stays the same."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        register_resolvers()
        words = [
            "sampler=uniform",
            "sampler.spread=stride",
            "selection.budget=3",
            "answerer=qwen2_vl_7b",
            f"answerer.checkpoint.source={checkpoint}",
            "answerer.max_pixels=6400",
            "answerer.max_new_tokens=4",
            f"paths.cache={folder / 'cache'}",
        ]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            self.config = compose("evaluate", words)
        self.folder = folder / "run"
        self.reader = build(self.config.reader, "reader")
        self.cache = RelevanceCache(folder / "cache")

    def select(self, questions: list[Question], sampler: str = "uniform") -> list[SelectionRow]:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            node = compose("evaluate", [f"sampler={sampler}"]).sampler
        relevances = sample(questions, build(node, "sampler"), self.reader, self.cache, self.folder)
        return select(relevances, build(self.config.selection, "selection"), self.reader, self.folder)

    def answer(self, rows: list[SelectionRow], choice: SubtitleChoice, **settings: Any) -> list[AnswerRow]:
        answerer = replace(build(self.config.answerer, "answerer"), **settings)
        cache = AnswerCache(self.folder / "cache")
        return answer(rows, answerer, self.reader, cache, OverLimit.REFUSE, choice, 2, self.folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2_vl(tmp_path_factory.mktemp("checkpoint"), context=2000)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Run:
    write_video(tmp_path / "v.mp4")  # 12 s at 4 frames a second
    (tmp_path / "v.srt").write_text(SRT)
    return Run(tmp_path, checkpoint)


def question(tmp_path: Path, id: str, **more: Any) -> Question:
    return Question(id, str(tmp_path / "v.mp4"), "Why?", OPTIONS, 0, **more)


def test_what_is_said_at_the_frames_goes_with_the_question_and_is_recorded(run: Run, tmp_path: Path) -> None:
    spoken = question(tmp_path, "spoken", subtitles=Subtitles(str(tmp_path / "v.srt")))
    rows = run.select([spoken, question(tmp_path, "silent")])
    found = {choice: run.answer(rows, choice) for choice in SubtitleChoice}
    forms = {choice: [row.answer.form.rpartition("; ")[2] for row in answers] for choice, answers in found.items()}
    assert forms[AT_FRAMES] == ["subtitles at_frames: 2 lines", "subtitles at_frames: the question has none"]
    assert forms[FULL] == ["subtitles full: 3 lines", "subtitles full: the question has none"]
    assert not any("subtitles" in form for form in forms[NONE])
    tokens = {choice: [alone(row.answer).prompt_tokens for row in answers] for choice, answers in found.items()}
    assert tokens[NONE][0] < tokens[AT_FRAMES][0] < tokens[FULL][0]
    assert tokens[NONE][1] == tokens[AT_FRAMES][1] == tokens[FULL][1]
    keys = {choice: [row.key for row in answers] for choice, answers in found.items()}
    assert all(len({chosen[place] for chosen in keys.values()}) == 3 for place in (0, 1))
    before = (run.folder / ANSWERS_FILE).read_bytes()
    assert [row.key for row in run.answer(rows, FULL)] == keys[FULL]
    assert (run.folder / ANSWERS_FILE).read_bytes() == before  # finished answers are not asked again
    (tmp_path / "v.srt").write_text(SRT.replace("first", "very first"))
    assert run.answer(rows, AT_FRAMES)[0].key != keys[AT_FRAMES][0]


def test_a_file_that_is_missing_or_damaged_is_a_status_until_it_is_mended(run: Run, tmp_path: Path) -> None:
    rows = run.select(
        [
            question(tmp_path, "missing", subtitles=Subtitles(str(tmp_path / "later.srt"))),
            question(tmp_path, "damaged", subtitles=Subtitles(str(tmp_path / "bad.srt"))),
            question(tmp_path, "spoken", subtitles=Subtitles(str(tmp_path / "v.srt"))),
        ]
    )
    (tmp_path / "bad.srt").write_text("1\n00:00:01,000 --> soon\nwords")
    statuses = [row.answer.status for row in run.answer(rows, FULL)]
    assert statuses[:2] == [Status.MISSING_SUBTITLES, Status.UNREADABLE_SUBTITLES]
    assert statuses[2] not in (Status.MISSING_SUBTITLES, Status.UNREADABLE_SUBTITLES)
    recorded = {row.question.id: row.answer for row in rows_of(AnswerRow, run.folder / ANSWERS_FILE)}
    assert "bad.srt: line 2: '00:00:01,000 --> soon' is no" in recorded["damaged"].detail
    assert "subtitles=none" in recorded["missing"].detail
    for name in ("later.srt", "bad.srt"):
        (tmp_path / name).write_text(SRT)
    assert all("3 lines" in row.answer.form for row in run.answer(rows, FULL))


@pytest.mark.parametrize("sampler", ["uniform", "oracle"])
def test_a_question_that_may_see_a_stretch_is_shown_no_other_frame(run: Run, tmp_path: Path, sampler: str) -> None:
    evidence = (Span(0.0, 12.0),)
    said = Subtitles(str(tmp_path / "v.srt"))
    spans = {"whole": None, "begin": Span(0.0, 5.0), "middle": Span(4.0, 8.0)}
    asked = [question(tmp_path, id, span=span, evidence=evidence, subtitles=said) for id, span in spans.items()]
    rows = run.select(asked, sampler)
    times = {row.question.id: [frame.time for frame in row.selection.frames] for row in rows}
    assert max(times["whole"]) >= 8.0
    assert max(times["begin"]) < 5.0
    assert 4.0 <= min(times["middle"]) <= max(times["middle"]) < 8.0
    for row in rows:
        assert row.video is not None
        assert row.video.duration == pytest.approx(12.0)
        assert [frame.index for frame in row.selection.frames] == [
            round(4 * frame.time) for frame in row.selection.frames
        ]
    answers = {row.question.id: row.answer for row in run.answer(rows, FULL)}
    assert {id: answer.frame_times for id, answer in answers.items()} == {id: tuple(t) for id, t in times.items()}
    lines = {id: answer.form.rpartition("; ")[2] for id, answer in answers.items()}
    assert lines == {
        "whole": "subtitles full: 3 lines",
        "begin": "subtitles full: 2 lines",  # what is said later is not known yet
        "middle": "subtitles full: 0 lines",
    }


def test_relevance_of_a_stretch_is_not_that_of_the_whole(run: Run, tmp_path: Path) -> None:
    spans = (None, Span(0.0, 5.0), Span(0.0, 5.0), Span(0.0, 6.0))
    asked = [question(tmp_path, str(place), span=span, evidence=(Span(1.0, 2.0),)) for place, span in enumerate(spans)]
    keys = [row.key for row in run.select(asked, "oracle")]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_a_selection_that_shows_more_than_the_question_may_see_is_not_answered(run: Run, tmp_path: Path) -> None:
    [row] = run.select([question(tmp_path, "q")])
    narrow = replace(row, question=replace(row.question, span=Span(0.0, 5.0)))
    [answered] = run.answer([narrow], NONE)
    assert answered.answer.status is Status.NO_FRAMES
    assert "gens sample" in answered.answer.detail


def test_a_stretch_that_the_video_does_not_have_is_a_status(run: Run, tmp_path: Path) -> None:
    rows = run.select([question(tmp_path, "late", span=Span(40.0, 50.0)), question(tmp_path, "fine")])
    assert [row.selection.status for row in rows] == [Status.INVALID_QUESTION, Status.OK]
    late, fine = run.answer(rows, NONE)
    assert late.answer.status is Status.INVALID_QUESTION
    assert "0.00 s to 12.00 s" in late.answer.detail
    assert fine.answer.frame_times
