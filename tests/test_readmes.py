"""What the READMEs say to type works: commands run, or compose where they say what they need; links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import gens
from hydra.core.override_parser.overrides_parser import OverridesParser
from made import write_video
from omegaconf import OmegaConf
from readme_blocks import FRONT, READMES, ROOT, Block, anchors, blocks, inline, links, prose
from test_remedies import OF_OTHERS, keys, typed

from pipeline.cli import VERBS
from pipeline.config import build, conf_dir, register_resolvers

CARDS = ROOT / "pipeline" / "checkpoints"
NEEDS = (
    "a GPU",
    "a server",
    "a network",
    "the hub",
    "the benchmark's files",
    "lmms-eval",
    "a shared folder",
    "a launcher",
    "Slurm",
    "Ray",
    "some minutes",
    "half an hour",
)
LANGUAGES = ("bash", "text", "json", "python", "toml", "yaml")
SMALLER = {"benchmark.videos": "1", "benchmark.max_minutes": "5", "limit": "2"}
"""Two questions about one made video for all pages: the first of ``gens demo``."""
PARTS = ("sampler", "selection", "answerer", "judge", "benchmark", "form", "reader")
SUBTITLES = "1\n00:00:00,000 --> 00:00:02,000\nI promise.\n"
OTHER_PROGRAMS = {"hash", "err_detect", "hydra/launcher"}
"""Settings of FFmpeg, x265 and Hydra in running text."""
FOR_CHOICE = re.compile(r"\+{0,2}(\w+(?:/\w+)*)/(\w+)\.")
"""How a word begins that sets a key of one option: ``sampler/gens_micro.fps=2``."""
NAMES = [str(path.relative_to(ROOT)) for path in READMES]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------------- the pages themselves


def test_the_front_page_is_short() -> None:
    assert len(FRONT.read_bytes()) <= 10_000


def test_the_picture_is_small() -> None:
    (picture,) = [target for target in links(FRONT.read_text()) if target.endswith(".png")]
    assert (ROOT / picture).stat().st_size < 150_000


def test_the_front_page_leads_to_every_room() -> None:
    led_to = {(ROOT / target).resolve() for target in links(FRONT.read_text())}
    assert {path for path in READMES if path != FRONT and CARDS not in path.parents} <= led_to


def test_the_cards_of_the_models_are_led_to() -> None:
    led_to = {(path.parent / target).resolve() for path in READMES for target in links(path.read_text())}
    assert {path for path in READMES if CARDS in path.parents} <= led_to


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for target in links(text_of(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_no_mark_of_a_conflict_is_left(name: str) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", text_of(name), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_says_what_it_is(name: str) -> None:
    for block in blocks(text_of(name)):
        assert block.language in LANGUAGES, block.text
        needs = re.split(r", | and ", block.needs) if block.needs else []
        assert set(needs) <= set(NEEDS), block.needs
    # A block by indentation would be passed over here.
    assert not re.search(r"^ {4,}(?:gens|python|pip|scripts/\w+|vllm|export) ", prose(text_of(name)), re.MULTILINE)


# ----------------------------------------------------------------------------------------------- commands that are run


@dataclass
class Home:
    """A folder in which somebody types what a README says."""

    folder: Path
    cache: Path
    said: str = ""
    """What the last block printed."""
    smaller: bool = False
    """Whether the last block ran over fewer videos than it says."""
    ran: list[str] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run every command of a block; each ends with 0."""
        self.said, self.smaller = "", False
        for command in block.commands:
            self.ran.append(command)
            words = shlex.split(command, comments=True)
            if re.search(r"[|<>;&$]", re.sub(r"'[^']*'|\"[^\"$]*\"", "", command)):
                first, bar, rest = command.partition(" | ")
                words = shlex.split(first)
                if bar and words[0] == "gens":
                    first = shlex.join(["gens", *self._fewer(words[1:])])
                self._in_shell(f"{first}{bar}{rest}")
            elif words[:2] == ["source", ".venv/bin/activate"]:
                assert "venv=${GENS_VENV:-.venv}" in (ROOT / "scripts" / "setup").read_text()
            elif words[0] == "scripts/demo":
                assert (ROOT / words[0]).read_text().endswith('exec "${GENS_VENV:-.venv}/bin/gens" demo "$@"\n')
                self._gens(["demo", *words[1:]])
            elif words[0] == "scripts/test":
                assert_script_takes(words)
            elif words[0] == "python":
                self._in_shell(command)
            else:
                while re.match(r"\w+=", words[0]):
                    assert words.pop(0) == "PYTHONPATH=."
                assert words.pop(0) == "gens", command
                self._gens(words)

    def _gens(self, words: list[str]) -> None:
        given = [self._found(word) for word in words]
        done = gens(*self._fewer(given), cwd=self.folder, GENS_CACHE=str(self.cache))
        assert done.returncode == 0, (words, done.stderr)
        self.said += done.stdout

    def _fewer(self, words: list[str]) -> list[str]:
        """The words, about one video where they are about made ones, as ``gens evaluate`` is by itself."""
        others = [word for word in words[1:] if word.startswith("benchmark=") and word != "benchmark=micro"]
        if words[0] not in ("demo", "evaluate", "sample", "recall", "check") or others or "--cfg" in words:
            return words
        self.smaller = True
        kept = [word for word in words if word.partition("=")[0] not in SMALLER]
        return [*kept, *(f"{key}={value}" for key, value in SMALLER.items() if (words[0], key) != ("recall", "limit"))]

    def _found(self, word: str) -> str:
        """A word in which ``...`` is the rest of a name that an earlier command printed."""

        def whole(found: re.Match[str]) -> str:
            (path,) = self.folder.glob(found[0].replace("...", "*"))
            return str(path.relative_to(self.folder))

        return re.sub(r"[\w/.-]*\.\.\.[\w/.-]*", whole, word)

    def _in_shell(self, command: str) -> None:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        for name, what in {"gens": "-m pipeline", "python": ""}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
            (programs / name).chmod(0o755)
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail; {command}"],
            cwd=self.folder,
            env={
                **os.environ,
                "GENS_CACHE": str(self.cache),
                "HOME": str(self.folder),
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        self.said += done.stdout


def assert_script_takes(words: list[str]) -> None:
    """A script is there and knows the options; paths among its arguments exist."""
    script = ROOT / words[0]
    text = script.read_text()
    assert script.suffix or os.access(script, os.X_OK), script
    for word in words[1:]:
        if word.startswith("--"):
            assert word in text, words
        elif word.startswith("tests/"):
            assert (ROOT / word).exists(), words


def is_run(block: Block) -> bool:
    return block.language == "bash" and not block.needs


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made videos and the cache, for all pages: each is computed once."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def home(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (shared / "data").mkdir(exist_ok=True)
    (tmp_path / "data").symlink_to(shared / "data")
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "clip.srt").write_text(SUBTITLES)
    monkeypatch.syspath_prepend(tmp_path)
    return Home(tmp_path, shared / "cache")


@pytest.mark.parametrize("name", [name for name in NAMES if any(map(is_run, blocks(text_of(name))))])
def test_commands_run_as_they_stand(name: str, home: Home) -> None:
    for block in blocks(text_of(name)):
        if block.file:
            (home.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (home.folder / block.file).write_text(block.text)
        elif is_run(block):
            home.run(block)
        elif block.language == "bash":
            home.said = ""
        elif block.language == "text" and home.said:
            assert_printed(block, home)


def assert_printed(block: Block, home: Home) -> None:
    """What a README shows was printed by the block before it, but for digests and, where that ran less, figures."""
    printed = [as_shown(line) for line in home.said.splitlines()]
    for line in block.lines:
        if line == "...":
            continue
        if home.smaller:
            assert line.split()[0] in {found.split()[0] for found in printed if found}, line
        else:
            assert as_shown(line) in printed, line


def as_shown(line: str) -> str:
    return re.sub(r"-[0-9a-f]{8}\b", "-DIGEST", " ".join(line.split()))


# ------------------------------------------------------------------------------------------ commands that are composed


def composed(command: str, folder: Path) -> None:
    """Compose a ``gens`` command and build its parts without a model: each word is a key with a value that it takes."""
    words = shlex.split(command, comments=True)[1:]
    assert words[0] in VERBS, command
    while "--config-dir" in words:
        del words[words.index("--config-dir") : words.index("--config-dir") + 2]
    given = [word.replace("...", "X") for word in words[1:] if not word.startswith("-")]
    # test_launchers.py tries launchers, each where its package is.
    launchers = {word.partition("=")[2] for word in given if word.startswith("hydra/launcher=")}
    assert launchers <= {path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml")}, command
    given = [word for word in given if not (launchers and word.startswith(("hydra/launcher=", "hydra.launcher.")))]
    for variant in variants(given):
        chosen = [word for word in variant if not is_of_another_choice(word, variant)]
        done = gens(words[0], *chosen, "--cfg", "job", cwd=folder)
        assert done.returncode == 0, (command, done.stderr)
        config = OmegaConf.create(yaml.safe_load(done.stdout))
        # The budget of ``gens recall`` is a list.
        for part in PARTS if words[0] != "recall" else ():
            if "_target_" in (config.get(part) or {}):
                build(config[part], part)


def variants(words: list[str]) -> list[list[str]]:
    """The jobs of a sweep in which each value is once, not every combination."""
    values = []
    for word in words:
        (override,) = OverridesParser.create().parse_overrides([word]) if is_override(word) else (None,)
        if override is not None and override.is_sweep_override():
            values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        else:
            values.append([word])
    return [
        [each[min(place, len(each) - 1)] for each in values]
        for place in range(max((len(v) for v in values), default=1))
    ]


def is_override(word: str) -> bool:
    return not word.startswith(("question=", "options=", "video=", "answer=")) and not FOR_CHOICE.match(word)


def is_of_another_choice(word: str, words: list[str]) -> bool:
    about = FOR_CHOICE.match(word)
    return bool(about and f"{about[1]}={about[2]}" not in words)


@pytest.fixture
def _keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    register_resolvers()
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "MY_KEY", "MY_TOKEN"):
        monkeypatch.setenv(name, "of-a-test")


@pytest.mark.usefixtures("_keys_in_the_environment")
@pytest.mark.parametrize("name", [name for name in NAMES if any(block.needs for block in blocks(text_of(name)))])
def test_commands_that_need_something_are_composed(name: str, tmp_path: Path) -> None:
    for block in blocks(text_of(name)):
        for command in block.commands if block.needs else ():
            words = shlex.split(command, comments=True)
            if words[0] == "gens":
                composed(command, tmp_path)
            elif words[0] == "python" and words[1] == "-m" and words[2].startswith("scripts."):
                assert_script_takes([words[2].replace(".", "/") + ".py", *words[3:]])
            elif words[0] == "python" and words[1] != "-m":
                assert_script_takes(words[1:])
            elif words[0].startswith("scripts/"):
                assert_script_takes(words)
            else:
                assert words[0] in ("vllm", "export", "pip", "mkdir", "umask", "curl") or "lmms_eval" in words, command


@pytest.mark.parametrize("name", NAMES)
def test_no_shell_takes_a_word_for_a_pattern(name: str) -> None:
    """zsh refuses a word in brackets that is not quoted, and such a word is quoted for nobody else's sake."""
    for block in blocks(text_of(name)):
        for command in block.commands if block.language == "bash" else ():
            bare = re.sub(r"'[^']*'|\"[^\"]*\"|#.*", "", command)
            assert not re.search(r"[\[\]{}*?]", bare), command


@pytest.mark.usefixtures("_keys_in_the_environment")
@pytest.mark.parametrize("name", NAMES)
def test_commands_and_settings_in_running_text_exist(name: str, tmp_path: Path) -> None:
    wrong = []
    for code in inline(text_of(name)):
        if code.startswith("gens ") and "[" not in code:
            verb, *words = shlex.split(code)[1:]
            whole = [word for word in words if "=" in word and not re.search(r"[A-Z]{2,}|\.\.\.", word)]
            if verb in VERBS and whole:
                composed(shlex.join(["gens", verb, *whole]), tmp_path)
            elif verb not in (*VERBS, "VERB"):
                wrong.append(code)
        elif "#" not in code:
            for word in typed(code):
                key = FOR_CHOICE.sub(r"\1.", word.strip("'\"").partition("=")[0].lstrip("+"))
                if word.strip("'\"").startswith("+"):
                    key = key.rpartition(".")[0]  # of a mapping that takes any key
                if not {key, key.partition("@")[0], key.replace(".", "/")} & (keys() | OF_OTHERS | OTHER_PROGRAMS):
                    wrong.append(word)
    assert wrong == []


# ------------------------------------------------------------------------------------------ the checks can fail


def sample(text: str) -> Block:
    (block,) = blocks(text)
    return block


def test_a_wrong_word_in_a_command_that_needs_something_is_found(tmp_path: Path) -> None:
    block = sample("```bash\n# needs a GPU\ngens evaluate answerer=qwen2_vl_7b answerer.frm=video\n```\n")
    assert block.needs == "a GPU"
    with pytest.raises(AssertionError, match=r"answerer\.frm"):
        composed(block.commands[0], tmp_path)


def test_a_wrong_value_in_one_job_of_a_sweep_is_found(tmp_path: Path) -> None:
    register_resolvers()
    with pytest.raises(AssertionError, match="qwen2_vl_8b"):
        composed("gens evaluate -m answerer=qwen2_vl_7b,qwen2_vl_8b", tmp_path)


def test_a_command_that_fails_is_found(home: Home) -> None:
    with pytest.raises(AssertionError, match="no run in nowhere"):
        home.run(sample("```bash\ngens report runs=nowhere\n```\n"))


def test_output_that_no_command_printed_is_found(home: Home) -> None:
    home.run(sample("```bash\ngens list prompts\n```\n"))
    with pytest.raises(AssertionError):
        assert_printed(sample("```text\nnobody says this\n```\n"), home)


def collected() -> tuple[list[Any], list[Any]]:
    found = [(block, command) for name in NAMES for block in blocks(text_of(name)) for command in block.commands]
    shell = [(block, command) for block, command in found if block.language == "bash"]
    return [c for b, c in shell if not b.needs], [c for b, c in shell if b.needs]


def test_there_are_commands_to_look_at() -> None:
    run, needing = collected()
    assert len(run) > 35
    assert len(needing) > 25
