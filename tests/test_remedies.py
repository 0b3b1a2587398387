"""Every remedy works when it is typed: overrides in messages are read by shell and Hydra, and name keys that exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import gens
from hydra.core.override_parser.overrides_parser import OverridesParser
from made import write_video

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
TELL = re.compile(r"\w*Error|with_remedy|Finding|Unanswered|\w*failed|_refused|_any_of|_fatal")
"""Names of what messages are made with."""
HOLE = "\0"
WORD = re.compile(
    r"""(?<![\w./{}\0\-:"'])
    (?:(?P<quote>["'])(?P<quoted>\+{0,2}[a-z_]+(?:[./@][a-z_]+)*=.*?)(?P=quote)(?=[\s,;.):]|$)
     | (?P<key>\+{0,2}[a-z_]+(?:[./@][a-z_]+)*)=(?P<value>"[^"]*"|'[^']*'|\[[^\]]*\]|[^\s,;)`]*))""",
    re.VERBOSE | re.DOTALL,
)


def messages() -> Iterator[tuple[str, str]]:
    """Texts inside of errors and findings, holes for what is filled in, each with its place."""
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and TELL.fullmatch(ast.unparse(call.func).rpartition(".")[2]):
                for text in texts(call):
                    yield f"{path.relative_to(ROOT)}:{call.lineno}", text


def texts(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        else:
            yield from texts(child)


def typed(text: str) -> Iterator[str]:
    """The overrides in a text, as they are typed in a shell."""
    for found in WORD.finditer(text):
        if found["quoted"] is not None:
            yield f"{found['quote']}{found['quoted']}{found['quote']}"
        else:
            value = found["value"] if found["value"][:1] in ("'", '"', "[") else found["value"].rstrip(".:")
            yield f"{found['key']}={'...' if found['value'].startswith('...') else value}"


def is_whole(word: str) -> bool:
    """Whether it can be typed as it stands: no hole, and no word in capitals that stands for one."""
    value = word.partition("=")[2]
    return (
        bool(value)
        and "==" not in word
        and HOLE not in word
        and "..." not in value
        and not re.search(r"\b[A-Z]{2,}\b", value)
    )


@cache
def keys() -> frozenset[str]:
    """All keys of all options, and the groups."""
    found = set()
    for path in CONF.rglob("*.yaml"):
        parts = path.relative_to(CONF).parent.parts
        found |= {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
        prefix = "".join(f"{part}." for part in parts if parts[0] != "experiment")
        found |= set(flat(yaml.safe_load(path.read_text()), prefix))
    return frozenset(found)


def flat(node: Any, prefix: str) -> Iterator[str]:
    for name, inner in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from flat(inner, f"{prefix}{name}.")


WORDS = sorted({(word, place) for place, text in messages() for word in typed(text)})
OF_OTHERS = {
    *("image_token_index", "legacy", "named_above", "norm_topk_prob", "mm_spatial_pool_mode", "mrope_section"),
    *(
        "torchvision",
        "transformers",
        "ray",
        "relevant_timestamps",
        "selector_method",
        "timestamp",
        "hydra/sweeper",
        "n",
    ),
}
"""Keys of checkpoints, rows and other programs, which are no settings of ours."""
RELATIVE = {
    "form.prompt",
    "attention",
    "budget",
    "checkpoint.source",
    "device",
    "dtype",
    "fps",
    "max_minutes",
    "max_pixels",
    "min_pixels",
}
"""Ends of keys whose beginning the caller puts before them."""


def test_there_are_remedies_to_look_at() -> None:
    assert len({word for word, _ in WORDS if is_whole(word)}) > 80


def test_a_shell_and_hydra_read_what_messages_say_to_type() -> None:
    wrong = []
    for word, place in WORDS:
        if is_whole(word):
            parts = shlex.split(word)
            try:
                OverridesParser.create().parse_overrides(parts)
            except Exception as error:
                wrong.append((place, word, str(error).split("\n")[0]))
            if len(parts) != 1:
                wrong.append((place, word, "the shell takes it apart"))
    assert wrong == []


def test_the_keys_that_messages_name_exist() -> None:
    wrong = []
    for word, place in WORDS:
        key = word.strip("'\"").partition("=")[0].lstrip("+")
        name = key.partition("@")[2] or key
        # A part of a hybrid or a route has the keys of any sampler; a prompt of a form is a group.
        name = re.sub(r"^sampler\.(first|second|whole|localised|inner|encoder|looks|rewards)\.", "sampler.", name)
        known = keys() | OF_OTHERS | RELATIVE
        if HOLE not in key and not {name, key.partition("@")[0], name.replace(".", "/")} & known:
            wrong.append((place, word))
    assert wrong == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    row = {"id": "q", "video": "gone.mp4", "question": "what?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "a (1).jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "gone.mp4")
    return tmp_path


BENCHMARK = ("benchmark=jsonl", "benchmark.path=q.jsonl")
EVALUATE = ("evaluate", *BENCHMARK, "sampler=uniform", "answerer=qwen2_vl_micro")
CHECK = ("check", *BENCHMARK, "sampler=uniform", "answerer=qwen2_vl_micro", "benchmark.video_root=videos")
SAMPLE = ("sample", *BENCHMARK)
SERVER = (
    *("answerer=openai", "answerer.base_url=http://127.0.0.1:9/v1", "answerer.model=m"),
    *("answerer.api_key_env=null", "answerer.retries=0"),
)
ASK = ("ask", "video=videos/gone.mp4", "question=what?", "sampler=uniform", "answerer=qwen2_vl_micro")


@pytest.mark.parametrize(
    "words",
    [
        (*EVALUATE, "selection.budget=0"),
        (*EVALUATE, "limit=0"),
        (*EVALUATE, "over_limit=cut"),
        (*EVALUATE, "subtitles=yes"),
        (*EVALUATE, "execution.answer_batch=0"),
        (*EVALUATE, "reader.threads=-1"),
        (*EVALUATE, "reader.image_fps=0"),
        (*EVALUATE, "reader.backend=torchcodec"),
        (*CHECK, "answerer.checkpoint.device=cuda:7"),
        (*CHECK, "answerer.checkpoint.attention=flash_attention_2"),
        (*EVALUATE, "answerer.max_new_tokens=0"),
        (*EVALUATE, "sampler=oracle", "sampler.fps=0"),
        (*EVALUATE, "sampler=oracle", "selection=mdp3"),
        (*EVALUATE, "benchmark.path=a (1).jsonl"),
        (*EVALUATE, "answerer/prompt=leter"),
        (*EVALUATE, *SERVER, "answerer.timeout=0"),
        (*EVALUATE, *SERVER, "answerer.retries=-1"),
        (*EVALUATE, *SERVER, "answerer.frame.quality=0"),
        (*EVALUATE, *SERVER, "answerer.frame.max_side=0"),
        (*EVALUATE, *SERVER, "answerer.images.label='{x}'"),
        (*EVALUATE, *SERVER, "answerer.api_key_env=A_KEY_THAT_IS_NOT_SET"),
        (*SAMPLE, "sampler=gens_micro", "sampler.max_new_tokens=0"),
        (*SAMPLE, "sampler=gens_micro", "sampler.questions_at_once=0"),
        (*SAMPLE, "sampler=gens_micro", "sampler.fps=-1"),
        (*ASK, "subtitles=full"),
        (*ASK, "options=yes"),
    ],
)
def test_a_remedy_that_is_typed_helps(home: Path, words: tuple[str, ...]) -> None:
    failed = gens(*words, cwd=home)
    assert failed.returncode == 2, failed.stdout
    told = failed.stdout if words[0] == "check" else failed.stderr
    error, _, remedy = told.partition("  what to do: ")
    problem = error.splitlines()[-1]
    if words[0] == "check":
        remedy = remedy.partition("\n\n")[0]
    if "one of " in remedy and "=" not in remedy:
        remedy = f"{problem.partition('error: ')[2].partition('=')[0]}={remedy.split('one of ')[1].split(',')[0]}"
    # Names in capitals are those of the user's own files.
    ways = [as_in_bash(word) for word in typed(remedy.replace("FILE.srt", "gone.srt")) if is_whole(word)]
    if "give both" in remedy:
        ways = [" ".join(ways)]
    tried = []
    for way in ways:
        instead = way.split(" subtitles_file") if "subtitles_file" in way else [way]
        instead = [instead[0], *(f"subtitles_file{rest}" for rest in instead[1:])]
        replaced = {word.partition("=")[0] for word in instead}
        tried.append(gens(*(word for word in words if word.partition("=")[0] not in replaced), *instead, cwd=home))
        assert problem not in tried[-1].stderr + tried[-1].stdout, way
    # Some need what is not on this machine, such as another checkpoint.
    assert min(done.returncode for done in tried) < 2, [done.stderr for done in tried]


def as_in_bash(word: str) -> str:
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("evaluate", "sampler=route", "sampler.localised.window.frames=0"), "sampler.localised.window.frames="),
        (("evaluate", "sampler=hybrid", "sampler.second.max_new_tokens=0"), "sampler.second.max_new_tokens="),
        (("evaluate", "sampler=hybrid", "sampler.first.checkpoint.source=./no"), "sampler.first.checkpoint.source="),
        (("check", "sampler=hybrid", "sampler.second.checkpoint.source=./no"), "sampler.second.checkpoint.source="),
    ],
)
def test_a_part_within_another_is_named_by_the_key_that_it_has_there(
    tmp_path: Path, words: tuple[str, ...], key: str
) -> None:
    (tmp_path / "q.jsonl").write_text('{"video": "v.mp4", "question": "q", "id": "1"}\n', encoding="utf-8")
    asked = ("benchmark=jsonl", "benchmark.path=q.jsonl", "answerer=qwen2_vl_micro")
    done = gens(*words, *asked, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    told = re.findall(r"samplers?\.[\w.]+=", (done.stdout + done.stderr).partition("what to do:")[2])
    assert key in told
    assert all(re.match(r"sampler\.(first|second|localised)\.", word) for word in told)
