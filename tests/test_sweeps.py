"""``gens evaluate -m`` over tiny random checkpoints of five families and two broken ones, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command_line import gens, gens_apart
from made import write_video
from tiny import write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl
from tiny_internvl import write_internvl
from tiny_llava_video import write_llava_video
from tiny_qwen3_vl import write_qwen3_vl
from tiny_vila import write_vila

TESTS = Path(__file__).parent
FAMILIES = {
    "qwen2_vl": "qwen2_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "llava_video": "llava_video_7b",
    "vila": "vila15_3b",
    "internvl": "internvl3_8b",
}
BROKEN = {"no_weights": "qwen2_vl_7b", "no_head": "llava_onevision_7b"}
"""A folder that was not copied to its end, and one with a tensor too few, which shows only when it is loaded."""
SLACK = 20_000
"""Bytes of tensors that may be alive without a model: caches of position tables and the like. A tiny model has more."""
PROBED = ("--config-dir", "mine", "+hydra.callbacks.probe._target_=sweep_probe.Probe", "answerer.max_new_tokens=4")
TRUSTED = "plugins=[sweep_probe,faulty]"
QUESTIONS = ("benchmark=jsonl", "benchmark.path=questions.jsonl", "selection=topk_filled")


@dataclass(frozen=True)
class Swept:
    """One run of a sweep and what its probe wrote down."""

    done: subprocess.CompletedProcess[str]
    events: list[dict[str, Any]] = field(repr=False)

    @property
    def loads(self) -> Counter[str]:
        return Counter(event["folder"] for event in self.events if event["event"] == "load")

    @property
    def loaded_bytes(self) -> list[int]:
        return [event["live"] for event in self.events if event["event"] == "load"]

    @property
    def kept_bytes(self) -> list[int]:
        return [event["live"] for event in self.events if event["event"] == "end"]


def sweep(home: Path, *words: str, **environment: str) -> Swept:
    log = home / "probe.jsonl"
    log.unlink(missing_ok=True)
    place = {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PROBE_LOG": str(log), **environment}
    done = gens_apart("evaluate", "-m", *PROBED, TRUSTED, *QUESTIONS, *words, cwd=home, **place)
    return Swept(done, [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else [])


def summary(home: Path) -> dict[str, Any]:
    (path,) = home.glob("runs/sweep-evaluate-*/sweep.json")
    content = json.loads(path.read_text())
    for job in content["jobs"]:
        job["place"] = (path.parent / job["folder"]).resolve() if job["folder"] else None
        job.update(word.split("=", 1) for word in job["overrides"])
    return content


def by_answerer(home: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for job in summary(home)["jobs"]:
        found.setdefault(job["answerer"].removeprefix("tiny_"), set()).add(job["status"])
    return found


def answers(home: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in home.glob("runs/evaluate-*/answers.jsonl")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_qwen2_5_vl(folder / "gens")
    write_qwen2_vl(folder / "qwen2_vl")
    write_qwen3_vl(folder / "qwen3_vl")
    write_llava_video(folder / "llava_video")
    write_vila(folder / "vila", "3b")
    write_internvl(folder / "internvl")
    write_qwen2_vl(folder / "no_weights", seed=1)
    shutil.move(folder / "no_weights" / "model.safetensors", folder / "found_later.safetensors")
    write_llava_onevision(folder / "no_head")
    without_a_tensor(folder / "no_head" / "model.safetensors")
    return folder


def without_a_tensor(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors[next(name for name in tensors if name.endswith("norm.weight"))]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def furnished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a video, questions, and YAMLs of their own for every checkpoint."""
    home = tmp_path_factory.mktemp("home")
    write_video(home / "clip.mp4")
    rows = [
        {"video": "clip.mp4", "question": f"what is {what}?", "options": ["a", "b", "c"], "answer": "b", "id": what}
        for what in ("first", "second", "third")
    ]
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for group in ("sampler", "answerer"):
        (home / "mine" / group).mkdir(parents=True)
    for name, base in {**FAMILIES, **BROKEN}.items():
        node = {"defaults": [base, "_self_"], "name": f"tiny_{name}", "checkpoint": {"source": str(models / name)}}
        (home / "mine" / "answerer" / f"tiny_{name}.yaml").write_text(json.dumps(node))
    gens_node = {
        "defaults": ["gens_3b", "_self_"],
        "name": "tiny_gens",
        "checkpoint": {"source": str(models / "gens")},
        "frame": {"height": 56, "width": 56},
        "max_new_tokens": 4,
    }
    (home / "mine" / "sampler" / "tiny_gens.yaml").write_text(json.dumps(gens_node))
    return home


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(furnished, tmp_path / "home")


MATRIX = ("sampler=tiny_gens,uniform", "answerer=" + ",".join(f"tiny_{name}" for name in (*FAMILIES, *BROKEN)))
CELLS = 2 * 7


@pytest.fixture(scope="module")
def matrix(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Swept]:
    """Two samplers, five families and two broken checkpoints."""
    home = shutil.copytree(furnished, tmp_path_factory.mktemp("matrix") / "home")
    return home, sweep(home, *MATRIX, "selection.budget=2")


def test_a_broken_checkpoint_fails_alone_and_says_why(matrix: tuple[Path, Swept]) -> None:
    home, swept = matrix
    assert swept.done.returncode == 2, swept.done.stderr
    assert "Traceback" not in swept.done.stderr
    assert by_answerer(home) == {name: {"done"} for name in FAMILIES} | {name: {"failed"} for name in BROKEN}
    for job in summary(home)["jobs"]:
        if job["place"] is not None:
            assert json.loads((job["place"] / "outcome.json").read_text())["status"] == job["status"]
        if job["answerer"].removeprefix("tiny_") in BROKEN:
            assert "answerer.checkpoint.source=" in job["remedy"]
        else:
            assert len((job["place"] / "answers.jsonl").read_bytes().splitlines()) == 3
    told = swept.done.stderr
    assert told.count("failed: sampler=") == 2 * 2
    assert re.search(r"failed: sampler=uniform answerer=tiny_no_weights\n.*no_weights", told)


def test_one_page_and_one_table_hold_the_matrix(matrix: tuple[Path, Swept]) -> None:
    home, swept = matrix
    (page,) = home.glob("runs/sweep-evaluate-*/report.html")
    text = page.read_text()
    for name in (*FAMILIES, "gens"):
        assert f"tiny_{name}" in text
    assert f"report: {page.relative_to(home)}" in swept.done.stdout
    assert swept.done.stdout.count("evidence recall") + swept.done.stdout.count("accuracy") <= 2
    assert "error: " not in swept.done.stderr  # each failure is told once, at the end
    table = swept.done.stdout.split("report: ")[-1]
    lines = [line.split() for line in table.splitlines() if re.match(r"(tiny_gens|uniform) +tiny_", line)]
    assert len(lines) == CELLS
    assert Counter(line[2:] == ["-", "failed"] for line in lines)[True] == 2 * 2
    assert f"sweep of {CELLS} jobs, {CELLS - 4} done, 4 failed: " in table


def test_no_model_outlives_its_job(matrix: tuple[Path, Swept]) -> None:
    _, swept = matrix
    assert len(swept.kept_bytes) == CELLS
    assert min(swept.loaded_bytes) > 2 * SLACK  # the probe sees a model where there is one
    assert max(swept.kept_bytes) < SLACK, swept.events


def test_stage_1_runs_once_a_sampler_whatever_answerers_come_after(matrix: tuple[Path, Swept]) -> None:
    _, swept = matrix
    assert swept.loads["gens"] == 1
    # Both samplers end with the same frames here, so the second cell of an answerer takes the answers of the first.
    assert swept.loads["qwen2_vl"] == swept.loads["internvl"] == 1


def test_a_later_sweep_does_what_is_new_in_it(matrix: tuple[Path, Swept], models: Path) -> None:
    """Another budget is another cut of the same relevance, a finished job loads no model, a mended one is done."""
    home, _ = matrix
    before, (first,) = answers(home), home.glob("runs/sweep-evaluate-*/report.html")
    mended = models / "no_weights" / "model.safetensors"
    shutil.copy(models / "found_later.safetensors", mended)
    try:
        later = sweep(home, "selection.budget=2,3", "answerer=tiny_qwen2_vl,tiny_no_weights", "sampler=tiny_gens")
    finally:
        mended.unlink()
    assert later.done.returncode in (0, 1), later.done.stderr
    assert later.loads == {"qwen2_vl": 1, "no_weights": 2}
    after = answers(home)
    assert len(after) == len(before) + 3
    assert {name: after[name] for name in before} == before
    (page,) = (path for path in home.glob("runs/sweep-evaluate-*/report.html") if path != first)
    text = page.read_text()
    assert {"budget=2", "budget=3"} <= set(re.findall(r"budget=\d", text))
    assert "tiny_internvl" not in text  # the page is of this sweep alone


def test_ctrl_c_leaves_a_summary_and_the_same_command_goes_on(home: Path) -> None:
    words = ("sampler=uniform", "answerer=tiny_qwen2_vl,tiny_internvl,tiny_vila")
    cut = sweep(home, *words, PROBE_INTERRUPT="2")
    assert cut.done.returncode == 130, cut.done.stderr
    assert by_answerer(home) == {"qwen2_vl": {"done"}, "internvl": {"interrupted"}, "vila": {"not started"}}
    assert "same command continues" in cut.done.stderr
    (page,) = home.glob("runs/sweep-evaluate-*/report.html")
    assert "tiny_qwen2_vl" in page.read_text()

    whole = sweep(home, *words)
    assert whole.done.returncode in (0, 1), whole.done.stderr
    assert not {"qwen2_vl", "internvl"} & set(whole.loads)  # what internvl had in hand was finished
    assert by_answerer(home) == {name: {"done"} for name in ("qwen2_vl", "internvl", "vila")}


FAULTY = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Faulty:
    name: str

    def limits(self):
        from pipeline.answerers import AnswererLimits
        return AnswererLimits(context_tokens=10_000, tokens_per_frame=1, max_frames=None, time_told="not at all")

    def identity(self): return {"name": self.name}
    is_repeatable = False
    def capacity(self, request): return len(request.frames)
    def close(self): pass

    def answer(self, requests, batch):
        import torch
        held = torch.ones(1_000_000)
        raise RuntimeError(f"a fault over {held.numel()} numbers")
        yield
"""


def test_a_fault_in_one_job_keeps_no_memory_and_stops_no_other(home: Path) -> None:
    (home / "faulty.py").write_text(FAULTY)
    node = {"_target_": "faulty.Faulty", "name": "faulty", "about": {"what": "breaks"}}
    (home / "mine" / "answerer" / "faulty.yaml").write_text(json.dumps(node))
    swept = gens_with_faulty(home)
    assert swept.returncode == 3
    assert "RuntimeError: a fault over 1000000 numbers" in swept.stderr
    assert by_answerer(home) == {"faulty": {"failed"}, "qwen2_vl": {"done"}}
    (faulty,) = (job for job in summary(home)["jobs"] if job["answerer"] == "faulty")
    assert faulty["problem"] == "RuntimeError: a fault over 1000000 numbers"
    assert "faulty.py" in json.loads((faulty["place"] / "outcome.json").read_text())["traceback"]
    events = [json.loads(line) for line in (home / "probe.jsonl").read_text().splitlines()]
    assert [event["live"] < SLACK for event in events if event["event"] == "end"] == [True, True]


def gens_with_faulty(home: Path) -> subprocess.CompletedProcess[str]:
    words = [*PROBED[:3], *QUESTIONS, TRUSTED, "sampler=uniform", "answerer=faulty,tiny_qwen2_vl"]
    path = f"{TESTS}:{TESTS.parent}:{home}"
    return gens_apart("evaluate", "-m", *words, cwd=home, PYTHONPATH=path, PROBE_LOG=str(home / "probe.jsonl"))


def test_a_command_that_cannot_run_leaves_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    done = gens("sample", *QUESTIONS, "sampler=uniform", "selection.budget=0", cwd=home)
    assert done.returncode == 2
    assert sorted(home.rglob("*")) == before


def test_a_sweep_that_cannot_be_composed_leaves_nothing(home: Path) -> None:
    done = gens("evaluate", "-m", *QUESTIONS, "sampler=uniform", "answerer=qwen2_vl_9b,qwen2_vl_8b", cwd=home)
    assert done.returncode == 2
    assert "answerer=qwen2_vl_8b: no such option. Did you mean" in done.stderr
    assert not list(home.glob("runs/*-*"))


def test_a_policy_that_looks_at_no_scores_has_one_job_without_a_sampler(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    question = {"video": "0.mp4", "question": "what?", "options": ["a", "b"], "answer": "a", "evidence": [[2, 3]]}
    (tmp_path / "q.jsonl").write_text(json.dumps(question) + "\n")
    words = ("sampler=oracle,siglip", "selection=topk,uniform", "sampler/siglip.fps=0.5", "selection.budget=4")
    done = gens("sample", "-m", "benchmark=jsonl", "benchmark.path=q.jsonl", *words, cwd=tmp_path)
    table = done.stdout[done.stdout.index("evidence recall") :].splitlines()[1:]
    # The checkpoint of siglip is not here, which does not matter to uniform frames.
    jobs = [["oracle", "topk", "done"], ["uniform", "uniform", "done"], ["siglip", "topk", "failed"]]
    assert [[*line.split()[:2], line.split()[-1]] for line in table if line.startswith(("or", "un", "si"))] == jobs
    assert re.findall(r"job \d of 3: .*", done.stdout)[1] == "job 2 of 3: sampler=uniform selection=uniform"
    (folder,) = tmp_path.glob("runs/sample-jsonl-uniform-k4-*")
    (row,) = [json.loads(line) for line in (folder / "relevance.jsonl").read_text().splitlines()]
    assert (row["sampler"], row["relevance"]["cost"]["seconds"]) == ("uniform", 0)


def test_a_command_says_that_the_sampler_that_was_typed_does_not_run(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    question = {"video": "0.mp4", "question": "what?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(question) + "\n")
    words = ("sample", "benchmark=jsonl", "benchmark.path=q.jsonl", "selection=uniform", "selection.budget=4")
    told = gens(*words, "sampler=siglip", cwd=tmp_path)
    assert "sampler=siglip does not run: selection=uniform looks at no scores" in told.stderr
    assert "does not run" not in gens(*words, "sampler=uniform", cwd=tmp_path).stderr
