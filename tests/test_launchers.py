"""Sweeps by Hydra's launchers: what they need, what they bring back, and each in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import gens, gens_apart

from pipeline.commands.outcome import JobStatus, running
from pipeline.commands.sweep import PlannedJob, _outcome
from pipeline.config import conf_dir

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
EXTRA_OF = {"processes": "joblib", "ray_tasks": "ray", "slurm": "submitit", "slurm_local": "submitit"}
TWO_JOBS = ["benchmark=micro", "benchmark.videos=1", "benchmark.max_minutes=5", "limit=2", "sampler=uniform,gens_micro"]


@pytest.mark.parametrize("name", OURS)
def test_a_missing_launcher_names_its_line_for_pip(name: str, tmp_path: Path) -> None:
    extra = EXTRA_OF[name]
    if find_spec("hydra_plugins") is not None:
        pytest.skip("a launcher is installed")
    done = gens("check", "-m", *TWO_JOBS, f"hydra/launcher={name}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"hydra-{extra}-launcher, which is not installed" in done.stderr
    assert f"pip install 'gens-videoqa[{extra}-launcher]'" in done.stderr
    assert EXTRAS[f"{extra}-launcher"][0].startswith(f"hydra-{extra}-launcher>=")


LAUNCHER = """
import os
from dataclasses import dataclass
from multiprocessing import get_context

from hydra.core.config_store import ConfigStore
from hydra.core.utils import run_job
from hydra.plugins.launcher import Launcher


class Apart(Launcher):
    "Every job in a process of its own, which gives back what the job returned."

    def __init__(self, ends):
        self.ends = ends

    def setup(self, *, hydra_context, task_function, config):
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides, initial_job_idx):
        return [self.of_process(list(overrides)) for overrides in job_overrides]

    def of_process(self, overrides):
        ours, theirs = get_context("fork").Pipe()
        process = get_context("fork").Process(target=self.work, args=(overrides, theirs))
        process.start()
        theirs.close()
        return ours.recv()

    def work(self, overrides, over):
        if self.ends in overrides:
            os._exit(9)
        composed = self.context.config_loader.load_sweep_config(self.config, overrides)
        keys = dict(job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir")
        over.send(run_job(hydra_context=self.context, task_function=self.task, config=composed, **keys))


@dataclass
class Settings:
    _target_: str = "hydra_plugins.giving.Apart"
    ends: str = ""


ConfigStore.instance().store(group="hydra/launcher", name="giving", node=Settings)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "giving.py").write_text(LAUNCHER)
    return f"{ROOT}:{tmp_path}"


def test_a_failure_in_another_process_is_in_the_exit_code(plugin: str, tmp_path: Path) -> None:
    words = ["benchmark=jsonl", "benchmark.path=nothing.jsonl", "sampler=uniform,gens_micro", "hydra/launcher=giving"]
    done = gens_apart("check", "-m", *words, cwd=tmp_path, PYTHONPATH=plugin)
    assert done.stderr.count("there is no file nothing.jsonl") == 2
    assert done.returncode == 2


def test_jobs_in_other_processes_are_summed_up_also_where_one_dies(plugin: str, tmp_path: Path) -> None:
    words = ["benchmark=micro", "benchmark.videos=1", "benchmark.max_minutes=5", "limit=2", "sampler=uniform"]
    more = ["selection.budget=2,0,4", "hydra/launcher=giving", "hydra.launcher.ends='selection.budget=4'"]
    done = gens_apart("sample", "-m", *words, *more, cwd=tmp_path, PYTHONPATH=plugin)
    assert done.returncode == 2, done.stderr
    assert "hydra/launcher=giving did not bring all jobs to their end (EOFError: no reason given)" in done.stderr
    assert "the same command continues from here" in done.stderr
    (path,) = tmp_path.glob("runs/sweep-sample-*/sweep.json")
    jobs = json.loads(path.read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["done", "failed", "not started"]
    assert "selection.budget=8" in jobs[1]["remedy"]
    assert (path.parent / "report.html").is_file()


def test_a_job_that_goes_on_elsewhere_is_not_called_dead(tmp_path: Path) -> None:
    job = PlannedJob(("sampler=uniform",), tmp_path)
    with running(tmp_path):
        assert _outcome(job).status is JobStatus.RUNNING
    assert _outcome(job).status is JobStatus.INTERRUPTED


SLURM = {
    "sbatch": """#!/usr/bin/env bash
script=$1
for task in $(seq 0 "$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")"); do
  SLURM_JOB_ID=77 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_PROCID=0 \\
    SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here bash "$script" </dev/null >/dev/null 2>&1 &
done
cp "$script" "$ASKED"
echo "Submitted batch job 77"
""",
    "srun": """#!/usr/bin/env bash
while [[ $1 == -* ]]; do case $1 in --output | --error) shift 2 ;; *) shift ;; esac; done
exec "$@"
""",
    "sacct": """#!/bin/sh
echo 'JobID|State|NodeList'
for task in 0 1; do
  state=RUNNING
  ls runs/.submitit/77_$task/*_result.pkl >/dev/null 2>&1 && state=COMPLETED
  echo "77_$task|$state|here"
done
""",
}
"""Slurm's commands, as far as submitit uses them: the tasks of an array run at once."""


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OURS)
def test_two_jobs_by_each_launcher_in_an_environment_of_its_own(name: str, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", EXTRAS[f"{EXTRA_OF[name]}-launcher"])
    for command, text in SLURM.items():
        (tmp_path / command).write_text(text)
        (tmp_path / command).chmod(0o755)
    words = [*TWO_JOBS, "answerer=qwen2_vl_micro", f"hydra/launcher={name}"]
    words += ["hydra.launcher.partition=gpu"] if name == "slurm" else []
    for round_ in ("first", "again"):
        done = subprocess.run(
            [python, "-m", "pipeline", "evaluate", "-m", *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "HOME": str(tmp_path),
                "GENS_CACHE": str(tmp_path / "cache"),
                "ASKED": str(tmp_path / "asked.sh"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (round_, done.stdout, done.stderr)
    (path,) = tmp_path.glob("runs/sweep-evaluate-*/sweep.json")
    jobs = json.loads(path.read_text())["jobs"]
    assert [(job["status"], job["code"]) for job in jobs] == [("done", 0)] * 2
    answers = [(path.parent / job["folder"] / "answers.jsonl").read_text().splitlines() for job in jobs]
    assert [len(rows) for rows in answers] == [2, 2]
    hosts = [json.loads((path.parent / job["folder"] / "run.json").read_text())["process"] for job in jobs]
    assert len({*hosts}) == 2, "each in a process of its own"
    if name == "slurm":
        asked = re.findall(r"#SBATCH --(\S+)", (tmp_path / "asked.sh").read_text())
        assert {"partition=gpu", "time=720", "gpus-per-node=1", "cpus-per-task=8", "mem=64GB"} <= {*asked}


def environment(folder: Path, packages: list[str]) -> str:
    """A Python with these packages, which finds all others in the environment of the tests."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(purelib.stdout.strip(), "others.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([python, "-m", "pip", "--quiet", "install", *packages], check=True)
    return python
