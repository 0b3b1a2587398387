"""What gens check says is what a run does: both decide by one function, before stage 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import gens
from made import write_video
from tiny import write_qwen2_vl

CHECKPOINTS = Path(__file__).parent.parent.parent / "pipeline" / "checkpoints"
BENCHMARK = ("benchmark=jsonl", "benchmark.path=q.jsonl")
MICRO = ("sampler=uniform", "answerer=qwen2_vl_micro", "selection.budget=2")
ROUTE = ("sampler=route", "sampler@sampler.localised=gens_micro")
SERVER = ("answerer=openai", "answerer.base_url=http://x/v1", "answerer.model=m")
GENS = ("sampler=gens_micro", "answerer=qwen2_vl_micro")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", seconds=6)
    rows = [
        {"id": name, "video": "clip.mp4", "question": f"what is {name}?", "options": ["a", "b"], "answer": "a"}
        for name in ("one", "two")
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        ([*GENS, "selection=mdp3"], "kept no embeddings", "selection=aks"),
        ([*MICRO, "sampler=oracle", "selection=dpp"], "kept no embeddings", "sampler=clip"),
        (
            [*GENS, "sampler=route", "sampler@sampler.localised=gens_micro", "selection=scene"],
            "kept no embeddings",
            "aks",
        ),
        ([*GENS, f"sampler.checkpoint.source={CHECKPOINTS / 'llava_onevision_micro'}"], "is not Qwen2-VL", "source="),
        ([*MICRO, "sampler=clip", f"sampler.checkpoint.source={CHECKPOINTS / 'gens_micro'}"], "is not CLIP", "source="),
        ([*MICRO, f"answerer.checkpoint.source={CHECKPOINTS / 'llava_onevision_micro'}"], "is not Qwen2-VL", "llava"),
        ([*GENS, "sampler.checkpoint.attention=flash_attention_2"], "flash", "sampler.checkpoint.attention=sdpa"),
        ([*MICRO, "answerer.checkpoint.attention=flash_attention_2"], "flash", "answerer.checkpoint.attention=sdpa"),
        ([*MICRO, "answerer.checkpoint.device=cuda:7"], "here", "answerer.checkpoint.device=auto"),
        ([*GENS, "sampler.checkpoint.device=cuda:7"], "here", "sampler.checkpoint.device=auto"),
        ([*MICRO, "reader.backend=torchcodec"], "torchcodec is not installed", "reader.backend=auto"),
        ([*MICRO, "sampler=oracle", "sampler.fps=0"], "sampler.fps=0.0 is not a rate", "sampler.fps=1"),
        ([*MICRO, "sampler=oracle", "sampler.fps=1e6"], "sampler.fps=1000000.0 is not a rate", "sampler.fps=1"),
        ([*MICRO, "sampler=oracle", "sampler.fps=1e308"], "sampler.fps is 1e+308, and no setting", "sampler.fps=1.0"),
        ([*MICRO, f"selection.budget={10**30}"], "selection.budget is a number of 31 digits", "selection.budget=8"),
        ([*MICRO, "execution.prepared_gb=inf"], "execution.prepared_gb=inf", "execution.prepared_gb=4"),
        ([*MICRO, "answerer.checkpoint.device=cuda:\u0663"], "there is no such device", "device=auto"),
        ([*MICRO, "sampler=oracle", "sampler.fps=nan"], "sampler.fps=nan is not a rate", "sampler.fps=1"),
        (
            [*MICRO, *SERVER, "answerer.api_key_env=A_KEY"],
            "A_KEY, which should hold the key of x, is not set",
            "export A_KEY=...",
        ),
        ([*MICRO, "paths.runs=q.jsonl"], "q.jsonl", "paths.runs="),
        ([*GENS, "selection=lohi"], "answerer.frame_size gives all frames one size", "answerer.frame_size=null"),
        (
            [*MICRO, "answerer=llava_onevision_micro", "selection=uniform_low"],
            "scaled by 0.25, and answerer=llava_onevision_micro takes all frames in one size",
            "answerer=qwen2_5_vl_7b",
        ),
        ([*MICRO, "answerer.checkpoint.source=/nowhere"], "/nowhere", "answerer.checkpoint.source="),
    ],
)
def test_what_cannot_run_is_refused_by_both_before_stage_1(
    home: Path, words: list[str], problem: str, remedy: str
) -> None:
    if "torchcodec" in words[-1] and shutil.which("torchcodec"):
        pytest.skip("torchcodec is here")
    checked = gens("check", *BENCHMARK, *words, cwd=home)
    assert checked.returncode == 2, checked.stdout
    ran = gens("evaluate", *BENCHMARK, *words, cwd=home)
    assert ran.returncode == 2, ran.stdout
    for told in (" ".join((checked.stdout + checked.stderr).split()), ran.stderr):
        assert problem in told
        assert remedy in told
    assert "sampling" not in ran.stderr
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([*MICRO, "sampler=uniform", "selection=mdp3", "selection.budget=2"], 0),
        ([*MICRO, "sampler=oracle"], 1),
        ([*MICRO, "sampler=oracle", "selection.fallback=uniform"], 0),
        ([*MICRO, "benchmark.video_root=nowhere"], 1),
    ],
)
def test_what_runs_is_told_with_its_code(home: Path, words: list[str], code: int) -> None:
    assert gens("check", *BENCHMARK, *words, cwd=home).returncode == code
    ran = gens("sample", *BENCHMARK, *(word for word in words if not word.startswith("answerer")), cwd=home)
    assert ran.returncode == (1 if "oracle" in str(words) else code), ran.stderr


def test_a_budget_that_no_question_can_have_is_refused_before_stage_1(home: Path, tmp_path: Path) -> None:
    small = write_qwen2_vl(tmp_path / "small", context=300)
    write_video(home / "clip.mp4", seconds=30, size=112)
    words = ["sampler=uniform", "answerer=qwen2_vl_7b", f"answerer.checkpoint.source={small}", "selection.budget=64"]
    checked = gens("check", "--json", *BENCHMARK, *words, cwd=home)
    assert checked.returncode == 2
    (finding,) = (each for each in json.loads(checked.stdout)["findings"] if each["level"] == "cannot_run")
    ran = gens("evaluate", *BENCHMARK, *words, cwd=home)
    assert ran.returncode == 2
    assert finding["problem"] in ran.stderr
    assert "sampling" not in ran.stderr
    # A sampler may name fewer frames than the budget, so that only the run can tell.
    unknown = gens("check", *BENCHMARK, *words, "sampler=gens_micro", cwd=home)
    assert unknown.returncode == 1


@pytest.mark.parametrize("sampler", ["gens_3b", "route", "hybrid"])
def test_a_window_that_no_model_can_read_is_refused_before_stage_1(home: Path, tmp_path: Path, sampler: str) -> None:
    """A context of 100 tokens, and 6 candidate frames of 16 tokens and a number."""
    small = write_qwen2_vl(tmp_path / "small", context=100)
    part = {"gens_3b": "sampler", "route": "sampler.localised", "hybrid": "sampler.second"}[sampler]
    held = [] if sampler == "gens_3b" else [f"sampler={sampler}", f"sampler@{part}=gens_3b"]
    first = ["sampler@sampler.first=gens_micro"] if sampler == "hybrid" else []
    words = [
        *(held or ["sampler=gens_3b"]),
        *first,
        f"{part}.checkpoint.source={small}",
        f"{part}.frame={{height: 112, width: 112}}",
        "answerer=qwen2_vl_micro",
        "selection.budget=2",
    ]
    checked = gens("check", *BENCHMARK, *words, cwd=home)
    assert checked.returncode == 2, checked.stdout + checked.stderr
    ran = gens("evaluate", *BENCHMARK, *words, cwd=home)
    assert ran.returncode == 2, ran.stdout
    for told in (" ".join((checked.stdout + checked.stderr).split()), " ".join(ran.stderr.split())):
        assert "A window of 6 frames is more than 102 tokens" in told
        assert f"{part}.window.frames=2 {part}.window.overlap=0" in told
    assert "sampling" not in ran.stderr
    fewer = [*words, f"{part}.window.frames=2", f"{part}.window.overlap=0"]
    assert gens("check", *BENCHMARK, *fewer, cwd=home).returncode == 0


def test_what_is_answered_already_needs_no_model(home: Path) -> None:
    """Device, attention and weights are asked for where a model will run."""
    first = gens("evaluate", *BENCHMARK, *MICRO, cwd=home)
    assert first.returncode in (0, 1), first.stderr
    shutil.rmtree(home / "runs")
    cannot = ("answerer.checkpoint.device=cuda:7", "answerer.checkpoint.attention=flash_attention_2")
    assert gens("check", *BENCHMARK, *MICRO, *cannot, cwd=home).returncode == 0
    again = gens("evaluate", *BENCHMARK, *MICRO, *cannot, cwd=home)
    assert again.returncode == first.returncode, again.stderr
    more = gens("check", *BENCHMARK, *MICRO, *cannot, "selection.budget=3", cwd=home)
    assert more.returncode == 2


def test_sizes_that_are_selected_already_are_refused_before_a_model_is_loaded(home: Path) -> None:
    small = ("selection=uniform_low", "selection.budget=4")
    assert gens("sample", *BENCHMARK, "sampler=uniform", *small, cwd=home).returncode == 0
    (rows,) = home.glob("runs/*/selections.jsonl")
    first, _ = rows.read_text().splitlines()
    assert {frame["scale"] for frame in json.loads(first)["selection"]["frames"]} == {0.25}
    exported = gens("export", f"selections={rows}", "form=seconds", cwd=home)
    assert exported.returncode == 1
    assert "the frames of 2 selections have sizes of their own" in " ".join(exported.stdout.split())
    refused = gens("answer", f"selections={rows}", "answerer=llava_onevision_micro", cwd=home)
    assert refused.returncode == 2
    assert "answerer=llava_onevision_micro takes all frames in one size" in refused.stderr


def test_the_nodes_of_a_cluster_have_devices_of_their_own(home: Path) -> None:
    pytest.importorskip("ray")
    words = [*BENCHMARK, *MICRO, "answerer.checkpoint.device=cuda:7", "answerer.checkpoint.attention=flash_attention_2"]
    assert gens("check", *words, cwd=home).returncode == 2
    on_cluster = gens("check", *words, "execution=ray", cwd=home)
    assert on_cluster.returncode == 0, on_cluster.stdout + on_cluster.stderr


def test_ask_and_answer_decide_alike(home: Path) -> None:
    asked = gens("ask", "video=clip.mp4", "question=what?", *GENS, "selection=mdp3", cwd=home)
    assert asked.returncode == 2
    assert "kept no embeddings" in asked.stderr
    assert gens("sample", *BENCHMARK, "sampler=uniform", cwd=home).returncode == 0
    (selections,) = home.glob("runs/sample-*/selections.jsonl")
    given = (f"selections={selections}", "answerer=qwen2_vl_micro", "answerer.checkpoint.device=cuda:7")
    answered = gens("answer", *given, cwd=home)
    assert answered.returncode == 2
    assert "cuda:7" in answered.stderr
    assert not list(home.glob("runs/answer-*"))


PLUGIN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Half:
    name: str

    def identity(self):
        return {}
"""


def test_a_plug_in_that_lacks_a_part_says_which(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "half_a_plugin.py").write_text(PLUGIN)
    (home / "mine" / "answerer").mkdir(parents=True)
    node = {"_target_": "half_a_plugin.Half", "name": "half", "about": {"what": "half"}}
    (home / "mine" / "answerer" / "half.yaml").write_text(json.dumps(node))
    monkeypatch.syspath_prepend(home)
    words = ("--config-dir", "mine", "plugins=[half_a_plugin]", *BENCHMARK, "sampler=uniform", "answerer=half")
    for verb in ("check", "evaluate"):
        done = gens(verb, *words, cwd=home)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "Half has no answer, capacity, close, limits" in " ".join((done.stdout + done.stderr).split())


SILENT = """
from pipeline.domain import FrameOrigin, SelectedFrame, Selection

class Silent:
    name, budget = "silent", 1

    def __init__(self, name, first):
        self._first = first

    def identity(self):
        return {"policy": "silent"}

    def select(self, relevance, video):
        frame = SelectedFrame(0.0, self._first, None, FrameOrigin.UNIFORM)
        return Selection(relevance.question_id, (frame,), self.name, self.budget)
"""


def test_a_setting_of_a_plug_in_that_is_in_no_identity_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "silent_plugin.py").write_text(SILENT)
    (home / "mine" / "selection").mkdir(parents=True)
    node = {"_target_": "silent_plugin.Silent", "name": "silent", "first": 0, "about": {"what": "silent"}}
    (home / "mine" / "selection" / "silent.yaml").write_text(json.dumps(node))
    monkeypatch.syspath_prepend(home)
    words = ("--config-dir", "mine", "plugins=[silent_plugin]", *BENCHMARK, "sampler=uniform", "selection=silent")
    checked = gens("check", *words, "answerer=qwen2_vl_micro", cwd=home)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    sampled = gens("sample", *words, cwd=home)
    assert sampled.returncode == 0, sampled.stderr
    for told in (checked.stdout, sampled.stderr):
        assert " ".join(told.split()).count("selection.first: in no identity") == 1
        assert "return it from identity()" in " ".join(told.split())


def test_the_demo_is_admitted_as_every_run_is(home: Path) -> None:
    few = ("demo", "benchmark.videos=1", "limit=1")
    refused = gens(*few, "samplers.gens.window.frames=100000", "answerers.qwen2_vl.checkpoint.device=cuda:7", cwd=home)
    assert refused.returncode == 2, refused.stdout
    assert "answerers.qwen2_vl.checkpoint.device=auto" in refused.stderr
    assert "sampling" not in refused.stderr
    assert not (home / "runs").exists()
