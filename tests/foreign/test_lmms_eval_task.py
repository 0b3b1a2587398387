"""The exported task folder; with lmms-eval itself where its package can be imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from made import write_video

from pipeline.answerers.prompts import AnswerPrompt, SubtitleForm
from pipeline.artefacts.rows import SelectionRow
from pipeline.benchmarks.official_rules import lmms_eval_option
from pipeline.domain import FrameOrigin, Question, SelectedFrame, Selection, Status
from pipeline.errors import ConfigError, InputError
from pipeline.foreign.lmms_eval_task import LmmsEvalTaskForm
from pipeline.video import Reader

LMMS_EVAL = "GENS_LMMS_EVAL"
"""Names a Python that has lmms-eval 0.7, in an environment of its own: its requirements are not ours."""
READER = Reader("default", "pyav", 1, 1.0)
PROMPT = AnswerPrompt(
    name="letter",
    system=None,
    multiple_choice="{question}\n{options}\nAnswer with a letter.",
    free="{question}",
    intervals="{question}",
    option_line="{letter}. {option}",
    option_separator="\n",
    answer_prefix="",
    subtitles=SubtitleForm("before_question", "{text}", "{lines}", None, "\n"),
)
FORM = LmmsEvalTaskForm(
    task="gens_frames",
    label="{time:.1f}s: ",
    prompt=PROMPT,
    max_new_tokens=16,
    quality=95,
)


def selection(id: str, video: Path, *times: float, status: Status = Status.OK, correct: int | None = 1) -> SelectionRow:
    question = Question(id, str(video), f"What of {{{id}}}?", ("red", "blue", "green"), correct, {"task": "plot"})
    frames = tuple(SelectedFrame(time, round(time * 4), 5.0, FrameOrigin.SAMPLER) for time in times)
    return SelectionRow("key", "gens", question, None, Selection(id, frames, "topk", 8, status))


@pytest.fixture
def rows(tmp_path: Path) -> list[SelectionRow]:
    video = write_video(tmp_path / "v.mp4")
    return [
        selection("a", video, 2.0, 7.5),
        selection("nothing", video, status=Status.NO_SCORES),
        selection("b", video, 7.5),
        selection("gone", tmp_path / "gone.mp4", 1.0),
    ]


def functions(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gens_functions", folder / "gens_functions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def questions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def test_the_task_holds_the_questions_that_have_frames_and_the_statuses_tell_of_the_rest(
    rows: list[SelectionRow], tmp_path: Path
) -> None:
    statuses = FORM.write(rows, READER, tmp_path / "task")
    assert statuses == [Status.OK, Status.NO_SCORES, Status.OK, Status.MISSING_VIDEO]
    first, second = questions(tmp_path / "task")
    assert (first["id"], second["id"]) == ("a", "b")
    assert first["prompt"] == "What of {a}?\nA. red\nB. blue\nC. green\nAnswer with a letter."
    assert (first["answer"], first["groups"]) == ("B", {"task": "plot"})
    assert [(frame["time"], frame["label"]) for frame in first["frames"]] == [(2.0, "2.0s: "), (7.5, "7.5s: ")]


def test_the_pictures_are_those_of_the_selected_moments(rows: list[SelectionRow], tmp_path: Path) -> None:
    FORM.write(rows, READER, tmp_path / "task")
    with READER.open(rows[0].question.video) as source:
        wanted = [frame.pixels.astype(int) for frame in source.frames_at([2.0, 7.5])]
    seen = functions(tmp_path / "task").pictures(questions(tmp_path / "task")[0])
    for frame, picture in zip(wanted, seen, strict=True):
        assert picture.size == (64, 64)
        assert np.abs(np.asarray(picture).astype(int) - frame).mean() < 4  # JPEG
    assert np.abs(wanted[0] - wanted[1]).mean() > 20


def test_a_picture_has_the_size_that_its_selection_states(rows: list[SelectionRow], tmp_path: Path) -> None:
    first, *_ = rows
    sizes = [replace(frame, scale=scale) for frame, scale in zip(first.selection.frames, (0.25, None), strict=True)]
    scaled = replace(first, selection=replace(first.selection, frames=tuple(sizes)))
    FORM.write([scaled], READER, tmp_path / "task")
    seen = functions(tmp_path / "task").pictures(questions(tmp_path / "task")[0])
    assert [picture.size for picture in seen] == [(16, 16), (64, 64)]


def test_chat_models_get_each_frame_behind_its_time(rows: list[SelectionRow], tmp_path: Path) -> None:
    FORM.write(rows, READER, tmp_path / "task")
    ((message,), row) = functions(tmp_path / "task").messages(questions(tmp_path / "task")[0]), None
    assert row is None
    told = [part.get("text") or type(part["url"]).__name__ for part in message["content"]]
    assert told[:4] == ["2.0s: ", "Image", "7.5s: ", "Image"]
    assert told[4].endswith("Answer with a letter.")
    silent = replace(FORM, label="")
    silent.write(rows, READER, tmp_path / "silent")
    (message,) = functions(tmp_path / "silent").messages(questions(tmp_path / "silent")[0])
    assert [part["type"] for part in message["content"]] == ["image", "image", "text"]


def test_the_yaml_names_the_functions_and_the_questions(rows: list[SelectionRow], tmp_path: Path) -> None:
    FORM.write(rows, READER, tmp_path / 'a "task" of mine')
    folder = tmp_path / 'a "task" of mine'

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))  # type: ignore[arg-type]
    task = yaml.load((folder / "gens_frames.yaml").read_text(), Loader)
    assert task["task"] == "gens_frames"
    assert Path(task["dataset_kwargs"]["data_files"]["test"]) == (folder / "questions.jsonl").resolve()
    module = functions(folder)
    named = [task[key] for key in ("doc_to_visual", "doc_to_text", "doc_to_messages", "process_results")]
    for name in [*named, task["metric_list"][0]["aggregation"]]:
        file, _, function = name.partition(".")
        assert file == "gens_functions"
        assert callable(getattr(module, function))


def test_questions_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 1 questions have no options or no known answer, 'open' for one"):
        FORM.write([selection("open", tmp_path / "v.mp4", 1.0, correct=None)], READER, tmp_path / "task")
    assert not (tmp_path / "task").exists()


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"task": "a b"}, "form.task="),
        ({"quality": 0}, "form.quality="),
        ({"label": "{second}"}, "{time}"),
        ({"prompt": replace(PROMPT, answer_prefix="Best option: (")}, "answerer/prompt@form.prompt=letter"),
        ({"max_new_tokens": 0}, "form.max_new_tokens="),
    ],
)
def test_settings_that_make_no_task_are_refused(changed: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        LmmsEvalTaskForm(**{**vars(FORM), **changed})
    assert remedy in error.value.remedy


@pytest.fixture
def harness() -> str:
    python = os.environ.get(LMMS_EVAL)
    if python is None:
        pytest.skip(f"set {LMMS_EVAL} to a Python that has lmms-eval 0.7 to run this")
    return python


def test_lmms_eval_runs_the_task_and_its_samples_are_read(
    rows: list[SelectionRow], tmp_path: Path, harness: str
) -> None:
    from pipeline.foreign.lmms_eval_samples import read_samples

    FORM.write(rows, READER, tmp_path / "task")
    words = ["-m", "lmms_eval", "--model", "dummy", "--model_args", "response=B", "--batch_size", "1"]
    words += ["--include_path", str(tmp_path / "task"), "--tasks", "gens_frames", "--log_samples"]
    around = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""}
    command = [harness, *words, "--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
    assert "|gens_acc|" in done.stdout.replace(" ", ""), done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("*_samples_gens_frames.jsonl")
    found = read_samples(file, [row.question for row in rows], "second")
    assert {row.question.id: row.answer.option for row in found.rows} == {"a": 1, "b": 1}


def test_our_form_of_its_reading_reads_what_lmms_eval_reads(harness: str) -> None:
    random = np.random.default_rng(0)
    pieces = ["A", "B", "C", "D", "E", "(A)", "(C)", "B.", "D:", "C)", "the answer is", "best option is", "I choose"]
    pieces += ["Based", "on", "DNA", "\n", ",", ".", "red", "'", '"', "!", "My choice is", "the correct choice is", "a"]
    texts = [str(random.choice([" ", ""])).join(random.choice(pieces, int(random.integers(0, 7)))) for _ in range(5000)]
    code = (
        "import json, sys; from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer as read;"
        "print(json.dumps([read(text, list('ABCD')) for text in json.load(sys.stdin)]))"
    )
    done = subprocess.run([harness, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = ["" if (option := lmms_eval_option(text)) is None else "ABCD"[option] for text in texts]
    assert [pair for pair in zip(texts, ours, theirs, strict=True) if pair[1] != pair[2]] == []
