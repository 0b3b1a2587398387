"""What a model family brings: a processor, which needs no weights, and a model. Both stages use the same two objects.

GenS, the yes/no sampler and the answerer on a Qwen checkpoint share one Qwen processor and one Qwen model. The
processor may run in a worker process: it can be pickled, and preparing frames imports numpy and PIL alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import ConfigError, FramesError
from pipeline.families.chat import Content, frame_mark, marked_text
from pipeline.generation.cached_reading import read_with_cache

if TYPE_CHECKING:
    import torch
    from transformers import Cache

    from pipeline.generation.row_buffers import KeptBuffers
    from pipeline.generation.shared_prefix import Prefix

Pixels = npt.NDArray[np.uint8]
"""RGB ``[height, width, 3]``."""


@dataclass(frozen=True)
class FrameShape:
    """What a frame becomes in a family's hands; known before its pixels are touched."""

    height: int
    """Pixels that the vision tower sees."""
    width: int
    patches: int
    """Inputs of the vision tower."""
    tokens: int
    """Positions that the frame fills in the prompt."""


@dataclass(frozen=True)
class PreparedFrame:
    """A frame after the family's exact resize. The model normalises it and cuts it into patches on its device."""

    pixels: Pixels
    shape: FrameShape


@dataclass(frozen=True)
class Words:
    """The text of one request: what goes after the frames, and around them."""

    text: str
    """After the frames: question, options and instruction."""
    system: str | None = None
    """The system turn; None leaves it to the answerer."""
    begun: str = ""
    """The beginning of the answer, which the model continues."""
    between: tuple[str, ...] = ()
    """Subtitles before each frame and its label; empty where there are none."""
    video_end: float = 0.0
    """Second at which the video's last frame leaves the screen, for forms that tell it."""

    def before(self, frames: Sequence[Frame]) -> tuple[str, ...]:
        """The text before each of the frames."""
        return self.between or ("",) * len(frames)

    def system_or(self, own: str | None) -> str | None:
        """The system turn, ``own`` where the prompt has none."""
        return own if self.system is None else self.system

    def of_last(self, frames: int) -> Words:
        """The words of only the last ``frames`` frames."""
        return replace(self, between=self.between[-frames:])

    @property
    def in_one(self) -> str:
        """The text, for a form of frames that has no place for words between them.

        Raises:
            ConfigError: there is text that belongs there.
        """
        if any(self.between):
            raise text_between_frames()
        return self.text


def text_between_frames() -> ConfigError:
    """Subtitles were asked for between frames, where this form has no place for words."""
    return ConfigError(
        "this prompt puts subtitles between the frames (answerer.prompt.subtitles.placement=between_frames), and this "
        "answerer shows the frames as one video",
        "show them as images where the answerer can: answerer.form=images; or take a prompt with the subtitles before "
        "the question: answerer/prompt=videomme_official",
    )


@dataclass(frozen=True)
class Turn:
    """One user turn before it is rendered."""

    content: Content
    """Text and pictures, in order."""
    system: str | None = None
    """The system turn; None leaves it to the checkpoint's template."""
    begun: str = ""
    """The beginning of the answer."""

    def system_or(self, own: str | None) -> str | None:
        """The system turn, ``own`` where this has none."""
        return own if self.system is None else self.system


@dataclass(frozen=True)
class Prompt:
    """One request as the model gets it, not padded."""

    input_ids: npt.NDArray[np.int64]
    """``[L]``; a picture's placeholder stands as often as the picture has tokens."""
    frames: tuple[PreparedFrame, ...]
    """In order. Prompts that hold the same tuple show the same frames."""
    frames_end: int
    """Tokens up to the last one of a picture, that one included."""
    times: tuple[float, ...] = ()
    """Seconds of the frames."""
    pictures: tuple[int, ...] = ()
    """Tokens of each picture; several frames may be one."""

    @property
    def tokens(self) -> int:
        """Length of the prompt."""
        return len(self.input_ids)

    @property
    def patches(self) -> int:
        """Inputs of the vision tower, over all frames."""
        return sum(frame.shape.patches for frame in self.frames)


class Form(Protocol):
    """How an answerer's frames and their times are put to the model."""

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The user's turn: the frames in order of time, then the words."""
        ...

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Tokens of each picture of the turn.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        ...

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels."""
        ...


SomeForm = TypeVar("SomeForm", bound=Form)


@dataclass(frozen=True)
class Processor(ABC, Generic[SomeForm]):
    """Turns frames and words into the inputs of one checkpoint. Holds a tokenizer and no weights."""

    tokenizer: Any
    """With ``decode`` and ``eos_token_id``."""
    context_tokens: int
    """Positions for prompt and answer together."""
    form: SomeForm

    @property
    @abstractmethod
    def markup(self) -> Sequence[str]:
        """Strings that the model reads as markup, so that they must not occur in a question."""

    @property
    @abstractmethod
    def smaller(self) -> Sequence[str]:
        """Settings by which a frame takes fewer tokens, as in ``max_pixels=50176``; empty where there are none."""

    @abstractmethod
    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """What a frame of ``height`` x ``width`` pixels becomes.

        Args:
            height: as decoded.
            width: likewise.
            scale: factor on each side before the family's own resize.

        Raises:
            FramesError: the family cannot take such a frame.
        """

    @abstractmethod
    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """The pixels of a frame in the given shape, exactly as the family's authors resize them."""

    @abstractmethod
    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """Token ids of a whole prompt.

        Args:
            turn: with a placeholder for each picture.
            pictures: tokens of each picture.

        Raises:
            ConfigError, CheckpointError: the rendered turn does not hold one placeholder a picture.
        """

    @property
    @abstractmethod
    def picture_token(self) -> int:
        """The id that stands for every token of a picture."""

    @abstractmethod
    def describe(self, frames: Sequence[Frame]) -> str:
        """How frames and their times are put to the model, in one line; without ``frames``, as far as settings say."""

    def shape_of(self, frame: Frame) -> FrameShape:
        """What a frame becomes, at its scale.

        Raises:
            FramesError: the family cannot take such a frame.
        """
        if frame.prepared is not None:
            shape: FrameShape = frame.prepared.shape
            return shape
        height, width = frame.pixels.shape[:2]
        return self.shape(height, width, frame.scale)

    def prepare(self, pixels: Pixels, scale: float | None = None) -> PreparedFrame:
        """A decoded frame, resized. Needs no torch.

        Raises:
            FramesError: the family cannot take such a frame.
        """
        height, width = pixels.shape[:2]
        shape = self.shape(height, width, scale)
        return PreparedFrame(self.resized(pixels, shape), shape)

    def prepared_ahead(self, frame: Frame) -> Frame:
        """The frame with its resized pixels alone, before it is known whether its prompt fits. Needs no torch.

        It comes as it was decoded where the family cannot take it, which :meth:`count` tells, and where it would be
        larger: frames that wait hold no more memory than decoded ones.
        """
        height, width = frame.pixels.shape[:2]
        try:
            shape = self.shape_of(frame)
            if shape.height * shape.width > height * width:
                return frame
            made = PreparedFrame(self.resized(frame.pixels, shape), shape)
        except FramesError:
            return frame
        return replace(frame, pixels=made.pixels, prepared=made)

    def without_words(self) -> Self:
        """The part that prepares frames, for a worker process: all but the tokenizer, which may be large."""
        return replace(self, tokenizer=None)

    def prepared(self, frames: Sequence[Frame]) -> tuple[PreparedFrame, ...]:
        """The frames of one request, resized.

        Raises:
            FramesError: they cannot be put in this form.
        """
        self._pictures(frames)
        return tuple(frame.prepared or self.prepare(frame.pixels, frame.scale) for frame in frames)

    def count(self, frames: Sequence[Frame], words: Words) -> int:
        """The length of the prompt. Reads no pixels.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        return len(self.encode(self.form.turn(frames, words), self._pictures(frames)))

    def prompt(self, prepared: tuple[PreparedFrame, ...], frames: Sequence[Frame], words: Words) -> Prompt:
        """One request.

        Args:
            prepared: from :meth:`prepared` of the frames.
            frames: for their times.
            words: the request's.
        """
        pictures = self._pictures(frames)
        ids = np.array(self.encode(self.form.turn(frames, words), pictures), dtype=np.int64)
        return Prompt(ids, prepared, self.frames_end(ids), tuple(frame.time for frame in frames), tuple(pictures))

    def sent(self, prompt: Prompt) -> str:
        """As :class:`RequestProcessor`."""
        shown = self.shown_together(prompt.times, len(prompt.pictures))
        marks = [frame_mark(frames, prompt.times) for frames in shown]
        return marked_text(
            prompt.input_ids.tolist(),
            (self.picture_token,),
            list(zip(marks, prompt.pictures, strict=True)),
            lambda ids: self.tokenizer.decode(ids, skip_special_tokens=False),
        )

    def measured(self, prompt: Prompt) -> Mapping[str, float]:
        """As :class:`RequestProcessor`."""
        shapes = [frame.shape for frame in prompt.frames]
        return {
            "image_pixels": sum(shape.height * shape.width for shape in shapes),
            "patches": prompt.patches,
            "visual_tokens": int((prompt.input_ids == self.picture_token).sum()),
        }

    def shown_together(self, times: Sequence[float], pictures: int) -> list[range]:
        """The frames of each picture of a prompt; here each by itself, or all as one video.

        Args:
            times: of the frames.
            pictures: how many there are.
        """
        if pictures == len(times):
            return [range(place, place + 1) for place in range(pictures)]
        return [range(len(times))]

    def frames_end(self, ids: npt.NDArray[np.int64]) -> int:
        """Tokens up to the last one of a picture, that one included; 0 without pictures."""
        places = np.flatnonzero(ids == self.picture_token)
        return int(places[-1]) + 1 if len(places) else 0

    def halves(self, turn: Turn, shapes: Sequence[FrameShape]) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to its last picture, and those after it, where every frame is an image.

        Special tokens are boundaries for every tokenizer, so the two parts' tokens are those of the whole.
        """
        ids = self.encode(turn, [shape.tokens for shape in shapes])
        cut = self.frames_end(np.array(ids))
        return ids[:cut], ids[cut:]

    def _pictures(self, frames: Sequence[Frame]) -> list[int]:
        return self.form.pictures([self.shape_of(frame) for frame in frames], [frame.time for frame in frames])


class Model(ABC):
    """A loaded checkpoint of a family, in evaluation mode, without gradients.

    Args:
        network: the transformers model, or what a family put together of several.
    """

    def __init__(self, network: Any) -> None:
        self.network = network

    @property
    def language(self) -> Any:
        """The part that writes, a causal language model with its own ``generation_config``."""
        return self.network

    @cached_property
    def row_buffers(self) -> KeptBuffers:
        """What running batches of :attr:`language` take over from each other."""
        from pipeline.generation.row_buffers import KeptBuffers

        return KeptBuffers(self.language)

    @cached_property
    def device_name(self) -> str:
        """What it runs on, such as ``NVIDIA H100 80GB HBM3`` or ``cpu``."""
        from pipeline.families.loading.placement import device_name

        return device_name(self.language)

    @property
    def frames_at_once(self) -> int | None:
        """Frames that go through the tower in one call, however many there are; None where that depends on them."""
        return None

    @abstractmethod
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """Each frame as an image for the language model, ``[tokens, hidden size]``, independent of others."""

    def positions(self, ids: torch.Tensor, shapes: Sequence[FrameShape]) -> torch.Tensor:
        """Positions of a prompt of images: ``[1, L]``, or ``[axes, 1, L]`` where the family has several.

        Text after it continues with one more than the largest, on every axis.

        Args:
            ids: ``[1, L]``.
            shapes: of its images.
        """
        import torch

        return torch.arange(ids.shape[1])[None]

    @abstractmethod
    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """The arguments of the network's ``forward`` for the first ``length`` tokens of a prompt, with all pictures."""

    def prefill(self, prompt: Prompt, length: int, cache: Cache) -> int:
        """Read the first ``length`` tokens of a prompt, all pictures among them, into the empty cache.

        Returns:
            The position of the token that follows.
        """
        read_with_cache(self.network.model, cache, **self.arguments(prompt, length))
        return length

    def prefix(self, prompt: Prompt, length: int) -> Prefix:
        """The first ``length`` tokens of a prompt, all pictures among them, as the model has read them."""
        from pipeline.generation.shared_prefix import Prefix, states_read

        return Prefix(*states_read(self.language, lambda cache: self.prefill(prompt, length, cache)))

    def embedded(self, ids: torch.Tensor, is_picture: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Input embeddings ``[B, L, hidden size]`` with features where pictures stand.

        Args:
            ids: ``[B, L]``.
            is_picture: ``[B, L]``, true for every token of a picture.
            features: ``[true entries, hidden size]``, in order.
        """
        table = self.language.get_input_embeddings()
        device = table.weight.device
        embeddings: torch.Tensor = table(ids.to(device).clamp(min=0)).clone()
        # Places are counted where the ids are, on the CPU: counted on the device, the host would wait for it.
        places = is_picture.flatten().nonzero()[:, 0].to(device)
        embeddings.view(-1, embeddings.shape[-1]).index_copy_(0, places, features.to(embeddings))
        return embeddings

    def read_images(self, prompt: Prompt, length: int, cache: Cache, token: int) -> int:
        """:meth:`prefill` by way of :meth:`features`, where every picture is an image.

        Args:
            prompt: as there.
            length: likewise.
            cache: likewise.
            token: the id that stands for every token of an image.
        """
        import torch

        ids = torch.from_numpy(prompt.input_ids[None, :length])
        features = torch.cat(self.features(prompt.frames))
        # On the host, while the device is busy with the frames.
        positions = self.positions(ids, [frame.shape for frame in prompt.frames])
        following = int(positions.max()) + 1
        embeddings = self.embedded(ids, ids == token, features)
        decoder, positions = self.language.get_decoder(), positions.to(embeddings.device)
        read_with_cache(decoder, cache, inputs_embeds=embeddings, position_ids=positions)
        return following

    def close(self) -> None:
        """Free the memory. The object is of no use afterwards."""
        from pipeline.families.loading.checkpoint import release

        self.row_buffers.release()
        release(self.network)


class RequestProcessor(Protocol):
    """What an answerer asks of a processor; :class:`Processor` has it for all families."""

    @property
    def tokenizer(self) -> Any:
        """With ``decode`` and ``eos_token_id``."""
        ...

    @property
    def context_tokens(self) -> int:
        """Positions for prompt and answer together."""
        ...

    @property
    def markup(self) -> Sequence[str]:
        """Strings that must not occur in a question."""
        ...

    @property
    def smaller(self) -> Sequence[str]:
        """Settings by which a frame takes fewer tokens."""
        ...

    def describe(self, frames: Sequence[Frame]) -> str:
        """How frames and their times are put to the model, in one line."""
        ...

    def count(self, frames: Sequence[Frame], words: Words) -> int:
        """The length of the prompt. Reads no pixels."""
        ...

    def prepared(self, frames: Sequence[Frame]) -> Any:
        """The frames of one request, ready for :meth:`prompt`."""
        ...

    def prompt(self, prepared: Any, frames: Sequence[Frame], words: Words) -> Any:
        """One request: a :class:`Prompt`, or what has its ``input_ids``, ``tokens`` and ``times``."""
        ...

    def sent(self, prompt: Any) -> str:
        """The text of a prompt, all control tokens among it, with a mark in the place of each frame."""
        ...

    def measured(self, prompt: Any) -> Mapping[str, float]:
        """What the frames of a prompt are to the model, by the names of :mod:`pipeline.ledger`, as far as known."""
        ...


SomeProcessor_co = TypeVar("SomeProcessor_co", bound=RequestProcessor, covariant=True)


@dataclass(frozen=True)
class Opened(Generic[SomeProcessor_co]):
    """A checkpoint's two objects; the model is loaded when it is asked for."""

    processor: SomeProcessor_co
    load: Callable[[], Any]
