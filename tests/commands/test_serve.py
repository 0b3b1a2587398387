"""``gens serve`` as a process: from its first line to the signal that ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
from command_line import environment_in, gens
from made import write_video

HERE = Path(__file__).parent.parent


def test_it_answers_until_a_signal_ends_it_and_leaves_a_run_folder(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "videos" / "clip.mp4", seconds=4)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "serve", "sampler=uniform", "answerer=function", "selection.budget=2"),
            *("answerer.function=user_functions.answer", "plugins=[user_functions]", "videos.folders=[videos]"),
            *("access.port=0", "execution.decode_workers=1", "engine.gather_seconds=0"),
        ],
        cwd=tmp_path,
        env={**os.environ, **environment_in(tmp_path, {"PYTHONPATH": f"{HERE.parent}:{HERE}"})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2].rstrip(",")
        with openai.OpenAI(base_url=address, api_key="EMPTY", max_retries=0) as api:
            content: list[Any] = [
                {"type": "video_url", "video_url": {"url": f"file://{clip}"}},
                {"type": "text", "text": "Which color?\nA. red\nB. blue\nAnswer with the letter."},
            ]
            given: Any = api.chat.completions.create(model="gens", messages=[{"role": "user", "content": content}])
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    gens_field = given.model_extra["gens"]
    assert (given.choices[0].message.content, gens_field["option"], gens_field["status"]) == ("A", "A", "ok")
    (folder,) = tmp_path.glob("runs/serve-*")
    assert gens_field["run"] == {"folder": folder.name, "questions": 1, "failed": 0}
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 1
    assert "uniform -> topk, 2 frames -> function" in err


def test_a_port_in_use_and_an_address_of_another_machine_are_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = gens("serve", "sampler=uniform", "answerer=qwen2_vl_micro", f"access.port={port}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert f"access.port={port + 1}" in done.stderr
    words = ("serve", "sampler=uniform", "answerer=qwen2_vl_micro", "access.host=203.0.113.7")
    done = gens(*words, cwd=tmp_path, GENS_API_KEY="a key of sixteen characters".replace(" ", "-"))
    assert done.returncode == 2
    assert "access.host=203.0.113.7" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_videos_are_decoded_in_processes_with_limits_alone(tmp_path: Path) -> None:
    done = gens("serve", "sampler=uniform", "answerer=qwen2_vl_micro", "execution.decode_workers=0", cwd=tmp_path)
    assert done.returncode == 2
    assert "execution.decode_workers=1" in done.stderr
