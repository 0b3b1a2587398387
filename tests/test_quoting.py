"""People's words arrive as they typed them, and what is quoted for Hydra and for a shell comes back unchanged."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from command_line import gens
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pipeline.commands.ask import question_from
from pipeline.quoting import for_shell, is_quoted, items, quoted, quoted_list, quoted_override, readable
from pipeline.samplers.uniform import UniformSampler

TEXTS = [
    "plain",
    "a, b",
    "x = 2",
    "it's",
    'he says "stop"',
    """both ' and \"""",
    "back\\slash \\' end\\",
    "${oc.env:HOME} $HOME",
    r"\${x} \\${y} ${ '\${",
    "{a: [b]}",
    "日本 été 👩‍👩‍👧",
    "[/red]",
    "null",
    "-1e3",
    "a\nb",
    "~ % @ + # ; & *",
    "!x!",
]


def parsed(word: str) -> object:
    (override,) = OverridesParser.create().parse_overrides([word])
    return override.value()


@pytest.mark.parametrize("text", TEXTS)
def test_hydra_reads_a_quoted_text_as_it_is(text: str) -> None:
    assert OmegaConf.create({"key": parsed(f"key={quoted(text)}")}).key == text
    assert is_quoted(quoted(text))


@pytest.mark.parametrize("text", TEXTS)
def test_a_shell_hands_over_what_was_quoted_for_it(text: str) -> None:
    word = quoted_override(f"key={text}")
    assert shlex.split(for_shell(word)) == [word]


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        ('[x = 2, "y, z"]', ["x = 2", "y, z"]),
        ("[cook, sing,leave]", ["cook", "sing", "leave"]),
        ("[été, 日本]", ["été", "日本"]),
        ("[it's, he's here]", ["it's", "he's here"]),
        ("['a, b', c]", ["a, b", "c"]),
        ("['it's here', 'x' or 'y']", ["it's here", "'x' or 'y'"]),
        (r"['it\'s', c]", ["it's", "c"]),
        ('["say \\"stop\\", now", "no"]', ['say "stop", now', "no"]),
        ("[f(x, y), g]", ["f(x, y)", "g"]),
        ("[:), :(]", [":)", ":("]),
        ("[{a: 1}, [b, c]]", ["{a: 1}", "[b, c]"]),
        ('["a" or "b", c]', ['"a" or "b"', "c"]),
        ("[1, 2.50, true, null]", ["1", "2.50", "true", "null"]),
        ("[a, b,]", ["a", "b"]),
        ("[a,, b]", ["a", "", "b"]),
        ("[$5, 100%, C:\\temp, #1]", ["$5", "100%", "C:\\temp", "#1"]),
        ("[]", []),
        ("one, two", ["one", "two"]),
    ],
)
def test_a_list_of_texts_is_read_as_people_write_it(value: str, listed: list[str]) -> None:
    assert items(value) == listed


@pytest.mark.parametrize(
    ("typed", "listed"),
    [
        ('[x = 2, "y, z"]', ["x = 2", "y, z"]),
        ('[été, 日本, it\'s "so"]', ["été", "日本", 'it\'s "so"']),
        ("A,B", ["A", "B"]),
        ("[1, 2]", ["1", "2"]),
        ("null", None),
        ("['already', \"quoted\"]", ["already", "quoted"]),
    ],
)
def test_options_may_be_anything_that_people_type(tmp_path: Path, typed: str, listed: list[str] | None) -> None:
    done = gens("ask", "video=x.mp4", "question=what?", f"options={typed}", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["options"] == listed


def test_an_option_with_an_interpolation_is_asked_as_typed() -> None:
    options = parsed(f"options={quoted_list('[${a}, b]')}")
    given = {"video": "x.mp4", "question": "q", "answer": None, "subtitles": "none", "subtitles_file": None}
    asked = question_from(OmegaConf.create({**given, "options": options}), UniformSampler("uniform", "linspace"))
    assert asked.options == ("${a}", "b")


@pytest.mark.parametrize("answer", ["x = 2", "y, z", "null and void", "[/red]", 'a "b"', "12"])
def test_the_answer_may_too(tmp_path: Path, answer: str) -> None:
    done = gens("ask", "video=x.mp4", "question=what?", f"answer={answer}", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert yaml.safe_load(done.stdout)["answer"] == answer


def test_null_leaves_the_answer_out(tmp_path: Path) -> None:
    done = gens(
        "ask", "video=x.mp4", "question=what?", "answer=null", "subtitles_file=null", "--cfg", "job", cwd=tmp_path
    )
    composed = yaml.safe_load(done.stdout)
    assert (composed["answer"], composed["subtitles_file"]) == (None, None)


@pytest.mark.parametrize(
    ("word", "sweep", "value"),
    [
        ("benchmark.path=/données/日本.jsonl", False, "/données/日本.jsonl"),
        ("x=[été, 2, b]", False, ["été", 2, "b"]),
        ("x={n: 1, a: été}", False, {"n": 1, "a": "été"}),
        ("x='quoted é'", False, "quoted é"),
        ("x=plain", False, "plain"),
    ],
)
def test_letters_outside_ascii_need_no_quotes(word: str, sweep: bool, value: object) -> None:
    assert parsed(readable(word, sweep=sweep)) == value


def test_letters_outside_ascii_may_be_swept_over() -> None:
    (override,) = OverridesParser.create().parse_overrides([readable("x=été,hiver,日本", sweep=True)])
    assert [getattr(value, "text", value) for value in override.sweep_iterator()] == ["été", "hiver", "日本"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=a (1).jsonl", "a (1).jsonl"),
        ("x=[a=b, 'c']", ["a=b", "c"]),
        ("x={a: b=c, n: 2}", {"a": "b=c", "n": 2}),
        ("x=a: b, c", "a: b, c"),
    ],
)
def test_what_hydra_cannot_read_is_quoted_as_it_was_meant(word: str, value: object) -> None:
    assert parsed(quoted_override(word)) == value
