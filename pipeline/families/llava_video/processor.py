"""A LLaVA-Video checkpoint's ``config.json``, and frames and words as its inputs.

The config is told in the words of transformers' LLaVA-OneVision, or refused by the name of a key. The two are the same
model but for the newline tokens and the pooling; LLaVA-OneVision as its authors wrote it has the same file with the
newline at the end of a video. The file is flat, as LLaVA's authors write it, and says nothing of the vision tower but
its name and its width; absent keys mean what ``llava_arch.py`` and ``multimodal_encoder/siglip_encoder.py`` of
github.com/LLaVA-VL/LLaVA-NeXT take them to mean.

The conversation is ``qwen_1_5`` with the video's tokens and the time instruction before the question. Source:
``conversation.py`` of the same repository; the newline between the video and the instruction is that of the training
code and of lmms-eval's ``llava_vid``.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import VIDEO, TimeSentence, load_tokenizer, special_tokens, text
from pipeline.families.known import another, architectures, override, restore
from pipeline.families.llava_video import ARCHITECTURE
from pipeline.families.loading import contents
from pipeline.families.loading.checkpoint import Checkpoint, raw_config, resolve
from pipeline.families.pixels import bicubic, fixed_size
from pipeline.families.seam import FrameShape, Pixels, Processor, Turn, Words

Pooling = Literal["bilinear", "average"]
POOLINGS: tuple[Pooling, ...] = ("bilinear", "average")
Newlines = Literal["grid", "one_token"]
"""Where newline tokens are: after each row of each frame (LLaVA-Video), or at the video's end (LLaVA-OneVision)."""
NEWLINES: tuple[Newlines, ...] = ("grid", "one_token")

MODEL_TYPES = ("llava", "llava_qwen")
"""The hub's files say the former, which transformers would take for the first LLaVA; the authors' class the latter."""

IMAGE_SIZE, PATCH_SIZE = 384, 14
GRID = IMAGE_SIZE // PATCH_SIZE
"""Patches along a side of a frame: 27."""

IMAGE = "<image>"
"""The authors' mark for the video in a prompt."""

_SYSTEM = "You are a helpful assistant."
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"

_TOWER = "siglip-so400m-patch14-384"
_RELEASED_TOWER = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26}
"""The tower has 27 layers; the authors delete the last one, since they read the one before it."""
_LAYERS = "model.vision_tower.vision_tower.vision_model.encoder.layers."
_HEAD = "model.vision_tower.vision_tower.vision_model.head."

# What the model here cannot be, and what a key that is absent means. `rope_scaling` is not among them: the authors'
# class puts it aside.
_MUST_BE: dict[str, tuple[Any, Any]] = {
    "mm_patch_merge_type": ("spatial_unpad", "flat"),
    "mm_projector_type": ("mlp2x_gelu", "linear"),
    "mm_resampler_type": (None, None),
    "mm_vision_select_layer": (-2, None),
    "mm_vision_select_feature": ("patch", "patch"),
    "mm_use_im_start_end": (False, False),
    "mm_use_im_patch_token": (False, True),
    "add_faster_video": (False, False),
    "hidden_act": ("silu", "silu"),
    "use_sliding_window": (False, False),
    "quantization_config": (None, None),
}
_TEXT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)


def llava_video_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The unchanged ``config.json`` of a LLaVA-Video checkpoint. Fetches only this file.

    Raises:
        CheckpointError: it is another model, or a key says what LLaVA-Video is not.
    """
    raw, source = raw_config(checkpoint), checkpoint.source
    if raw.get("model_type") not in MODEL_TYPES or ARCHITECTURE not in architectures(raw):
        raise another(raw, source, ["LLaVA-Video"])
    newlines_of(raw, source)
    stride = raw.get("mm_spatial_pool_stride")
    if stride not in (None, 2):  # the authors' code pools by 2 whatever stands here
        raise _refusal(source, "mm_spatial_pool_stride", stride, "2")
    for key, (wanted, absent) in _MUST_BE.items():
        if raw.get(key, absent) != wanted:
            raise _refusal(source, key, raw.get(key, absent), repr(wanted))
    for key in (*_TEXT, "mm_hidden_size"):
        if not isinstance(raw.get(key), int) or raw[key] < 1:
            raise _refusal(source, key, raw.get(key), "a number above 0")
    if not isinstance(raw.get("tokenizer_model_max_length") or 1, int):
        raise _refusal(source, "tokenizer_model_max_length", raw["tokenizer_model_max_length"], "a number above 0")
    if not isinstance(raw.get("rope_theta", 10000.0), int | float):
        raise _refusal(source, "rope_theta", raw["rope_theta"], "a number above 0")
    if _TOWER not in str(raw.get("mm_vision_tower")):
        raise _refusal(source, "mm_vision_tower", raw.get("mm_vision_tower"), f"google/{_TOWER}")
    return raw


def pooling_of(raw: Mapping[str, Any], source: str) -> Pooling:
    """How the checkpoint's own config pools the patches of a frame.

    Raises:
        CheckpointError: neither of the two ways known here.
    """
    found = raw.get("mm_spatial_pool_mode", "bilinear")
    for pooling in POOLINGS:
        if pooling == found:
            return pooling
    raise CheckpointError(
        f"config.json of {source} has mm_spatial_pool_mode={found!r}, which is none of {', '.join(POOLINGS)}.",
        "Choose one of these: answerer.pooling=bilinear",
    )


def newlines_of(raw: Mapping[str, Any], source: str) -> Newlines:
    """Where the checkpoint has its newline tokens.

    Raises:
        CheckpointError: in neither of the two places known here.
    """
    found = raw.get("mm_newline_position", "one_token")
    for newlines in NEWLINES:
        if newlines == found:
            return newlines
    raise _refusal(source, "mm_newline_position", found, "'grid', and LLaVA-OneVision 'one_token'")


def frame_tokens(pooling: Pooling, newlines: Newlines) -> int:
    """Tokens that each further frame takes.

    With a newline after each row 14 x 15 = 210 bilinear and 13 x 14 = 182 average; without 196 and 169.
    """
    side = math.ceil(GRID / 2) if pooling == "bilinear" else GRID // 2
    return side * (side + 1 if newlines == "grid" else side)


def context_tokens(raw: Mapping[str, Any]) -> int:
    """Tokens that prompt and answer may have together; the authors' code would cut a longer prompt without a word."""
    positions = int(raw["max_position_embeddings"])
    return min(positions, int(raw.get("tokenizer_model_max_length") or positions))


def placeholder_id(raw: Mapping[str, Any]) -> int:
    """The token that stands for a place of the video in ``input_ids``: the last row of the padded vocabulary.

    The authors write -200 there, for which transformers would look for a row. No text becomes this token: the rows
    after the tokenizer's own are padding (152064 rows for 151646 tokens of the 7B).
    """
    return int(raw["vocab_size"]) - 1


def onevision_config(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``LlavaOnevisionConfig``'s arguments.

    Args:
        raw: what :func:`llava_video_config` gave.
        folder: of the weights, whose shapes tell the tower's where it is not the released one.

    Raises:
        CheckpointError: the tower's tensors are not there.
    """
    tied = bool(raw.get("tie_word_embeddings", False))  # those of the 0.5B model are
    return {
        "image_token_index": -200,  # the authors'; no image is ever shown but as a frame of the video
        "video_token_index": placeholder_id(raw),
        "vision_feature_layer": -1,  # the deleted layer was the one after it
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": tied,
        "text_config": {
            "model_type": "qwen2",
            "rope_parameters": {"rope_type": "default", "rope_theta": float(raw.get("rope_theta", 10000.0))},
            "rms_norm_eps": raw.get("rms_norm_eps", 1e-6),
            "tie_word_embeddings": tied,
            "bos_token_id": raw.get("bos_token_id"),
            "eos_token_id": raw.get("eos_token_id"),
            **{key: raw[key] for key in _TEXT},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            # Not in config.json: the authors take these from SigLIP so400m.
            "num_attention_heads": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
            **_tower(int(raw["mm_hidden_size"]), folder),
        },
    }


def _tower(width: int, folder: Path) -> dict[str, int]:
    """The released tower has its known shape, so that a layer missing from the files is missed."""
    if width == _RELEASED_TOWER["hidden_size"]:
        return _RELEASED_TOWER
    try:
        shapes = contents.tensor_shapes(folder)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"The weights in {folder} cannot be read: {error}", restore("the weights")) from error
    found = {
        int(name.removeprefix(_LAYERS).partition(".")[0]): shape[0]
        for name, shape in shapes.items()
        if name.startswith(_LAYERS) and name.endswith("mlp.fc1.weight")
    }
    if not found:
        raise CheckpointError(f"{folder} holds no tensors of a vision tower ({_LAYERS}*).", restore("the weights"))
    # With its head a tower is stored whole, the layer that is not read among its layers.
    whole = any(name.startswith(_HEAD) for name in shapes)
    return {"hidden_size": width, "intermediate_size": found[min(found)], "num_hidden_layers": max(found) + 1 - whole}


def _refusal(source: str, key: str, found: Any, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"config.json of {source} has {key}={found!r}; LLaVA-Video has {wanted}.",
        f"Restore the checkpoint's own config.json, or name LLaVA-Video: "
        f"{override('source', 'lmms-lab/LLaVA-Video-7B-Qwen2')}.",
    )


@dataclass(frozen=True)
class VideoForm:
    """One video, and a sentence that tells its frames' seconds."""

    times: TimeSentence
    newlines: Newlines

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The video, the time instruction, the question."""
        told = self.times.before_question(frames, words.video_end)
        return Turn([VIDEO, text(f"\n{told}{words.in_one}")], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """One, of all frames."""
        return [sum(shape.tokens for shape in shapes) + (self.newlines == "one_token")]

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        return self.times.time_told()

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels."""
        return self.times.text_tokens()


@dataclass(frozen=True)
class LlavaVideoProcessor(Processor[VideoForm]):
    """One checkpoint's inputs."""

    placeholder: int
    """The token id that stands for a place of the video."""
    pooling: Pooling

    @property
    def markup(self) -> tuple[str, ...]:
        """The authors' mark for the video, and the tokenizer's control tokens."""
        return (IMAGE, *special_tokens(self.tokenizer))

    @property
    def smaller(self) -> tuple[str, ...]:
        """Average pooling leaves 13 rows of 14."""
        return ("pooling=average",) if self.pooling == "bilinear" else ()

    @property
    def picture_token(self) -> int:
        """A row of the vocabulary that no text becomes."""
        return self.placeholder

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """All frames have the vision tower's size."""
        fixed_size(scale, "LLaVA-Video")
        return FrameShape(IMAGE_SIZE, IMAGE_SIZE, GRID**2, frame_tokens(self.pooling, self.form.newlines))

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """A square, its proportions given up.

        By Pillow's bicubic filter, which gives the pixels of the authors' ``SigLipImageProcessor``; torchvision's
        differs in single grey levels. The released repositories hold no image settings: these are the authors' code's.
        """
        return bicubic(pixels, shape)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        return f"video of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, {self.pooling} pooling; time: {self.form.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """The texts before and after the video, which the authors' ``tokenizer_image_token`` reads apart."""
        if [part["type"] for part in turn.content] != ["video", "text"]:
            raise ConfigError(
                "LLaVA-Video is shown one video before the words, and this prompt has pictures between them.",
                "Take another checkpoint for it: `gens list samplers` and `gens list answerers` name them.",
            )
        before = f"<|im_start|>system\n{_SYSTEM if turn.system is None else turn.system}<|im_end|>\n<|im_start|>user\n"
        after = f"{turn.content[1]['text']}{_AFTER}{turn.begun}"
        first, last = (self.tokenizer(part, add_special_tokens=False).input_ids for part in (before, after))
        return [*first, *[self.placeholder] * pictures[0], *last]


def open_processor(
    checkpoint: Checkpoint, config: Mapping[str, Any], pooling: Pooling, times: TimeSentence
) -> LlavaVideoProcessor:
    """Read a checkpoint's tokenizer; no weights.

    Raises:
        CheckpointError: a file is missing, or the tokenizer leaves no row of the vocabulary for the video.
    """
    folder = resolve(checkpoint)
    tokenizer, placeholder = load_tokenizer(folder), placeholder_id(config)
    if not len(tokenizer) <= placeholder < 2**31 or tokenizer.convert_ids_to_tokens(placeholder) is not None:
        raise CheckpointError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, and the vocabulary {placeholder + 1} rows: "
            "none is free to stand for the video.",
            restore("the tokenizer files of the checkpoint"),
        )
    form = VideoForm(times, newlines_of(config, checkpoint.source))
    return LlavaVideoProcessor(tokenizer, context_tokens(config), form, placeholder, pooling)
