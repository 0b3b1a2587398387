"""What two questions about one video take, computed by hand: as spent, as if each were alone, and from the cache."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from made import write_video
from test_orchestrator import Parts, checkpoints

from pipeline.answer_requests import PassOverVideo
from pipeline.artefacts.cache import RelevanceCache
from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow, from_line, to_line
from pipeline.domain import (
    Answer,
    Cost,
    FrameOrigin,
    FrameSource,
    Question,
    Relevance,
    SelectedFrame,
    Selection,
    Video,
)
from pipeline.execution.sampling import SampleWorker
from pipeline.execution.units import SampleUnit
from pipeline.ledger import FIGURES, added, alone, figure, figures_of, known, scaled, spent, total
from pipeline.reports.costs import StageCost, stage_costs
from pipeline.reports.exports import write_exports
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import score
from pipeline.video import Reader

__all__ = ["checkpoints"]

CANDIDATES = 12  # one a second of 12 s
WALKED = 45  # of the 48 frames, up to the last candidate; it would take more to start anew
PIXELS = 64 * 64
TOKENS, PATCHES = 4, 16  # of a frame of 56 x 56: 28 x 28 pixels are a token, 14 x 14 a patch
FRAMES = 4  # the budget


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> tuple[Path, list[Question]]:
    """The same two questions about one video in two run folders: the second one takes all from the cache."""
    folder = tmp_path_factory.mktemp("ledger")
    write_video(folder / "0.mp4", codec="mpeg4")
    questions = [
        Question(f"q{place}", str(folder / "0.mp4"), text, ("red", "blue"), 0)
        for place, text in enumerate(("what colour is it?", "what shape is it in the end?"))
    ]
    parts = Parts(checkpoints, folder)
    for name in ("first", "second"):
        parts.folder = folder / "runs" / name
        parts.folder.mkdir(parents=True)
        write_questions(questions, parts.folder)
        parts.answer(parts.select(parts.sample(questions)))
    return folder / "runs", questions


@pytest.fixture(scope="module")
def read(runs: tuple[Path, list[Question]]) -> dict[str, RunArtefacts]:
    return {run.name: run for run in collect([runs[0]])}


def figures(costs: list[Cost], *names: str) -> list[list[float | None]]:
    return [[figure(cost, name) for name in names] for cost in costs]


def test_a_sampler_shares_frames_and_counts_them_whole_for_a_question_alone(read: dict[str, RunArtefacts]) -> None:
    rows = [row.relevance for row in read["first"].relevance]
    names = ("pool", "frames_scored", "patches", "visual_tokens", "frames_decoded", "pixels", "frames_walked")
    each = [CANDIDATES, 6, 6 * PATCHES, 6 * TOKENS, 6, 6 * PIXELS, WALKED / 2]
    assert figures([spent(row) for row in rows], *names) == [each, each]
    whole = [CANDIDATES, 12, 12 * PATCHES, 12 * TOKENS, 12, 12 * PIXELS, WALKED]
    assert figures([alone(row) for row in rows], *names) == [whole, whole]
    for row in rows:
        shared = alone(row).prompt_tokens - row.cost.prompt_tokens
        assert 12 * TOKENS / 2 <= shared <= alone(row).prompt_tokens / 2  # half of the frames and of their labels
        assert alone(row).seconds == pytest.approx(2 * row.cost.seconds)
        assert row.cost.device == "cpu"
        parts = ("score_seconds", "prefill_seconds", "generate_seconds", "decode_seconds")
        assert all(row.cost.more[name] >= 0 for name in parts)
        assert row.cost.output_tokens == alone(row).output_tokens == 2 * 12  # of two windows, cut at 12


def test_an_answerer_shares_the_frames_that_are_read_once(read: dict[str, RunArtefacts]) -> None:
    first = read["first"]
    shown = [tuple(frame.time for frame in row.selection.frames) for row in first.selections]
    assert shown[0] == shown[1]  # the random model names none, so both have the same
    assert len(shown[0]) == FRAMES
    rows = [row.answer for row in first.answers]
    names = ("frames_shown", "image_pixels", "patches", "visual_tokens", "frames_decoded", "pixels", "rounds")
    whole = [FRAMES, FRAMES * 56 * 56, FRAMES * PATCHES, FRAMES * TOKENS, FRAMES, FRAMES * PIXELS, 1]
    assert figures([alone(row) for row in rows], *names) == [whole, whole]
    paid = [sum(figure(spent(row), name) or 0 for row in rows) for name in names]
    assert paid == pytest.approx([2 * FRAMES, *whole[1:6], 2])  # all that is read and decoded once is paid for once
    assert [figure(spent(row), "frames_decoded") for row in rows] == [FRAMES / 2, FRAMES / 2]
    assert figures([alone(row) for row in rows], "frames_walked") == [[48], [48]]  # to the last of 0, 15, 31 and 47
    assert figures([spent(row) for row in rows], "frames_walked") == [[24], [24]]
    for row in rows:
        assert alone(row).prompt_tokens > FRAMES * TOKENS
        parts = ("decode_seconds", "prepare_seconds", "prefill_seconds", "generate_seconds")
        assert alone(row).seconds == pytest.approx(sum(alone(row).more[name] for name in parts))


def test_frames_on_the_way_are_those_of_a_question_alone_and_shared_by_these(tmp_path: Path) -> None:
    reader = Reader("test", "auto", 1, 1.0)
    video = reader.probe(write_video(tmp_path / "0.mp4", codec="mpeg4"))

    def walked(*wanted: tuple[int, ...]) -> dict[str, tuple[float, float]]:
        rows = []
        for name, indices in zip("ab", wanted, strict=False):
            frames = tuple(SelectedFrame(index / 4, index, None, FrameOrigin.UNIFORM) for index in indices)
            question = Question(name, video.path, "?")
            rows.append(SelectionRow("k", "uniform", question, video, Selection(name, frames, "", len(frames))))
        each = PassOverVideo(video.path, video.fingerprint, rows, reader, lambda: None)
        with closing(each):
            each.frames()
            told = each.figures()
        return {name: (cost["frames_walked"], whole["frames_walked"]) for name, (cost, whole) in told.items()}

    # Decoding can start at 0, 12, 24 and 36: to 11 it takes 12 frames, to 38 three, and to 13 two more than to 11.
    assert walked((11, 38)) == {"a": (15, 15)}
    assert walked((13, 38)) == {"a": (5, 5)}
    assert walked((11, 38), (13, 38)) == {"a": (17 * 15 / 20, 15), "b": (17 * 5 / 20, 5)}


def test_of_frames_read_before_it_was_counted_the_way_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler that has frames from an earlier version, and reads others."""

    class Scores:
        name, took = "both", {"frames_decoded": 12.0}

        def identity(self) -> dict[str, str]:
            return {"kind": "both"}

        def query(self, question: Question) -> str:
            return question.text

        def score(self, video: Video, frames: FrameSource, questions: list[Question]) -> list[Relevance]:
            list(frames.frames_at([0.0, 11.0]))
            (asked,) = questions
            return [Relevance(asked.id, (0.0,), (1.0,), cost=Cost(1.0), alone=Cost(1.0, more=self.took))]

        def close(self) -> None: ...

    question = Question("q", str(write_video(tmp_path / "0.mp4", codec="mpeg4")), "?")
    reader, cache = Reader("test", "auto", 1, 1.0), RelevanceCache(tmp_path / "cache")
    (row,) = SampleWorker(Scores(), reader, cache).rows([SampleUnit(question.video, (question,))])
    assert row.relevance.cost.more["frames_walked"] == 10  # 0, and 36 to 44
    assert alone(row.relevance).more["frames_decoded"] == 14
    assert figure(alone(row.relevance), "frames_walked") is None
    monkeypatch.setattr(Scores, "took", {"frames_decoded": 12.0, "frames_walked": 45.0})
    (row,) = SampleWorker(Scores(), reader, RelevanceCache(tmp_path / "new")).rows(
        [SampleUnit(question.video, (question,))]
    )
    assert figure(alone(row.relevance), "frames_walked") == 55


def test_a_result_from_the_cache_spends_nothing_and_costs_what_it_cost(read: dict[str, RunArtefacts]) -> None:
    for rows in ("relevance", "answers"):
        before, after = (
            [
                getattr(row, "relevance", None) or row.answer
                for row in sorted(getattr(read[name], rows), key=lambda row: row.question.id)
            ]
            for name in ("first", "second")
        )
        assert [each.cached for each in before] == [False, False]
        assert [each.cached for each in after] == [True, True]
        assert [spent(each) for each in after] == [Cost(), Cost()]
        assert [(each.cost, each.alone) for each in after] == [(each.cost, each.alone) for each in before]


def test_the_same_command_again_leaves_what_was_spent(runs: tuple[Path, list[Question]], checkpoints: Path) -> None:
    folder, questions = runs
    parts = Parts(checkpoints, folder.parent)
    parts.folder = folder / "first"
    before = {path.name: path.read_bytes() for path in parts.folder.glob("*.jsonl")}
    parts.answer(parts.select(parts.sample(questions)))
    assert {path.name: path.read_bytes() for path in parts.folder.glob("*.jsonl")} == before


def test_summary_and_table_have_both_reckonings(read: dict[str, RunArtefacts], tmp_path: Path) -> None:
    write_exports([score(run) for run in read.values()], tmp_path, "target=...")
    told = json.loads((tmp_path / "summary.json").read_text())["runs"]
    stages = {(run["run"], stage["stage"]): stage for run in told for stage in run["stages"]}
    sampler, again = stages["first", "sampler"], stages["second", "sampler"]
    assert (sampler["cached"], sampler["spent"]["visual_tokens"]) == (0, 12 * TOKENS)
    assert (again["cached"], again["spent"]["visual_tokens"], again["spent"]["seconds"]) == (2, 0, 0)
    assert sampler["alone"]["visual_tokens"] == again["alone"]["visual_tokens"] == 2 * 12 * TOKENS
    assert stages["first", "answerer"]["spent"]["visual_tokens"] == FRAMES * TOKENS
    assert stages["first", "answerer"]["alone"]["visual_tokens"] == 2 * FRAMES * TOKENS
    assert (sampler["spent"]["frames_walked"], again["spent"]["frames_walked"]) == (WALKED, 0)
    assert sampler["alone"]["frames_walked"] == again["alone"]["frames_walked"] == 2 * WALKED
    assert sampler["seconds"] == again["seconds"] == pytest.approx(sampler["spent"]["seconds"])

    with (tmp_path / "questions.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["run"], row["id"]))
    assert [row["sampler_visual_tokens"] for row in rows] == ["48.0"] * 4
    assert [row["sampler_visual_tokens_spent"] for row in rows] == ["24.0", "24.0", "0.0", "0.0"]
    assert sum(float(row["answerer_visual_tokens_spent"]) for row in rows) == pytest.approx(16)
    assert [row["answerer_visual_tokens"] for row in rows] == ["16.0"] * 4
    assert [row["sampler_frames_walked"] for row in rows] == ["45.0"] * 4
    assert [row["sampler_frames_walked_spent"] for row in rows] == ["22.5", "22.5", "0.0", "0.0"]
    assert [row["answerer_cached"] for row in rows] == ["False", "False", "True", "True"]
    assert {row["sampler_device"] for row in rows} == {"cpu"}


def test_what_is_not_known_of_all_rows_has_no_mean() -> None:
    def stage(*answers: Answer) -> StageCost:
        rows = tuple(AnswerRow("k", "gens", "qwen", Question(each.question_id, "v", "?"), each) for each in answers)
        (found,) = stage_costs(RunArtefacts("run", answers=rows))
        return found

    tells = Answer("a", "A", cost=Cost(1.0, 100, 2, more={"visual_tokens": 80.0, "frames_shown": 4}))
    silent = Answer("b", "A", cost=Cost(3.0, 100, 2, more={"frames_shown": 4}))
    never_sent = Answer("c", "")
    assert stage(tells, never_sent).alone("visual_tokens") == 40  # a failure keeps its cost, which may be nothing
    assert stage(tells, silent).alone("visual_tokens") is None
    assert stage(tells, silent).alone("seconds") == 2.0
    assert stage(tells, silent).took.alone["visual_tokens"] == 80


def test_rows_of_before_the_ledger_are_what_they_were() -> None:
    question = Question("q", "v.mp4", "?")
    row = RelevanceRow("k", "gens", question, None, Relevance("q", (), (), cost=Cost(2.0, 10, 1)))
    fields = json.loads(to_line(row))
    for name in ("alone", "cached"):
        del fields["relevance"][name]
    del fields["relevance"]["cost"]["device"]
    fields["relevance"]["cost"]["more"] = {"frames_decoded": 12.0}  # before frames on the way were counted
    old = from_line(RelevanceRow, json.dumps(fields), "here", {"q": question})
    assert old is not None
    assert old.relevance == replace(row.relevance, cost=Cost(2.0, 10, 1, more={"frames_decoded": 12.0}))
    assert spent(old.relevance) == alone(old.relevance) == old.relevance.cost
    assert figure(old.relevance.cost, "frames_walked") is None
    (cost,) = stage_costs(RunArtefacts("run", relevance=(old,)))
    assert (cost.alone("frames_decoded"), cost.alone("frames_walked")) == (12, None)
    assert "frames_walked" not in cost.took.spent


def test_costs_add_up_and_are_divided() -> None:
    one, other = Cost(1.0, 2, 3, 0.5, {"patches": 4.0}, "cpu"), Cost(2.0, 1, 1, 0.0, {"pool": 5.0}, "cpu")
    assert total((one, other)) == Cost(3.0, 3, 4, 0.5, {"patches": 4.0, "pool": 5.0}, "cpu")
    assert total((one, Cost(device="H100"))).device == ""
    assert added(one, scaled({"patches": 6.0}, 0.5)).more == {"patches": 7.0}
    assert len({each.name for each in FIGURES}) == len(FIGURES)
    answer = Answer("q", "A", cost=one)
    assert len(known(answer.cost, alone(answer), "answerer")) == 2 * len(figures_of("answerer"))
