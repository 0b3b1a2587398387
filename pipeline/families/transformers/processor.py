"""Frames and words as inputs of one checkpoint, by its own processor. Holds no weights.

What a frame costs is measured: the processor is given two and three blank frames of its size. The length of a prompt is
that of its text and the costs of its frames, exactly, in every type that was tried. The pictures go through the
processor once for all questions about them: its text part runs again for each question, and its image part then gives
what it gave before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError, FramesError, PipelineError
from pipeline.families.transformers.bounds import USUAL_SIZE, FrameBounds, own_keywords
from pipeline.families.transformers.kind import Kind
from pipeline.families.transformers.loading import open_processor, picture_of
from pipeline.families.transformers.templates import ChatTemplate, Turn, open_template
from pipeline.families.transformers.thinking import Switch, ThinkingSettings, marks_of, switch_of
from pipeline.models.chat import special_tokens
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.remedies import restore

if TYPE_CHECKING:
    import torch
    from PIL import Image

_OF_FRAMES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What processors raise about pictures that they cannot take."""
_TRIED = Turn(("", ""), "", "?", None)


@dataclass(frozen=True)
class Pictures:
    """The frames of a set of questions, as the model takes them."""

    images: tuple[Image.Image, ...]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    """What the processor gives beside the text, by the name of the model's argument."""
    features: list[Any] = field(default_factory=list)
    """What its image part gave."""


@dataclass(frozen=True)
class NativeInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``."""
    per_token: Mapping[str, torch.Tensor]
    """``[L]`` each: which tokens are of a picture, for models that want to be told."""
    pixels: Pictures
    """The same object for all questions about the same frames."""
    frames_end: int
    """Tokens up to the last one of a picture, that one included."""


class _RemembersPictures:
    """An image processor that gives the features of a set of pictures again, where these are at hand."""

    def __init__(self, images: Any) -> None:
        self._images = images
        self._at_hand: Pictures | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = self._at_hand
        if known is None:
            return self._images(*args, **kwargs)
        if not known.features:
            known.features.append(self._images(*args, **kwargs))
        made = known.features[0]
        return type(made)(dict(made))  # processors take entries out of it

    def __getattr__(self, name: str) -> Any:
        if name == "_images":  # while a copy is made, before it has one
            raise AttributeError(name)
        return getattr(self._images, name)

    @contextmanager
    def holding(self, pictures: Pictures) -> Iterator[None]:
        self._at_hand = pictures
        try:
            yield
        finally:
            self._at_hand = None


class NativeProcessor:
    """One checkpoint's processor, with its template and what was measured of it.

    Args:
        checkpoint: whose files are read; no weights.
        kind: what it is.
        bounds: of frames.
        keywords: for the processor, as ``answerer.processor_kwargs`` has them.
        template: see :func:`pipeline.families.transformers.templates.open_template`.
        variables: for the template, beside the one for thinking.
        thinking: whether it is to think.
        system: the system turn of every prompt without one; None leaves it to the template.

    Raises:
        CheckpointError, ConfigError, MissingExtraError: it cannot be used as it is set.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        kind: Kind,
        bounds: FrameBounds,
        keywords: Mapping[str, Any],
        template: str | None,
        variables: Mapping[str, Any],
        thinking: ThinkingSettings,
        system: str | None,
    ) -> None:
        self.kind = kind
        self.bounds = bounds
        self.system = system
        self._source = checkpoint.source
        self._own = open_processor(checkpoint)
        self._images = _RemembersPictures(self._own.image_processor)
        self._lock = threading.RLock()
        self._extras: dict[tuple[int, int], int] = {}
        self._asked_keywords = dict(keywords)
        self._variables = dict(variables)
        self._template = self._opened(template)
        self.switch = self._switched(thinking)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's."""
        return self._own.tokenizer

    @property
    def template(self) -> ChatTemplate:
        """The checkpoint's."""
        return self._template

    @cached_property
    def markup(self) -> tuple[str, ...]:
        """Strings that must not stand in a question: control tokens, and what the template or processor writes."""
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        written = {token for token in added if token in self._template.source}
        return tuple(sorted(filter(None, {*special_tokens(self.tokenizer), *written, self._template.picture})))

    @cached_property
    def thought_marks(self) -> tuple[frozenset[int], frozenset[int]]:
        """Tokens that begin and that end thoughts."""
        return marks_of(self.tokenizer)

    @property
    def keywords(self) -> dict[str, Any]:
        """What the processor is given beside text and pictures."""
        return {**self.bounds.keywords(self.kind.model_type), **self._asked_keywords}

    def check(self) -> None:
        """Try the processor as a run will use it.

        Raises:
            CheckpointError, ConfigError: a keyword does nothing, or a frame takes more tokens than it may.
        """
        for name in self._asked_keywords:
            self._check_acts(name)
        self.frame_tokens(*USUAL_SIZE)

    def frame_tokens(self, height: int, width: int) -> int:
        """Tokens of a frame of so many pixels among others, without its label.

        Raises:
            CheckpointError: more than a frame may take; the error names what bounds it.
        """
        size = self.bounds.size(height, width)
        try:
            tokens = self._extra(size) + self._mark_tokens
        except FramesError:  # of this size none can be shown, which is the failure of the questions about such a video
            return self.frame_tokens(*USUAL_SIZE)
        if tokens <= self.bounds.max_tokens:
            return tokens
        own = own_keywords(self._own)
        keyword = f"; or a keyword of its own processor: +answerer.processor_kwargs.{own[0]}=..." if own else ""
        named = f" ({', '.join(own)})" if len(own) > 1 else ""
        raise CheckpointError(
            f"{self._source} makes {tokens} tokens of a frame of {width} x {height} pixels, more than the "
            f"{self.bounds.max_tokens} of answerer.frame.max_tokens.",
            f"{self._enough(size)}{keyword}{named}; or allow it: answerer.frame.max_tokens={tokens}",
        )

    def count(self, sizes: Sequence[tuple[int, int]], turn: Turn) -> int:
        """Tokens of the prompt with frames of these heights and widths; looks at no pixel."""
        text = self._text_tokens(self._rendered(turn))
        if len(sizes) == 1:
            return text + self._extra_alone(self.bounds.size(*sizes[0]))
        return text + self._offset + sum(self._extra(self.bounds.size(*size)) for size in sizes)

    def pictures(self, frames: Sequence[Frame]) -> Pictures:
        """The frames, prepared once for all questions about them."""
        from PIL import Image

        made = Pictures(tuple(self.bounds.scaled(Image.fromarray(frame.pixels)) for frame in frames))
        output = self._processed(self._rendered(Turn(("",) * len(frames), "", "?", None)), made)
        made.tensors.update({name: value for name, value in output.items() if not _is_of_text(name)})
        return made

    def encode(self, pictures: Pictures, turn: Turn) -> NativeInputs:
        """The inputs of one request."""
        prompt = self._rendered(turn)
        output = self._processed(prompt, pictures)
        ids = output["input_ids"][0]
        text = {name: value[0] for name, value in output.items() if _is_of_text(name) and name != "input_ids"}
        text.pop("attention_mask", None)  # all ones: nothing is padded
        if len(ids) + 1 > self.kind.context_tokens:
            raise FramesError(
                f"The processor made {len(ids)} tokens of the prompt, more than the {self.kind.context_tokens} of the "
                "model's context.",
                f"Show fewer frames: selection.budget={max(1, len(turn.before) // 2)}",
            )
        return NativeInputs(ids, text, pictures, self._frames_end(ids.tolist(), prompt))

    def render(self, turn: Turn) -> str:
        """The prompt with a mark for each picture."""
        return self._rendered(turn)

    def _opened(self, wanted: str | None) -> ChatTemplate:
        picture = picture_of(self._own)
        assert picture is not None
        template = open_template(self._own, wanted, picture, self._source)
        reads = template.reads
        for name in self._variables:
            if name not in reads:
                raise ConfigError(
                    f"answerer.template_variables.{name}: the chat template of {self._source} does not read it.",
                    f"It reads {', '.join(sorted(reads)) or 'none'}. Leave it out: ~answerer.template_variables.{name}",
                )
        return template

    def _switched(self, settings: ThinkingSettings) -> Switch:
        def render(variables: Mapping[str, Any]) -> str:
            asked = Turn(_TRIED.before, "", "?", self.system)
            return self._template.render(asked, {**self._variables, **variables})

        return switch_of(settings, self._template.reads, render, self._source)

    def _rendered(self, turn: Turn) -> str:
        system = self.system if turn.system is None else turn.system
        asked = Turn(turn.before, turn.after, turn.text, system, turn.begun)
        prompt = self._template.render(asked, {**self._variables, **self.switch.variables})
        found = prompt.count(self._template.picture)
        if found != len(turn.before):
            raise ConfigError(
                f"The prompt holds {self._template.picture} {found} times for {len(turn.before)} pictures.",
                f"Take {self._template.picture} out of the prompt texts in the YAML: it is written for each frame.",
            )
        return prompt

    def _processed(self, prompt: str, pictures: Pictures | None, keywords: Mapping[str, Any] | None = None) -> Any:
        """The processor's own output; never with a padded or cut prompt."""
        assert pictures is not None
        given = dict(self.keywords if keywords is None else keywords)
        bos = self.tokenizer.bos_token
        if bos is not None and prompt.startswith(bos):
            given["add_special_tokens"] = False  # as `apply_chat_template` of the processor does it
        with self._lock, self._images.holding(pictures):
            self._own.image_processor = self._images
            try:
                return self._own(text=[prompt], images=[list(pictures.images)], return_tensors="pt", **given)
            except _OF_FRAMES as error:
                raise self._fault(pictures, error) from error

    def _fault(self, pictures: Pictures, error: Exception) -> PipelineError:
        """Whether it is the frames that the processor cannot take, or it takes none."""
        sizes = sorted({f"{image.width} x {image.height}" for image in pictures.images})
        height, width = USUAL_SIZE
        if sizes == [f"{width} x {height}"] or not self._takes_usual_frames:
            return CheckpointError(
                f"{self._source} cannot be used: its processor fails with {type(error).__name__}: {error}.",
                restore("the processor and tokenizer files of the checkpoint"),
            )
        return FramesError(
            f"The processor of {self._source} does not take frames of {', '.join(sizes)} pixels: {error}.",
            "Leave the video out, or scale its frames: answerer.frame.max_side=...",
        )

    @cached_property
    def _takes_usual_frames(self) -> bool:
        try:
            self._surplus(USUAL_SIZE, 2)
        except PipelineError:
            return False
        return True

    def _text_tokens(self, prompt: str) -> int:
        bos = self.tokenizer.bos_token
        plain = bos is not None and prompt.startswith(bos)
        with self._lock:
            return len(self.tokenizer(prompt, add_special_tokens=not plain).input_ids)

    def _extra(self, size: tuple[int, int]) -> int:
        """Tokens that a frame adds to those of its mark in the rendered prompt."""
        if size not in self._extras:
            self._extras[size] = self._surplus(size, 3) - self._surplus(size, 2)
        return self._extras[size]

    @cached_property
    def _offset(self) -> int:
        """Tokens that the processor adds to a prompt once."""
        size = self.bounds.size(*USUAL_SIZE)
        return self._surplus(size, 2) - 2 * self._extra(size)

    def _extra_alone(self, size: tuple[int, int]) -> int:
        """The same for a single frame: LLaVA-OneVision cuts it into tiles, and no others."""
        key = (-size[0], -size[1])
        if key not in self._extras:
            self._extras[key] = self._surplus(size, 1)
        return self._extras[key]

    @cached_property
    def _mark_tokens(self) -> int:
        one, two = (self._rendered(Turn(("",) * count, "", "?", None)) for count in (1, 2))
        return self._text_tokens(two) - self._text_tokens(one)

    def _surplus(self, size: tuple[int, int], frames: int, keywords: Mapping[str, Any] | None = None) -> int:
        """How many tokens more than its rendered text a prompt with so many blank frames has."""
        from PIL import Image

        blanks = Pictures(tuple(Image.new("RGB", (size[1], size[0])) for _ in range(frames)))
        prompt = self._rendered(Turn(("",) * frames, "", "?", None))
        return len(self._processed(prompt, blanks, keywords)["input_ids"][0]) - self._text_tokens(prompt)

    def _enough(self, size: tuple[int, int]) -> str:
        """The override of ours that brings a frame of this size below the limit, as tried."""
        if self.bounds.tiles != "one":
            whole = FrameBounds(self.bounds.max_side, "one", self.bounds.max_tokens).keywords(self.kind.model_type)
            if whole and self._costs(size, {**whole, **self._asked_keywords}) <= self.bounds.max_tokens:
                return "Show each frame as one tile: answerer.frame.tiles=one"
        side = max(size) // 2
        while side >= 28:
            bounds = FrameBounds(side, self.bounds.tiles, self.bounds.max_tokens)
            if self._costs(bounds.size(*size), self.keywords) <= self.bounds.max_tokens:
                return f"Scale frames down: answerer.frame.max_side={side}"
            side //= 2
        return "Scaling frames down does not help with this type"

    def _costs(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        return self._surplus(size, 3, keywords) - self._surplus(size, 2, keywords) + self._mark_tokens

    def _check_acts(self, name: str) -> None:
        """A keyword that the processor does not know is ignored, so its effect is looked for."""
        from PIL import Image

        height, width = self.bounds.size(*USUAL_SIZE)
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        shown = (Image.fromarray(noise), Image.fromarray(noise[::-1].copy()))
        prompt = self._rendered(_TRIED)
        without = {key: value for key, value in self.keywords.items() if key != name}
        try:
            with_it = self._processed(prompt, Pictures(shown))
        except CheckpointError as error:
            raise ConfigError(
                f"answerer.processor_kwargs.{name}={self._asked_keywords[name]!r}: {error.problem}",
                f"Leave it out: ~answerer.processor_kwargs.{name}",
            ) from error
        if _equal(with_it, self._processed(prompt, Pictures(shown), without)):
            own = ", ".join(own_keywords(self._own)) or "none"
            raise ConfigError(
                f"answerer.processor_kwargs.{name}={self._asked_keywords[name]!r} changes nothing: the processor of "
                f"{self._source} does not know it, or has it so already.",
                f"Leave it out: ~answerer.processor_kwargs.{name}; keywords that bound its tokens: {own}",
            )

    def _frames_end(self, ids: Sequence[int], prompt: str) -> int:
        """Up to the last token of a picture: one that the processor names, or one that it put in."""
        named = {getattr(self._own, "image_token_id", None), *(getattr(self._own, "image_token_ids", None) or ())}
        if not named & set(ids):
            with self._lock:
                text = Counter(self.tokenizer(prompt, add_special_tokens=False).input_ids)
            named = {token for token, times in Counter(ids).items() if times > text[token]}
        return next((place + 1 for place in range(len(ids) - 1, -1, -1) if ids[place] in named), 0)


def _is_of_text(name: str) -> bool:
    """Whether an output of a processor goes with tokens."""
    return name in ("input_ids", "attention_mask") or name.endswith("token_type_ids")


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import torch

    def same(left: Any, right: Any) -> bool:
        if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
            return left.shape == right.shape and torch.equal(left, right)
        return bool(np.array_equal(np.asarray(left, dtype=object), np.asarray(right, dtype=object)))

    return set(one) == set(other) and all(same(value, other[name]) for name, value in one.items())
