"""Both stages over real files with tiny random models of the real architectures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import gens
from made import write_video
from tiny import write_qwen2_5_vl, write_qwen2_vl

from pipeline.answer_requests import OverLimit
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Relevance, Status
from pipeline.orchestrator import answer, sample, select
from pipeline.samplers import Work
from pipeline.subtitles import SubtitleChoice

NONE = SubtitleChoice.NONE


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_qwen2_5_vl(folder / "sampler")
    write_qwen2_vl(folder / "answerer")
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", seed=number)
    return tmp_path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of all models loaded, in order: spied on where transformers loads weights."""
    from transformers import PreTrainedModel

    loaded: list[str] = []
    stock = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def spy(cls: type, folder: object, *rest: object, **options: object) -> object:
        loaded.append(Path(str(folder)).name)
        return stock(cls, folder, *rest, **options)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(spy))
    return loaded


class Parts:
    """What a run needs, composed from the YAML files that users have."""

    def __init__(self, checkpoints: Path, folder: Path) -> None:
        from hydra import compose, initialize_config_dir

        register_resolvers()
        overrides = [
            "sampler=gens_3b",
            f"sampler.checkpoint.source={checkpoints / 'sampler'}",
            "sampler.frame={height: 56, width: 56}",
            "sampler.window.frames=8",
            "sampler.max_new_tokens=12",
            "selection=topk_filled",
            "selection.budget=4",
            "answerer=qwen2_vl_7b",
            f"answerer.checkpoint.source={checkpoints / 'answerer'}",
        ]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            self.config = compose("evaluate", overrides)
        self.reader = build(self.config.reader, "reader")
        self.cache = RelevanceCache(folder / "cache")
        self.answers = AnswerCache(folder / "cache")
        self.folder = folder / "run"

    def sample(self, questions: list[Question], **changes: object) -> list[RelevanceRow]:
        node = self.config.sampler.copy()
        for key, value in changes.items():
            from omegaconf import OmegaConf

            OmegaConf.update(node, key.replace("__", "."), value)
        sampler = build(node, "sampler")
        rows = {row.question.id: row for row in sample(questions, sampler, self.reader, self.cache, self.folder)}
        return [rows[question.id] for question in questions]

    def select(self, rows: list[RelevanceRow], budget: int = 4) -> list[SelectionRow]:
        node = self.config.selection.copy()
        node.budget = budget
        return select(rows, build(node, "selection"), self.reader, self.folder)

    def answer(
        self, rows: list[SelectionRow], batch: int = 2, over_limit: OverLimit = OverLimit.REFUSE
    ) -> list[AnswerRow]:
        answerer = build(self.config.answerer, "answerer")
        return answer(rows, answerer, self.reader, self.answers, over_limit, NONE, batch, self.folder)


@pytest.fixture
def parts(checkpoints: Path, tmp_path: Path) -> Parts:
    return Parts(checkpoints, tmp_path)


def questions_of(videos: Path) -> list[Question]:
    return [
        Question(f"{number}-{kind}", str(videos / f"{number}.mp4"), f"what {kind} is it?", ("red", "blue"), 0)
        for kind in ("colour", "shape")
        for number in range(2)
    ]


def by_id(questions: list[Question]) -> dict[str, Question]:
    return {question.id: question for question in questions}


def test_frames_and_question_go_from_the_first_stage_to_the_second(parts: Parts, videos: Path) -> None:
    questions = questions_of(videos)
    relevances = parts.sample(questions)
    selections = parts.select(relevances)
    answers = parts.answer(selections)
    assert [row.question for row in answers] == questions
    for selected, answered in zip(selections, answers, strict=True):
        assert answered.answer.frame_times == tuple(frame.time for frame in selected.selection.frames)
        assert len(answered.answer.frame_times) == 4
        assert answered.answer.text or answered.answer.status is Status.EMPTY_ANSWER
    kept = read_rows(RelevanceRow, parts.folder / RELEVANCE_FILE, by_id(questions))
    assert {row.question.id: row for row in kept} == {row.question.id: row for row in relevances}
    assert {row.question.id for row in read_rows(SelectionRow, parts.folder / SELECTIONS_FILE, by_id(questions))} == {
        q.id for q in questions
    }
    assert {row.question.id: row for row in read_rows(AnswerRow, parts.folder / ANSWERS_FILE, by_id(questions))} == {
        row.question.id: row for row in answers
    }


def test_another_budget_loads_no_sampler(parts: Parts, videos: Path, loads: list[str]) -> None:
    questions = questions_of(videos)
    parts.answer(parts.select(parts.sample(questions)))
    assert loads == ["sampler", "answerer"]
    shutil.rmtree(parts.folder)
    parts.answer(parts.select(parts.sample(questions), budget=2))
    assert loads == ["sampler", "answerer", "answerer"]


def test_the_same_run_again_loads_nothing(parts: Parts, videos: Path, loads: list[str]) -> None:
    questions = questions_of(videos)
    first = list(parts.answer(parts.select(parts.sample(questions))))
    before = (parts.folder / ANSWERS_FILE).read_bytes()
    loads.clear()
    assert list(parts.answer(parts.select(parts.sample(questions)))) == first
    assert loads == []
    assert (parts.folder / ANSWERS_FILE).read_bytes() == before


def recomputed(parts: Parts, before: list[RelevanceRow], after: list[RelevanceRow]) -> set[str]:
    known = {row.key for row in before}
    return {row.question.id for row in after if row.key not in known}


def test_each_change_invalidates_exactly_its_rows(parts: Parts, videos: Path, loads: list[str]) -> None:
    questions = questions_of(videos)
    first = parts.sample(questions)
    everything = {question.id for question in questions}
    assert recomputed(parts, first, parts.sample(questions)) == set()

    asked = [replace(questions[0], text="what colour was it?"), *questions[1:]]
    assert recomputed(parts, first, parts.sample(asked)) == {questions[0].id}

    path = videos / "1.mp4"
    original = path.read_bytes()
    write_video(path, seed=7)
    assert recomputed(parts, first, parts.sample(questions)) == {"1-colour", "1-shape"}
    path.write_bytes(original)
    assert recomputed(parts, first, parts.sample(questions)) == set()

    assert recomputed(parts, first, parts.sample(questions, prompt__instruction="Name the frames.")) == everything
    assert recomputed(parts, first, parts.sample(questions, questions_at_once=1)) == set()
    loads.clear()
    parts.sample(questions)
    assert loads == []


def test_other_weights_are_another_checkpoint(parts: Parts, videos: Path, tmp_path: Path) -> None:
    questions = questions_of(videos)[:1]
    first = parts.sample(questions)
    other = write_qwen2_5_vl(tmp_path / "other", seed=1)
    again = parts.sample(questions, checkpoint__source=str(other))
    assert recomputed(parts, first, again) == {questions[0].id}


def test_a_video_that_cannot_be_read_is_a_status_and_the_others_go_on(
    parts: Parts, videos: Path, loads: list[str]
) -> None:
    (videos / "broken.mp4").write_bytes(b"not a video")
    questions = [
        *questions_of(videos)[:1],
        Question("gone", str(videos / "gone.mp4"), "what?", ("a", "b"), 0),
        Question("broken", str(videos / "broken.mp4"), "what?", ("a", "b"), 0),
    ]
    answers = parts.answer(parts.select(parts.sample(questions)))
    statuses = {row.question.id: row.answer.status for row in answers}
    assert statuses["gone"] is Status.MISSING_VIDEO
    assert statuses["broken"] is Status.UNREADABLE_VIDEO
    for row in answers[1:]:
        assert row.answer.text == ""
        assert row.answer.option is None
        assert row.answer.detail

    # The same command again does what can now be done, and only that.
    write_video(videos / "gone.mp4", seed=3)
    loads.clear()
    again = parts.answer(parts.select(parts.sample(questions)))
    assert {row.question.id for row in again if not row.answer.frame_times} == {"broken"}
    assert loads == ["sampler", "answerer"]


class FirstAlone:
    """Draws all works and gives the relevances of the first."""

    name = "first_alone"

    def identity(self) -> Mapping[str, object]:
        return {"version": 1}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, *_: object) -> list[Relevance]:
        raise AssertionError("streams are scored together")

    def score_stream(self, works: Iterable[Work]) -> Iterator[list[Relevance]]:
        first, *_ = list(works)
        yield [Relevance(question.id, (0.0,), (1.0,)) for question in first.questions]

    def close(self) -> None:
        pass


def test_works_that_a_sampler_gives_nothing_for_are_failures_and_not_left_out(parts: Parts, videos: Path) -> None:
    questions = questions_of(videos)
    rows = {row.question.id: row for row in sample(questions, FirstAlone(), parts.reader, parts.cache, parts.folder)}
    statuses = {question_id: row.relevance.status for question_id, row in rows.items()}
    assert statuses == {
        "0-colour": Status.OK,
        "0-shape": Status.OK,
        "1-colour": Status.INVALID_OUTPUT,
        "1-shape": Status.INVALID_OUTPUT,
    }
    assert "0 relevances for 2 questions" in rows["1-shape"].relevance.detail


def test_a_sampler_that_writes_prose_gives_a_status_and_no_answer(parts: Parts, videos: Path) -> None:
    """A random model writes noise, which holds no scores; without a declared fallback nothing is answered."""
    from omegaconf import OmegaConf

    questions = questions_of(videos)[:1]
    relevances = parts.sample(questions)
    assert relevances[0].relevance.status in (Status.NO_SCORES, Status.TRUNCATED_OUTPUT)
    OmegaConf.update(parts.config, "selection.fallback", "none")
    (row,) = parts.answer(parts.select(relevances))
    assert row.answer.status is relevances[0].relevance.status
    assert row.answer.text == ""
    assert row.correct is False


MANY = 16
"""Questions enough that an interrupt finds the second stage at work."""


def evaluate_words(checkpoints: Path, videos: Path, folder: Path) -> list[str]:
    rows = [
        {
            "video": str(videos / f"{number % 2}.mp4"),
            "question": f"what is {number}?",
            "options": ["a", "b"],
            "answer": "a",
        }
        for number in range(MANY)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("evaluate", "benchmark=jsonl", f"benchmark.path={folder / 'questions.jsonl'}"),
        *("sampler=gens_3b", f"sampler.checkpoint.source={checkpoints / 'sampler'}", "sampler.window.frames=8"),
        *("sampler.frame={height: 56, width: 56}", "sampler.max_new_tokens=12", "selection=topk_filled"),
        *("selection.budget=4", "answerer=qwen2_vl_7b", f"answerer.checkpoint.source={checkpoints / 'answerer'}"),
        *("execution.answer_batch=1", f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}"),
    ]


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL])
def test_an_interrupted_command_goes_on_where_it_was(
    checkpoints: Path, videos: Path, tmp_path: Path, how: signal.Signals
) -> None:
    words = evaluate_words(checkpoints, videos, tmp_path)
    command = [sys.executable, "-m", "pipeline", *words]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (found := list(tmp_path.glob("runs/*/answers.jsonl"))) or not found[0].stat().st_size:
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.005)
    os.kill(running.pid, how)
    _, said = running.communicate()
    assert running.returncode == (130 if how is signal.SIGINT else -9), said
    finished = [line for line in found[0].read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert 0 < len(finished) < MANY

    again = gens(*words, cwd=tmp_path)
    assert again.returncode in (0, 1), again.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1
    lines = found[0].read_bytes().splitlines(keepends=True)
    assert lines[: len(finished)] == finished
    assert len(lines) == MANY


def test_more_frames_than_fit_are_refused_or_cut_by_the_rule(parts: Parts, videos: Path, tmp_path: Path) -> None:
    write_qwen2_vl(tmp_path / "short", context=160)
    parts.config.answerer.checkpoint.source = str(tmp_path / "short")
    parts.config.answerer.max_new_tokens = 4
    parts.config.sampler = parts.config.sampler.copy()
    selections = parts.select(parts.sample(questions_of(videos)), budget=24)
    times = {row.question.id: [frame.time for frame in row.selection.frames] for row in selections}
    scores = {row.question.id: {frame.time: frame.score or 0.0 for frame in row.selection.frames} for row in selections}
    assert {row.answer.status for row in parts.answer(selections)} == {Status.CONTEXT_EXCEEDED}
    for row in parts.answer(selections, over_limit=OverLimit.KEEP_BEST):
        answer, scored = row.answer, scores[row.question.id]
        assert answer.cost.output_tokens > 0
        assert answer.left_out
        assert sorted((*answer.frame_times, *answer.left_out)) == times[row.question.id]
        assert min(scored[time] for time in answer.frame_times) >= max(scored[time] for time in answer.left_out)
    resumed = read_rows(AnswerRow, parts.folder / ANSWERS_FILE, by_id(questions_of(videos)))
    assert {row.answer.status for row in parts.answer(selections)} == {Status.CONTEXT_EXCEEDED}
    assert len(read_rows(AnswerRow, parts.folder / ANSWERS_FILE, by_id(questions_of(videos)))) <= len(resumed)
