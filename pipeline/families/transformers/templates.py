"""A checkpoint's chat template: which one, whether it keeps the order of text and pictures, and what it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import IMAGE, VIDEO, text, unusable_template, variables_read
from pipeline.families.known import restore
from pipeline.paths import local_path

_CLOCK = re.compile(r"""\bstrftime_now\(\s*(?:"([^"]*)"|'([^']*)')\s*\)""")
"""What transformers offers to templates under this name tells the machine's clock."""
_MARKS = ("first-mark", "second-mark", "third-mark")


@dataclass(frozen=True)
class Turn:
    """What one request puts into the prompt, without the pictures themselves."""

    before: tuple[str, ...]
    """Text before each picture; empty for a video."""
    after: str
    """Text after each picture."""
    text: str
    """Question, options and instruction."""
    system: str | None
    """The system turn; None leaves it to the template."""
    begun: str = ""
    """How the answer begins already."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the processor that fills it in."""

    processor: Any
    source: str
    """Jinja."""
    picture: str
    """What stands for a picture in the rendered prompt, and how often it is written decides what the processor does."""
    user_as: Literal["blocks", "inline", "string"] = "blocks"
    """``inline``: the template puts all pictures ahead of the text, so each mark is written into the text where it
    belongs; ``string``: likewise, and the template knows no blocks."""
    system_as: Literal["blocks", "string"] | None = "blocks"
    """How a system turn is put; None: the template leaves it out."""
    is_video: bool = False
    """The pictures are one video, ahead of the text."""

    @cached_property
    def reads(self) -> frozenset[str]:
        """The variables that the template takes from outside.

        Raises:
            CheckpointError: it is no Jinja.
        """
        return variables_read(self.source)

    def render(self, turn: Turn, variables: Mapping[str, Any]) -> str:
        """The prompt up to where the model's answer begins, or goes on; a mark stands for each picture.

        Raises:
            CheckpointError: the template cannot be filled in, or leaves out the system turn.
        """
        turns: list[dict[str, Any]] = []
        if turn.system is not None:
            if self.system_as is None:
                raise CheckpointError(
                    "The checkpoint's chat template leaves out the system turn.",
                    "Take a prompt without one: answerer.prompt.system=null answerer.system=null",
                )
            put = [text(turn.system)] if self.system_as == "blocks" else turn.system
            turns.append({"role": "system", "content": put})
        turns.append({"role": "user", "content": self._content(turn)})
        return _filled(self.processor, self.source, turns, variables) + turn.begun

    def _content(self, turn: Turn) -> list[dict[str, Any]] | str:
        if self.is_video:
            return [dict(VIDEO), text(turn.text)]
        if self.user_as != "blocks":
            shown = "".join(f"{before}{self.picture}{turn.after}" for before in turn.before) + turn.text
            return shown if self.user_as == "string" else [text(shown)]
        parts: list[dict[str, Any]] = []
        words = ""
        for before in turn.before:
            if words + before:
                parts.append(text(words + before))
            parts.append(dict(IMAGE))
            words = turn.after
        return [*parts, text(words + turn.text)]


def open_template(processor: Any, wanted: str | None, picture: str, today: date, source: str) -> ChatTemplate:
    """The template, tried with three texts and three pictures.

    Args:
        processor: the checkpoint's.
        wanted: a name among several, or the path of a Jinja file; None takes the checkpoint's.
        picture: the processor's mark of a picture.
        today: the date to templates that write it, so that the same prompt is asked on any day.
        source: of the checkpoint, for messages.

    Raises:
        CheckpointError: there is none, or it does not show pictures in their places.
        ConfigError: there are several, and none is named or the default.
    """
    found = _CLOCK.sub(partial(_dated, today), _chosen(processor, wanted, source))
    if "strftime_now(" in found:
        raise CheckpointError(
            f"The chat template of {source} writes the time in a way of its own, so each day has other prompts.",
            "Name a file with a template that does not: answerer.template=FILE.jinja",
        )
    ways: tuple[Literal["blocks", "inline", "string"], ...] = ("blocks", "inline", "string")
    for way in ways:
        template = ChatTemplate(processor, found, picture, way)
        if _keeps_order(template):
            return replace(template, system_as=_system_as(template))
    raise CheckpointError(
        f"The chat template of {source} does not write {picture} where a picture belongs.",
        restore("the chat template of the checkpoint"),
    )


def _dated(today: date, call: re.Match[str]) -> str:
    return json.dumps(today.strftime(call[1] if call[1] is not None else call[2]))


def template_file(wanted: str | None) -> Path | None:
    """The file that ``answerer.template`` names; None where it names a template of the checkpoint."""
    if wanted is None or not wanted.endswith((".jinja", ".jinja2")):
        return None
    path = local_path(wanted)
    if not path.is_file():
        raise ConfigError(
            f"answerer.template={wanted} is no file.", "Correct the path, or answerer.template=null for the own one."
        )
    return path


def _chosen(processor: Any, wanted: str | None, source: str) -> str:
    path = template_file(wanted)
    if path is not None:
        return path.read_text(encoding="utf-8")
    found = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    if not found:
        raise CheckpointError(
            f"{source} has no chat template, so the form of its prompts is unknown.",
            "Take an instruction-tuned checkpoint (its name often ends in -Instruct, -it or -Chat), or name a Jinja "
            "file with its template: answerer.template=FILE.jinja",
        )
    if isinstance(found, str):
        if wanted not in (None, "default"):
            raise ConfigError(
                f"answerer.template={wanted}: {source} has one template, and it has no name.",
                "Take it: answerer.template=null",
            )
        return found
    name = wanted or "default"
    if name not in found:
        names = ", ".join(sorted(found))
        problem = f"no template {wanted}, only" if wanted else "several templates, and none is the default:"
        raise ConfigError(f"{source} has {problem} {names}.", f"Name one: answerer.template={sorted(found)[0]}")
    return str(found[name])


def _keeps_order(template: ChatTemplate) -> bool:
    """Whether the prompt has mark, picture, mark, picture, mark, picture in this order, and no other picture."""
    try:
        prompt = template.render(Turn(_MARKS, "", "last-mark", None), {})
    except CheckpointError:
        if template.user_as == "string":
            raise
        return False
    if _shows_blocks(prompt):
        return False
    wanted = [part for mark in _MARKS for part in (mark, template.picture)]
    place = 0
    for part in (*wanted, "last-mark"):
        place = prompt.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return prompt.count(template.picture) == len(_MARKS)


def _system_as(template: ChatTemplate) -> Literal["blocks", "string"] | None:
    """In which form a system turn comes into the prompt as it is."""
    ways: tuple[Literal["blocks", "string"], ...] = ("blocks", "string")
    for way in ways:
        asked = Turn(("",) * 2, "", "?", "system-mark")
        try:
            prompt = replace(template, system_as=way).render(asked, {})
        except CheckpointError:
            continue
        if "system-mark" in prompt and not _shows_blocks(prompt):
            return way
    return None


def _shows_blocks(prompt: str) -> bool:
    """Whether a template that takes text was given blocks, and wrote them as Python does."""
    return "'type'" in prompt or '"type"' in prompt


def _filled(processor: Any, source: str, turns: Sequence[Any], variables: Mapping[str, Any]) -> str:
    try:
        prompt = processor.apply_chat_template(
            list(turns), chat_template=source, tokenize=False, add_generation_prompt=True, **variables
        )
    except Exception as error:  # a template is a program, and raises anything
        raise unusable_template(error) from error
    assert isinstance(prompt, str)
    return prompt
