"""Reports of runs of any size: rows stay on the disk, and a page shows as many questions as it can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import environment_in, gens
from made_runs import made_run

from pipeline.artefacts import stored
from pipeline.artefacts.rows import AnswerRow, without_numbers
from pipeline.artefacts.stored import StoredRows
from pipeline.artefacts.writing import write_parts
from pipeline.errors import InputError
from pipeline.reports.cards import cards
from pipeline.reports.page import PageLimits, write_report
from pipeline.reports.questions import questions_csv
from pipeline.reports.runs import collect, read_run
from pipeline.reports.scoreboard import score
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.video import Reader

THUMBNAILS = VideoThumbnails(Reader(name="default", backend="auto", threads=1, image_fps=1.0), 160, 70)
QUESTIONS, FAILED = 250, 12
MEASURED = """
import re, sys, time
from pathlib import Path
from pipeline.cli import main
sys.argv[0] = "gens"
code = main()
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(time.process_time(), peak[1])
sys.exit(code)
"""
"""A command that prints its seconds of CPU and the most kilobytes that it held. (What ``resource`` tells of a child
begins with what its parent held.)"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 MB of scores."""
    return made_run(tmp_path_factory.mktemp("runs") / "one", QUESTIONS, 20, 2700, FAILED)


def test_scores_stay_on_the_disk(run: Path, tmp_path: Path) -> None:
    assert (run / "relevance.jsonl").stat().st_size > 14_000_000
    few = collect([run])[0].within({f"q{number:05d}" for number in range(QUESTIONS - 60, QUESTIONS)})
    write_report([few], THUMBNAILS, tmp_path / "few.html", PageLimits(pictures=0))  # what is imported does not count
    tracemalloc.start()
    runs = collect([run])
    collected, most = tracemalloc.get_traced_memory()
    write_report(runs, THUMBNAILS, tmp_path / "report.html", PageLimits(pictures=0, cards=20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_row = 2700 * 3 * 40
    assert collected < 3_000_000
    assert most < 4_000_000 + 3 * one_row
    assert peak < 12_000_000


def test_a_page_of_too_many_questions_shows_those_that_went_wrong(run: Path, tmp_path: Path) -> None:
    page = write_report(collect([run]), THUMBNAILS, tmp_path / "report.html", PageLimits(pictures=0, cards=20))
    text = page.read_text()
    shown = [int(number) for number in re.findall(r'<article class="card" id="q-(\d+)"', text)]
    assert shown == [*range(1, 20 - FAILED + 1), *range(QUESTIONS - FAILED + 1, QUESTIONS + 1)]
    assert f"{QUESTIONS} questions on 20 videos" in text
    assert f"20 of {QUESTIONS} questions are shown; those that went wrong came first" in text
    assert f"{QUESTIONS - FAILED} of {QUESTIONS}" in text
    assert "16 frames do not fit" in text


def test_failures_are_of_all_questions_and_link_only_to_those_shown(run: Path, tmp_path: Path) -> None:
    page = write_report(collect([run]), THUMBNAILS, tmp_path / "report.html", PageLimits(pictures=0, cards=5))
    text = page.read_text()
    assert f'<td class="figure">{FAILED}</td>' in text
    linked = {int(number) for number in re.findall(r'href="#q-(\d+)"', text)}
    assert linked == set(range(QUESTIONS - FAILED + 1, QUESTIONS - FAILED + 6))
    assert f"<li>q{QUESTIONS - FAILED + 5:05d}</li>" in text


def test_a_page_that_would_be_too_large_to_open_shows_fewer_questions_and_says_so(run: Path, tmp_path: Path) -> None:
    runs = collect([run])
    weight = next(cards(runs, numbers=[QUESTIONS])).weight
    limits = PageLimits(pictures=0, cards=50, card_bytes=5 * weight)
    text = write_report(runs, THUMBNAILS, tmp_path / "report.html", limits).read_text()
    shown = [int(number) for number in re.findall(r'<article class="card" id="q-(\d+)"', text)]
    assert 3 <= len(shown) <= 6
    assert min(shown) > QUESTIONS - FAILED
    assert f"{len(shown)} of {QUESTIONS} questions are shown" in text
    assert "More would make this page too large to open" in text
    one = write_report(runs, THUMBNAILS, tmp_path / "one.html", PageLimits(pictures=0, card_bytes=1)).read_text()
    assert one.count("<article") == 1


def test_cards_of_many_runs_weigh_what_they_take_on_the_page(run: Path, tmp_path: Path) -> None:
    """So that ten runs give a page as large as one."""
    for number in range(10):
        shutil.copytree(run, tmp_path / "runs" / f"run-{number}")
        file = tmp_path / "runs" / f"run-{number}" / "answers.jsonl"
        file.write_text(file.read_text().replace('"qwen"', f'"qwen-{number}"'))
    for runs in (collect([run]), collect([tmp_path / "runs"])):
        page = write_report(runs, THUMBNAILS, tmp_path / "report.html", PageLimits(pictures=0))
        told = sum(card.weight for card in cards(runs))
        head = write_report(runs, THUMBNAILS, tmp_path / "one.html", PageLimits(pictures=0, cards=1))
        assert 0.5 * told < page.stat().st_size - head.stat().st_size < 1.3 * told


def test_rows_that_runs_have_in_common_are_parsed_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of one sampler; in a third, the evidence of the same questions has been corrected."""
    for name in ("a", "b", "c"):
        shutil.copytree(run, tmp_path / name)
    file = tmp_path / "c" / "questions.jsonl"
    file.write_text(re.sub(r'"evidence":\[.*?\]', '"evidence":[{"start":0.0,"end":0.1}]', file.read_text()))
    parsed: list[str] = []
    parse = stored.row_at

    def counted(kind: type, line: bytes, where: str, *rest: object) -> object:
        parsed.append(Path(where).parent.name + "/" + kind.__name__)
        return parse(kind, line, where, *rest)

    monkeypatch.setattr(stored, "row_at", counted)
    runs = {each.name: score(each) for each in collect([tmp_path])}
    counts = Counter(parsed)
    # The first row is read again for the names of sampler and answerer.
    assert {counts[f"a/{kind}Row"] - QUESTIONS for kind in ("Relevance", "Selection", "Answer")} <= {0, 1}
    assert counts["b/RelevanceRow"] + counts["b/SelectionRow"] <= 2
    assert counts["b/AnswerRow"] >= QUESTIONS
    recalls = {name: each.recall and each.recall.overall.recall for name, each in runs.items()}
    assert recalls == {"a": 1.0, "b": 1.0, "c": pytest.approx(0.0, abs=0.05)}


@pytest.fixture
def linked(run: Path, tmp_path: Path) -> Path:
    """Four runs of one sampler, whose scores and selections are links to one file, and two copies of them."""
    for number in range(6):
        folder = tmp_path / "runs" / f"run-{number}"
        folder.mkdir(parents=True)
        for name in ("questions.jsonl", "relevance.jsonl", "selections.jsonl"):
            (os.link if number < 4 else shutil.copy)(run / name, folder / name)
        answers = (run / "answers.jsonl").read_text().replace('"qwen"', f'"qwen-{number}"')
        (folder / "answers.jsonl").write_text(answers)
    return tmp_path / "runs"


def test_links_to_one_file_are_read_once(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    each_line = stored.each_line

    def counted(path: Path, read: Any) -> Any:
        opened[path.name] += 1
        return each_line(path, read)

    monkeypatch.setattr(stored, "each_line", counted)
    runs = {run.name: run for run in collect([linked])}
    assert opened == {"relevance.jsonl": 3, "selections.jsonl": 3, "answers.jsonl": 6}
    assert {run.answerer for run in runs.values()} == {f"qwen-{number}" for number in range(6)}
    assert runs["run-3"].briefs == replace(runs["run-0"].briefs, makers=frozenset({("gens", "qwen-3")}))
    assert len({id(run.briefs.sampled) for run in runs.values()}) == 1  # what is noted of copies is held once, too


def test_the_table_of_questions_is_made_line_by_line_and_parses_equal_selections_once(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = collect([linked])
    parsed: Counter[str] = Counter()
    parse = stored.row_at

    def counted(kind: type, *rest: Any) -> object:
        parsed[kind.__name__] += 1
        return parse(kind, *rest)

    monkeypatch.setattr(stored, "row_at", counted)
    lines = questions_csv(runs)
    assert [next(lines)[:4], next(lines)[:5]] == ["run,", "run-0"]
    assert parsed == {"SelectionRow": 1, "AnswerRow": 1}
    assert 2 + sum(1 for _ in lines) == 1 + 6 * QUESTIONS
    assert parsed == {"SelectionRow": QUESTIONS, "AnswerRow": 6 * QUESTIONS}


def test_a_table_of_questions_whose_rows_have_gone_is_told_and_leaves_nothing(linked: Path, tmp_path: Path) -> None:
    runs = collect([linked])
    shutil.rmtree(linked / "run-5")
    with pytest.raises(InputError, match=r"answers\.jsonl has changed|selections\.jsonl has changed"):
        write_parts((line.encode() for line in questions_csv(runs)), tmp_path / "out" / "questions.csv", "target=...")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_relevance_is_noted_without_its_numbers_and_used_with_them(run: Path) -> None:
    rows = read_run(run, "one").relevance
    assert isinstance(rows, StoredRows)
    bare, whole = next(rows.without_numbers()), rows[0]
    assert (bare.relevance.times, bare.relevance.scores, bare.relevance.indices) == ((), (), ())
    numbers = {name: getattr(whole.relevance, name) for name in ("times", "scores", "indices")}
    assert len(whole.relevance.scores) == 2700
    assert replace(bare, relevance=replace(bare.relevance, **numbers)) == whole


@pytest.mark.parametrize(
    "line",
    [
        b'{"times": [1.0], "scores": [2.0]}',
        b'{"raw":"\\"times\\":[1,2]"}',
        b'{"times":["1","2"],"scores":null}',
        b'{"times":[1.0,2.0',
    ],
)
def test_a_line_of_another_form_is_left_whole(line: bytes) -> None:
    assert without_numbers(line) == line


def test_the_number_of_questions_can_be_chosen(run: Path, tmp_path: Path) -> None:
    done = gens("report", f"runs={run}", f"target={tmp_path}", "pictures=0", "cards=15", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").read_text().count("<article") == 15
    refused = gens("report", f"runs={run}", "cards=0", cwd=tmp_path)
    assert (refused.returncode, "set cards=1" in refused.stderr) == (2, True)


def test_stored_rows_are_those_of_the_file(run: Path) -> None:
    whole = read_run(run, "one")
    rows = StoredRows.opened(AnswerRow, run / "answers.jsonl", {each.id: each for each in whole.questions})
    assert len(rows) == QUESTIONS
    assert rows.find("q00007") == rows[7] == list(rows)[7] == rows[5:9][2]
    assert rows.find("nowhere") is None
    part = rows.within({"q00007", "q00003"})
    assert [row.question.id for row in part] == ["q00003", "q00007"]
    assert part.find("q00007") == rows[7]


def test_stored_rows_take_other_labels_of_the_same_questions(run: Path) -> None:
    rows = read_run(run, "one").selections
    assert isinstance(rows, StoredRows)
    moved = replace(rows[7].question, video="/elsewhere.mp4", groups={"kind": "other"})
    (row,) = rows.about({moved.id: moved})
    assert row == replace(rows[7], question=moved)


def test_the_last_row_of_a_question_is_the_one(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "again")
    file = tmp_path / "again" / "answers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, lines[3].replace(b'"text":"A"', b'"text":"later"')]))
    answers = read_run(tmp_path / "again", "again").answers
    assert len(answers) == QUESTIONS
    assert [row.answer.text for row in answers[2:5]] == ["A", "later", "A"]


def test_a_file_that_changes_while_it_is_read_is_told(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "changed")
    file = tmp_path / "changed" / "relevance.jsonl"
    rows = read_run(tmp_path / "changed", "changed").relevance
    assert isinstance(rows, StoredRows)
    file.write_bytes(file.read_bytes().replace(b'"question_id":"q00001"', b'"question_id":"q00002"'))
    with pytest.raises(InputError, match="has changed while it was read"):
        rows.find("q00001")


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_hundred_runs_of_13000_questions(tmp_path: Path) -> None:
    """A sweep of 100 jobs over 500 videos of 45 minutes; the scores of its one sampler are linked."""
    first = made_run(tmp_path / "runs" / "run-0", 13_000, 500, 2700, 100)
    for number in range(1, 100):
        folder = tmp_path / "runs" / f"run-{number}"
        folder.mkdir()
        for name in ("questions.jsonl", "relevance.jsonl", "selections.jsonl"):
            os.link(first / name, folder / name)
        answers = (first / "answers.jsonl").read_text().replace('"qwen"', f'"qwen-{number}"')
        (folder / "answers.jsonl").write_text(answers)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "report", "runs=runs", "pictures=0"],
        cwd=tmp_path,
        env={**os.environ, **environment_in(tmp_path, {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seconds, kilobytes = map(float, done.stdout.splitlines()[-1].split())
    print(f"{seconds:.0f} s of CPU, {kilobytes / 1000:.0f} MB")
    assert seconds < 300
    assert kilobytes < 1_000_000
    page = tmp_path / "runs" / "report.html"
    assert page.stat().st_size < 60_000_000
    assert "of 13000 questions are shown" in page.read_text()
