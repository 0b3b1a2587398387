"""Intervals, others' counts, curves against frames, groups, failures, costs, and the files for programs."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from sweep_on_disk import Sweep
from thousand import make_thousand

from pipeline.config import conf_dir, register_resolvers
from pipeline.domain import Cost, Status
from pipeline.reports.cards import run_labels
from pipeline.reports.charts import Series, Value, chart
from pipeline.reports.choosing import choices
from pipeline.reports.cost_curves import cost_curve
from pipeline.reports.costs import stage_costs
from pipeline.reports.curves import accuracy_chart, groups, recall_chart
from pipeline.reports.document import thousands
from pipeline.reports.exports import COLUMNS
from pipeline.reports.failures import failures
from pipeline.reports.outlines import outlines
from pipeline.reports.page import write_report
from pipeline.reports.question_sets import question_sets
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import make_scoreboard, score
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.video import Reader

THUMBNAILS = VideoThumbnails(Reader(name="default", backend="auto", threads=1, image_fps=1.0), 160, 70)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> list[RunArtefacts]:
    """Two samplers x two answerers x three budgets over 24 questions of four videos."""
    folder = tmp_path_factory.mktemp("matrix")
    samplers, answerers = ["uniform", "gens_3b"], ["gpt4o", "qwen2_vl_7b"]
    return collect([make_thousand(folder, samplers, answerers, [16, 4, 8], 24, videos=4, told_seconds=60)])


@pytest.fixture(scope="module")
def page(matrix: list[RunArtefacts], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(matrix, THUMBNAILS, tmp_path_factory.mktemp("page") / "report.html")


def test_board_is_sampler_by_budget_by_answerer(matrix: list[RunArtefacts]) -> None:
    laid = make_scoreboard([score(run) for run in matrix])
    assert laid.answerers == ("gpt4o", "qwen2_vl_7b")
    rows = [(row.sampler, row.budget) for row in laid.rows]
    assert rows == [("gens_3b", 4), ("gens_3b", 8), ("gens_3b", 16), ("uniform", 4), ("uniform", 8), ("uniform", 16)]
    assert all(row.run == "" and all(row.cells) for row in laid.rows)


def test_interval_is_told_beside_each_accuracy(matrix: list[RunArtefacts], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    table = re.search(r'<table class="board">(.*?)</table>', text, re.S).group(1)
    for run in matrix:
        interval = score(run).interval
        assert interval is not None
        assert interval.videos == 4
        assert f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" in table


def test_curves_have_a_line_for_what_differs_in_frames_alone(matrix: list[RunArtefacts]) -> None:
    scores = [score(run) for run in matrix]
    accuracy, recall = accuracy_chart(scores), recall_chart(scores)
    assert accuracy is not None
    assert recall is not None
    assert [line.name for line in accuracy.lines] == [
        "gens_3b → gpt4o",
        "gens_3b → qwen2_vl_7b",
        "uniform → gpt4o",
        "uniform → qwen2_vl_7b",
    ]
    assert len({line.style for line in accuracy.lines}) == 4
    # The frames do not depend on who answers.
    assert [line.name for line in recall.lines] == ["gens_3b", "uniform"]
    assert accuracy.frames == recall.frames == (4, 8, 16)
    assert all(len(line.points) == 3 for line in (*accuracy.lines, *recall.lines))
    four, eight, sixteen = (tick.place for tick in accuracy.across)
    assert eight - four == pytest.approx(sixteen - eight, abs=0.2)


def test_two_benchmarks_are_kept_apart(matrix: list[RunArtefacts], tmp_path: Path) -> None:
    """A table each, also where a page has a part of one, and a finding each."""
    ours = [run for run in matrix if run.sampler == "uniform" and run.answerer == "gpt4o"]
    runs = [
        replace(run, name=f"{name} {run.name}", settings=f"benchmark: {{name: {name}}}\n{run.settings}")
        for name in ("mlvu", "longvideobench")
        for run in ours
    ]
    part = replace(runs[0].within({question.id for question in runs[0].questions[:5]}), name="part")
    found = question_sets([score(run) for run in (*runs, part)])
    assert [(each.name, len(each.scores)) for each in found] == [
        ("mlvu, 24 questions", 3),
        ("longvideobench, 24 questions", 3),
        ("mlvu, 5 questions", 1),
    ]
    text = write_report([*runs, part], THUMBNAILS, tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count('<table class="board">') == 3
    assert all(f'id="set-{at}">{each.name}<' in text for at, each in enumerate(found, start=1))
    assert text.count('<p class="finding">') == 2, "the largest is in the heading"
    assert run_labels(runs)[runs[0].name] == "mlvu · uniform · K=4 → gpt4o"


def test_one_number_of_frames_is_no_curve(matrix: list[RunArtefacts]) -> None:
    assert accuracy_chart([score(run) for run in matrix if run.budget == 8]) is None


def test_drawing_is_true_to_its_figures() -> None:
    drawn = chart("Accuracy", [Series("a", (Value(8, 0.5, 0.4, 0.6), Value(32, 0.75, 0.7, 0.8)))])
    assert drawn is not None
    low, high = (next(tick.place for tick in drawn.up if tick.label == label) for label in ("50 %", "70 %"))
    first, second = drawn.lines[0].points
    assert first.y == low
    assert second.y == pytest.approx(low + (high - low) * 1.25, abs=0.2)
    assert second.low == high
    assert first.low is not None
    assert first.high is not None
    assert first.low > first.y > first.high, "up is down in pixels"
    assert drawn.summary == "a: K=8 50.0 % (40.0 to 60.0), K=32 75.0 % (70.0 to 80.0)."


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_right_and_all_wrong_stay_inside_the_drawing(share: float) -> None:
    drawn = chart("Accuracy", [Series("a", (Value(8, share, share, share), Value(16, share)))])
    assert drawn is not None
    assert all(drawn.top <= point.y <= drawn.foot for point in drawn.lines[0].points)
    assert drawn.lines[0].points[1].low is None


def test_every_drawing_has_words_and_a_table(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    drawings = re.findall(r'<div class="chart">(.*?)</div>\n</div>', text, re.S)
    # Two over all questions; two for each value of three labels.
    assert len(drawings) == 2 + 2 * (4 + 17 + 2)
    for drawing in drawings:
        named = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"', drawing)
        assert named
        assert f'<title id="{named.group(1)}">' in drawing
        assert f'<desc id="{named.group(2)}">' in drawing
        assert '<table class="figures">' in drawing
        assert "<caption>" in drawing


def test_groups_are_counted_with_intervals_in_the_order_of_their_numbers(matrix: list[RunArtefacts]) -> None:
    found = {group.label: group for group in groups([score(run) for run in matrix], {run.name: "" for run in matrix})}
    durations = found["duration_group"]
    assert [row.value for row in durations.rows] == ["15", "60", "600", "3600"]
    assert sum(row.questions for row in durations.rows) == 24
    for cell in (cell for row in durations.rows for cell in row.cells):
        assert cell.tally is not None
        assert cell.interval is not None
        assert cell.interval.low <= (cell.tally.accuracy or 0) <= cell.interval.high
        assert cell.recall is not None
    assert durations.rows[0].accuracy is not None


def test_labels_of_one_family_are_one_group(matrix: list[RunArtefacts]) -> None:
    """LVBench's questions have up to three types, and count in each."""
    run = matrix[0]
    kinds = [{"type/a": "a", "type/b": "b"}, {"type/b": "b"}, {}]
    questions = [replace(question, groups=kind) for question, kind in zip(run.questions, kinds * 8, strict=True)]
    asked = {question.id: question for question in questions}
    typed = replace(
        run,
        asked=tuple(questions),
        **{
            part: tuple(replace(row, question=asked[row.question.id]) for row in getattr(run, part))
            for part in ("relevance", "selections", "answers")
        },
    )
    (group,) = groups([score(typed)], {run.name: ""})
    assert (group.label, [(row.value, row.questions) for row in group.rows]) == ("type", [("a", 8), ("b", 16)])
    assert [row.cells[0].tally.total for row in group.rows if row.cells[0].tally] == [8, 16]
    assert [(choice.label, choice.values) for choice in choices(questions)] == [("type", ("a", "b"))]


def test_others_count_beside_the_strict_count(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    settings = (folder / "config.yaml").read_text().replace("name: two_videos", "name: longvideobench")
    (folder / "config.yaml").write_text(settings)
    (run,) = collect([folder])
    counted = {official.rule.name: official for official in score(run).official}
    # kitchen-3 cannot be read: LongVideoBench draws one of four options, worth a quarter.
    assert counted["LongVideoBench"].accuracy.overall.correct == 2.25
    text = write_report([run], THUMBNAILS, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "LongVideoBench 45.0 %, 2.2 of 5" in text
    assert "counts as a random draw" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["runs"][0]["strict"]["right"] == 2
    assert summary["runs"][0]["official"][0]["figure"] == pytest.approx(0.45)
    assert "LongVideoBench" in (tmp_path / "results.md").read_text().splitlines()[0]


def test_failures_are_gathered_by_status_and_remedy(sweep: Sweep) -> None:
    found = {failure.status: failure for failure in failures(outlines(collect([sweep.folder])))}
    missing = found["missing video"]
    assert (missing.stage, missing.times) == ("sampler", 2), "once a sampler, not again for each answerer"
    assert missing.remedy == "put the video there, or set paths.data=..."
    assert missing.problem.endswith("gone.mp4: no such file")
    assert missing.questions == ((6, "gone-1"),)
    assert found["partial scores"].questions == ((5, "street-2"),)


def test_page_leads_from_a_failure_to_its_questions(matrix: list[RunArtefacts], tmp_path: Path) -> None:
    run = matrix[0]
    rows = [
        replace(
            row, answer=replace(row.answer, option=None, status=Status.REFUSED, detail="no\n  what to do: say <so>")
        )
        for row in run.answers[:10]
    ]
    run = replace(run, answers=(*rows, *run.answers[10:]))
    text = write_report([run], THUMBNAILS, tmp_path / "report.html").read_text(encoding="utf-8")
    section = re.search(r'aria-labelledby="failures-heading">(.*?)</section>', text, re.S).group(1)
    assert "answerer: refused" in section
    assert "<td>say &lt;so&gt;</td>" in section
    assert '<a href="#q-1">question-0000</a>' in section
    assert "and 2 more" in section


def test_costs_are_summed_by_stage(sweep: Sweep) -> None:
    run = next(run for run in collect([sweep.folder]) if run.name == "gens_micro-qwen2_vl_micro")
    sampler, answerer = stage_costs(run)
    assert (sampler.stage, sampler.name, sampler.questions) == ("sampler", "gens_micro", 6)
    told = {name: sampler.took.spent[name] for name in ("seconds", "prompt_tokens", "output_tokens")}
    assert told == {"seconds": pytest.approx(5 * 1.234), "prompt_tokens": 5 * 2048, "output_tokens": 5 * 61}
    assert (answerer.stage, answerer.took.spent["prompt_tokens"]) == ("answerer", 4 * 1820 + 1820)


def told_of(run: RunArtefacts, tokens: float, alone: float) -> RunArtefacts:
    """The run with visual tokens: those of each answer, and those that its sampler takes for a question alone."""
    sampled = [
        replace(row, relevance=replace(row.relevance, alone=Cost(alone / 64, 1, more={"visual_tokens": alone})))
        for row in run.relevance
    ]
    answered = [
        replace(
            row, answer=replace(row.answer, cost=replace(row.answer.cost, dollars=0.0, more={"visual_tokens": tokens}))
        )
        for row in run.answers
    ]
    return replace(run, relevance=tuple(sampled), answers=tuple(answered))


def test_accuracy_stands_against_all_that_a_question_costs(matrix: list[RunArtefacts]) -> None:
    qwen = [run for run in matrix if run.answerer == "qwen2_vl_7b"]
    runs = [told_of(run, 10.0 * (run.budget or 0), 0.0 if run.sampler == "uniform" else 640.0) for run in qwen]
    names = {run.name: run.name for run in runs}
    curve = cost_curve([score(run) for run in runs], names)
    assert curve is not None
    assert [drawing.cost for drawing in curve.drawings] == ["visual tokens", "seconds"]  # nothing cost dollars
    rows = {row.name: row for row in curve.rows}
    for run in runs:
        of_sampler = 0 if run.sampler == "uniform" else 640
        assert rows[run.name].visual_tokens == of_sampler + 10 * run.budget
        assert rows[run.name].seconds == pytest.approx(of_sampler / 64 + 0.8)
        accuracy = score(run).accuracy
        assert accuracy is not None
        assert rows[run.name].value.share == accuracy.overall.accuracy
        assert rows[run.name].value.low is not None
    drawn = curve.drawings[0].chart
    assert [tick.label for tick in drawn.across] == ["20", "50", "100", "200", "500", "1k"]
    uniform = next(line for line in drawn.lines if line.name.startswith("uniform"))
    places = {tick.label: tick.place for tick in drawn.across}
    share = math.log(40 / 20) / math.log(50 / 20)  # of four frames, on the axis of logarithms
    assert uniform.points[0].x == pytest.approx(places["20"] + share * (places["50"] - places["20"]), abs=0.2)
    assert "80 visual tokens" in uniform.points[1].title
    # A run that does not know its tokens is named and not drawn at 0.
    unknown = replace(runs[0], answers=matrix[-1].answers, name="old")
    names |= {"old": "old"}
    left = cost_curve([score(run) for run in (unknown, *runs[1:])], names)
    assert left is not None
    assert left.drawings[0].left_out == ("old",)
    assert cost_curve([score(runs[0])], names) is None


def test_runs_that_a_fair_drawing_lacks_are_told_with_commands_that_work(matrix: list[RunArtefacts]) -> None:
    typed = "gens evaluate benchmark=micro sampler=gens_micro sampler.fps=2.0 selection=aks selection.budget={} limit=9"
    runs = [
        replace(
            run,
            command=f"{typed.format(run.budget)} answerer=qwen2_vl_7b answerer.max_pixels=50176",
            settings="answerer: {name: qwen2_vl_7b, min_pixels: 3136}",
        )
        for run in matrix
        if run.answerer == "qwen2_vl_7b" and (run.sampler, run.budget) != ("uniform", 8)
    ]
    curve = cost_curve([score(run) for run in runs], {run.name: run.name for run in runs})
    assert curve is not None
    kept = "gens evaluate {}benchmark=micro limit=9 answerer=qwen2_vl_7b answerer.max_pixels=50176 sampler=uniform"
    small = f"{kept.format('')} selection=uniform_low selection.budget={{}}"
    assert [each.command for each in curve.missing] == [
        f"{kept.format('')} selection.budget=8",  # 16, four times 4, is there
        small.format(64),
        f"{kept.format('')} selection.budget=32",
        small.format(128),
        f"{kept.format('-m ')} selection.budget=32,64",
        small.format(256),
    ]
    register_resolvers()
    for each in curve.missing:
        words = [word.partition(",")[0] for word in each.command.split()[2:] if word != "-m"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            made = compose("evaluate", words)
        assert (made.sampler.name, made.answerer.max_pixels) == ("uniform", 50176)
    # An answerer whose frames have one size cannot be shown small ones.
    for settings, words in (
        ("{name: a, max_new_tokens: 16}", None),
        ("{name: a, min_pixels: 1, frame_size: [56, 56]}", " answerer.frame_size=null"),
        ("{name: a, frame: {max_side: 512}}", ""),
    ):
        sized = [replace(run, settings=f"selection: {{name: topk}}\nanswerer: {settings}") for run in runs]
        found = cost_curve([score(run) for run in sized], names_of(runs))
        assert found is not None
        assert found.missing[1].command == ("" if words is None else f"{small.format(64)}{words}")
    # Of a run without a command, by its parts.
    (first, *_) = cost_curve([score(replace(run, command="")) for run in runs], names_of(runs)).missing
    assert first.command == "gens evaluate answerer=qwen2_vl_7b sampler=uniform selection.budget=8"


def test_frames_of_stated_sizes_are_held_against_uniform_ones_of_their_tokens(matrix: list[RunArtefacts]) -> None:
    uniform, gens = (next(run for run in matrix if run.sampler == each) for each in ("uniform", "gens_3b"))
    command = "gens evaluate experiment/arm=lohi experiment=equal_tokens benchmark=micro sampler=gens_micro"

    def of(run: RunArtefacts, selection: str, budget: int) -> RunArtefacts:
        settings = f"selection: {selection[:-1]}, budget: {budget}}}\nanswerer: {{name: a, min_pixels: 1}}"
        return replace(run, name=f"{run.sampler} {settings}", selections=(), settings=settings, command=command)

    lohi = of(gens, "{name: lohi, low: 0.25, law: {frames: 16, scale: 1.0}, large: {budget: 8}}", 128)
    even = of(uniform, "{name: lohi, low: 0.25, law: {frames: 16, scale: 1.0}, large: {budget: 8}}", 32)
    arms = [of(uniform, f"{{name: uniform_low, scale: {scale}}}", 16 * n) for scale, n in ((1, 2), (1, 4), (0.25, 16))]

    def missing(*runs: RunArtefacts) -> list[str]:
        curve = cost_curve([score(run) for run in runs], names_of([*runs]))
        assert curve is not None
        return [each.command for each in curve.missing]

    idle = of(gens, "{name: uniform_low, scale: 1}", 64)  # its scores select nothing, and its costs are no baseline's
    assert missing(lohi, idle, *arms) == []
    assert len(missing(lohi, idle)) == 2
    kept = "experiment/arm=uniform_16 experiment=equal_tokens benchmark=micro sampler=uniform selection=uniform_low"
    told = missing(lohi, even)  # LoHi with uniform frames is none of them
    assert told == [
        f"gens evaluate -m {kept} selection.scale=1 selection.budget=32,64",
        f"gens evaluate {kept} selection.scale=0.25 selection.budget=256",
    ]
    register_resolvers()
    for each, scale in zip(told, (1, 0.25), strict=True):
        words = [word.partition(",")[0] for word in each.split()[2:] if word != "-m"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            made = compose("evaluate", words)
        assert (made.selection.name, made.selection.scale, made.sampler.name) == ("uniform_low", scale, "uniform")
    q_frame = "{name: q_frame, tiers: [{frames: 4, scale: 0.5}, {frames: 8, scale: 0.25}, {frames: 32, scale: 0.125}]}"
    assert missing(of(gens, q_frame, 44), of(uniform, q_frame, 44))[0].endswith("selection.budget=4,8")


def names_of(runs: list[RunArtefacts]) -> dict[str, str]:
    return {run.name: run.name for run in runs}


def test_thoughts_are_counted_apart(matrix: list[RunArtefacts], tmp_path: Path) -> None:
    run = matrix[0]
    cost = replace(run.answers[0].answer.cost, output_tokens=4100, more={"thinking_tokens": 4096.0})
    costs = {"cost": cost, "alone": replace(cost, prompt_tokens=7654)}
    thought = [replace(row, answer=replace(row.answer, **costs, thought="A? But")) for row in run.answers[:2]]
    thought[0] = replace(thought[0], answer=replace(thought[0].answer, option=None, status=Status.TRUNCATED_OUTPUT))
    run = replace(run, answers=(*thought, *run.answers[2:]))
    answerer = stage_costs(run)[-1]
    assert (answerer.thinking_tokens, answerer.took.cut_thoughts) == (8192, 1)
    text = write_report([run], THUMBNAILS, tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{thousands(8192)} of thoughts" in text
    assert f"1 of {len(run.answers)} thoughts did not end" in text
    assert f"{thousands(7654)} + {thousands(4100)} tokens ({thousands(4096)} of a thought)" in text


def test_dollars_stand_on_the_page_where_there_are_any(matrix: list[RunArtefacts], page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    spent = sum(row.answer.cost.dollars for run in matrix for row in run.answers)
    assert spent > 0
    assert re.search(rf'All runs</th><td class="figure">{spent:.2f}</td>', text)
    free = [run for run in matrix if run.answerer == "qwen2_vl_7b"]
    assert "Dollars" not in write_report(free, THUMBNAILS, tmp_path / "free.html").read_text(encoding="utf-8")


def test_table_for_programs_has_a_row_a_run_and_group(matrix: list[RunArtefacts], page: Path) -> None:
    with (page.parent / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 12 * (1 + 4 + 17 + 2)
    for run in matrix:
        mine = [row for row in rows if row["run"] == run.name]
        overall = next(row for row in mine if not row["label"])
        assert int(overall["counted"]) == sum(int(row["counted"]) for row in mine if row["label"] == "level") == 24
        assert float(overall["low"]) <= float(overall["accuracy"]) <= float(overall["high"])
        assert overall["budget"] == str(run.budget)


def test_name_with_a_bar_stays_one_cell(matrix: list[RunArtefacts], tmp_path: Path) -> None:
    run = matrix[0]
    odd = replace(run, answers=tuple(replace(row, answerer="a|b") for row in run.answers))
    write_report([odd], THUMBNAILS, tmp_path / "report.html")
    head, _, row = (tmp_path / "results.md").read_text().splitlines()
    assert len(re.findall(r"(?<!\\)\|", row)) == head.count("|")


def test_unfinished_runs_are_told_first(sweep: Sweep, tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", tmp_path / name)
    lines = (tmp_path / "stopped" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "stopped" / "answers.jsonl").write_bytes(b"".join(lines[:2]))
    target = tmp_path / "out" / "report.html"
    text = write_report(collect([tmp_path]), THUMBNAILS, target).read_text(encoding="utf-8")
    first = text[text.index("<main>") : text.index('id="accuracy-heading"')]
    assert "1 run of 2 unfinished." in first
    assert "<b>stopped</b>: answers.jsonl holds 2 of 6 questions." in first
    summary = json.loads((target.parent / "summary.json").read_text())
    assert [run["unfinished"] for run in summary["runs"]] == [["answers.jsonl holds 2 of 6 questions."], []]
