"""What libraries say stands in gens.log; standard error holds progress and our own words."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest
from command_line import gens_apart

PROGRESS = re.compile(r"[\w ,()]+: \d+/\d+, [\d:]+ elapsed(, about [\d:]+ left)?|sampler, windows: \d+ \w+(, \d+ \w+)*")

TALKATIVE = """
    import logging
    import warnings
    from dataclasses import dataclass

    from pipeline.samplers.uniform import UniformSampler

    @dataclass(frozen=True)
    class Talkative(UniformSampler):
        '''Its libraries say something before, while and after they are imported.'''

        def score(self, video, frames, questions):
            logging.getLogger("transformers.early").warning("transformers before its import")
            import huggingface_hub, torch, transformers
            transformers.logging.get_logger("transformers.models").warning("transformers after its import")
            logging.getLogger("huggingface_hub.file_download").warning("the hub says")
            logging.getLogger("httpx").info("a request was sent")
            logging.getLogger("somebody.else").error("another library fails")
            try:
                raise ValueError("refused: sk-0123456789abcdefghij")
            except ValueError:
                logging.getLogger("openai").exception("sent api-key: sk-abcdefghij0123456789")
            warnings.warn("old keyword", FutureWarning)
            logging.getLogger("pipeline.samplers").warning("ours is told too")
            logging.getLogger("pipeline.samplers").info("ours is noted")
            return super().score(video, frames, questions)
"""
SAID = (
    *("transformers before its import", "transformers after its import", "the hub says", "a request was sent"),
    *("another library fails", "FutureWarning: old keyword", "ours is told too", "ours is noted"),
)


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Standard output and error and the log of a run whose libraries say a lot."""
    folder = tmp_path_factory.mktemp("talked")
    (folder / "talkative.py").write_text(textwrap.dedent(TALKATIVE))
    done = gens_apart(
        *("sample", "benchmark=micro", "benchmark.videos=1", "benchmark.max_minutes=3.0", "limit=1"),
        *("sampler=uniform", "sampler._target_=talkative.Talkative", "plugins=[talkative]"),
        cwd=folder,
        PYTHONPATH=os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        GENS_PLUGINS="talkative",
    )
    assert done.returncode == 0, done.stderr
    (log,) = folder.glob("runs/*/gens.log")
    return done.stdout, done.stderr, log.read_text()


def test_the_log_holds_what_was_said(talked: tuple[str, str, str]) -> None:
    for words in SAID:
        assert words in talked[2]


def test_the_log_holds_no_secret(talked: tuple[str, str, str]) -> None:
    """Neither in a message nor in a traceback."""
    assert "sent api-key: (hidden)" in talked[2]
    assert "ValueError: refused: (hidden)" in talked[2]
    assert "sk-" not in talked[2]


def test_the_terminal_shows_progress_and_our_own_words(talked: tuple[str, str, str]) -> None:
    out, err, _ = talked
    assert not [words for words in SAID if words in out]
    other = [line for line in err.splitlines() if not PROGRESS.fullmatch(line)]
    assert set(other) == {"ours is told too"}


def test_standard_error_of_a_run_with_models_is_progress_alone(tmp_path: Path) -> None:
    """The stages of the demo, on fewer questions."""
    done = gens_apart(
        *("evaluate", "benchmark=micro", "benchmark.videos=1", "benchmark.max_minutes=3.0", "limit=1"),
        *("sampler=gens_micro", "answerer=qwen2_vl_micro"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not PROGRESS.fullmatch(line)]
