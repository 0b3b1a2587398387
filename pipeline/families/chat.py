"""How a user's turn is written: the times of its frames in words, the checkpoint's own chat template, and token ids.

A model gets the times by a text around each frame, or by one sentence about all. A prompt that was sent is text again,
with a mark in the place of each frame, such as ``<frame 3 at 12.5 s>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.known import restore
from pipeline.wellformed import loaded_object, well_formed_json

if TYPE_CHECKING:
    from pipeline.families.seam import Words

Content = Sequence[Mapping[str, Any]]
"""What one user turn holds, in order: ``{"type": "text", "text": ...}``, ``{"type": "image"}`` or ``"video"``."""

_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A tag that transformers adds to Jinja, for training."""
_RESTORE = restore("the tokenizer files of the checkpoint")
ORDER_ALONE = "not told: a video's frames in their order"
"""How a form that gives a video without times states the time."""
_LATE = 99999.9  # seconds; the longest label counts in the limits
_MANY = 9999
_LATEST = ",99999.99s"


def text(words: str) -> dict[str, Any]:
    """A piece of text."""
    return {"type": "text", "text": words}


IMAGE: Mapping[str, Any] = {"type": "image"}
VIDEO: Mapping[str, Any] = {"type": "video"}


@dataclass(frozen=True)
class FrameLabels:
    """The text around each frame that is shown as an image: true for any model and any spacing."""

    label: str
    """Text before an image; ``{time}`` is its second, as in ``{time:.1f}s: ``. Empty: no time is given."""
    after: str
    """Text after an image."""

    slots: ClassVar[str] = "Its only slot is {time}: \"answerer.images.label='{time:.1f}s: '\""

    def __post_init__(self) -> None:
        try:
            self.before(0.0)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            problem = f"answerer.images.label={self.label!r} cannot be filled in: {error}."
            raise ConfigError(problem, self.slots) from error

    def before(self, time: float, number: int = 1) -> str:
        """The text before an image.

        Args:
            time: its second.
            number: its place among the frames, from 1.
        """
        return self.label.format(time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        if self.before(0.0) == self.before(_LATE):
            return "not told: images in their order"
        return f"text before each image: {self.before(12.5)!r}"

    def most_tokens(self) -> int:
        """The most tokens of a frame's label: a byte-level tokenizer makes at most one of each byte."""
        return len((self.before(_LATE, _MANY) + self.after).encode())


@dataclass(frozen=True)
class FrameLines(FrameLabels):
    """Labels that may also number the frames, ``{frame}`` from 1."""

    slots: ClassVar[str] = "Its slots are {frame} and {time}: \"answerer.images.label='Frame{frame} ({time:.1f}s): '\""

    def before(self, time: float, number: int = 1) -> str:
        """The text before the image of this number and second."""
        return self.label.format(frame=number, time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        told = super().time_told()
        return f"not told: {self.before(12.5)!r} before the first image" if told.startswith("not told") else told


def labelled_images(labels: FrameLabels, frames: Sequence[Frame], words: Words) -> list[Mapping[str, Any]]:
    """Content of a turn: for each frame the text before it, an image, and the text after it."""
    return [
        part
        for number, (before, frame) in enumerate(zip(words.before(frames), frames, strict=True), start=1)
        for part in (text(before + labels.before(frame.time, number)), IMAGE, text(labels.after))
    ]


TimeInstruction = Literal["official", "selected", "none"]

_SAMPLED: dict[TimeInstruction, str] = {"official": "uniformly sampled", "selected": "sampled"}


@dataclass(frozen=True)
class TimeSentence:
    """The seconds of a video's frames in words, between the video and the question.

    ``official`` is the sentence of LLaVA-Video's training data and the paper's evaluation; it says that the frames are
    uniformly sampled, which a selection is not. ``selected`` is the same sentence without that word. ``none`` tells no
    times.

    Source: ``docs/LLaVA_Video_1003.md`` of github.com/LLaVA-VL/LLaVA-NeXT.
    """

    kind: TimeInstruction

    def before_question(self, frames: Sequence[Frame], video_end: float) -> str:
        """The sentence in a line of its own; empty where no times are given.

        Args:
            frames: in order of time.
            video_end: second at which the video's last frame leaves the screen.
        """
        if self.kind == "none":
            return ""
        # No space after the full stop: so it stands in the authors' code.
        return (
            f"The video lasts for {video_end:.2f} seconds, and {len(frames)} frames are "
            f"{_SAMPLED[self.kind]} from it. These frames are located at "
            f"{','.join(f'{frame.time:.2f}s' for frame in frames)}.Please answer the following questions related to "
            "this video.\n"
        )

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        if self.kind == "none":
            return f"{ORDER_ALONE} (time_instruction=none)"
        words = f"frames are {_SAMPLED[self.kind]} ... located at 0.00s,12.50s"
        return f"text before the question: {words!r} (time_instruction={self.kind})"

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels: one for each byte."""
        return 0 if self.kind == "none" else len(_LATEST)


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer, padding on the left, with the template that its processor would use.

    Some repositories keep a text-only template in the tokenizer and the one that knows pictures in
    ``chat_template.json``; the latter is what the authors' processor takes.

    Raises:
        CheckpointError: there is no tokenizer in the folder, or it cannot be read.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        # Transformers would make an empty tokenizer out of config.json and say nothing.
        raise CheckpointError(f"{folder} has no tokenizer.json, vocab.json or tokenizer.model.", _RESTORE)
    try:
        tokenizer = read_tokenizer(folder)
        template = folder / "chat_template.json"
        if template.is_file():
            tokenizer.chat_template = loaded_object(template.read_text(encoding="utf-8"))["chat_template"]
    except BaseException as error:  # the tokenizers library raises nothing narrower, and its panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}", _RESTORE) from error
    tokenizer.padding_side = "left"
    return tokenizer


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder as its files describe it.

    ``tokenizer.json`` is complete in itself. Without it the class is the one that ``tokenizer_config.json`` names:
    transformers would go by ``model_type`` in ``config.json``, and for the raw LLaVA's ``llava`` it takes a class that
    cannot read Qwen2's files.

    Raises:
        OSError, ValueError: a file is missing, or is not what it should be.
    """
    import transformers

    words, config = folder / "vocab.json", folder / "tokenizer_config.json"
    kind: Any = transformers.AutoTokenizer
    from_parts = words.is_file() and not (folder / "tokenizer.json").is_file()
    if from_parts:
        for part in (folder / "merges.txt", config):
            if not part.is_file():
                raise ValueError(f"it consists of vocab.json, without tokenizer.json and without {part.name}")
        named = loaded_object(config.read_text(encoding="utf-8")).get("tokenizer_class")
        kind = getattr(transformers, str(named), kind)
    # A config of its own keeps transformers from reading config.json, which it would read as any model's.
    alone = {"config": transformers.PreTrainedConfig()} if kind is transformers.AutoTokenizer else {}
    tokenizer = kind.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True, **alone)
    if from_parts:
        numbers = tokenizer.get_vocab()
        for token, number in loaded_object(words.read_text(encoding="utf-8")).items():
            if numbers.get(token) != number:
                raise ValueError(f"{kind.__name__} gives {token!r} number {numbers.get(token)}, vocab.json {number}")
    return tokenizer


def render_chat(
    tokenizer: Any,
    content: Content,
    system: str | None = None,
    begun: str = "",
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The prompt of one user turn, up to the point where the model's answer begins, or goes on.

    Args:
        tokenizer: the checkpoint's tokenizer or processor, with its chat template.
        content: the turn. Each picture becomes the template's placeholder.
        system: the system turn; None leaves it to the template.
        begun: how the answer begins already.
        variables: that the template reads.

    Raises:
        CheckpointError: the checkpoint has no chat template, or none that shows the system turn.
    """
    turns: list[dict[str, Any]] = []
    if system is not None:
        turns.append({"role": "system", "content": [text(system)]})
    turns.append({"role": "user", "content": [dict(part) for part in content]})
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            "The checkpoint has no chat template, so the form of its prompts is unknown.",
            "Take an instruction-tuned checkpoint (its name ends in -Instruct or -Chat), or add chat_template.jinja "
            "to its folder.",
        )
    try:
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **(variables or {}))
    except Exception as error:  # a template is a program, and raises anything
        raise unusable_template(error) from error
    assert isinstance(prompt, str)
    if system is not None and system.strip() not in prompt:
        raise CheckpointError(
            "The checkpoint's chat template leaves out the system turn.",
            "Take a prompt without one: answerer.prompt.system=null, and answerer.system=null where it is set.",
        )
    return prompt + begun


def variables_read(template: str) -> frozenset[str]:
    """The variables that a chat template takes from outside.

    Raises:
        CheckpointError: it is not a Jinja template.
    """
    from jinja2 import Environment, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(_GENERATION.sub("", template))))
    except Exception as error:  # numbers of thousands of digits, brackets in thousands
        raise unusable_template(error) from error


def unusable_template(error: Exception) -> CheckpointError:
    """A chat template that cannot be filled in, and why."""
    return CheckpointError(
        f"The checkpoint's chat template cannot be filled in: {error}.", restore("the chat template of the checkpoint")
    )


@dataclass(frozen=True)
class AddedToken:
    """An entry of ``added_tokens_decoder``."""

    content: str
    lstrip: bool | None = None
    rstrip: bool | None = None


@dataclass(frozen=True)
class TokenizerSettings:
    """What ``tokenizer_config.json`` says of tokens, for the tokenizers that transformers no longer has."""

    added_tokens_decoder: dict[Annotated[int, Field(ge=0, lt=2**31)], AddedToken] | None = None
    additional_special_tokens: list[str | AddedToken] | None = None
    bos_token: str | AddedToken | None = None
    eos_token: str | AddedToken | None = None
    unk_token: str | AddedToken | None = None
    pad_token: str | AddedToken | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    legacy: bool | None = None
    chat_template: Any = None

    def token(self, key: str) -> str:
        """The text of ``bos_token`` and the like; empty where there is none."""
        return token_text(getattr(self, key))


_SETTINGS = TypeAdapter(TokenizerSettings)


def token_text(token: str | AddedToken | None) -> str:
    """As :meth:`TokenizerSettings.token`."""
    return token.content if isinstance(token, AddedToken) else token or ""


def tokenizer_settings(folder: Path) -> TokenizerSettings:
    """The settings in a folder.

    Raises:
        CheckpointError: they are missing or cannot be read.
    """
    path = folder / "tokenizer_config.json"
    try:
        return _SETTINGS.validate_python(well_formed_json(loaded_object(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", _RESTORE) from error


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The strings that the tokenizer reads as control tokens anywhere.

    In a user's text ``<|image_pad|>`` would ask for a picture that is not there, and ``<|im_end|>`` would end the turn.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special.update(tokenizer.all_special_tokens)
    return tuple(sorted(filter(None, special)))


def check_placeholder(tokenizer: Any, word: str, key: str, named: Any, source: str) -> None:
    """Check that ``config.json`` and tokenizer mean the same token where pictures stand.

    Args:
        tokenizer: the checkpoint's.
        word: what stands for a picture in the prompt.
        key: of ``config.json``, which holds its number.
        named: what ``config.json`` has there, or what an absent key means.
        source: of the checkpoint, for the error.

    Raises:
        CheckpointError: they do not, and the model would find no picture in its prompt.
    """
    found = tokenizer.convert_tokens_to_ids(word)
    if named != found:
        raise CheckpointError(
            f"config.json of {source} has {key}={named!r}, and its tokenizer's {word} is {found!r}.",
            restore("config.json and the tokenizer files of the checkpoint"),
        )


def expanded(tokenizer: Any, prompt: str, pictures: Mapping[str, Sequence[int]]) -> list[int]:
    """The prompt's tokens, each placeholder as often as its picture has tokens.

    Args:
        tokenizer: the checkpoint's.
        prompt: what :func:`render_chat` gave: one placeholder a picture.
        pictures: for each placeholder the tokens of its pictures, in their order.

    Raises:
        ConfigError: the prompt has more placeholders than pictures.
        CheckpointError: it has fewer: the chat template leaves some out.
    """
    ids: list[int] = tokenizer(prompt, add_special_tokens=False).input_ids
    for placeholder, lengths in pictures.items():
        token = tokenizer.convert_tokens_to_ids(placeholder)
        found = ids.count(token)
        problem = f"The prompt holds {placeholder} {found} times for {len(lengths)} pictures."
        if found > len(lengths):
            raise ConfigError(
                problem, f"Take {placeholder} out of the prompt texts in the YAML: it is written for each frame."
            )
        if found < len(lengths):
            raise CheckpointError(problem, restore("the chat template of the checkpoint's family"))
        repeats = iter(lengths)
        ids = [copy for word in ids for copy in ([word] * next(repeats) if word == token else [word])]
    return ids


def frame_mark(frames: range, times: Sequence[float]) -> str:
    """What stands in the place of frames that are shown as one picture.

    Args:
        frames: their places among all, from 0.
        times: seconds of all.
    """
    first, last = frames[0], frames[-1]
    if first == last:
        return f"<frame {first + 1} at {_second(times[first])} s>"
    return f"<frames {first + 1} to {last + 1} at {_second(times[first])} to {_second(times[last])} s>"


def marked_text(
    ids: Sequence[int],
    is_picture: Collection[int],
    marks: Sequence[tuple[str, int]],
    decode: Callable[[list[int]], str],
) -> str:
    """The text of a prompt with a mark for each picture.

    Args:
        ids: of the whole prompt.
        is_picture: the ids of which pictures consist.
        marks: of each picture in order, with the number of ids that it covers.
        decode: gives the text of ids.
    """
    parts: list[str] = []
    begin = place = 0
    for mark, tokens in marks:
        while place < len(ids) and ids[place] not in is_picture:
            place += 1
        parts += [decode(list(ids[begin:place])), mark]
        begin = place = place + tokens
    return "".join([*parts, decode(list(ids[begin:]))])


def _second(time: float) -> str:
    return f"{time:.2f}".rstrip("0").rstrip(".")
