"""``gens ask`` with a file of subtitles and a named prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir
from made import write_video
from rows_on_disk import rows_of

from pipeline.artefacts.rows import AnswerRow
from pipeline.commands.ask import question_from
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Subtitles
from pipeline.errors import ConfigError

WORDS = ("ask", "video=clip.mp4", "question=what is it, then?", "options=[red, blue]", "sampler=uniform")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "clip, en.srt").write_text("1\n00:00:00,000 --> 00:00:05,000\nhello\n")
    return tmp_path


def test_subtitles_and_a_begun_answer(home: Path) -> None:
    named = ("answerer=qwen2_vl_micro", "answerer/prompt=mlvu_official", "subtitles=full")
    asked = gens(*WORDS, *named, "subtitles_file=clip, en.srt", cwd=home)
    assert asked.returncode in (0, 1), asked.stderr
    [answers] = home.glob("runs/ask-*/answers.jsonl")
    [row] = rows_of(AnswerRow, answers)
    assert row.answer.form.endswith("; subtitles full: 1 line")
    assert row.question.subtitles == Subtitles("clip, en.srt")


def test_a_sampler_of_subtitles_needs_none_for_the_answerer() -> None:
    register_resolvers()
    given = ["video=clip.mp4", "question=what?", "subtitles_file='clip, en.srt'"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        spoken, seen = (compose("ask", [*given, f"sampler={name}"]) for name in ("subtitles", "uniform"))
    assert question_from(spoken, build(spoken.sampler, "sampler")).subtitles == Subtitles("clip, en.srt")
    with pytest.raises(ConfigError, match="do not go together"):
        question_from(seen, build(seen.sampler, "sampler"))


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (("subtitles=full",), "do not go together", "subtitles_file=FILE.srt"),
        (("subtitles=frames", "subtitles_file=clip, en.srt"), "subtitles=frames: no such choice", "at_frames"),
        (
            (
                "subtitles=full",
                "subtitles_file=clip, en.srt",
                "answerer=llava_video_7b",
                "answerer/prompt=longvideobench_official",
            ),
            "between the frames",
            "answerer/prompt=videomme_official",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    words: tuple[str, ...], problem: str, remedy: str, home: Path
) -> None:
    asked = gens(*WORDS, *words, cwd=home)
    assert asked.returncode == 2
    assert problem in asked.stderr
    assert remedy in asked.stderr
