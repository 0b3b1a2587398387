"""The server answerer against a real server: ``transformers serve`` with a tiny random LLaVA, see ``served.py``.

What it says is noise; that it says the same in process, through the whole commands, and that no key is ever written
down is not.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import gens
from made import write_video
from openai_cases import KEY, KEY_NAME, asked, made
from rows_on_disk import rows_of
from served import Served, serving, write_llava

from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import Cost, Status
from pipeline.errors import CheckpointError
from pipeline.ledger import alone, spent

QUESTIONS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_llava(tmp_path_factory.mktemp("served") / "llava")) as up:
        yield up


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    rows = [
        {"video": "clip.mp4", "question": f"what is {number}?", "options": ["a", "b", "c"], "answer": "b"}
        for number in range(QUESTIONS)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_it_answers_from_the_frames_in_their_order(server: Served) -> None:
    overrides = (f"answerer.model={server.model}", "answerer.max_new_tokens=6")
    answerer = made(server.url, *overrides)
    one, two = asked(1, 1.0), asked(2, 1.0, 2.0)
    answers = {answer.question_id: answer for answer in answerer.answer([one, two, asked(3, 2.0, 1.0)], 3)}
    for answer in answers.values():
        assert answer.finish in ("stop", "length")
        assert answer.status is not Status.UNREACHABLE
        assert 0 < answer.cost.output_tokens <= 6
    # Another frame and its label are in the prompt: 4 tokens of picture, and some of text.
    assert answers["q2"].cost.prompt_tokens - answers["q1"].cost.prompt_tokens >= 4 + 3
    again = next(answerer.answer([two], 1))
    assert again.text == answers["q2"].text


def test_a_model_that_the_server_does_not_have(server: Served) -> None:
    with pytest.raises(CheckpointError, match="Server is pinned") as raised:
        next(made(server.url, "answerer.model=nobody/nothing").answer([asked()], 1))
    assert "answerer.model=" in raised.value.remedy


def words(server: Served, *more: str) -> list[str]:
    return [
        *("sampler=uniform", "selection.budget=3", "answerer=openai", f"answerer.base_url={server.url}"),
        *(f"answerer.model={server.model}", "answerer.max_new_tokens=6", "answerer.frame.max_side=56"),
        *("benchmark=jsonl", "benchmark.path=questions.jsonl", *more),
    ]


def run(home: Path, *line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = gens("evaluate", *line, cwd=home, **environment)
    assert done.returncode in (0, 1), done.stderr
    return done


def test_a_benchmark_through_the_server_and_again_without_it(server: Served, home: Path) -> None:
    done = run(home, *words(server, f"answerer.api_key_env={KEY_NAME}"), **{KEY_NAME: KEY})
    (folder,) = (home / "runs").iterdir()
    rows = rows_of(AnswerRow, folder / "answers.jsonl")
    assert len(rows) == QUESTIONS
    for row in rows:
        assert row.answer.finish in ("stop", "length")
        assert row.answer.frame_times
        assert row.answer.cost.prompt_tokens > 0
        assert row.answer.form.endswith("text before each image: '[12.5s]'")
    assert "HTTP Request" not in done.stderr + done.stdout

    # The key is in the environment alone: no file of run folder or cache has it, and nothing that was printed.
    assert KEY not in done.stdout + done.stderr
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) > QUESTIONS
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []

    # Another price is the same run; another cap is another run, and takes its replies from the store.
    run(home, *words(server, "answerer.prices={input: 1.0, output: 1.0}"))
    assert list((home / "runs").iterdir()) == [folder]
    run(home, *words(server, "answerer.max_frames=100"))
    (other,) = set((home / "runs").iterdir()) - {folder}
    again = {row.question.id: row.answer for row in rows_of(AnswerRow, other / "answers.jsonl")}
    for row in rows:
        assert again[row.question.id].text == row.answer.text
    kept = [row.question.id for row in rows if row.answer.text.strip()]
    assert kept
    assert [(again[name].cached, spent(again[name])) for name in kept] == [(True, Cost())] * len(kept)
    assert all(alone(again[name]).seconds > 0 for name in kept)  # they cost what they cost


def test_what_the_server_did_not_answer_is_asked_for_by_the_same_command(server: Served, home: Path) -> None:
    gone = words(Served("http://127.0.0.1:9/v1", server.model), "answerer.retries=0")
    assert f"{QUESTIONS} unreachable" in run(home, *gone).stderr
    (folder,) = (home / "runs").iterdir()
    assert {row.answer.status for row in rows_of(AnswerRow, folder / "answers.jsonl")} == {Status.UNREACHABLE}
    # Patience and the place of the key do not make another run.
    assert f"{QUESTIONS} unreachable" in run(home, *gone, "answerer.retries=1", "answerer.timeout=5").stderr
    assert list((home / "runs").iterdir()) == [folder]
