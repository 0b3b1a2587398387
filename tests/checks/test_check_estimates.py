"""Time and money: from rows of earlier runs, else from the table, else unknown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipeline.artefacts.cache import RelevanceCache
from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, to_line
from pipeline.checks import estimate
from pipeline.checks.limits import Load
from pipeline.checks.past import PastRuns
from pipeline.checks.plan import Pass, Plan, planned
from pipeline.checks.speed import Rate, SpeedTable, window_seconds
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Answer, Cost, Question, Relevance, Video
from pipeline.errors import ConfigError
from pipeline.identity import identity_of, relevance_key

VIDEO = Video("film.mp4", "content", 600.0, 25.0, 15000, 640, 360)
QUESTIONS = [Question(f"q{number}", "film.mp4", f"what {number}?") for number in range(4)]
CLIPS = {question.id: VIDEO for question in QUESTIONS}
H100 = Rate("gens_3b", "window_question", 0.25, "NVIDIA H100 80GB", "26 questions")


def composed(*overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("check", list(overrides))


def write_run(folder: Path, config: Any, seconds: float) -> None:
    """What ``gens evaluate`` leaves, as far as it is read here."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    asked = QUESTIONS[:2]
    write_questions(asked, folder)
    relevances = [
        RelevanceRow("k", "gens_3b", question, VIDEO, Relevance(question.id, (0.0,), (1.0,), cost=Cost(seconds)))
        for question in asked
    ]
    answers = [
        AnswerRow("k", "gens_3b", "a", question, Answer(question.id, "A", frame_times=(0.0,) * 8, cost=Cost(seconds)))
        for question in asked
    ]
    (folder / "relevance.jsonl").write_bytes(b"".join(map(to_line, relevances)))
    (folder / "answers.jsonl").write_bytes(b"".join(map(to_line, answers)))


def test_runs_with_the_same_settings_are_believed_and_others_are_not(tmp_path: Path) -> None:
    words = ("sampler=gens_3b", f"paths.cache={tmp_path}", "answerer=qwen2_vl_7b")
    config = composed(*words)
    write_run(tmp_path / "runs" / "evaluate-a", config, seconds=3.0)
    write_run(
        tmp_path / "runs" / "evaluate-b", composed(*words, "sampler.fps=0.5", "answerer.form=video"), seconds=99.0
    )
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "answers.jsonl").write_text("no rows")
    past = PastRuns(tmp_path / "runs")
    sampler = build(config.sampler, "sampler")

    windows = past.of_windows(config.sampler, sampler)
    assert windows is not None
    assert (windows.units, windows.seconds, windows.runs) == (3, 6.0, ("evaluate-a",))  # 600 s are three windows
    frames = past.of_frames(config.answerer)
    assert frames is not None
    assert (frames.rate, frames.questions) == (6.0 / 16, 2)
    # Where it runs is not part of what it is.
    assert past.of_frames(composed(*words, "answerer.checkpoint.device=cpu").answerer) == frames
    assert past.of_frames(composed(*words, "answerer.max_new_tokens=5").answerer) is None
    video = past.of_video(config.sampler)
    assert video is not None
    assert video.rate == 6.0 / 600


def test_runs_in_which_a_part_had_nothing_to_do_hide_no_older_one(tmp_path: Path) -> None:
    """Of a sampler that finds nothing the answerer is asked nothing: three such runs, and its pace is still known."""
    config = composed("sampler=gens_3b", f"paths.cache={tmp_path}", "answerer=qwen2_vl_7b")
    for number, seconds in enumerate((3.0, 0.0, 0.0, 0.0)):
        folder = tmp_path / "runs" / f"evaluate-{number}"
        write_run(folder, config, seconds)
        for file in folder.iterdir():
            os.utime(file, (number, number))
    frames = PastRuns(tmp_path / "runs").of_frames(config.answerer)
    assert frames is not None
    assert frames.runs == ("evaluate-0",)


@dataclass(frozen=True)
class Told:
    """A sampler whose settings need no checkpoint."""

    name: str = "told"

    def identity(self) -> dict[str, Any]:
        return {"sampler": "told"}

    def query(self, question: Question) -> str:
        return question.text

    def windows(self, video: Video, questions: list[Question]) -> int:
        return 3 if questions else 0

    def score(self, *_: Any) -> list[Relevance]:
        raise AssertionError("a check scores nothing")

    def close(self) -> None:
        pass


def test_what_is_in_the_cache_is_not_planned(tmp_path: Path) -> None:
    cache = RelevanceCache(tmp_path)
    sampler = Told()
    plan = planned(QUESTIONS, CLIPS, sampler, cache)
    assert (plan.open, plan.cached, plan.windows, plan.window_questions, plan.video_seconds) == (4, 0, 3, 12, 600.0)
    for question in QUESTIONS[:3]:
        key = relevance_key(VIDEO.fingerprint, question.text, identity_of(sampler))
        cache.keep(key, Relevance(question.id, (0.0,), (1.0,)))
    plan = planned(QUESTIONS, CLIPS, sampler, cache)
    assert (plan.open, plan.cached, plan.window_questions) == (1, 3, 3)
    assert planned(QUESTIONS, {}, sampler, cache).open == 0
    assert estimate.sampling(planned([], {}, sampler, cache), None, None, H100, (), "no GPU") == estimate.NOTHING_TO_DO


def test_a_figure_says_where_it_was_measured(tmp_path: Path) -> None:
    plan = planned(QUESTIONS, CLIPS, Told(), RelevanceCache(tmp_path))
    here = estimate.sampling(plan, None, None, H100, (), "1 x NVIDIA H100 80GB HBM3")
    assert here.amount == 12 * 0.25
    assert "and here is" not in here.source
    assert "and here is no GPU" in estimate.sampling(plan, None, None, H100, (), "no GPU").source
    assert estimate.sampling(plan, None, None, None, (), "no GPU").amount is None
    loads = [Load("q", 8, 500, 60, 0, 64, 64, 8 * 500, None)] * 10
    assert estimate.answering(loads, None, Rate("a", "frame", 0.01, "m", "c"), "m").amount == pytest.approx(0.8)
    assert estimate.answering(loads, None, H100, "m").amount is None


def test_a_window_takes_longer_the_more_questions_it_has() -> None:
    def rate(questions: int | None, seconds: float, part: str = "told") -> Rate:
        return Rate(part, "window", seconds, "card", f"{questions} questions", questions)

    table = SpeedTable("t", (rate(5, 2.0), rate(1, 1.0), rate(5, 9.0), rate(None, 7.0), rate(9, 3.0, "other")))
    rates = table.of_windows("told")
    assert [(each.questions, each.seconds) for each in rates] == [(1, 1.0), (5, 2.0)]
    assert [window_seconds(rates, count) for count in (1, 3, 5, 20)] == [1.0, 1.5, 2.0, 8.0]
    passes = (Pass(VIDEO, tuple(QUESTIONS[:3]), 10), Pass(VIDEO, tuple(QUESTIONS[:1]), 2))
    told = estimate.sampling(Plan(passes, 0, True), None, None, table.of("told"), rates, "a card")
    assert told.amount == 10 * 1.5 + 2 * 1.0
    assert told.source == "1.42 s a window with 1 to 3 questions on card: 1 questions"
    with pytest.raises(ConfigError, match="0 questions"):
        rate(0, 1.0)


def test_money_is_told_at_most_and_unknown_without_prices() -> None:
    loads = [Load("q", 64, 93, 100, 0, 40, 40, 40 * 93, None)] * 2
    config = composed("answerer=gpt4o")
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, estimate.Priced)
    told = estimate.money(loads, 128, answerer.prices)
    tokens = 2 * loads[0].tokens
    assert loads[0].tokens >= 40 * 93 + 100
    assert told.amount == pytest.approx((tokens * 2.5 + 256 * 10) / 1e6)
    free = build(composed("answerer=qwen2_vl_7b").answerer, "answerer")
    assert not isinstance(free, estimate.Priced)
    unpriced = build(
        composed("answerer=openai", "answerer.base_url=http://x/v1", "answerer.model=m").answerer, "answerer"
    )
    assert estimate.money(loads, 128, unpriced.prices).amount is None


def test_the_table_of_the_project_is_read() -> None:
    table = build(composed().speed, "speed")
    assert table.of("gens_3b").machine.startswith("NVIDIA H100")
    assert table.of("reader auto") is not None
    assert table.of("qwen2_vl_micro") is None


def test_a_sampler_that_looks_at_no_pictures_takes_nothing_though_all_is_left_to_do() -> None:
    plan = Plan((Pass(VIDEO, tuple(QUESTIONS), 0),), cached=0, reads_frames=False)
    told = (estimate.decoding(plan, False, None), estimate.sampling(plan, None, None, None, (), "no GPU"))
    assert told == (estimate.NO_PICTURES, estimate.NO_PICTURES)
