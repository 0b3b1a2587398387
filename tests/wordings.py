"""The named prompts of conf/answerer/prompt, as an answerer gets them."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_dir

from pipeline.answerers.prompts import AnswerPrompt
from pipeline.config import build, conf_dir


def wording(name: str = "letter", *overrides: str) -> AnswerPrompt:
    """A prompt by its name; ``overrides`` as on the command line, ``answerer.prompt.free=...``."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/prompt/{name}", list(overrides))
    made: Any = build(config.answerer.prompt, "answerer.prompt")
    assert isinstance(made, AnswerPrompt)
    return made
