"""Frames and words as inputs of one checkpoint, by its own processor. Holds no weights.

The pictures go through the processor once for all questions about them: its text part runs again for each question, and
its image part then gives what it gave before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError, FramesError, PipelineError
from pipeline.families.chat import check_placeholder, special_tokens
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.pixels import fixed_size
from pipeline.families.thinking import Switch, ThinkingSettings, switch_of
from pipeline.families.transformers.bounds import USUAL_SIZE, FrameBounds, check_acts, own_keywords
from pipeline.families.transformers.inputs import NativeInputs, Pictures, RemembersPictures, Shown, blanks, blanks_late
from pipeline.families.transformers.kind import Kind
from pipeline.families.transformers.loading import open_processor, picture_of
from pipeline.families.transformers.measures import Costs, ImageCosts, VideoCosts
from pipeline.families.transformers.templates import ChatTemplate, Turn, open_template
from pipeline.families.transformers.videos import NativeVideo, one_size, video_of

_OF_FRAMES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What processors raise about pictures that they cannot take."""


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is to be asked."""

    form: Literal["images", "video"]
    bounds: FrameBounds
    keywords: Mapping[str, Any]
    """For the processor, as ``answerer.processor_kwargs`` has them."""
    template: str | None
    """As :func:`pipeline.families.transformers.templates.open_template` takes it."""
    template_date: date
    """Today, to templates that write it."""
    variables: Mapping[str, Any]
    """For the template, beside the one for thinking."""
    thinking: ThinkingSettings
    system: str | None
    """The system turn of every prompt without one; None leaves it to the template."""


class NativeProcessor:
    """One checkpoint's processor, with its template and what was measured of it.

    Args:
        checkpoint: whose files are read; no weights.
        kind: what it is.
        settings: how it is to be asked.

    Raises:
        CheckpointError, ConfigError, MissingExtraError: it cannot be used as it is set.
    """

    def __init__(self, checkpoint: Checkpoint, kind: Kind, settings: Settings) -> None:
        self.kind = kind
        self.bounds = settings.bounds
        self._settings = settings
        self.source = checkpoint.source
        """For messages."""
        self.video: NativeVideo | None = None
        if settings.form == "video":
            self.video = video_of(kind.model_type, checkpoint.source)
        self._own = open_processor(checkpoint)
        part = "image_processor" if self.video is None else "video_processor"
        self._remembering = RemembersPictures(getattr(self._own, part))
        setattr(self._own, part, self._remembering)
        self._lock = threading.RLock()
        self._costs: Costs = ImageCosts(self) if self.video is None else VideoCosts(self)
        self.template = self._opened()
        self.switch = self._switched()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which belongs to this process."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make another lock in the other process."""
        vars(self).update(state, _lock=threading.RLock())

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's."""
        return self._own.tokenizer

    @cached_property
    def markup(self) -> tuple[str, ...]:
        """Strings that must not stand in a question: control tokens, and what the template or processor writes."""
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        written = {token for token in added if token in self.template.source}
        return tuple(sorted(filter(None, {*special_tokens(self.tokenizer), *written, self.template.picture})))

    @property
    def keywords(self) -> dict[str, Any]:
        """What the processor is given beside text and pictures."""
        whole = self.bounds.keywords(self.kind.model_type) if self.video is None else {}
        return {**whole, **self._settings.keywords}

    def check(self) -> None:
        """Try the processor as a run will use it.

        Raises:
            CheckpointError, ConfigError: a keyword does nothing, or a frame takes more tokens than it may.
        """
        for name in self._settings.keywords:
            self._check_acts(name)
        self.frame_tokens(*USUAL_SIZE)
        self.check_placeholder()

    def check_placeholder(self) -> None:
        """Check that the processor writes a token that the model takes for a picture.

        Raises:
            CheckpointError: ``config.json`` names others.
        """
        named = dict(self.kind.picture_tokens)
        if self.video is None:
            named.pop("video_token_id", None)
        ids = self.ids_of(blanks_late(self.bounds.size(*USUAL_SIZE), 2), self.keywords)
        if named and not set(named.values()) & set(ids):  # a video may be written as images
            key = next(iter(named)) if self.video is None else next(reversed(named))
            check_placeholder(self.tokenizer, self.template.picture, key, named[key], self.source)

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        """Tokens of a frame of so many pixels among others, without its label.

        Raises:
            CheckpointError: more than a frame may take; the error names what bounds it.
        """
        size = self.bounds.size(height, width, scale)
        try:
            tokens = self._costs.of_one(size)
        except FramesError:  # of this size none can be shown, which is the failure of the questions about such a video
            return self.frame_tokens(*USUAL_SIZE)
        if tokens <= self.bounds.max_tokens:
            return tokens
        own = own_keywords(self._own)
        keyword = (
            f" a keyword of its own processor: +answerer.processor_kwargs.{own[0]}=..." if own else " another model"
        )
        named = f" ({', '.join(own)})" if len(own) > 1 else ""
        enough_for_any = max(tokens, self._costs.most(size, self.keywords))
        enough = self._costs.enough(size, self.kind.model_type, self._settings.keywords)
        raise CheckpointError(
            f"{self.source} makes {tokens} tokens of a frame of {width} x {height} pixels, more than the "
            f"{self.bounds.max_tokens} of answerer.frame.max_tokens.",
            f"{enough}{keyword}{named}; or allow it: answerer.frame.max_tokens={enough_for_any}",
        )

    def check_scales(self, scales: Collection[float | None]) -> None:
        """Check that frames of these scales can be shown together, and that a scale does not only blur.

        Raises:
            FramesError: all frames take the same tokens, or a video would have frames of several sizes.
        """
        scaled = [scale for scale in scales if scale not in (None, 1.0)]
        if scaled and self._is_of_one_size:
            fixed_size(scaled[0], self.source)
        if scaled and self.video is not None:
            one_size([self.bounds.size(*USUAL_SIZE, scale) for scale in scales])

    @cached_property
    def _is_of_one_size(self) -> bool:
        """Whether a far smaller frame takes as many tokens; half the sides may exceed a processor's own bound, too."""
        height, width = self.bounds.size(*USUAL_SIZE)
        return self._costs.of_one((height // 8, width // 8)) == self._costs.of_one((height, width))

    def count(self, frames: Sequence[Frame], turn: Turn, video_end: float) -> int:
        """Tokens of the prompt with these frames; looks at no pixel.

        Raises:
            FramesError: the processor does not take frames of such a size.
        """
        self.check_scales(dict.fromkeys(frame.scale for frame in frames))
        shapes = [(frame.pixels.shape[0], frame.pixels.shape[1], frame.scale) for frame in frames]
        sizes = [self.bounds.size(*shape) for shape in shapes]
        times = tuple(frame.time for frame in frames)
        return self.text_tokens(self._rendered(turn)) + self._costs.of_all(sizes, times, video_end)

    def shown(self, frames: Sequence[Frame]) -> Shown:
        """The frames, scaled; they are prepared once for all questions about them.

        Raises:
            FramesError: they have several sizes, where they are to be one video.
        """
        from PIL import Image

        images = tuple(self.bounds.scaled(Image.fromarray(frame.pixels), frame.scale) for frame in frames)
        if self.video is not None:
            one_size([(image.height, image.width) for image in images])
        return Shown(images, tuple(frame.time for frame in frames))

    def encode(self, shown: Shown, turn: Turn, video_end: float) -> NativeInputs:
        """The inputs of one request.

        Args:
            shown: its frames.
            turn: its words.
            video_end: second at which the video ends, for types that tell it.

        Raises:
            FramesError: the processor does not take the frames.
        """
        pictures = self._pictures(shown, 0.0 if self.video is None else video_end)
        prompt = self._rendered(turn)
        output = self._processed(prompt, pictures, self.keywords)
        ids = output["input_ids"][0]
        # The attention mask is all ones, as nothing is padded.
        text = {name: output[name][0] for name in self._of_text if name not in ("input_ids", "attention_mask")}
        if len(ids) >= self.kind.context_tokens:
            raise FramesError(
                f"The processor made {len(ids)} tokens of the prompt, and the model's context has "
                f"{self.kind.context_tokens}.",
                f"Show fewer frames: selection.budget={max(1, len(pictures.images) // 2)}",
            )
        own = self._picture_tokens(ids.tolist(), prompt)
        last = max((place for place, token in enumerate(ids.tolist()) if token in own), default=-1)
        return NativeInputs(ids, text, pictures, last + 1, own)

    def plain_turn(self, frames: int) -> Turn:
        """A turn with so many frames and next to nothing beside them."""
        return Turn(("",) * frames if self.video is None else (), "", "?", None)

    def text_tokens(self, prompt: str) -> int:
        """Tokens of a rendered prompt that has a mark for each picture."""
        bos = self.tokenizer.bos_token
        plain = bos is not None and prompt.startswith(bos)
        with self._lock:
            return len(self.tokenizer(prompt, add_special_tokens=not plain).input_ids)

    def blank_prompt(self, frames: int) -> str:
        """As :class:`pipeline.families.transformers.measures.Runs` has it."""
        return self._rendered(self.plain_turn(frames))

    def ids_of(self, pictures: Pictures, keywords: Mapping[str, Any]) -> list[int]:
        """As :class:`pipeline.families.transformers.measures.Runs` has it."""
        prompt = self.blank_prompt(len(pictures.images))
        ids: list[int] = self._processed(prompt, pictures, keywords)["input_ids"][0].tolist()
        return ids

    @cached_property
    def _of_text(self) -> frozenset[str]:
        """Outputs that go with tokens and not with pictures: as long as the prompt, whatever the pictures are asked."""
        blank = blanks(self.bounds.size(*USUAL_SIZE), (0.0, 1.0), 2.0)
        short = self.plain_turn(2)
        made = []
        for turn in (short, replace(short, text="What is shown in the first picture, and what in the second?")):
            output = self._processed(self._rendered(turn), blank, self.keywords)
            length = len(output["input_ids"][0])
            shapes = {name: tuple(getattr(value, "shape", ()))[:2] for name, value in output.items()}
            made.append({name for name, shape in shapes.items() if shape == (1, length)})
        return frozenset(made[0] & made[1])

    def _pictures(self, shown: Shown, video_end: float) -> Pictures:
        if video_end not in shown.prepared:
            pictures = Pictures(shown.images, shown.times, video_end)
            output = self._processed(self.blank_prompt(len(shown.images)), pictures, self.keywords)
            pictures.tensors.update({name: value for name, value in output.items() if name not in self._of_text})
            shown.prepared[video_end] = pictures
        return shown.prepared[video_end]

    def _opened(self) -> ChatTemplate:
        picture = picture_of(self._own)
        assert picture is not None
        template = open_template(self._own, self._settings.template, picture, self._settings.template_date, self.source)
        if self.video is not None:
            template = replace(template, picture=str(self._own.video_token), is_video=True)
        reads = template.reads
        for name in self._settings.variables:
            if name not in reads:
                raise ConfigError(
                    f"answerer.template_variables.{name}: the chat template of {self.source} does not read it.",
                    f"It reads {', '.join(sorted(reads)) or 'none'}. Leave it out: ~answerer.template_variables.{name}",
                )
        return template

    def _switched(self) -> Switch:
        def render(variables: Mapping[str, Any]) -> str:
            asked = replace(self.plain_turn(2), system=self._settings.system)
            return self.template.render(asked, {**self._settings.variables, **variables})

        return switch_of(self._settings.thinking, self.template.reads, render, self.source)

    def _rendered(self, turn: Turn) -> str:
        asked = replace(turn, system=self._settings.system if turn.system is None else turn.system)
        prompt = self.template.render(asked, {**self._settings.variables, **self.switch.variables})
        wanted, mark = (len(turn.before) if self.video is None else 1), self.template.picture
        if prompt.count(mark) != wanted:
            raise ConfigError(
                f"The prompt holds {mark} {prompt.count(mark)} times, and there is room for {wanted}.",
                f"Take {mark} out of the prompt texts in the YAML; or name a template that writes it once for what is "
                "shown: answerer.template=FILE.jinja",
            )
        return prompt if self.video is None else self.video.in_prompt(prompt, mark)

    def _processed(self, prompt: str, pictures: Pictures, keywords: Mapping[str, Any]) -> Any:
        """The processor's own output, of a prompt that is neither padded nor cut."""
        given = dict(keywords)
        bos = self.tokenizer.bos_token
        if bos is not None and prompt.startswith(bos):
            given["add_special_tokens"] = False  # as `apply_chat_template` of the processor does it
        if self.video is None:
            given["images"] = [list(pictures.images)]
        else:
            given["videos"] = [[self.video.shown(pictures.images)]]
            given["video_metadata"] = [self.video.metadata(pictures.times, pictures.video_end)]
            given["do_sample_frames"] = False
        with self._lock, self._remembering.holding(pictures):
            try:
                return self._own(text=[prompt], return_tensors="pt", **given)
            except _OF_FRAMES as error:
                raise self._fault(pictures, error) from error

    def _fault(self, pictures: Pictures, error: Exception) -> PipelineError:
        """Whether it is the frames that the processor cannot take, or it takes none."""
        sizes = sorted({f"{image.width} x {image.height}" for image in pictures.images})
        height, width = USUAL_SIZE
        if sizes == [f"{width} x {height}"] or not self._takes_usual_frames:
            return CheckpointError(
                f"{self.source} cannot be used: its processor fails with {type(error).__name__}: {error}.",
                restore("the processor and tokenizer files of the checkpoint"),
            )
        return FramesError(
            f"The processor of {self.source} does not take frames of {', '.join(sizes)} pixels: {error}.",
            "Leave the video out, or scale its frames: answerer.frame.max_side=...",
        )

    @cached_property
    def _takes_usual_frames(self) -> bool:
        try:
            self.ids_of(blanks_late(USUAL_SIZE, 2), self.keywords)
        except PipelineError:
            return False
        return True

    def _check_acts(self, name: str) -> None:
        """A keyword that the processor does not know is ignored, so its effect is looked for."""
        from PIL import Image

        value, leave_out = self._settings.keywords[name], f"~answerer.processor_kwargs.{name}"
        height, width = self.bounds.size(*USUAL_SIZE)
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        images = (Image.fromarray(noise), Image.fromarray(noise[::-1].copy()))
        without = {key: given for key, given in self.keywords.items() if key != name}
        try:
            made, plain = (
                self._processed(self.blank_prompt(2), Pictures(images, (0.0, 1.0), 2.0), keywords)
                for keywords in (self.keywords, without)
            )
        except PipelineError as error:
            raise ConfigError(
                f"answerer.processor_kwargs.{name}={value!r}: {error.problem}", f"Leave it out: {leave_out}"
            ) from error
        check_acts(name, value, made, plain, own_keywords(self._own), self.source)

    def _picture_tokens(self, ids: Sequence[int], prompt: str) -> frozenset[int]:
        """The tokens of pictures: those that the processor names, or those that it put in."""
        names = ("image_token_id", "video_token_id")
        named = {getattr(self._own, name, None) for name in names}
        named |= {token for name in names for token in getattr(self._own, f"{name}s", None) or ()}
        if not named & set(ids):
            with self._lock:
                text = Counter(self.tokenizer(prompt, add_special_tokens=False).input_ids)
            named = {token for token, times in Counter(ids).items() if times > text[token]}
        return frozenset(token for token in named if token is not None)
