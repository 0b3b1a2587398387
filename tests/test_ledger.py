"""What two questions about one video take, computed by hand: as spent, as if each were alone, and from the cache."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from made import write_video
from test_orchestrator import Parts, checkpoints

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, from_line, to_line
from pipeline.domain import Answer, Cost, Question, Relevance
from pipeline.ledger import FIGURES, added, alone, figure, figures_of, known, scaled, spent, total
from pipeline.reports.costs import StageCost, stage_costs
from pipeline.reports.exports import write_exports
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import score

__all__ = ["checkpoints"]

CANDIDATES = 12  # one a second of 12 s
PIXELS = 64 * 64
TOKENS, PATCHES = 4, 16  # of a frame of 56 x 56: 28 x 28 pixels are a token, 14 x 14 a patch
FRAMES = 4  # the budget


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> tuple[Path, list[Question]]:
    """The same two questions about one video in two run folders: the second one takes all from the cache."""
    folder = tmp_path_factory.mktemp("ledger")
    write_video(folder / "0.mp4")
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
    names = ("pool", "frames_scored", "patches", "visual_tokens", "frames_decoded", "pixels")
    each = [CANDIDATES, 6, 6 * PATCHES, 6 * TOKENS, 6, 6 * PIXELS]
    assert figures([spent(row) for row in rows], *names) == [each, each]
    whole = [CANDIDATES, 12, 12 * PATCHES, 12 * TOKENS, 12, 12 * PIXELS]
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
    for row in rows:
        assert alone(row).prompt_tokens > FRAMES * TOKENS
        parts = ("decode_seconds", "prepare_seconds", "prefill_seconds", "generate_seconds")
        assert alone(row).seconds == pytest.approx(sum(alone(row).more[name] for name in parts))


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
    assert sampler["seconds"] == again["seconds"] == pytest.approx(sampler["spent"]["seconds"])

    with (tmp_path / "questions.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["run"], row["id"]))
    assert [row["sampler_visual_tokens"] for row in rows] == ["48.0"] * 4
    assert [row["sampler_visual_tokens_spent"] for row in rows] == ["24.0", "24.0", "0.0", "0.0"]
    assert sum(float(row["answerer_visual_tokens_spent"]) for row in rows) == pytest.approx(16)
    assert [row["answerer_visual_tokens"] for row in rows] == ["16.0"] * 4
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
    old = from_line(RelevanceRow, json.dumps(fields), "here", {"q": question})
    assert old == row
    assert old is not None
    assert spent(old.relevance) == alone(old.relevance) == Cost(2.0, 10, 1)


def test_costs_add_up_and_are_divided() -> None:
    one, other = Cost(1.0, 2, 3, 0.5, {"patches": 4.0}, "cpu"), Cost(2.0, 1, 1, 0.0, {"pool": 5.0}, "cpu")
    assert total((one, other)) == Cost(3.0, 3, 4, 0.5, {"patches": 4.0, "pool": 5.0}, "cpu")
    assert total((one, Cost(device="H100"))).device == ""
    assert added(one, scaled({"patches": 6.0}, 0.5)).more == {"patches": 7.0}
    assert len({each.name for each in FIGURES}) == len(FIGURES)
    answer = Answer("q", "A", cost=one)
    assert len(known(answer.cost, alone(answer), "answerer")) == 2 * len(figures_of("answerer"))
