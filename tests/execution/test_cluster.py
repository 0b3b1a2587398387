"""Actors on a Ray cluster: the rows are those of one process, whichever actor or node is lost."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import gens
from test_local_workers import FINE, HERE, ROOT, Command, Run, gone, on_disk

from pipeline.domain import Status
from pipeline.errors import ConfigError, IncompatibleLibraryError, InputError, MissingExtraError
from pipeline.execution.cluster import RayExecutor
from pipeline.execution.recipes import Stage, recipe
from pipeline.execution.settings import ExecutionSettings

# Ray leaves files of its processes open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TWO = ExecutionSettings("ray", workers=2, gpus_per_worker=1, overlap_stages=False, address=None, worker_deadline=None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, each with room for one actor."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:{HERE}")
        patch.syspath_prepend(str(HERE))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
        made.wait_for_nodes()
        yield made
        ray.shutdown()
        made.shutdown()


class OnRay(Run):
    """Both stages in this process or on a cluster, whose address takes the place of GPUs."""

    cache_of_nodes: str | None = None
    """As the settings name it, where that is not the driver's."""
    workers = 2
    when_both_work: Callable[[], None] | None = None

    def executor(self, stage: Stage, places: Any) -> RayExecutor | None:
        if places is None:
            return None
        (address,) = places
        self.config.paths.cache = self.cache_of_nodes or self.config.paths.cache
        settings = replace(TWO, address=address, workers=self.workers)
        made = RayExecutor(recipe(self.config, stage, has_store=False), settings)
        if self.when_both_work is not None:
            follow(made, self.when_both_work)
        return made


def follow(executor: RayExecutor, then: Callable[[], None]) -> None:
    """Call ``then`` once two actors have a video in hand."""
    record, at_work = executor.record, set[int]()

    def noted(number: int, state: str, video: str | None = None) -> None:
        record(number, state, video)
        before = len(at_work)
        at_work.update([number] if state == "sampling" else [])
        if (before, len(at_work)) == (1, 2):
            then()

    executor.record = noted  # type: ignore[method-assign]


def test_two_actors_of_which_one_is_killed_give_the_rows_of_one_process(
    cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = OnRay(tmp_path, [["SIGKILL 1", "two"], *FINE])
    rows = run.answered("ray", [cluster.address])
    assert {row.answer.status for row in rows} == {Status.OK}
    said = capfd.readouterr().err
    assert re.search(r"worker \d: a worker on \S+ \(process \d+\) ended", said)
    assert said.count("what it had in hand is tried by another one") == 1
    run.answered("inline", None)  # it is killed once
    assert on_disk(tmp_path / "ray") == on_disk(tmp_path / "inline")


def test_a_node_that_is_removed_costs_no_row(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = OnRay(tmp_path, [["SLOW"] * 4] * 2)  # a process lives on for a moment without its node
    run.when_both_work = lambda: cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    rows = list(run.sampled("ray", [cluster.address]))
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    assert {row.relevance.status for row in rows} == {Status.OK}
    assert sorted(row.question.id for row in rows) == [question.id for question in run.questions]
    assert capfd.readouterr().err.count("what it had in hand is tried by another one") == 1


@pytest.mark.long
def test_an_actor_is_started_again_whether_its_process_or_only_its_work_has_ended(cluster: Any, tmp_path: Path) -> None:
    run = OnRay(tmp_path, [["RAISE 1"], ["SIGKILL 2"], ["three"]])
    run.workers = 1  # there is no other one
    list(run.sampled("ray", [cluster.address]))
    assert run.statuses("ray") == {"0-0": Status.OK, "1-0": Status.CRASHED, "2-0": Status.OK}


@pytest.mark.long
def test_a_node_without_the_cache_or_a_video_is_named(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnRay(tmp_path, [["one"], ["two"]])
    monkeypatch.setenv("HOME", str(tmp_path))  # of the driver, and of no node
    run.cache_of_nodes = "~/of the driver"
    with pytest.raises(ConfigError, match="does not see the cache folder of the driver") as caught:
        list(run.sampled("run", [cluster.address]))
    assert "paths.cache=" in str(caught.value)
    run = OnRay(tmp_path, [["one"], ["two"]])
    run.questions = [replace(each, video=f"~/{Path(each.video).name}") for each in run.questions]
    with pytest.raises(InputError, match=r"the node .* does not have ~/\d.mp4, which the driver has"):
        list(run.sampled("again", [cluster.address]))


def test_a_cluster_of_another_version_is_told_with_both(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    ray.shutdown()
    theirs = ray.__version__
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with pytest.raises(
        IncompatibleLibraryError, match=rf"has Ray {theirs} with Python .*, and this command Ray 2\.0\.0"
    ):
        list(OnRay(tmp_path, [["one"]]).sampled("run", [cluster.address]))


def test_without_ray_the_line_for_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.execution.settings.find_spec", lambda _: None)
    done = gens("check", "benchmark=micro", "sampler=gens_micro", "execution=ray", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'gens-videoqa[ray]'" in done.stderr
    monkeypatch.setitem(sys.modules, "ray", None)  # as one that is broken
    with pytest.raises(MissingExtraError, match=r"pip install 'gens-videoqa\[ray\]'"):
        OnRay(tmp_path, [["one"]]).executor("sampler", [None])


@pytest.mark.long
def test_ctrl_c_finishes_what_is_in_hand_and_a_second_one_or_a_kill_of_the_driver_ends_all(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = Command(tmp_path, 8, "ray")
    pids = command.workers_at_work()
    command.process.send_signal(signal.SIGINT)
    said = command.process.communicate(timeout=90)[1]
    assert command.process.returncode == 130, said
    assert "videos in hand are finished first; Ctrl-C again stops now" in said
    in_hand = {each["video"] for each in command.events() if each["event"] == "worker" and each["state"] == "sampling"}
    assert len(command.rows()) == 2 * len(in_hand) < 16
    assert gone(pids, 30)

    for signals in ([signal.SIGINT, signal.SIGINT], [signal.SIGKILL]):
        next(tmp_path.glob("runs/*/events.jsonl")).unlink()
        command.process = command.begun()
        pids = command.workers_at_work()
        for each in signals:
            command.process.send_signal(each)
            time.sleep(0.1)
        command.process.communicate(timeout=30)
        assert command.process.returncode == (130 if len(signals) == 2 else -signal.SIGKILL)
        assert gone(pids, 30)


@pytest.mark.long
def test_an_actor_that_is_killed_is_told_of_once_and_by_us(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    command = Command(tmp_path, 3, "ray")
    os.kill(command.workers_at_work().pop(), signal.SIGKILL)
    said = command.process.communicate(timeout=120)[1]
    assert command.process.returncode == 0, said
    assert said.count(" ended; what it had in hand is tried by another one") == 1
    assert len(command.rows()) == 6
    assert "raylet" not in capfd.readouterr().out + said


@pytest.mark.long
def test_models_in_actors_give_the_rows_of_one_process(cluster: Any, tmp_path: Path) -> None:
    run = OnRay(tmp_path, FINE, ["sampler=gens_micro", "answerer=qwen2_vl_micro"])
    run.answered("inline", None)
    run.answered("ray", [cluster.address])
    assert on_disk(tmp_path / "ray") == on_disk(tmp_path / "inline")


@pytest.mark.long
def test_a_ray_of_our_own_that_dies_ends_the_command_and_not_its_rows(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = Command(tmp_path, 8, "ray")
    pids = command.workers_at_work()
    for child in psutil.Process(command.process.pid).children(recursive=True):
        if child.name() == "raylet" or child.pid in pids:  # actors go on without it, and none takes their place
            child.kill()
    said = command.process.communicate(timeout=120)[1]
    assert command.process.returncode == 2, said
    assert "the Ray that was started on this machine has ended" in said
    command.process = command.begun()
    said = command.process.communicate(timeout=120)[1]
    assert command.process.returncode == 0, said
    assert len(command.rows()) == 16
