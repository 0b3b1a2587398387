"""The experiments that reproduce the GenS paper, over tiny checkpoints that lie in the hub's cache under the published
names, and over made videos in the benchmarks' own schemas.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_benchmarks
import pytest
import yaml
from command_line import gens
from huggingface_hub import constants
from hydra import compose, initialize_config_dir
from tiny import write_qwen2_vl
from tiny_aria import write_aria
from tiny_encoders import write_clip, write_qwen3_vl, write_siglip
from tiny_llava_video import write_llava_video
from tiny_qwen3_vl import write_qwen3_vl as write_qwen3_vl_answerer
from tiny_yi_vl import write_yi_vl

from pipeline.commands import driving
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Video
from pipeline.run_names import run_name

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
SECONDS = 17
"""Of each made video, at 4 frames a second: 17 candidate frames, more than 16, and 68 in all, more than 64."""
NATIVE = 4 * SECONDS
NAMED = (1.0, 2.0, 3.0)
"""Seconds that the tiny GenS names in any video."""
COMMIT = "0" * 39 + "1"


def write_gens(folder: Path) -> None:
    """A GenS that writes ``{"1-3":4}`` whatever it sees: each token has one successor, and nothing else has a say."""
    import torch
    from safetensors.torch import load_file, save_file
    from sentencepiece import SentencePieceProcessor

    write_yi_vl(folder, context=65536)
    words = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    written = [words.piece_to_id(piece) for piece in ('{"', "1", "-", "3", '":', "4}")]
    assert words.unk_id() not in written
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name.startswith("language_model") and name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    embeddings, head = (tensors[f"language_model.{name}.weight"] for name in ("model.embed_tokens", "lm_head"))
    states = torch.eye(embeddings.shape[1])
    embeddings[:] = states[0]
    embeddings[written] = states[1 : len(written) + 1]
    head.zero_()
    head[written] = states[: len(written)]
    save_file(tensors, path, metadata={"format": "pt"})


HUB: dict[str, Callable[[Path], object]] = {
    "lmms-lab/LLaVA-Video-7B-Qwen2": write_llava_video,
    "lmms-lab/LLaVA-Video-72B-Qwen2": lambda folder: write_llava_video(folder, seed=1),
    "Qwen/Qwen2-VL-7B-Instruct": write_qwen2_vl,
    "rhymes-ai/Aria": write_aria,
    "yaolily/GenS": write_gens,
    "openai/clip-vit-large-patch14": write_clip,
    "google/siglip-so400m-patch14-384": write_siglip,
    "Qwen/Qwen3-VL-Embedding-2B": write_qwen3_vl,
    "Qwen/Qwen3-VL-4B-Instruct": write_qwen3_vl_answerer,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: ``data/`` as downloads leave it, and the hub's cache."""
    home = tmp_path_factory.mktemp("home")
    for repository, write in HUB.items():
        cached = home / "hub" / f"models--{repository.replace('/', '--')}"
        write(cached / "snapshots" / COMMIT)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(COMMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_benchmarks, "SECONDS", SECONDS)
        for write_benchmark in (made_benchmarks.longvideobench, made_benchmarks.mlvu, made_benchmarks.hourvideo):
            write_benchmark(home / "data")
    return home


@dataclass(frozen=True)
class Cell:
    """What one job of a sweep left: its overrides, settings, and the rows of its first question."""

    overrides: dict[str, str]
    config: dict[str, Any]
    selection: dict[str, Any]
    answer: dict[str, Any]

    @property
    def frames(self) -> list[dict[str, Any]]:
        return list(self.selection["frames"])


def command(home: Path, verb: str, *words: str) -> Any:
    here = ("benchmark.rows=null", "answerer.checkpoint.device=cpu")
    with pytest.MonkeyPatch.context() as patch:
        # What HF_HUB_CACHE=home/hub sets where it is there from the beginning.
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        return gens(verb, *words, *here, cwd=home)


def swept(home: Path, *words: str) -> list[Cell]:
    """Run an experiment over one question; every job comes to its end, and one page is written over all."""
    before = set(home.glob("runs/sweep-*/sweep.json"))
    done = command(home, "evaluate", "-m", *words, "limit=1")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr  # random answerers say nothing that can be read
    (path,) = set(home.glob("runs/sweep-*/sweep.json")) - before
    assert (path.parent / "report.html").is_file()
    return [_cell(job, (path.parent / job["folder"]).resolve()) for job in json.loads(path.read_text())["jobs"]]


def _cell(job: dict[str, Any], folder: Path) -> Cell:
    assert job["status"] == "done", job
    (selected,) = [json.loads(line) for line in (folder / "selections.jsonl").read_text().splitlines()]
    (answered,) = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    answer = answered["answer"]
    assert answer["status"] in ("ok", "unparsed"), answer
    assert answer["frame_times"] == [frame["time"] for frame in selected["selection"]["frames"]]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return Cell(dict(word.split("=", 1) for word in job["overrides"]), config, selected["selection"], answer)


def sources(cell: Cell) -> dict[str, int]:
    found = [frame["source"] for frame in cell.frames]
    return {source: found.count(source) for source in found}


FORMS = {
    "llava_video_7b": "video of 384 x 384 pixels, average pooling; time: not told",
    "llava_video_72b": "video of 384 x 384 pixels, average pooling; time: not told",
    "qwen2_vl_7b": "video of 336 x 336 pixels; time: not told",
    "aria": "images on 490 x 490 pixels; time: not told",
}

MANY = [("longvideobench", "aria", "uniform"), ("mlvu", "aria", "uniform"), ("mlvu", "aria", "gens")]
K = dict.fromkeys(itertools.product(("longvideobench", "mlvu"), FORMS, ("uniform", "gens")), 64) | dict.fromkeys(
    MANY, 256
)
"""Budgets of table 1 by benchmark, answerer and sampler."""


@pytest.mark.parametrize(
    ("questions", "answerers"),
    [
        ("longvideobench", ("qwen2_vl_7b", "aria")),
        pytest.param("mlvu", ("llava_video_7b",), marks=pytest.mark.long),
    ],
)
def test_table_1_runs_as_its_authors_ran_it(home: Path, questions: str, answerers: tuple[str, ...]) -> None:
    parts = (f"experiment/questions={questions}", f"experiment/published={','.join(answerers)}")
    cells = swept(home, "experiment=gens_table1", *parts)
    found = [(cell.config["answerer"]["name"], cell.config["sampler"]["name"]) for cell in cells]
    assert found == list(itertools.product(answerers, ("uniform", "gens")))
    for cell, (answerer, sampler) in zip(cells, found, strict=True):
        assert cell.config["benchmark"]["name"] == questions
        assert cell.config["answerer"]["prompt"]["name"] == f"{questions}_lmms_eval"
        assert cell.answer["form"].startswith(FORMS[answerer])
        assert cell.selection["budget"] == K[questions, answerer, sampler]
        if sampler == "uniform":
            assert sources(cell) == {"uniform": min(NATIVE, cell.selection["budget"])}
        else:  # all candidates, as they fit the budget; LLaVA-Video is always given 64 frames
            assert (cell.config["sampler"]["fps"], cell.config["sampler"]["window"]["frames"]) == (1.0, 256)
            filled = {"fill": 64 - SECONDS} if answerer.startswith("llava") else {}
            assert sources(cell) == {"sampler": len(NAMED), "uniform": SECONDS - len(NAMED), **filled}
            if answerer == "qwen2_vl_7b":  # two frames share their tokens
                assert cell.answer["cost"]["prompt_tokens"] < (SECONDS + 1) / 2 * (336 // 28) ** 2 + 200


def test_the_curve_cuts_each_sampler_at_each_number_of_frames(home: Path) -> None:
    cells = swept(home, "experiment=frames_curve", "sampler=uniform,clip,gens", "selection.budget=16,256")
    assert len(cells) == 6
    for cell in cells:
        budget, sampler = cell.selection["budget"], cell.config["sampler"]["name"]
        assert budget == int(cell.overrides["selection.budget"])
        assert cell.answer["form"].startswith(FORMS["aria"])
        frames = {"uniform": min(NATIVE, budget), "gens": len(NAMED) if budget == 16 else SECONDS}
        assert len(cell.frames) == frames.get(sampler, min(SECONDS, budget))
        if sampler == "gens" and budget == 16:
            assert tuple(frame["time"] for frame in cell.frames) == NAMED


@pytest.mark.long
def test_hourvideo_asks_in_its_own_words(home: Path) -> None:
    uniform, named = swept(home, "experiment=hourvideo")
    assert (sources(uniform), sources(named)["sampler"]) == ({"uniform": NATIVE}, len(NAMED))
    for cell in (uniform, named):
        assert cell.selection["budget"] == 256
        assert (cell.config["answerer"]["prompt"]["name"], cell.config["answerer"]["max_new_tokens"]) == (
            "hourvideo",
            512,
        )
        assert cell.answer["form"].startswith(FORMS["aria"])


def test_hybrid_shows_what_gens_names_among_the_frames_that_an_embedding_kept(home: Path) -> None:
    for cell, first in zip(swept(home, "experiment=hybrid"), ("clip", "qwen3_vl_embedding"), strict=True):
        sampler = cell.config["sampler"]
        assert (sampler["first"]["name"], sampler["second"]["name"], sampler["keep"]) == (first, "gens", 256)
        assert tuple(frame["time"] for frame in cell.frames) == NAMED
        assert cell.selection["budget"] == 256


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_check_takes_an_experiment_as_evaluate_does(home: Path, name: str) -> None:
    done = command(home, "check", f"experiment={name}", "limit=1")
    assert done.returncode == 0, done.stdout + done.stderr


def cells_of(name: str) -> list[list[str]]:
    """The overrides of each cell of an experiment."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        params = compose("evaluate", [f"experiment={name}"], return_hydra_config=True).hydra.sweeper.params
    values = [[f"{key}={value}" for value in str(swept).split(",")] for key, swept in params.items()]
    return [[f"experiment={name}", *cell] for cell in itertools.product(*values)]


def composed(words: Sequence[str]) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", list(words))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_value_of_every_experiment_can_be_made(name: str, tmp_path: Path) -> None:
    """Each value in one cell: all cells of an experiment would take longer than anything else here."""
    seen: set[str] = set()
    for words in cells_of(name):
        if seen >= set(words):
            continue
        seen |= set(words)
        config = composed([*words, f"paths.cache={tmp_path}"])
        for group in ("benchmark", "sampler", "selection", "answerer"):
            assert build(config[group], group).name


def test_table_1_is_two_benchmarks_four_answerers_two_samplers() -> None:
    found = {}
    for words in cells_of("gens_table1"):
        config = composed(words)
        found[config.benchmark.name, config.answerer.name, config.sampler.name] = config.selection.budget
        assert config.answerer.prompt.name == f"{config.benchmark.name}_lmms_eval"
        assert config.answerer.max_new_tokens == {"longvideobench": 32, "mlvu": 16}[config.benchmark.name]
        assert (config.subtitles, config.selection.ties) == ("none", "spread")
    assert found == K


@pytest.mark.parametrize("path", sorted((conf_dir() / "experiment").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_part_begins_with_a_command_that_uses_it(path: Path) -> None:
    header, line = path.read_text().splitlines()[:2]
    assert header == "# @package _global_"  # Hydra reads it from the first line alone
    program, verb, *words = line.removeprefix("# ").split()
    assert (program, verb) == ("gens", "evaluate")
    group = path.parent.relative_to(conf_dir()).as_posix()
    assert f"{group}={path.stem}" in words
    assert composed([word for word in words if word != "-m"])


ARMS = [
    ("uniform_32", 16),
    ("selector_aks", 16),
    ("selector_bolt", 16),
    ("lohi_uniform", 15.5),
    ("lohi_semdiv", 15.5),
    ("uniform_x2", 32),
]


@pytest.mark.parametrize(("arm", "area"), ARMS)
def test_the_arms_of_equal_tokens_have_them_by_the_area(arm: str, area: float) -> None:
    config = composed(["experiment=equal_tokens", f"experiment/arm={arm}"])
    policy = build(config.selection, "selection")
    found = policy.sizes(Video("v.mp4", "f", 3600.0, 10.0, 36_000, 1920, 1080))
    assert sum(each.frames * each.scale**2 for each in found) == pytest.approx(area, abs=0.01)
    if "law" in config.selection:
        assert config.selection.law.unit == 32  # Qwen3-VL's


@pytest.mark.parametrize(("arm", "is_even"), [("uniform_16", True), ("lohi_uniform", True), ("lohi", False)])
def test_another_sampler_takes_the_place_of_clip_and_not_of_uniform(arm: str, is_even: bool) -> None:
    words = ["experiment=longvideo_eval", f"experiment/arm={arm}"]
    usual, other = (driving.composed("evaluate", [*words, *more]) for more in ([], ["sampler=siglip"]))
    assert (usual.sampler.name, other.sampler.name) == (("uniform", "uniform") if is_even else ("clip", "siglip"))
    assert (run_name(other) == run_name(usual)) == is_even  # a run that is there is found with any sampler


def test_arms_with_uniform_frames_have_policies_that_look_at_no_scores() -> None:
    """A sampler that is typed takes the place of the arm's, and a policy that looks at its scores would use them."""
    even = 0
    for path in (conf_dir() / "experiment" / "arm").glob("*.yaml"):
        chosen = {key: value for each in yaml.safe_load(path.read_text())["defaults"] for key, value in each.items()}
        if chosen["override /sampler"] == "uniform":
            selects = chosen.get("override /selection@selection.large", chosen["override /selection"])
            assert selects in ("uniform", "uniform_low"), path
            even += 1
    assert even == 7


def test_another_answerer_or_sampler_may_take_a_place(tmp_path: Path) -> None:
    other = composed(["experiment=gens_table1", "~experiment/published", "answerer=internvl3_8b", "sampler=gens_3b"])
    assert (other.answerer.name, other.sampler.name, other.selection.budget) == ("internvl3_8b", "gens_3b", 64)
    smaller = composed(["experiment=gens_table1", "experiment/published=aria", "sampler=gens_3b"])
    assert smaller.selection.budget == 64


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = gens("evaluate", "-m", "experiment=gens_tabel1", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'gens_table1'" in done.stderr
