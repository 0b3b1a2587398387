"""Only its user makes a package trusted, and nothing else of a YAML file is run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from command_line import gens, gens_apart
from omegaconf import OmegaConf

from pipeline.errors import ConfigError
from pipeline.trust import check_hydra, trusted_class, trusted_packages

PLUGIN = """
from dataclasses import dataclass
from subprocess import Popen
from hydra.experimental.callback import Callback

from pipeline.samplers.uniform import UniformSampler

@dataclass(frozen=True)
class Mine(UniformSampler):
    def __post_init__(self):
        open("MADE", "w").close()

class Told(Callback):
    def on_run_start(self, config, **_):
        open("MADE", "w").close()
"""
RUN_SYSTEM = {"_target_": "os.system", "command": "touch MADE"}
MINE = {"_target_": "acme.Mine", "name": "mine", "spread": "midpoint", "about": {"what": "mine"}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder as it may come with somebody's data: a package, and YAML files that trust themselves."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    row = {"id": "q", "video": "gone.mp4", "question": "what?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def write(home: Path, name: str, content: object, header: str = "") -> None:
    path = home / "mine" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + json.dumps(content))


GLOBAL = "# @package _global_\n"
WORDS = ("sample", "--config-dir", "mine", "benchmark=jsonl", "benchmark.path=q.jsonl")


@pytest.mark.parametrize(
    ("group", "content", "said"),
    [
        ("sampler", RUN_SYSTEM, "sampler._target_=os.system is outside pipeline"),
        ("sampler", MINE, "plugins=[acme]"),
        ("sampler", {**MINE, "_target_": "pipeline.checks.devices.subprocess.run"}, "cannot be imported"),
        ("sampler", {**MINE, "_target_": "pipeline.config.build"}, "is not a class"),
        ("sampler", {**MINE, "_target_": "pipeline.cli.suppress"}, "outside pipeline"),
        ("experiment", {"plugins": ["acme"], "sampler": MINE}, "plugins=[acme]"),
        ("experiment", {"plugins": ["os"], "sampler": RUN_SYSTEM}, "os is a part of Python"),
        ("experiment", {"hydra": {"callbacks": {"x": RUN_SYSTEM}}}, "hydra.callbacks.x._target_=os.system"),
        ("experiment", {"hydra": {"callbacks": {"x": {"_target_": "acme.Told"}}}}, "plugins=[acme]"),
        (
            "experiment",
            {"hydra": {"callbacks": {"x": {"_target_": "hydra.experimental.callback.Callback", "y": RUN_SYSTEM}}}},
            "hydra.callbacks.x.y._target_=os.system",
        ),
        ("experiment", {"hydra": {"launcher": {"_target_": "os.system"}}}, "hydra.launcher._target_=os.system"),
        ("experiment", {"hydra": {"sweeper": {"_target_": "os.system"}}}, "hydra.sweeper._target_=os.system"),
        (
            "experiment",
            {"hydra": {"job_logging": {"handlers": {"x": {"()": "os.system", "command": "touch MADE"}}}}},
            "hydra.job_logging.handlers.x.()=os.system",
        ),
        (
            "experiment",
            {"hydra": {"hydra_logging": {"handlers": {"x": {"class": "logging.os.system"}}}}},
            "hydra.hydra_logging.handlers.x.class=logging.os.system",
        ),
        (
            "experiment",
            {"hydra": {"job_logging": {"handlers": {"file": {"filename": "/tmp/elsewhere.log"}}}}},
            "outside the run folder",
        ),
        (
            "experiment",
            {"hydra": {"job_logging": {"handlers": {"file": {"stream": "ext://os.environ"}}}}},
            "may name code",
        ),
        ("experiment", {"hydra": {"job": {"env_set": {"GENS_PLUGINS": "acme"}}}}, "GENS_PLUGINS=..."),
    ],
)
def test_a_file_is_not_run_and_leaves_nothing(home: Path, group: str, content: object, said: str) -> None:
    write(home, f"{group}/own", content, GLOBAL if group == "experiment" else "")
    before = sorted(home.rglob("*"))
    for words in (WORDS, (*WORDS[:1], "-m", *WORDS[1:])):
        chosen = [f"{group}=own"] if group != "experiment" else ["+experiment=own", "sampler=uniform"]
        done = gens(*words, *chosen, cwd=home)
        assert done.returncode == 2, done.stdout
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert sorted(home.rglob("*")) == before


def test_a_job_of_a_sweep_brings_no_code_along(home: Path) -> None:
    """The configuration of the sweep as a whole holds none of it: each job's own is composed as it starts."""
    write(home, "sampler/own", {**MINE, "_target_": "pipeline.samplers.uniform.UniformSampler"})
    write(home, "experiment/own", {"hydra": {"job_logging": {"handlers": {"x": {"()": "os.system"}}}}}, GLOBAL)
    write(home, "experiment/params", {"hydra": {"sweeper": {"params": {"plugins": "[acme]"}}}}, GLOBAL)
    for chosen in (["sampler=own", "+experiment=own,params"], ["sampler=own", "+experiment=params"]):
        done = gens(*WORDS[:1], "-m", *WORDS[1:], *chosen, cwd=home)
        assert done.returncode == 2, done.stdout
        assert not (home / "runs").exists()


@pytest.mark.parametrize("way", ["command line", "environment", "settings of the user"])
def test_its_user_trusts_a_package(home: Path, way: str) -> None:
    write(home, "sampler/own", MINE)
    (home / "config" / "gens-videoqa").mkdir(parents=True)
    words, environment = list(WORDS), {"PYTHONPATH": f"{Path(__file__).parent.parent}:{home}"}
    if way == "command line":
        words.append("plugins=[acme]")
    elif way == "environment":
        environment["GENS_PLUGINS"] = "other, acme"
    else:
        (home / "config" / "gens-videoqa" / "mine.yaml").write_text("plugins: [acme]\n")
        environment["XDG_CONFIG_HOME"] = str(home / "config")
    done = gens_apart(*words, "sampler=own", cwd=home, **environment)
    assert done.returncode == 1, done.stderr
    assert "missing_video" in done.stderr
    assert (home / "MADE").exists()


def test_a_relative_folder_of_settings_is_no_folder_of_the_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "gens-videoqa").mkdir()
    (home / "gens-videoqa" / "mine.yaml").write_text("plugins: [acme]\n")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home / "nowhere"))
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    assert trusted_packages([]) == ()


@pytest.mark.parametrize("name", ["os", "builtins", "subprocess", "importlib.util", "", ".", "a b", "../acme"])
def test_what_is_no_package_of_plug_ins_is_never_trusted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"part of Python|not the name of a package"):
        trusted_packages([name])


def test_what_a_trusted_module_imports_is_not_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(home)
    assert trusted_class("acme.Mine", "sampler._target_", ["acme"]).__name__ == "Mine"
    with pytest.raises(ConfigError, match=r"acme\.Popen, which is subprocess\.Popen, is outside"):
        trusted_class("acme.Popen", "sampler._target_", ["acme"])
    with pytest.raises(ConfigError, match="outside pipeline, acme"):
        trusted_class("acme_evil.Mine", "sampler._target_", ["acme"])


def test_hydras_own_settings_are_accepted() -> None:
    import hydra

    folder = Path(hydra.__file__).parent / "conf" / "hydra"
    for group in ("job_logging", "hydra_logging"):
        for path in sorted((folder / group).glob("*.yaml")):
            check_hydra(OmegaConf.create({group: OmegaConf.load(path)}), (), ())
    assert logging.getLogger("hydra") is not None
