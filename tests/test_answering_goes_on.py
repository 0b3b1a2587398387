"""What stage 2 holds at once, and what is left of it when something else than memory breaks in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from made import write_video
from tiny import write_qwen2_vl

from pipeline import answer_requests, orchestrator
from pipeline.answer_requests import OverLimit
from pipeline.artefacts.cache import AnswerCache
from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection, Status, Subtitles
from pipeline.execution.answering import AnswerWorker, Showing
from pipeline.execution.units import AnswerUnit, Lost
from pipeline.subtitles import SubtitleChoice

QUESTIONS, FRAMES = 7, 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2_vl(tmp_path_factory.mktemp("answerer"))


class Stage:
    """Seven questions of one video, each with frames of its own."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        register_resolvers()
        settings = [f"answerer.checkpoint.source={checkpoint}", "answerer.checkpoint.device=cpu"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("evaluate", ["answerer=qwen2_vl_7b", *settings, "answerer.max_new_tokens=6"])
        self.folder = folder
        self.answerer: Any = build(config.answerer, "answerer")
        self.reader: Any = build(config.reader, "reader")
        video = self.reader.probe(str(write_video(folder / "clip.mp4")))
        self.rows = [
            SelectionRow("k", "uniform", Question(f"q{n}", video.path, f"What is {n}?"), video, self._selection(n))
            for n in range(QUESTIONS)
        ]

    @property
    def asked(self) -> dict[str, Question]:
        return {row.question.id: row.question for row in self.rows}

    @staticmethod
    def _selection(number: int) -> Selection:
        times = [number + 0.25 * place for place in range(FRAMES)]
        frames = tuple(SelectedFrame(time, int(4 * time), None, FrameOrigin.UNIFORM) for time in times)
        return Selection(f"q{number}", frames, "uniform", FRAMES)

    def answers(
        self,
        name: str,
        batch: int = 2,
        over_limit: OverLimit = OverLimit.REFUSE,
        subtitles: SubtitleChoice = SubtitleChoice.NONE,
    ) -> list[AnswerRow]:
        folder = self.folder / name
        cache = AnswerCache(folder / "cache")
        return orchestrator.answer(self.rows, self.answerer, self.reader, cache, over_limit, subtitles, batch, folder)


@pytest.fixture
def stage(checkpoint: Path, tmp_path: Path) -> Stage:
    return Stage(checkpoint, tmp_path)


def test_no_more_frames_are_decoded_at_once_than_may_be_held(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    class Spy(answer_requests.PassOverVideo):
        def frames(self) -> Any:
            passes.append(len({frame.time for row in self.rows for frame in row.selection.frames}))
            return super().frames()

    monkeypatch.setattr(answer_requests, "PassOverVideo", Spy)
    expected = [row.answer.text for row in stage.answers("whole", batch=16)]
    assert passes == [QUESTIONS * FRAMES]
    for room, held in ((2 * FRAMES, 2 * FRAMES), (1, FRAMES)):  # a single question's frames always go
        passes.clear()
        monkeypatch.setattr(answer_requests, "_DECODED_BYTES", room * 64 * 64 * 3)
        assert [row.answer.text for row in stage.answers(f"parts{room}", batch=16)] == expected
        assert max(passes) == held
        assert sum(passes) == QUESTIONS * FRAMES


def test_an_error_of_the_device_loses_no_answer_that_stands(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [row.answer.text for row in stage.answers("whole")]
    model = stage.answerer.model
    prefill, calls = model.prefill, []

    def breaks(*prompt: Any) -> Any:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return prefill(*prompt)

    with monkeypatch.context() as patched:
        patched.setattr(model, "prefill", breaks)
        with pytest.raises(RuntimeError, match="device-side assert"):
            stage.answers("broken")
    kept = read_rows(AnswerRow, stage.folder / "broken" / ANSWERS_FILE, stage.asked)
    assert [row.question.id for row in kept] == ["q0", "q1", "q2", "q3"]
    assert [row.answer.text for row in stage.answers("broken")] == expected


def test_an_error_in_drawing_loses_no_answer_that_stands(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are read in another thread, ahead of the model."""

    class Breaks(answer_requests.PassOverVideo):
        def frames(self) -> Any:
            if self.rows[0].question.id == "q6":
                raise OSError("Stale file handle")
            return super().frames()

    with monkeypatch.context() as patched:
        patched.setattr(answer_requests, "PassOverVideo", Breaks)
        with pytest.raises(OSError, match="Stale file handle"):
            stage.answers("broken")
    assert len(read_rows(AnswerRow, stage.folder / "broken" / ANSWERS_FILE, stage.asked)) == QUESTIONS - 1
    assert len(stage.answers("broken")) == QUESTIONS


def test_questions_are_answered_while_there_is_no_further_one_yet(stage: Stage) -> None:
    """As of a server, to which they come one at a time."""
    expected = {row.question.id: row.answer.text for row in stage.answers("whole")}
    showing = Showing(OverLimit.REFUSE, SubtitleChoice.NONE, 8)
    worker = AnswerWorker(stage.answerer, stage.reader, AnswerCache(stage.folder / "other"), showing)
    found: dict[str, str] = {}

    def units() -> Iterator[AnswerUnit | None]:
        yield None
        for number, row in enumerate(stage.rows[:3]):
            yield AnswerUnit(row.video.path, ((f"k{number}", row),))  # type: ignore[union-attr]
            for _ in range(1000):
                if row.question.id in found:
                    break
                yield None
            assert row.question.id in found

    for row in worker.rows(units()):
        found[row.question.id] = row.answer.text
    assert found == {row.question.id: expected[row.question.id] for row in stage.rows[:3]}


def test_an_answer_that_was_kept_before_two_workers_died_is_no_crash(stage: Stage) -> None:
    cache = AnswerCache(stage.folder / "other")
    worker = AnswerWorker(stage.answerer, stage.reader, cache, Showing(OverLimit.REFUSE, SubtitleChoice.NONE, 8))
    cache.keep("a0", Answer("q0", "a square"))
    unit = AnswerUnit("clip.mp4", tuple((f"a{number}", row) for number, row in enumerate(stage.rows[:2])))
    given = worker.lost(Lost(unit, "SIGSEGV"))
    assert [(row.answer.text, row.answer.status) for row in given] == [("a square", Status.OK), ("", Status.CRASHED)]
    assert cache.find("a0", "q0") == given[0].answer


def test_who_stops_waits_for_no_further_question(stage: Stage) -> None:
    showing = Showing(OverLimit.REFUSE, SubtitleChoice.NONE, 8)
    worker = AnswerWorker(stage.answerer, stage.reader, AnswerCache(stage.folder / "other"), showing)
    first = AnswerUnit(stage.rows[0].video.path, (("k", stage.rows[0]),))  # type: ignore[union-attr]
    rows: Any = worker.rows(chain([first], repeat(None)))
    assert next(rows).question.id == "q0"
    rows.close()


@pytest.mark.parametrize("tokens", [1, 6])
def test_how_a_text_ended_stands_in_its_record(stage: Stage, tokens: int) -> None:
    stage.answerer = replace(stage.answerer, max_new_tokens=tokens)
    for row in stage.answers("finish"):
        cut = row.answer.cost.output_tokens == tokens
        assert row.answer.finish == ("length" if cut else "stop")


@pytest.mark.parametrize("placement", ["before_question", "between_frames"])
def test_the_best_frames_bring_their_own_lines(stage: Stage, tmp_path: Path, placement: str) -> None:
    """The lines of all frames would leave no room; those of the kept ones do."""
    said = tmp_path / "clip.srt"
    cues = (f"{n + 1}\n00:00:{n:02d},000 --> 00:00:{n:02d},900\n{'word ' * (4 + n)}\n" for n in range(11))
    said.write_text("\n".join(cues))
    small = write_qwen2_vl(tmp_path / "small", context=330)
    checkpoint = replace(stage.answerer.checkpoint, source=str(small))
    block = stage.answerer.prompt.subtitles.block if placement == "before_question" else ""
    form = replace(stage.answerer.prompt.subtitles, placement=placement, block=block)
    prompt = replace(stage.answerer.prompt, subtitles=form)
    stage.answerer = replace(stage.answerer, checkpoint=checkpoint, prompt=prompt, max_pixels=6400)
    frames = tuple(SelectedFrame(float(n), 4 * n, float(n % 4), FrameOrigin.SAMPLER) for n in range(11))
    row = stage.rows[0]
    question = replace(row.question, subtitles=Subtitles(str(said)))
    stage.rows = [replace(row, question=question, selection=replace(row.selection, frames=frames, budget=11))]
    given = {"over_limit": OverLimit.KEEP_BEST, "subtitles": SubtitleChoice.AT_FRAMES}
    (refused,) = stage.answers("refused", subtitles=SubtitleChoice.AT_FRAMES)
    assert refused.answer.status is Status.CONTEXT_EXCEEDED
    assert "subtitles=none" in refused.answer.detail
    (kept,) = stage.answers("kept", **given)  # type: ignore[arg-type]
    shown = len(kept.answer.frame_times)
    assert kept.answer.cost.output_tokens > 0
    assert 0 < shown < len(frames)
    assert len(kept.answer.left_out) == len(frames) - shown
    assert f"{shown} line" in kept.answer.form


def scaled(rows: Sequence[SelectionRow], scale: float) -> list[SelectionRow]:
    def selection(row: SelectionRow) -> Selection:
        return replace(row.selection, frames=tuple(replace(frame, scale=scale) for frame in row.selection.frames))

    return [replace(row, selection=selection(row)) for row in rows]


def test_a_selections_scale_reaches_the_answerer_or_is_refused_by_name(stage: Stage) -> None:
    plain = stage.answers("plain")
    stage.rows = scaled(stage.rows, 2.0)
    larger = stage.answers("larger")
    assert {row.answer.status for row in larger} == {Status.OK}
    for one, two in zip(plain, larger, strict=True):
        assert two.answer.cost.prompt_tokens > one.answer.cost.prompt_tokens
    stage.answerer = replace(stage.answerer, frame_size=(56, 56))
    for over_limit in OverLimit:
        for row in stage.answers(f"fixed {over_limit}", over_limit=over_limit):
            assert row.answer.status is Status.UNSUPPORTED
            assert "scaled by 2" in row.answer.detail
