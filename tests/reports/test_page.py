"""The page: whole, self-contained, safe with hostile text, and true to what the runs recorded."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweep_on_disk import HOSTILE, Sweep, write_run

from pipeline.errors import InputError, StorageError, TruncatedVideoError
from pipeline.reports.page import PageLimits, report_on, write_report
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.thumbnails import Thumbnail, VideoThumbnails
from pipeline.video import Reader

VOID = {"meta", "link", "img", "br", "hr", "input"}
READER = Reader(name="default", backend="auto", threads=1, image_fps=1.0)
THUMBNAILS = VideoThumbnails(READER, 160, 70)


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, self.getpos()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def card(self, identifier: str) -> str:
        """The markup of one question's card."""
        return next(part for part in self.text.split("<article")[1:] if f">{identifier}</a>" in part)


@pytest.fixture(scope="module")
def page(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Page:
    target = tmp_path_factory.mktemp("page") / "report.html"
    return Page(write_report(collect([sweep.folder]), THUMBNAILS, target).read_text(encoding="utf-8"))


def test_page_needs_no_other_file(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:image/jpeg;base64,")), (tag, name, value[:80])
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", page.text, re.S).group(1) for tag in ("style", "script"))
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in style + script


def test_text_of_others_stays_text(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert HOSTILE not in page.text
    shown = HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;")
    card = page.card("street-1")
    assert f"Which sign is seen {shown} first?" in card
    assert f"Stop {shown}" in card
    assert "street &lt;script&gt;alert(1)&lt;&amp;&gt;.mp4" in card
    assert f"Then nothing. {shown}" in page.card("street-2")
    assert f"}} {shown}</pre>" in page.card("street-2")
    assert "--note=&#39;&lt;b&gt;&#39;" in page.text
    assert "A &lt; B &amp; C" in page.text


def test_only_our_script_and_style_may_run(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'; img-src data:;" in policy
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page.text, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # Under that policy these would be dropped without a word.
    assert not any("style" in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_page_can_be_used_by_ear_and_keyboard(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    drawings = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert drawings
    timelines = [drawing for drawing in drawings if "aria-label" in drawing]
    assert timelines
    assert all((drawing["aria-label"] or "").startswith("Timeline of ") for drawing in timelines)
    ids = {element.get("id") for _, element in page.elements}
    charts = [drawing for drawing in drawings if "aria-label" not in drawing]
    assert all(set((drawing["aria-labelledby"] or "").split()) <= ids for drawing in charts)
    assert charts  # of accuracy against cost
    identifiers = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert page.all("html")[0]["lang"] == "en"


def test_thumbnails_show_the_selected_moment(page: Page) -> None:
    """The red disc is on screen from 0:21 to 0:24 and at no other selected time before 0:51."""
    pictures = {
        image["alt"]: np.asarray(Image.open(io.BytesIO(base64.b64decode((image["src"] or "").split(",", 1)[1]))))
        for image in page.all("img")
        if image in Page("<div" + page.card("kitchen-1").rpartition("</article>")[0] + "</div>").all("img")
    }
    for second, disc in (("0:21", True), ("0:23", True), ("0:24", False), ("0:05.6", False), ("0:52", True)):
        picture = pictures[f"Frame at {second}"]
        assert picture.shape == (90, 160, 3)
        red, green, blue = picture[43, 82].astype(int)
        assert (red > 170 and green < 90 and blue < 90) == disc, second


def _matrix(card: str) -> list[list[str]]:
    table = re.search(r"<table>(.*?)</table>", card, re.S).group(1)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table.split("<tr>")[1:]]
    return [[re.sub("<[^>]+>", "", cell) for cell in row] for row in rows]


def test_card_tells_how_each_answer_came_out(page: Page) -> None:
    card = page.card("kitchen-2")
    assert 'data-marks="wrong:1,3 disagree:0,1,2,3 missed:2,3"' in card
    correct = re.search(r'<li class="is-correct">(.*?)</li>', card, re.S).group(1)
    assert "Nothing changes" in correct
    assert _matrix(card) == [
        ["Sampler", "llava_onevision_micro", "qwen2_vl_micro"],
        ["gens_micro", "✓ C, right", "✗ A, wrong"],
        ["uniform", "✓ C, right", "✗ A, wrong"],
    ]
    assert "<blockquote>A. The light goes out</blockquote>" in card
    assert "Evidence at 0:54 to 0:57" in card
    assert "8 of at most 8 frames" in card
    assert "saw 8 frames, up to 0.10 s from the times selected" in card
    gens, uniform = card.split('<section class="route"')[1:]
    assert "evidence shown" in gens
    assert "evidence missed" in uniform
    assert gens.count('class="answer"') == uniform.count('class="answer"') == 2
    assert "title>0:54, score 5, sampler<" in gens
    assert "uniform</span>" in uniform


def test_a_free_question_shows_its_reference_and_scoring_points(page: Page) -> None:
    card = page.card("street-2")
    assert "Reference answer</span> A tram &amp; a dog." in card
    assert "<li>A tram passes</li><li>A dog follows</li>" in card
    assert "Reference answer" not in page.card("kitchen-2")


def test_failures_are_told_with_their_remedy(page: Page) -> None:
    unparsed = page.card("kitchen-3")
    assert "I think there may be several of them." in unparsed
    assert "<strong>answerer: unparsed.</strong> no option can be read" in unparsed
    assert "<blockquote>&lt;think&gt;First one. Then another." in unparsed
    assert "Three, then.&lt;/think&gt;</blockquote>" in unparsed
    assert "characters are left out here, and are in answers.jsonl" in unparsed
    assert unparsed.count("Then another.") < 400
    assert "set selection.budget=4" in page.card("street-1")
    partial = page.card("street-2")
    assert "sampler.max_new_tokens=4096" in partial
    assert partial.count('class="band-failed"') == 2
    assert "truncated output" in partial
    gone = page.card("gone-1")
    # Once for each sampler, not again for each answerer that had nothing to answer from.
    assert gone.count("set paths.data=...") == 2
    assert "nothing to answer from" in gone
    assert "<img" not in gone


def test_filters_count_what_they_show(page: Page) -> None:
    marks = [[mark.partition(":")[0] for mark in (card["data-marks"] or "").split()] for card in page.all("article")]
    assert len(marks) == 6
    for mark in ("wrong", "failed", "disagree", "missed"):
        told = re.search(rf'id="show-{mark}".*?class="count">(\d+)<', page.text, re.S).group(1)
        assert int(told) == sum(mark in each for each in marks) > 0, mark


def test_finished_runs_offer_no_filter_for_unfinished_ones(page: Page) -> None:
    assert 'id="show-unfinished"' not in page.text


def test_the_first_question_of_a_sweep_stands_near_the_top(page: Page) -> None:
    """What is between the accuracies and the questions is closed until it is asked for."""
    between = page.text[page.text.index('class="caption"') : page.text.index('id="questions"')]
    assert between.count('<details class="part">') == between.count("<section aria-") == 6
    assert "<details open" not in between


def test_table_is_strict(page: Page) -> None:
    table = re.search(r'<table class="board">(.*?)</table>', page.text, re.S).group(1)
    head, gens, uniform = (re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", row)) for row in table.split("<tr>")[1:])
    assert head.split()[3:] == [
        "Frames",
        "at",
        "most",
        "llava_onevision_micro",
        "qwen2_vl_micro",
        "Evidence",
        "recall",
        "Questions",
    ]
    # Five graded questions; gone-1 failed for all, street-1 for one and kitchen-3 for the other.
    assert "60.0 % 0.0 to 100.0 3 of 5, 2 failed" in gens
    assert "40.0 % 0.0 to 100.0 2 of 5, 2 failed" in gens
    assert "75.0 % of 4 questions 6" in gens
    assert "62.5 % of 4 questions 6" in uniform
    assert "1 question without a known right option cannot be counted" in page.text


def test_settings_command_and_versions_are_there(page: Page) -> None:
    assert page.text.count("gens evaluate -m sampler=") == 4
    assert "<dt>transformers</dt><dd>5.23.0</dd>" in page.text
    assert "<dt>python</dt><dd>3.11.9</dd>" in page.text
    assert "budget: 8" in page.text


def test_same_runs_give_the_same_bytes(sweep: Sweep, page: Page, tmp_path: Path) -> None:
    again = write_report(collect([sweep.folder]), THUMBNAILS, tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.html",
        "questions.csv",
        "results.csv",
        "results.md",
        "summary.json",
    ]


def test_half_finished_run_is_reported_as_far_as_it_goes(sweep: Sweep, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", stopped)
    lines = (stopped / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "answers.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    text = write_report(collect([stopped]), THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "answers.jsonl holds 2 of 6 questions." in text
    assert "4 missing" in text
    assert 'id="show-unfinished"' in text
    assert "no answer yet" in page.card("street-1")
    assert "<img" in page.card("street-1")


@pytest.mark.parametrize("file", ["relevance.jsonl", "selections.jsonl", "answers.jsonl", "config.yaml", "run.json"])
def test_any_file_of_a_run_may_be_missing(sweep: Sweep, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    (folder / file).unlink()
    page = Page(write_report(collect([folder]), THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.all("article")) == 6
    if file.endswith("jsonl"):
        assert f"{file} has no rows." in page.text


def test_run_without_a_question_is_still_a_page(tmp_path: Path) -> None:
    run = RunArtefacts("empty", settings="sampler: {name: gens_3b}\nanswerer: {name: qwen2_vl_7b}")
    page = Page(write_report([run], THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "No question has been worked on yet." in page.text
    assert "gens_3b" in page.text


def test_video_that_went_away_leaves_a_note_and_the_rest(sweep: Sweep, tmp_path: Path) -> None:
    class Half:
        def thumbnails(self, video: str, seconds: Sequence[float]) -> Mapping[float, Thumbnail]:
            if "kitchen" in video:
                raise TruncatedVideoError(f"{video} ends early", "fetch it <again>")
            return THUMBNAILS.thumbnails(video, seconds)

    page = Page(write_report(collect([sweep.folder]), Half(), tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "kitchen.mp4 ends early: fetch it &lt;again&gt;" in page.card("kitchen-1")
    assert "<img" not in page.card("kitchen-1")
    assert "score 5" in page.card("kitchen-1")
    assert "<img" in page.card("street-1")


def test_each_video_is_opened_once_and_pictures_have_a_limit(sweep: Sweep, tmp_path: Path) -> None:
    opened: list[tuple[str, int]] = []

    class Counted:
        def thumbnails(self, video: str, seconds: Sequence[float]) -> Mapping[float, Thumbnail]:
            assert list(seconds) == sorted(set(seconds))
            opened.append((Path(video).name[:6], len(seconds)))
            return THUMBNAILS.thumbnails(video, seconds)

    runs = collect([sweep.folder])
    write_report(runs, Counted(), tmp_path / "all.html")
    assert sorted(name for name, _ in opened) == ["kitche", "street"]
    opened.clear()
    text = write_report(runs, Counted(), tmp_path / "few.html", PageLimits(pictures=20)).read_text(encoding="utf-8")
    page = Page(text)
    # Whole selections of eight, of a question that went wrong, and no third one.
    assert len(page.all("img")) == 16
    assert page.card("kitchen-1").count("<img") == 16
    assert "16 of 80 selected frames have a picture" in text


def test_page_that_cannot_be_written_says_what_to_do(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError) as error:
        write_report(collect([sweep.folder]), THUMBNAILS, tmp_path / "file" / "report.html")
    assert "target=" in error.value.remedy


def test_row_that_is_none_is_an_error_with_its_place(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    (folder / "answers.jsonl").write_text('{"schema": "gens/answer/9"}\n')
    with pytest.raises(InputError, match=r"answers\.jsonl:1"):
        collect([folder])


def test_command_prints_the_table_then_the_path(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = report_on([sweep.folder], READER, tmp_path)
    assert page == tmp_path / "report.html"
    *table, last = capsys.readouterr().out.strip().splitlines()
    assert last == f"report: {page}"
    assert [line.split()[:2] for line in table[1:]] == [
        ["gens_micro", "llava_onevision_micro"],
        ["gens_micro", "qwen2_vl_micro"],
        ["uniform", "llava_onevision_micro"],
        ["uniform", "qwen2_vl_micro"],
    ]
    assert report_on([sweep.folder], READER, tmp_path / "named.html") == tmp_path / "named.html"


def test_report_needs_no_torch() -> None:
    code = "import sys, pipeline.reports.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stage_one_alone_has_no_answers_to_miss(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "sampled"
    source = collect([sweep.folder / "gens_micro-qwen2_vl_micro"])[0]
    write_run(
        folder, list(source.questions), {row.question.video: row.video for row in source.relevance}, "gens_micro", "", 0
    )
    (folder / "config.yaml").write_text("sampler:\n  name: gens_micro\n")
    (run,) = collect([folder])
    assert run.missing == ()
    page = Page(write_report([run], THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "75.0 %" in page.text
    assert 'class="answer"' not in page.text


def test_a_card_says_which_stretch_may_be_seen(sweep: Sweep, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", run)
    for name in ("questions.jsonl", "selections.jsonl"):
        rows = [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]
        for row in rows:
            if row["question"]["id"] == "street-1":
                row["question"]["span"] = {"start": 0.0, "end": 65.0}
        (run / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    page = Page(write_report(collect([run]), THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Only 0:00 to 1:05 of the video may be seen." in page.card("street-1")
    assert page.text.count("may be seen") == 1


def test_a_frame_tells_its_size_where_it_has_one_of_its_own(sweep: Sweep, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", run)
    file = run / "selections.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["question"]["id"] == "street-1":
            for frame, scale in zip(row["selection"]["frames"], (0.25, 1.0, None), strict=False):
                frame["scale"] = scale
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    page = Page(write_report(collect([run]), THUMBNAILS, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert re.findall(r"scale [\d.]+", page.card("street-1")) == ["scale 0.25"]
    assert "scale " not in page.card("kitchen-2")
