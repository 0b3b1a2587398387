"""The request to a server, within its caps: labelled images, or vLLM's video of frames that are sampled already.

Sources: OpenAI's chat completions (``image_url`` parts), which all compatible servers read; vLLM 0.33
(``vllm/multimodal/media/video.py``, ``media_io_kwargs`` of a request), which alone reads the video.

Frames travel smaller, compressed, and written into the request as data URLs.

Servers agree on no field that asks a model to think, or not to, before it answers. vLLM, SGLang and llama.cpp pass
``chat_template_kwargs`` to the model's chat template, whose variable is ``enable_thinking`` (Qwen, GLM, Gemma) or
``thinking`` (Kimi, DeepSeek). OpenAI and Gemini take ``reasoning_effort``. vLLM limits a thought by
``thinking_token_budget``, which counts only at the top of the request.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.answerers import AnswerRequest
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.domain import Frame, Question, Video, option_letter
from pipeline.errors import ConfigError, FramesError, InputError, with_remedy
from pipeline.families.chat import FrameLabels, frame_mark
from pipeline.families.seam import Words
from pipeline.families.thinking import Thinking
from pipeline.paths import local_path

_LOG = logging.getLogger(__name__)

CONTINUE_ANSWER = {"add_generation_prompt": False, "continue_final_message": True}
"""In vLLM and SGLang: the last message is the beginning of the answer."""
_MEGABYTE = 1_000_000
_LONGEST = 8192
"""Pixels of the longer side to which a selection may scale a frame up."""
_TEMPLATE = "chat_template_kwargs"
_VARIABLES = ("enable_thinking", "thinking")
_LEAST_PROPOSED = 4096
"""Tokens for a thought, as messages propose them where no limit is set."""
_Part = Mapping[str, Any]
"""One entry of a message's ``content``."""


def _text_part(text: str) -> _Part:
    """Words, as an entry of a message."""
    return {"type": "text", "text": text}


@dataclass(frozen=True)
class SentFrame:
    """The form in which a frame is sent. A server makes its own inputs from it, and may scale it once more."""

    max_side: int | None
    """Pixels. A larger frame is scaled down to this longer side (Lanczos); None keeps the size of the video."""
    format: Literal["jpeg", "png"]
    """``jpeg`` loses a little; ``png`` loses nothing and is several times as large."""
    quality: int
    """The quality of JPEG, 1 to 100, with 4:2:0 chroma as PIL writes it."""
    detail: Literal["low", "high", "auto"] | None
    """OpenAI's own setting for each image; None: not sent."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ConfigError(
                f"answerer.frame.max_side={self.max_side} leaves no picture.",
                "Take a number of pixels, or null: answerer.frame.max_side=512",
            )
        if not 1 <= self.quality <= 100:
            raise ConfigError(
                f"answerer.frame.quality={self.quality} is not a JPEG quality.",
                "Take 1 to 100: answerer.frame.quality=90",
            )

    def describe(self) -> str:
        """In a few words, for the record."""
        size = "own size" if self.max_side is None else f"longer side at most {self.max_side}"
        kind = f"jpeg {self.quality}" if self.format == "jpeg" else "png"
        return f"{kind}, {size}" + (f", detail {self.detail}" if self.detail else "")

    def encoded(self, pixels: npt.NDArray[np.uint8], scale: float | None = None) -> str:
        """Base64 of the compressed picture.

        Args:
            pixels: RGB, ``[height, width, 3]``.
            scale: factor on each side, before the limit on the longer one.

        Raises:
            FramesError: scaled, it would be larger than any server takes.
        """
        from PIL import Image

        image = Image.fromarray(pixels)
        size = self.size(image.size, scale)
        if size != image.size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = BytesIO()
        if self.format == "jpeg":
            image.save(buffer, "JPEG", quality=self.quality)
        else:
            image.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    def size(self, size: tuple[int, int], scale: float | None) -> tuple[int, int]:
        """Width and height of a picture as it is sent; for the arguments see :meth:`encoded`."""
        longer = max(size)
        wanted = longer * (1.0 if scale is None else scale)
        if self.max_side is not None:
            wanted = min(wanted, self.max_side)
        if wanted > max(longer, _LONGEST):
            raise FramesError(
                f"A frame is to be scaled by {scale:g}, to more than {_LONGEST} pixels.",
                "Bound it: answerer.frame.max_side=1024, or take a selection with smaller scales.",
            )
        if wanted == longer:
            return size
        return max(1, round(size[0] * wanted / longer)), max(1, round(size[1] * wanted / longer))

    def image_part(self, encoded: str) -> _Part:
        """An encoded picture, as an entry of a message."""
        url = {"url": f"data:image/{self.format};base64,{encoded}"}
        return {"type": "image_url", "image_url": url | ({"detail": self.detail} if self.detail else {})}


def _read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """RGB pixels of a picture file, ``[height, width, 3]``.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"The picture {path} of an option cannot be read: {error}.", "Fetch or write it again."
        ) from error


class RequestForm(Protocol):
    """How frames and their times are put into a request."""

    kind: ClassVar[str]
    """Its name in the settings."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[_Part], words: Words
    ) -> list[_Part]:
        """The user's turn: frames, pictures of options, text.

        Args:
            frames: in order of time; there may be none.
            encoded: parallel to them, as :meth:`SentFrame.encoded` gives them.
            options: entries between frames and text.
            words: of the question.

        Raises:
            FramesError: these frames cannot be put in this form.
            ConfigError: these words cannot.
        """
        ...

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Further fields of the request; ``frames`` is not empty."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """Every frame an image, with its second in text before it: true for any server and any spacing."""

    sent: SentFrame
    labels: FrameLabels

    kind: ClassVar[str] = "images"

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[_Part], words: Words
    ) -> list[_Part]:
        """Parts of each frame: what was said up to it, its label, the image, what follows it; no empty words."""
        shown: list[_Part] = []
        for frame, picture, said in zip(frames, encoded, words.before(frames), strict=True):
            before, after = said + self.labels.before(frame.time), self.labels.after
            shown += [_text_part(before)] if before else []
            shown.append(self.sent.image_part(picture))
            shown += [_text_part(after)] if after else []
        return [*shown, *options, _text_part(words.text)]

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class SampledVideo:
    """One video of JPEG frames that the server must not sample again, each with its place on the video's clock.

    The clock ticks ``fps`` times a second, so a frame's place is its true second times ``fps``: in a file of constant
    rate that is its native index, and with a variable rate, or a folder of pictures that begins in the middle of a
    film, it still tells the second. How the model gets it depends on the server: Qwen3-VL reads the seconds,
    Qwen2.5-VL takes the frames as evenly spaced.
    """

    sent: SentFrame

    kind: ClassVar[str] = "video"

    def __post_init__(self) -> None:
        if self.sent.format != "jpeg":
            raise ConfigError(
                f"answerer.form=video sends JPEG frames, and answerer.frame.format={self.sent.format} is set.",
                "Take answerer.frame.format=jpeg, or answerer.form=images.",
            )

    def time_told(self) -> str:
        """By numbers, from which a server makes what its model was trained on."""
        return "frame places and frames a second, as the server's model takes them"

    def content(
        self, frames: Sequence[Frame], encoded: Sequence[str], options: Sequence[_Part], words: Words
    ) -> list[_Part]:
        """All frames in one data URL."""
        if len({(frame.pixels.shape, frame.scale) for frame in frames}) > 1:
            raise different_sizes()
        url = f"data:video/jpeg;base64,{','.join(encoded)}"
        shown = [{"type": "video_url", "video_url": {"url": url}}] if frames else []
        return [*shown, *options, _text_part(words.in_one)]

    def extra_fields(self, video: Video, frames: Sequence[Frame]) -> Mapping[str, Any]:
        """Without ``num_frames: -1`` the server would keep the first 32 frames and drop the others in silence."""
        places = [round(frame.time * video.fps) for frame in frames]
        return {
            "media_io_kwargs": {
                "video": {
                    "num_frames": -1,
                    "fps": video.fps,
                    "frames_indices": places,
                    "total_num_frames": max(video.frame_count, places[-1] + 1),
                    "duration": video.duration,
                    "do_sample_frames": False,
                }
            },
            "mm_processor_kwargs": {"videos_kwargs": {"do_sample_frames": False}},
        }


def different_sizes() -> FramesError:
    """Frames of several sizes were to be one video."""
    return FramesError("The frames differ in size, so they cannot be one video.", "Take answerer.form=images.")


@dataclass(frozen=True)
class ThinkingSwitch:
    """The fields of a request that switch thinking and limit it."""

    field: str
    """With dots between the levels: ``chat_template_kwargs.enable_thinking``, ``reasoning_effort``."""
    never: bool | str
    """Its value for ``thinking=never``."""
    always: bool | str
    """Its value for ``thinking=always``."""
    budget: str | None
    """The field for ``max_thinking_tokens``; None: it is not sent."""

    def __post_init__(self) -> None:
        if not all(self.field.split(".")) or self.budget == "":
            raise ConfigError(
                f"answerer.thinking_switch.field={self.field!r} or .budget={self.budget!r} is not a name.",
                f"Set answerer.thinking_switch.field={_TEMPLATE}.enable_thinking answerer.thinking_switch.budget=null",
            )


@dataclass(frozen=True)
class ServerThinking:
    """The settings of thoughts of one server."""

    mode: Thinking
    switch: ThinkingSwitch
    max_tokens: int | None
    """Added to the request's limit; None: a thought counts in the answer's limit."""

    def check(self, extra_body: Mapping[str, Any], own: Collection[str]) -> None:
        """Check that the switch can be set.

        Args:
            extra_body: further fields of the request.
            own: fields that have a setting of their own.

        Raises:
            ConfigError: it cannot; the error names the setting.
        """
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(
                f"answerer.max_thinking_tokens={self.max_tokens} leaves no room for a thought.",
                "Set some thousands, or switch thinking off: answerer.thinking=never",
            )
        if self.mode == "checkpoint":
            return
        if self.mode == "always" and self.max_tokens is None:
            raise ConfigError(
                "answerer.thinking=always needs a limit for thoughts, beside the answer's answerer.max_new_tokens.",
                f"Set answerer.max_thinking_tokens={_LEAST_PROPOSED}",
            )
        sent = [("field", self.switch.field), ("budget", self._budget)]
        for name, path in ((name, path) for name, path in sent if path is not None):
            if path.partition(".")[0] in own:
                raise ConfigError(
                    f"answerer.thinking_switch.{name}={path} names a field that has a setting of its own.",
                    f"Name the server's own switch, such as answerer.thinking_switch.field={_TEMPLATE}.thinking",
                )
            if _holds(extra_body, path.split(".")):
                raise ConfigError(
                    f"answerer.extra_body holds {path}, which answerer.thinking={self.mode} sends.",
                    f"Remove it with '~answerer.extra_body.{path}', or leave it as it is: answerer.thinking=checkpoint",
                )

    def fields(self, extra_body: Mapping[str, Any]) -> dict[str, Any]:
        """``extra_body`` with the switch in it."""
        body = dict(extra_body)
        if self.mode == "checkpoint":
            return body
        *outer, name = self.switch.field.split(".")
        level = body
        for each in outer:
            level[each] = dict(level.get(each, {}))
            level = level[each]
        level[name] = self.switch.never if self.mode == "never" else self.switch.always
        return {**body, self._budget: self.max_tokens} if self._budget else body

    @property
    def tokens(self) -> int:
        """Tokens that the request allows for a thought."""
        return 0 if self.mode == "never" else self.max_tokens or 0

    def longer(self, max_new_tokens: int) -> str:
        """The overrides that let a thought come to its end."""
        more = f"answerer.max_thinking_tokens={2 * (self.max_tokens or max(max_new_tokens, _LEAST_PROPOSED // 2))}"
        return f"answerer.thinking=always {more}" if self.mode == "never" else more

    def may_begin_in_prompt(self, extra_body: Mapping[str, Any]) -> bool:
        """Whether the chat template may begin a thought in the prompt, so that a cut one has no mark at all."""
        told = self.fields(extra_body).get(_TEMPLATE)
        if not isinstance(told, Mapping):
            return False
        by_switch = self.mode == "always" and self.switch.field.startswith(f"{_TEMPLATE}.")
        return by_switch or any(told.get(name) is True for name in _VARIABLES)

    def describe(self) -> str:
        """For the record; empty where nothing is sent."""
        return "" if self.mode == "checkpoint" else f"; thinking {self.mode}, by {self.switch.field}"

    def content(self) -> dict[str, Any]:
        """The settings that decide answers: nothing for ``checkpoint``, so that keys of earlier versions stay valid."""
        found: dict[str, Any] = {}
        if self.mode != "checkpoint":
            found["thinking"] = [self.mode, asdict(self.switch)]
        if self.max_tokens is not None:
            found["max_thinking_tokens"] = self.max_tokens
        return found

    @property
    def _budget(self) -> str | None:
        return self.switch.budget if self.mode == "always" else None


def warn_of_thoughts(server: str, switch: ThinkingSwitch) -> None:
    """Warn that a server's model thinks although thinking is switched off."""
    _LOG.warning(
        "The model of %s thinks although answerer.thinking=never sets %s. If its template reads another variable, set "
        "answerer.thinking_switch.field=%s.NAME; else take answerer.thinking=always.",
        server,
        switch.field,
        _TEMPLATE,
    )


@dataclass(frozen=True)
class Requests:
    """Builds the requests of one answerer and compares them with the server's caps."""

    form: RequestForm
    frame: SentFrame
    prompt: AnswerPrompt
    system: str | None
    """System message where the prompt has none of its own; None: none is sent."""
    fields: Mapping[str, Any]
    """Fields that all requests share."""
    max_images: int | None
    """Images of a request, an option's pictures included."""
    max_megabytes: float | None

    def body(self, request: AnswerRequest) -> dict[str, Any]:
        """The request as JSON values.

        Raises:
            FramesError: the frames cannot be put in this form.
            InputError: a picture of an option cannot be read.
        """
        return self._body(request, self._option_parts(request.question))

    def capacity(self, request: AnswerRequest) -> int:
        """How many of the frames fit the caps, whichever are chosen."""
        try:
            options = self._option_parts(request.question)
        except InputError:
            return len(request.frames)  # no smaller number helps; the answer's status names the fault
        fitting = len(request.frames)
        if self.max_images is not None:
            fitting = min(fitting, max(0, self.max_images - _images(options)))
        if self.max_megabytes is not None:
            room = self.max_megabytes * _MEGABYTE - _size(self._body(replace(request, frames=()), options))
            for count, size in enumerate(sorted(map(self._frame_size, request.frames), reverse=True)):
                room -= size
                if room < 0:
                    return min(fitting, count)
        return fitting

    def excess(self, request: AnswerRequest, body: Mapping[str, Any]) -> str | None:
        """What of the request is above a cap, and what to do; None: nothing is.

        Args:
            request: whose ``body`` it is.
            body: as :meth:`body` gives it.
        """
        images = len(request.frames) + len(request.question.option_images or ())
        if self.max_images is not None and images > self.max_images:
            problem = f"{images} images are more than the {self.max_images} of answerer.max_frames."
        elif self.max_megabytes is not None and (megabytes := _size(body) / _MEGABYTE) > self.max_megabytes:
            limit = f"{self.max_megabytes:g} of answerer.max_request_mb"
            problem = f"The request has {megabytes:.1f} MB, more than the {limit}."
        else:
            return None
        fitting = self.capacity(request)
        ways = (
            [f"selection.budget={fitting}", "over_limit=keep_best, which leaves out the lowest scores"]
            if fitting
            else ["a smaller answerer.frame.max_side, as no frame goes with this question"]
        )
        return with_remedy(problem, f"Try {', or '.join(ways)}.")

    def sent_pixels(self, frame: Frame) -> int:
        """Pixels of a frame as it is sent."""
        height, width = frame.pixels.shape[:2]
        return math.prod(self.frame.size((width, height), frame.scale))

    def smaller(self, frames: int) -> list[str]:
        """The overrides that make a request with so many frames smaller."""
        ways = [f"selection.budget={frames // 2}"] if frames > 1 else []
        side = self.frame.max_side or 1024
        ways.append(f"answerer.frame.max_side={max(1, side // 2)}")
        if self.frame.detail in ("high", "auto"):
            ways.append("answerer.frame.detail=low")
        return ways

    def _body(self, request: AnswerRequest, options: Sequence[_Part]) -> dict[str, Any]:
        frames, words = request.frames, self.prompt.words(request)
        encoded = [self.frame.encoded(frame.pixels, frame.scale) for frame in frames]
        system = self.system if words.system is None else words.system
        told = [] if system is None else [{"role": "system", "content": system}]
        turn = {"role": "user", "content": self.form.content(frames, encoded, options, words)}
        begun = [{"role": "assistant", "content": words.begun}] if words.begun else []
        return {
            **self.fields,
            "messages": [*told, turn, *begun],
            **(CONTINUE_ANSWER if begun else {}),
            **(self.form.extra_fields(request.video, frames) if frames else {}),
        }

    def _option_parts(self, question: Question) -> list[_Part]:
        """Pictures that are the options, each after its letter; the prompt then names them."""
        parts: list[_Part] = []
        for place, path in enumerate(question.option_images or ()):
            picture = self.frame.encoded(_read_picture(local_path(path)))
            parts += [_text_part(f"{option_letter(place)}: "), self.frame.image_part(picture)]
        return parts

    def _frame_size(self, frame: Frame) -> int:
        """Bytes that a frame takes in a request, at most."""
        return _size(self.form.content([frame], [self.frame.encoded(frame.pixels, frame.scale)], (), Words("")))


def sent_text(messages: Sequence[Mapping[str, Any]], times: Sequence[float]) -> str:
    """The messages of a request as text: each after its role, with a mark in the place of each picture.

    Args:
        messages: as :meth:`Requests.body` has them. Pictures after those of the frames are those of options.
        times: seconds of the frames.
    """
    left = [frame_mark(range(place, place + 1), times) for place in range(len(times))]
    lines: list[str] = []
    for message in messages:
        content = message["content"]
        lines.append(f"{message['role']}:")
        for part in [_text_part(content)] if isinstance(content, str) else content:
            if part["type"] == "text":
                lines.append(part["text"])
            elif part["type"] == "video_url":
                lines.append(frame_mark(range(len(times)), times))
                left = []
            else:
                lines.append(left.pop(0) if left else "<picture of the option>")
    return "\n".join(lines)


def _images(parts: Sequence[_Part]) -> int:
    return sum(part["type"] == "image_url" for part in parts)


def _size(body: Any) -> int:
    """Bytes of JSON."""
    return len(json.dumps(body))


def _holds(body: Mapping[str, Any], path: list[str]) -> bool:
    """Whether a body has a value at a path, or one that has no room for it."""
    value: Any = body
    for name in path:
        if not isinstance(value, Mapping):
            return True
        if name not in value:
            return False
        value = value[name]
    return True
