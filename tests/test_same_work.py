"""Which work is the same as before, whole commands: what is answered again, and what is only joined with new labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir
from made import write_video
from PIL import Image
from rows_on_disk import rows_of
from tiny import write_qwen2_vl

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.config import conf_dir, register_resolvers
from pipeline.domain import Status
from pipeline.run_names import run_name

ROWS: list[dict[str, Any]] = [
    {"id": f"q{number}", "video": "clip.mp4", "question": f"what is {number}?", "options": ["a", "b"], "answer": "a"}
    for number in range(4)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    write_rows(tmp_path, ROWS)
    return tmp_path


def write_rows(home: Path, rows: list[dict[str, Any]]) -> None:
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A 1 for each question that was put to the model."""
    from pipeline.generation.framed_prompts import FramedPrompts

    asked: list[int] = []
    add = FramedPrompts.add

    def spy(self: Any, *given: Any) -> None:
        asked.append(1)
        add(self, *given)

    monkeypatch.setattr(FramedPrompts, "add", spy)
    return asked


def evaluate(home: Path, model: Path, *words: str) -> Path:
    """Run the usual command with more words; its folder."""
    done = gens(
        *("evaluate", "benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2"),
        *("answerer=qwen2_vl_7b", f"answerer.checkpoint.source={model}", "answerer.max_new_tokens=4", *words),
        cwd=home,
    )
    assert done.returncode in (0, 1), done.stderr
    return Path(done.stdout.rpartition("report: ")[2].splitlines()[0]).parent


def right(folder: Path) -> tuple[int, int]:
    (run,) = json.loads((folder / "summary.json").read_text())["runs"]
    return run["strict"]["right"], run["strict"]["counted"]


def test_a_corrected_label_counts_and_nothing_is_asked_again(home: Path, model: Path, calls: list[int]) -> None:
    folder = home / evaluate(home, model)
    assert sum(calls) == 4
    said = {row.question.id: row.answer for row in rows_of(AnswerRow, folder / "answers.jsonl")}
    before = (folder / "answers.jsonl").read_bytes()
    right_letters = {key: answer.option for key, answer in said.items()}
    labelled = [
        {**row, "answer": 1 - (right_letters[row["id"]] or 0), "groups": {"kind": "x"}, "evidence": [[0, 1]]}
        for row in ROWS
    ]
    write_rows(home, labelled)
    assert home / evaluate(home, model) == folder
    assert sum(calls) == 4
    assert (folder / "answers.jsonl").read_bytes() == before
    now = rows_of(AnswerRow, folder / "answers.jsonl")
    assert {row.question.id: row.answer for row in now} == said
    assert all(row.question.groups == {"kind": "x"} and row.question.evidence for row in now)
    assert right(folder) == (sum(row.correct is True for row in now), 4)
    selected = rows_of(SelectionRow, folder / "selections.jsonl")
    assert all(row.question.groups == {"kind": "x"} for row in selected)


def test_another_text_under_the_same_id_is_refused_and_loses_nothing(home: Path, model: Path) -> None:
    folder = home / evaluate(home, model)
    before = (folder / "answers.jsonl").read_bytes(), (folder / "questions.jsonl").read_bytes()
    for change in ({"question": "what else?"}, {"options": ["a", "c"]}):
        write_rows(home, [{**ROWS[0], **change}, *ROWS[1:]])
        words = ("benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2")
        more = ("answerer=qwen2_vl_7b", f"answerer.checkpoint.source={model}", "answerer.max_new_tokens=4")
        done = gens("evaluate", *words, *more, cwd=home)
        assert done.returncode == 2
        assert "'q0'" in done.stderr
        assert "paths.runs=" in done.stderr
    assert ((folder / "answers.jsonl").read_bytes(), (folder / "questions.jsonl").read_bytes()) == before


def test_limit_speed_and_place_are_the_same_run(home: Path, model: Path, calls: list[int]) -> None:
    folder = home / evaluate(home, model, "limit=2")
    assert (sum(calls), right(folder)[1]) == (2, 2)
    assert home / evaluate(home, model) == folder
    assert (sum(calls), right(folder)[1]) == (4, 4)
    for words in (["limit=1"], ["reader.threads=2", "execution.answer_batch=1"], ["answerer.checkpoint.device=cpu"]):
        assert home / evaluate(home, model, *words) == folder
    moved = home / "moved"
    moved.mkdir()
    shutil.move(home / "questions.jsonl", moved / "questions.jsonl")
    shutil.copy(home / "clip.mp4", moved / "clip.mp4")
    assert home / evaluate(home, model, f"benchmark.path={moved / 'questions.jsonl'}") == folder
    assert sum(calls) == 4
    assert right(folder)[1] == 4


def test_runs_that_show_the_same_frames_share_their_answers(home: Path, model: Path, calls: list[int]) -> None:
    folders = {home / evaluate(home, model)}
    folders |= {home / evaluate(home, model, f"selection={name}") for name in ("topk_nms", "aks", "binmax")}
    assert len(folders) == 4
    assert sum(calls) == 4
    assert len({right(folder) for folder in folders}) == 1
    folders.add(home / evaluate(home, model, "selection.budget=3"))
    folders.add(home / evaluate(home, model, "answerer.max_new_tokens=5"))
    assert len(folders) == 6
    assert sum(calls) == 12


def test_an_answer_is_not_given_for_another_files_content(home: Path, model: Path, calls: list[int]) -> None:
    sampled = gens(
        *("sample", "benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2"),
        cwd=home,
    )
    assert sampled.returncode == 0, sampled.stderr
    (selections,) = home.glob("runs/sample-*/selections.jsonl")
    original = (home / "clip.mp4").read_bytes()
    write_video(home / "clip.mp4", seed=5)
    words = (
        *("answer", f"selections={selections}", "answerer=qwen2_vl_7b", f"answerer.checkpoint.source={model}"),
        "answerer.max_new_tokens=4",
    )
    assert gens(*words, cwd=home).returncode == 1
    (answers,) = home.glob("runs/answer-*/answers.jsonl")
    rows = rows_of(AnswerRow, answers)
    assert {row.answer.status for row in rows} == {Status.CHANGED_VIDEO}
    assert all("clip.mp4" in row.answer.detail and "gens sample" in row.answer.detail for row in rows)
    assert calls == []
    (home / "clip.mp4").write_bytes(original)
    gens(*words, cwd=home)
    assert sum(calls) == 4
    assert Status.CHANGED_VIDEO not in {row.answer.status for row in rows_of(AnswerRow, answers)}


def test_ask_is_named_by_the_content_of_the_video(home: Path, model: Path, calls: list[int]) -> None:
    shutil.copy(home / "clip.mp4", home / "copy.mp4")
    write_video(home / "other.mp4", seed=5)
    words = ("sampler=uniform", "selection.budget=2", "answerer=qwen2_vl_7b", f"answerer.checkpoint.source={model}")
    for video in ("clip.mp4", "copy.mp4"):
        gens("ask", f"video={video}", "question=what?", *words, cwd=home)
        assert len(list(home.glob("runs/ask-*"))) == 1
    assert sum(calls) == 1
    gens("ask", "video=other.mp4", "question=what?", *words, cwd=home)
    gens("ask", "video=clip.mp4", "question=who?", *words, cwd=home)
    assert len(list(home.glob("runs/ask-*"))) == 3
    assert sum(calls) == 3


def name_of(verb: str, *overrides: str) -> str:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return run_name(compose(verb, [*overrides, f"hydra.job.config_name={verb}"], return_hydra_config=True))


def test_other_selections_and_other_subtitles_are_other_runs_wherever_they_are() -> None:
    first, other, moved = (
        name_of("answer", f"selections={folder}/selections.jsonl") for folder in ("runs/a", "runs/b", "/moved/a")
    )
    assert first == moved != other
    none, english, german, moved = (
        name_of("ask", "video=none.mp4", "question=what?", "subtitles=full", f"subtitles_file={file}")
        for file in ("null", "en.srt", "de.srt", "/moved/en.srt")
    )
    assert english == moved
    assert len({none, english, german}) == 3


def test_rows_of_the_version_before_are_read_and_kept(home: Path, model: Path, calls: list[int]) -> None:
    folder = home / evaluate(home, model)
    answers = folder / "answers.jsonl"
    asked = [json.loads(line)["question"] for line in (folder / "questions.jsonl").read_text().splitlines()]
    old = []
    for line, question in zip(answers.read_text().splitlines(), asked, strict=True):
        row = json.loads(line)
        row.pop("asked")
        old.append(json.dumps({**row, "key": "of-then", "question": question, "schema": "gens/answer/1"}))
    answers.write_text("".join(f"{line}\n" for line in old))
    before = answers.read_bytes()
    assert [row.question.id for row in rows_of(AnswerRow, answers)] == ["q0", "q1", "q2", "q3"]
    assert gens("report", f"runs={folder}", cwd=home).returncode == 0
    assert right(folder)[1] == 4
    shutil.rmtree(home / "cache" / "answers")
    done = gens(
        *("evaluate", "benchmark=jsonl", "benchmark.path=questions.jsonl", "sampler=uniform", "selection.budget=2"),
        *("answerer=qwen2_vl_7b", f"answerer.checkpoint.source={model}", "answerer.max_new_tokens=4"),
        cwd=home,
    )
    assert "4 rows of an earlier version" in done.stderr
    assert answers.read_bytes().startswith(before)
    assert sum(calls) == 8


def write_slides(folder: Path, seconds: list[int]) -> Path:
    folder.mkdir()
    for second in seconds:
        Image.new("RGB", (64, 64), (second % 256, 80, 160)).save(folder / f"sec{second:03d}.png")
    return folder


def test_frames_that_are_not_evenly_spaced_are_all_kept(home: Path) -> None:
    seconds = [*range(20), 100, 200]
    write_slides(home / "slides", seconds)
    write_rows(home, [{"id": "q", "video": "slides", "question": "what?"}])
    named = [*seconds[:14], 100, 200]
    (home / "seconds.json").write_text(json.dumps({"q": named}))
    words = ("benchmark=jsonl", "benchmark.path=questions.jsonl", "selection.budget=16")
    done = gens("sample", *words, "sampler=file", "sampler.path=seconds.json", "sampler/format=seconds", cwd=home)
    assert done.returncode == 0, done.stderr
    (selections,) = home.glob("runs/sample-*/selections.jsonl")
    (row,) = rows_of(SelectionRow, selections)
    assert [frame.time for frame in row.selection.frames] == named
    assert [frame.index for frame in row.selection.frames] == [seconds.index(second) for second in named]


def test_uniform_frames_of_uneven_slides_are_different_pictures(home: Path) -> None:
    seconds = [*range(20), 100, 200]
    write_slides(home / "slides", seconds)
    write_rows(home, [{"id": "q", "video": "slides", "question": "what?"}])
    words = ("benchmark=jsonl", "benchmark.path=questions.jsonl", "selection.budget=8", "sampler=uniform")
    assert gens("sample", *words, cwd=home).returncode == 0
    (selections,) = home.glob("runs/sample-*/selections.jsonl")
    (row,) = rows_of(SelectionRow, selections)
    assert [frame.time for frame in row.selection.frames] == [0, 3, 6, 9, 12, 15, 18, 200]
    assert [frame.index for frame in row.selection.frames] == [0, 3, 6, 9, 12, 15, 18, 21]
