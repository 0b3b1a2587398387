"""The page of a pair: what changed, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Cards, dom, needs_browser
from sweep_on_disk import Sweep
from test_page import Page

from pipeline.benchmarks.comparison import common_questions, compare, same_questions
from pipeline.errors import InputError
from pipeline.reports.paired import PAIRED_FILE, report_on_pair
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.video import Reader

READER = Reader(name="default", backend="auto", threads=1, image_fps=1.0)


@pytest.fixture(scope="module")
def pair(sweep: Sweep) -> tuple[RunArtefacts, RunArtefacts]:
    runs = {run.name: run for run in collect([sweep.folder])}
    return runs["uniform-qwen2_vl_micro"], runs["gens_micro-qwen2_vl_micro"]


def _page(first: RunArtefacts, second: RunArtefacts, folder: Path) -> Path:
    questions = common_questions(first.questions, second.questions)
    comparison = compare(first.answers, second.answers, questions)
    return report_on_pair(first, second, comparison, READER, folder)


@pytest.fixture(scope="module")
def page(pair: tuple[RunArtefacts, RunArtefacts], tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = _page(*pair, tmp_path_factory.mktemp("pair"))
    assert page.name == PAIRED_FILE
    return page


def test_flipped_questions_stand_with_both_selections(page: Path) -> None:
    read = Page(page.read_text(encoding="utf-8"))
    assert [card["data-marks"] for card in read.all("article")] == ["gained:0,1", "gained:0,1"]
    card = read.card("kitchen-1")
    assert "<h4>First: uniform</h4>" in card
    assert "<h4>Second: gens_micro</h4>" in card
    assert card.count("<img") == 16
    assert re.search(r'<th scope="row">first</th><td><span class="chip chip-wrong">✗ D<', card)
    assert re.search(r'<th scope="row">second</th><td><span class="chip chip-right">✓ B<', card)
    assert "kitchen-2" not in read.text, "wrong in both"


def test_difference_is_told_in_points_with_its_interval(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<strong>+40.0</strong>" in text
    title = re.search(r"<h1>(.*?)</h1>", text).group(1)
    assert re.fullmatch(
        r"No difference shown between gens_micro → qwen2_vl_micro and uniform → qwen2_vl_micro:"
        r" 40\.0 points \(-\S+ to \S+\), 5 questions",
        title,
    )
    assert '<p class="lede">two_videos · 5 questions compared' in text
    assert "0 right in both, 3 wrong in both, 2 right in the second alone, 0 right in the first alone" in text
    assert re.search(r"p = 0\.5<", text)
    assert '<h2 id="groups-heading">' in text


def test_costs_are_those_of_the_questions_that_are_compared(
    pair: tuple[RunArtefacts, RunArtefacts], page: Path, tmp_path: Path
) -> None:
    first, second = pair
    few = first.questions[:2]
    other = report_on_pair(first, second, compare(first.answers, second.answers, few), READER, tmp_path)
    for path, asked in ((page, common_questions(first.questions, second.questions)), (other, few)):
        section = re.search(r'id="curve-heading">(.*?)</section>', path.read_text(encoding="utf-8"), re.S).group(1)
        assert "<code>gens evaluate " in section  # of the runs that are missing
        (row,) = (row for row in section.split("<tr>")[1:] if "gens_micro →" in row)
        ids = {question.id for question in asked}
        of_sampler = [one.relevance.cost.seconds for one in second.relevance if one.question.id in ids]
        of_answerer = [one.answer.cost.seconds for one in second.answers if one.question.id in ids]
        mean = sum(of_sampler) / len(of_sampler) + sum(of_answerer) / len(of_answerer)
        assert re.findall(r'<td class="figure">([^<]*)', row)[3] == f"{mean:.3g}"


def test_settings_that_differ_are_named_as_overrides(page: Path) -> None:
    table = re.search(r'id="settings-heading">(.*?)</section>', page.read_text(encoding="utf-8"), re.S).group(1)
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', table) == [
        ("sampler.name", "uniform", "gens_micro")
    ]


def test_runs_with_the_same_frames_show_them_once(sweep: Sweep, tmp_path: Path) -> None:
    runs = {run.name: run for run in collect([sweep.folder])}
    page = _page(runs["gens_micro-llava_onevision_micro"], runs["gens_micro-qwen2_vl_micro"], tmp_path / "one.html")
    card = Page(page.read_text(encoding="utf-8")).card("kitchen-2")
    assert "<h4>First and second: gens_micro</h4>" in card
    assert card.count("<img") == 8
    assert card.count('class="answer"') == 2


def test_runs_of_one_name_and_moved_videos_are_still_a_pair(
    pair: tuple[RunArtefacts, RunArtefacts], tmp_path: Path
) -> None:
    first, second = pair
    moved = replace(
        second,
        name=first.name,
        asked=(),
        **{
            part: tuple(
                replace(row, question=replace(row.question, video="/elsewhere.mp4")) for row in getattr(second, part)
            )
            for part in ("relevance", "selections", "answers")
        },
    )
    read = Page(_page(first, moved, tmp_path).read_text(encoding="utf-8"))
    assert len(read.all("article")) == 2


def test_run_against_itself_has_no_flip(pair: tuple[RunArtefacts, RunArtefacts], tmp_path: Path) -> None:
    text = _page(pair[0], pair[0], tmp_path).read_text(encoding="utf-8")
    assert "No question flipped." in text
    assert "The recorded settings are the same." in text


def test_runs_over_different_questions_are_no_pair(pair: tuple[RunArtefacts, RunArtefacts]) -> None:
    first, second = pair
    with pytest.raises(InputError, match="different questions"):
        same_questions(first.questions, second.questions[:3])


@needs_browser
def test_lost_and_gained_can_be_chosen(page: Path, tmp_path: Path) -> None:
    assert Cards(dom(page, tmp_path, "show=gained")).visible == ["q-1", "q-2"]
    assert Cards(dom(page, tmp_path, "show=lost")).visible == []


def test_answers_that_are_missing_are_told_before_any_figure(
    pair: tuple[RunArtefacts, RunArtefacts], tmp_path: Path
) -> None:
    first, second = pair
    text = _page(replace(first, answers=first.answers[:2]), second, tmp_path).read_text(encoding="utf-8")
    note = text.index("First is unfinished.")
    assert note < text.index('id="difference-heading"')
    assert "4 questions without an answer yet" in text[note : note + 200]
    assert "Second is unfinished" not in text


def test_answers_of_another_program_are_neither_unfinished_nor_set_otherwise(
    pair: tuple[RunArtefacts, RunArtefacts], tmp_path: Path
) -> None:
    foreign = RunArtefacts("samples.jsonl", answers=pair[0].answers, asked=pair[0].questions)
    text = _page(foreign, pair[1], tmp_path).read_text(encoding="utf-8")
    assert "unfinished" not in text
    assert "First: no settings are recorded." in text
    assert '<th scope="row">sampler' not in text
