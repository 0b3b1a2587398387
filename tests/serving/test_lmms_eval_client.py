"""lmms-eval's own ``openai`` model in front of ``gens serve``, where a Python that has it is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import environment_in

from pipeline.benchmarks.micro import MicroBenchmark
from pipeline.domain import Question, option_letter

LMMS_EVAL = "GENS_LMMS_EVAL"
HERE = Path(__file__).parent.parent
TASK = """\
task: made_videomme
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.made_doc_to_visual
doc_to_text: !function utils.videomme_doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 16, temperature: 0, top_p: 1.0, num_beams: 1, do_sample: false}
process_results: !function utils.videomme_process_results
metric_list:
  - metric: videomme_perception_score
    aggregation: !function utils.videomme_aggregate_results
    higher_is_better: true
lmms_eval_specific_kwargs:
  default: {pre_prompt: "", post_prompt: "\\nAnswer with the option's letter from the given choices directly."}
"""
UTILS = """\
from lmms_eval.tasks.videomme.utils import (
    videomme_aggregate_results, videomme_doc_to_text, videomme_process_results
)

def made_doc_to_visual(doc):
    return [doc["path"]]
"""


@pytest.fixture
def harness() -> str:
    python = os.environ.get(LMMS_EVAL)
    if python is None:
        pytest.skip(f"set {LMMS_EVAL} to a Python that has lmms-eval 0.7 to run this")
    return python


def rows(questions: Sequence[Question], videos: Sequence[Path]) -> list[dict[str, Any]]:
    """Questions as Video-MME has them, each about its video."""
    about = {"duration": "short", "domain": "Knowledge", "sub_category": "Astronomy", "task_type": "OCR Problems"}
    return [
        {
            **about,
            "question_id": f"{number}",
            "videoID": video.stem,
            "path": str(video),
            "question": question.text,
            "options": [f"{option_letter(i)}. {option}" for i, option in enumerate(question.options or ())],
            "answer": option_letter(question.correct or 0),
        }
        for number, (question, video) in enumerate(zip(questions, videos, strict=True))
    ]


def test_failed_questions_count_as_wrong_and_the_others_as_a_run_of_ours(tmp_path: Path, harness: str) -> None:
    made = MicroBenchmark("micro", str(tmp_path / "videos"), "test", 0, 2, 3.0, 5.0, 5)
    questions = list(made.questions())
    broken, gone = tmp_path / "videos" / "broken.mp4", tmp_path / "videos" / "gone.mp4"
    broken.write_bytes(b"\0" * 4096)
    asked = [*questions, questions[0], questions[1]]
    videos = [*(Path(question.video) for question in questions), broken, gone]
    docs = rows(asked, videos)
    task = tmp_path / "task"
    task.mkdir()
    (task / "rows.json").write_text(json.dumps(docs))
    (task / "made_videomme.yaml").write_text(TASK.replace("FILE", str(task / "rows.json")))
    (task / "utils.py").write_text(UTILS)
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "serve", "sampler=gens_micro", "answerer=qwen2_vl_micro"),
            *("selection.budget=4", f"videos.folders=[{tmp_path / 'videos'}]", "access.port=0"),
        ],
        cwd=tmp_path,
        env={**os.environ, **environment_in(tmp_path, {"PYTHONPATH": str(HERE.parent)})},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[2].rstrip(",")
        settings = f"model=gens,base_url={address},api_key=EMPTY,pass_video_url=True,num_concurrent=16,max_retries=1"
        words = ["-m", "lmms_eval", "--model", "openai", "--model_args", settings, "--include_path", str(task)]
        words += ["--tasks", "made_videomme", "--log_samples", "--output_path", str(tmp_path / "out")]
        around = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""}
        around.pop("PYTHONPATH", None)
        done = subprocess.run([harness, *words], env=around, capture_output=True, text=True, check=False)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=120)
    assert server.returncode == 0
    (file,) = (tmp_path / "out").rglob("*_samples_made_videomme.jsonl")
    samples = {each["doc_id"]: each for each in map(json.loads, file.read_text().splitlines())}
    assert len(samples) == len(docs), done.stderr[-2000:]
    told = [samples[number]["filtered_resps"] for number in range(len(docs))]
    scores = [samples[number]["videomme_perception_score"] for number in range(len(docs))]
    assert told[-2:] == ["", ""]
    assert [each["pred_answer"] for each in scores[-2:]] == ["", ""]
    (folder,) = tmp_path.glob("runs/serve-*")
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert sorted(each["answer"]["text"] for each in answers if each["answer"]["status"] == "ok") == sorted(told[:-2])
    assert [each["pred_answer"] for each in scores] == told
    right = [each["pred_answer"] == doc["answer"] for each, doc in zip(scores, docs, strict=True)]
    assert sum(right) >= 6  # of the 10 that can be answered, in words that the model does not know; guesses are 2 or 3
    statuses = [each["answer"]["status"] for each in answers]
    assert (statuses.count("unreadable_video"), statuses.count("invalid_question"), len(statuses)) == (1, 1, 12)
