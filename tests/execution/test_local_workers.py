"""Several processes of this machine: the rows are those of one process, whichever of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bad_workers import settings
from made import write_video
from omegaconf import DictConfig, OmegaConf
from rows_on_disk import rows_of

from pipeline.answer_requests import OverLimit
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, RelevanceRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Status
from pipeline.errors import CheckpointError
from pipeline.execution import crew, local
from pipeline.execution.answering import Showing
from pipeline.execution.local import LocalExecutor, OverlappedStages
from pipeline.execution.recipes import Stage, recipe
from pipeline.execution.stages import AnswerStage, SampleStage
from pipeline.orchestrator import answer, sample, sample_and_answer, select
from pipeline.subtitles import SubtitleChoice

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


class Run:
    """Both stages over the same questions, in this process or in others."""

    def __init__(self, home: Path, texts: Sequence[Sequence[str]], words: Sequence[str] = ()) -> None:
        from hydra import compose, initialize_config_dir

        register_resolvers()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("evaluate", ["execution.decode_workers=0", f"paths.cache={home / 'cache'}", *words])
        self.config: DictConfig = OmegaConf.create(OmegaConf.to_container(OmegaConf.masked_copy(config, _KEYS)))
        if not words:
            self.config.sampler = settings("BadSampler", "bad", home)
            self.config.answerer = settings("BadAnswerer", "bad", home)
            self.config.plugins = ["bad_workers"]
        self.home = home
        self.questions = [
            Question(f"{video}-{number}", str(home / f"{video}.mp4"), text, ("a", "b"), 0)
            for video, several in enumerate(texts)
            for number, text in enumerate(several)
        ]
        for video in range(len(texts)):
            if not (home / f"{video}.mp4").exists():
                write_video(home / f"{video}.mp4", seconds=4, seed=video)

    def executor(self, stage: Stage, places: Sequence[str] | None) -> LocalExecutor | None:
        made = None if places is None else recipe(self.config, stage, has_store=False)
        return made and LocalExecutor(made, places or (), self.config.execution.worker_deadline)

    def sampled(self, folder: str, places: Sequence[str] | None) -> Iterator[RelevanceRow]:
        sampler = build(self.config.sampler, "sampler", self.config.plugins)
        self.config.paths.cache = str(self.home / f"cache of {folder}")
        cache = RelevanceCache(Path(self.config.paths.cache), self.config.execution.retry == "crashed")
        reader = build(self.config.reader, "reader")
        write_questions(self.questions, self.home / folder)
        return sample(self.questions, sampler, reader, cache, self.home / folder, self.executor("sampler", places))

    def answered(self, folder: str, places: Sequence[str] | None) -> list[AnswerRow]:
        reader, policy = build(self.config.reader, "reader"), build(self.config.selection, "selection")
        selections = select(self.sampled(folder, places), policy, reader, self.home / folder)
        answerer = build(self.config.answerer, "answerer", self.config.plugins)
        cache = AnswerCache(Path(self.config.paths.cache), self.config.execution.retry == "crashed")
        rows = answer(
            *(selections, answerer, reader, cache, OverLimit.REFUSE, SubtitleChoice.NONE, 2, self.home / folder),
            self.executor("answerer", places),
        )
        return list(rows)

    def overlapped(self, folder: str, places: Sequence[str]) -> list[AnswerRow]:
        self.config.paths.cache = str(self.home / f"cache of {folder}")
        reader, policy = build(self.config.reader, "reader"), build(self.config.selection, "selection")
        sampler, answerer = (build(self.config[name], name, self.config.plugins) for name in ("sampler", "answerer"))
        cache, place = Path(self.config.paths.cache), self.home / folder
        write_questions(self.questions, place)
        recipes = [recipe(self.config, stage, has_store=False) for stage in ("sampler", "answerer")]
        showing = Showing(OverLimit.REFUSE, SubtitleChoice.NONE, 2)
        with (
            SampleStage(self.questions, sampler, reader, RelevanceCache(cache), place) as sampling,
            AnswerStage(len(self.questions), answerer, reader, AnswerCache(cache), showing, place) as answering,
        ):
            executor = OverlappedStages(*recipes, places)
            parts = (self.questions, sampling, policy, answering, reader, place, executor)
            return list(sample_and_answer(*parts, note=lambda row: None))

    def statuses(self, folder: str) -> dict[str, Status]:
        rows = rows_of(RelevanceRow, self.home / folder / "relevance.jsonl")
        return {row.question.id: row.relevance.status for row in rows}


_KEYS = ["sampler", "selection", "answerer", "reader", "execution", "paths", "plugins", "over_limit", "subtitles"]
CPU = ("", "", "", "")


def on_disk(folder: Path) -> dict[str, list[str]]:
    """The rows of both stages without what they cost, sorted."""
    found = {}
    for name in ("relevance", "selections", "answers"):
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for row in rows:
            for part in ("relevance", "answer"):
                for name_of_cost in ("cost", "alone", "cached"):
                    row.get(part, {}).pop(name_of_cost, None)
        found[name] = sorted(json.dumps(row) for row in rows)
    return found


@pytest.fixture(autouse=True)
def _here_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


FINE = [["one", "two"], ["three"], ["four", "five", "six"], ["seven"]]


def test_two_processes_give_the_rows_of_one(tmp_path: Path) -> None:
    run = Run(tmp_path, FINE)
    run.answered("inline", None)
    run.answered("two", CPU[:2])
    assert on_disk(tmp_path / "two") == on_disk(tmp_path / "inline")


def test_a_video_is_answered_while_another_one_is_still_sampled(tmp_path: Path) -> None:
    run = Run(tmp_path, [["three"], ["WAIT", "two"], ["answer SIGKILL 1", "four"]])
    assert {row.answer.status for row in run.overlapped("both", CPU[:1])} == {Status.OK}
    run.answered("inline", None)
    assert on_disk(tmp_path / "both") == on_disk(tmp_path / "inline")


def test_a_stage_that_cannot_go_on_lets_the_other_finish_what_it_has_in_hand(tmp_path: Path) -> None:
    run = Run(tmp_path, [["three"], ["WAIT", "SLOW", "two"], ["four"], ["five"]])
    (tmp_path / "no answerer").touch()
    with pytest.raises(CheckpointError, match="weights are missing"):
        run.overlapped("both", CPU[:1])
    assert {"0-0", "1-0", "1-1", "1-2"} <= set(run.statuses("both"))
    assert "3-0" not in run.statuses("both")


def test_the_units_of_a_process_that_is_killed_go_to_another(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, [["SIGKILL 1", "two"], ["answer SIGSEGV 1"], *FINE])
    rows = run.answered("run", CPU[:2])
    assert sorted(row.question.id for row in rows) == [question.id for question in run.questions]
    assert {row.answer.status for row in rows} == {Status.OK}
    said = capfd.readouterr().err
    assert "was ended by SIGKILL, perhaps for lack of memory; what it had in hand is tried by another one" in said
    assert "was ended by SIGSEGV: Fatal Python error: Segmentation fault" in said
    for name in ("relevance", "selections", "answers"):
        assert len((tmp_path / "run" / f"{name}.jsonl").read_text().splitlines()) == len(rows)


def test_what_ends_two_processes_is_a_failure_that_is_tried_again_where_asked(tmp_path: Path) -> None:
    run = Run(tmp_path, [["one"], ["SIGABRT 2", "RAISE 1"], ["two"]])
    rows = list(run.sampled("run", CPU[:1]))
    bad = next(row for row in rows if row.question.id == "1-0")
    expected = {"0-0": Status.OK, "1-0": Status.CRASHED, "1-1": Status.CRASHED, "2-0": Status.OK}
    assert run.statuses("run") == expected
    assert "ended by SIGABRT: Fatal Python error: Aborted" in bad.relevance.detail
    assert bad.relevance.detail.endswith("execution.retry=crashed")

    assert {row.question.id: row.relevance.status for row in run.sampled("run", ["never started"])} == expected
    run.config.execution.retry = "crashed"
    assert {row.relevance.status for row in run.sampled("run", CPU[:1])} == {Status.OK}


def test_a_process_that_hangs_is_replaced_after_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a clock that only goes while one hangs, so that those that work may take as long as the machine is busy."""
    killed: list[str] = []
    kill = local._Process.kill
    ticks = [0.0]

    def clock() -> float:
        ticks.append(ticks[-1] + (len(list(tmp_path.glob("HANG.*"))) > len(killed)))
        return ticks[-1]

    monkeypatch.setattr(local._Process, "kill", lambda self, reason: (killed.append(reason), kill(self, reason)))
    monkeypatch.setattr(crew, "time", SimpleNamespace(monotonic=clock))
    run = Run(tmp_path, [["one"], ["HANG 2", "two"], ["three"]])
    run.config.execution.worker_deadline = 0.2
    rows = {row.question.id: row.relevance for row in run.sampled("run", CPU[:1])}
    crashed = {"1-0", "1-1"}
    assert run.statuses("run") == {name: Status.CRASHED if name in crashed else Status.OK for name in rows}
    assert len(rows) == 4
    assert len(killed) == 2
    assert "gave no result within execution.worker_deadline=0.2 s" in rows["1-0"].detail
    assert "what it had in hand is tried by another one" in capfd.readouterr().err


def test_an_answer_that_ends_two_processes_is_a_failure_likewise(tmp_path: Path) -> None:
    run = Run(tmp_path, [["answer SIGABRT 2", "one"], ["two"]])
    expected = {"0-0": Status.CRASHED, "0-1": Status.CRASHED, "1-0": Status.OK}
    for places in (CPU[:1], ["never started"]):
        assert {row.question.id: row.answer.status for row in run.answered("run", places)} == expected
    run.config.execution.retry = "crashed"
    assert {row.answer.status for row in run.answered("run", CPU[:1])} == {Status.OK}


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    run = Run(tmp_path, FINE)
    begun = run.sampled("run", CPU[:2])
    first = [next(begun).question.id for _ in range(3)]
    begun.close()
    rest = [row.question.id for row in run.sampled("run", CPU[:1])]
    assert sorted(rest) == sorted(question.id for question in run.questions)
    lines = [json.loads(line) for line in (tmp_path / "run" / "relevance.jsonl").read_text().splitlines()]
    assert sorted(line["relevance"]["question_id"] for line in lines) == sorted(rest)
    assert [line["relevance"]["question_id"] for line in lines][:3] == first


def test_a_model_that_cannot_be_loaded_is_said_once_and_costs_nothing_where_another_worker_can(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, [["WAIT"], *FINE])
    (tmp_path / "no model on 1").touch()
    assert {row.relevance.status for row in run.sampled("run", ("0", "1"))} == {Status.OK}
    assert capfd.readouterr().err.count("weights are missing") == 1
    (tmp_path / "no model on 0").touch()
    with pytest.raises(CheckpointError, match="weights are missing"):
        list(run.sampled("again", ("0", "1")))
    assert capfd.readouterr().err.count("weights are missing") <= 1


class Command:
    """``gens sample`` in a process of its own, whose sampler takes a second for each question."""

    def __init__(self, home: Path, videos: int, execution: str = "local", does: str = "SLOW") -> None:
        self.home = home
        rows = []
        for video in range(videos):
            write_video(home / f"{video}.mp4", seconds=4, seed=video)
            asked = {"video": f"{video}.mp4", "question": does, "options": ["a", "b"], "answer": "a"}
            rows += [{"id": f"{video}-{number}", **asked} for number in range(2)]
        (home / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (home / "mine" / "sampler").mkdir(parents=True)
        node = {**settings("BadSampler", "bad", home), "about": {"what": "bad"}}
        (home / "mine" / "sampler" / "bad.yaml").write_text(json.dumps(node))
        words = ["sample", "--config-dir", "mine", "plugins=[bad_workers]", "benchmark=jsonl", "benchmark.path=q.jsonl"]
        words += ["sampler=bad", f"execution={execution}", "execution.workers=2", "execution.decode_workers=0"]
        self.words = [sys.executable, "-m", "pipeline", *words, "paths.cache=cache"]
        self.process = self.begun()

    def begun(self) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(HERE)])
        return subprocess.Popen(
            self.words, cwd=self.home, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
        )

    def events(self) -> list[dict[str, Any]]:
        lines = [line for file in self.home.glob("runs/*/events.jsonl") for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def workers_at_work(self) -> set[int]:
        """Waits until both of them have a video in hand; their process ids."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            pids = {each["pid"] for each in self.events() if each["event"] == "worker" and each["state"] == "sampling"}
            if len(pids) == 2:
                return pids
            time.sleep(0.05)
        raise AssertionError(self.events())

    def rows(self) -> list[str]:
        [file] = self.home.glob("runs/*/relevance.jsonl")
        return [json.loads(line)["relevance"]["question_id"] for line in file.read_text().splitlines()]


def gone(pids: set[int], within: float = 60.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_finishes_what_is_in_hand_and_a_second_one_or_a_kill_stops_at_once(tmp_path: Path) -> None:
    command = Command(tmp_path, videos=8)
    pids = command.workers_at_work()
    command.process.send_signal(signal.SIGINT)
    said = command.process.communicate(timeout=120)[1]
    assert command.process.returncode == 130, said
    assert "videos in hand are finished first; Ctrl-C again stops now" in said
    in_hand = {each["video"] for each in command.events() if each["event"] == "worker" and each["state"] == "sampling"}
    finished = command.rows()
    assert len(finished) == 2 * len(in_hand) < 16
    assert gone(pids)

    [events] = tmp_path.glob("runs/*/events.jsonl")
    events.unlink()
    command.process = command.begun()
    pids = command.workers_at_work()
    for _ in range(2):
        command.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    command.process.communicate(timeout=60)
    assert command.process.returncode == 130
    assert gone(pids)


def test_ctrl_c_finishes_the_video_in_hand_in_this_process_too(tmp_path: Path) -> None:
    command = Command(tmp_path, videos=3, execution="inline", does="WAIT")
    end = time.monotonic() + 120
    while time.monotonic() < end and not (tmp_path / "waiting").exists():
        time.sleep(0.05)
    command.process.send_signal(signal.SIGINT)
    assert command.process.stderr is not None
    heard = ""
    while "Ctrl-C again stops now" not in heard and (line := command.process.stderr.readline()):
        heard += line
    (tmp_path / "go").touch()
    said = heard + command.process.communicate(timeout=120)[1]
    assert command.process.returncode == 130, said
    assert said.count("Ctrl-C again stops now") == 1
    assert command.rows() == ["0-0", "0-1"]


def test_workers_end_with_their_driver(tmp_path: Path) -> None:
    command = Command(tmp_path, videos=4)
    pids = command.workers_at_work()
    command.process.kill()
    command.process.communicate()
    assert gone(pids)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_models_in_several_processes_give_the_rows_of_one(tmp_path: Path, workers: int) -> None:
    run = Run(tmp_path, FINE, ["sampler=gens_micro", "answerer=qwen2_vl_micro"])
    run.answered("inline", None)
    run.answered("several", CPU[:workers])
    assert on_disk(tmp_path / "several") == on_disk(tmp_path / "inline")
