"""lmms-eval's own ``openai`` model in front of ``gens serve``, where a Python that has it is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from command_line import environment_in
from videomme_task import rows, samples_in, write_task

from pipeline.benchmarks.micro import MicroBenchmark

HERE = Path(__file__).parent.parent


def test_failed_questions_count_as_wrong_and_the_others_as_a_run_of_ours(tmp_path: Path, harness: str) -> None:
    made = MicroBenchmark("micro", str(tmp_path / "videos"), "test", 0, 2, 3.0, 5.0, 5)
    questions = list(made.questions())
    broken, gone = tmp_path / "videos" / "broken.mp4", tmp_path / "videos" / "gone.mp4"
    broken.write_bytes(b"\0" * 4096)
    asked = [*questions, questions[0], questions[1]]
    videos = [*(Path(question.video) for question in questions), broken, gone]
    docs = rows(asked, videos)
    task = write_task(docs, tmp_path / "task")
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
        words = [
            "-m",
            "lmms_eval",
            "--model",
            "openai",
            "--model_args",
            settings,
            "--include_path",
            str(tmp_path / "task"),
        ]
        words += ["--tasks", task, "--log_samples", "--output_path", str(tmp_path / "out")]
        around = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""}
        around.pop("PYTHONPATH", None)
        done = subprocess.run([harness, *words], env=around, capture_output=True, text=True, check=False)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=120)
    assert server.returncode == 0
    samples = samples_in(tmp_path / "out")
    assert len(samples) == len(docs), done.stderr[-2000:]
    told = [sample["filtered_resps"] for sample in samples]
    scores = [sample["videomme_perception_score"] for sample in samples]
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
