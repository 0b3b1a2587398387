"""Pixels on their way to a model: resized as the family has it on the CPU, normalised by a table on the device."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError, FramesError, either
from pipeline.families.chat import expanded, render_chat
from pipeline.families.known import override, restore
from pipeline.families.seam import FrameShape, Pixels, PreparedFrame, Processor, SomeForm, Turn

if TYPE_CHECKING:
    import torch


MERGE = 2
"""So many patches on each side become one token, in the families that take frames of any size."""
_MOST_UNEQUAL = 200


@dataclass(frozen=True)
class FrameScale:
    """To which size frames are brought, where the vision tower takes any: the aspect is kept.

    ``smart_resize`` as qwen-vl-utils has it. It stands here because importing theirs needs torchvision, and the equal
    one beside the PIL processor torch: what a frame costs is told without.
    """

    min_pixels: int
    """Smaller frames are enlarged to at least this area."""
    max_pixels: int
    """Larger frames are reduced to at most this area; a token is ``unit * unit`` pixels."""
    fixed: tuple[int, int] | None
    """Height and width for every frame, of any shape; then the limits above do not apply."""

    unit: ClassVar[int] = 28
    """Pixels along one side of a token; a family with other patches has a scale of its own."""

    def __post_init__(self) -> None:
        unit = self.unit
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(
                f"min_pixels={self.min_pixels} and max_pixels={self.max_pixels} leave no size for a frame.",
                f"Take 0 < min_pixels <= max_pixels, say answerer.min_pixels={4 * unit**2} "
                f"answerer.max_pixels={256 * unit**2}.",
            )
        if self.max_pixels < unit**2:
            raise ConfigError(
                f"max_pixels={self.max_pixels} is less than one token.",
                f"A token is {unit} x {unit} pixels: answerer.max_pixels={256 * unit**2} gives up to 256 a frame.",
            )
        if self.fixed is not None and any(side < unit or side % unit for side in self.fixed):
            rows, columns = (max(unit, round(side / unit) * unit) for side in self.fixed)
            fixed = f"answerer.frame_size=[{rows},{columns}]"
            raise ConfigError(
                f"A frame of {self.fixed[0]} x {self.fixed[1]} pixels cannot be cut into tokens of {unit} x {unit} "
                "pixels.",
                f"Take multiples, say {either(fixed, f'sampler.frame.height={rows} sampler.frame.width={columns}')}.",
            )

    @classmethod
    def up_to(cls, max_pixels: int) -> Self:
        """For a sampler that shows frames in their own shape, as images of ``max_pixels`` at most.

        Raises:
            ConfigError: that is less than one token.
        """
        unit = cls.unit
        if max_pixels < unit**2:
            raise ConfigError(
                f"max_pixels={max_pixels} is less than one token.",
                f"A token is {unit} x {unit} pixels: sampler.max_pixels={256 * unit**2} gives up to 256 a frame.",
            )
        return cls(unit**2, max_pixels, None)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame of this shape gets.

        Raises:
            FramesError: one side is more than 200 times the other.
        """
        if self.fixed is not None:
            return self.fixed
        if max(height, width) > _MOST_UNEQUAL * min(height, width):
            raise FramesError(
                f"A frame of {height} x {width} pixels is too long a strip for this model.",
                f"Give all frames one shape: answerer.frame_size=[{9 * self.unit},{16 * self.unit}].",
            )
        return _smart_resize(height, width, self.unit, self.min_pixels, self.max_pixels)

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """What a frame of ``height`` x ``width`` pixels becomes.

        Args:
            height: as decoded.
            width: likewise.
            scale: factor on each side, in place of the two limits.

        Raises:
            FramesError: one side is more than 200 times the other, or frames have one fixed size and are to be scaled.
        """
        if scale is None:
            rows, columns = self.size(height, width)
        else:
            if self.fixed is not None:
                raise FramesError(
                    f"A frame is to be scaled by {scale:g}, and answerer.frame_size gives all frames one size.",
                    "Leave the size to the scale: answerer.frame_size=null.",
                )
            rows, columns = (max(self.unit, round(side * scale / self.unit) * self.unit) for side in (height, width))
        tokens = rows * columns // self.unit**2
        return FrameShape(rows, columns, tokens * MERGE**2, tokens)

    def prepare(self, pixels: Pixels) -> PreparedFrame:
        """A decoded frame in its size, resized by PIL's bicubic filter. Needs no torch.

        Raises:
            FramesError: one side is more than 200 times the other.
        """
        height, width = pixels.shape[:2]
        shape = self.shape(height, width)
        return PreparedFrame(bicubic(pixels, shape), shape)

    def tokens(self, height: int, width: int) -> int:
        """Tokens that a frame of this shape becomes."""
        return self.shape(height, width).tokens

    @property
    def smaller(self) -> tuple[str, ...]:
        """Half the pixels, or half of each side of a fixed size, where that is allowed; as it is typed."""
        unit = self.unit
        if self.fixed is not None:
            rows, columns = (max(unit, side // 2 // unit * unit) for side in self.fixed)
            return (f"frame_size=[{rows},{columns}]",) if (rows, columns) != self.fixed else ()
        pixels = max(self.min_pixels, self.max_pixels // 2)
        return (f"max_pixels={pixels}",) if pixels < self.max_pixels else ()


@dataclass(frozen=True)
class ScaledProcessor(Processor[SomeForm]):
    """A processor of a family that takes frames of any size and resizes them by :class:`FrameScale`."""

    kind: str
    """The checkpoint's ``model_type``."""
    scale: FrameScale
    levels: npt.NDArray[np.float32]
    """``[3, 256]``: normalised grey levels."""
    system: str | None
    """The system turn; None leaves it to the checkpoint's chat template."""

    @property
    @abstractmethod
    def placeholders(self) -> tuple[str, str]:
        """What stands for a picture in this form, and what stands for one in another form."""

    @property
    def variables(self) -> Mapping[str, Any]:
        """For the chat template."""
        return {}

    @property
    def smaller(self) -> tuple[str, ...]:
        """Half the pixels, or half of each side of a fixed size, where that is allowed."""
        return self.scale.smaller

    @property
    def picture_token(self) -> int:
        """The id of the form's placeholder."""
        return int(self.tokenizer.convert_tokens_to_ids(self.placeholders[0]))

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """The shape that the resize rule gives."""
        return self.scale.shape(height, width, scale)

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """The pixels by PIL's bicubic filter, which the stock PIL processors also use."""
        return bicubic(pixels, shape)

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """Each placeholder of the chat template as often as its picture has tokens."""
        shown, other = self.placeholders
        prompt = render_chat(self.tokenizer, turn.content, turn.system_or(self.system), turn.begun, self.variables)
        return expanded(self.tokenizer, prompt, {shown: pictures, other: []})

    def size_text(self, frames: Sequence[Frame]) -> str:
        """The smallest and the largest size of the frames as the model sees them, for records; empty without frames."""
        shapes = sorted({(shape.height, shape.width) for shape in map(self.shape_of, frames)}, key=math.prod)
        sizes = dict.fromkeys(f"{height} x {width}" for height, width in (*shapes[:1], *shapes[-1:]))
        return f" of {' to '.join(sizes)} pixels" if sizes else ""


def _smart_resize(height: int, width: int, unit: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    rows, columns = (round(side / unit) * unit for side in (height, width))
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
    elif rows * columns < min_pixels:
        enlarge = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * enlarge / unit) * unit for side in (height, width))
    return rows, columns


class Levels:
    """Normalised values of the 256 grey levels, looked up on the device of the model.

    Looked up instead of computed: the values are those of the family's own image processor to the last bit, on every
    device. A GPU divides by a constant in another rounding than a CPU.

    Args:
        values: ``[3, 256]`` float32, from :func:`levels_of`.
    """

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self._values = values
        self._tables: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def of(self, frames: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Normalised frames ``[n, 3, height, width]`` in the dtype and on the device of ``like``.

        Args:
            frames: ``[n, height, width, 3]``, uint8.
            like: a weight of the vision tower.
        """
        import torch

        kept = (like.device, like.dtype)
        if kept not in self._tables:  # the host waits for the device when it sends it
            self._tables[kept] = torch.from_numpy(self._values).flatten().to(like)
        table = self._tables[kept]
        places = frames.to(like.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.int32)
        places += 256 * torch.arange(3, dtype=torch.int32, device=like.device)[:, None, None]
        return table.index_select(0, places.flatten()).view(places.shape)


class Patches:
    """Frames as the vision tower takes them: ``[patches, 3 * 2 * patch * patch]``, four neighbours after one another.

    Source: the image processor of Qwen2-VL, whose order this is.

    Args:
        levels: ``[3, 256]``, normalised grey levels.
        unit: pixels along one side of a token.
    """

    def __init__(self, levels: npt.NDArray[np.float32], unit: int) -> None:
        self.levels = Levels(levels)
        self._side = unit // MERGE

    def grid(self, shape: FrameShape) -> list[int]:
        """One temporal grid, and rows and columns of patches."""
        return [1, shape.height // self._side, shape.width // self._side]

    def images(self, frames: Sequence[PreparedFrame], like: torch.Tensor) -> torch.Tensor:
        """Every frame by itself; sizes may differ. In the dtype and on the device of ``like``."""
        import torch

        parts = []
        for _, same in groupby(frames, key=lambda frame: frame.shape):
            pixels = self.levels.of(stacked(same, like), like)
            parts.append(self.cut(pixels, pixels))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def cut(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The patches of two pictures in time, ``[n, 3, height, width]`` each."""
        import torch

        side = self._side
        halves = torch.stack((first, second), dim=1)
        count, _, channels, height, width = halves.shape
        rows, columns = height // side, width // side
        cut = halves.view(count, 2, channels, rows // MERGE, MERGE, side, columns // MERGE, MERGE, side)
        return cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(count * rows * columns, channels * 2 * side * side)


def levels_of(rescale: Any, normalize: Any) -> npt.NDArray[np.float32]:
    """The 256 grey levels of each channel as an image processor normalises them: ``[3, 256]``.

    Args:
        rescale: takes and gives an image ``[3, height, width]``.
        normalize: likewise.

    Raises:
        ValueError: the levels are not finite.
    """
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256)).copy()
    with np.errstate(all="ignore"):
        levels = np.asarray(normalize(rescale(ramp)), dtype=np.float32).reshape(3, 256)
    if not np.isfinite(levels).all():
        raise ValueError("they make no finite numbers of grey levels")
    return levels


def stock_levels(stock: Any, folder: Path) -> npt.NDArray[np.float32]:
    """As :func:`levels_of`, of one of transformers' image processors.

    Args:
        stock: the processor.
        folder: of its settings.

    Raises:
        CheckpointError: it cannot normalise an image.
    """
    try:
        return levels_of(
            lambda image: stock.rescale(image, stock.rescale_factor),
            lambda image: stock.normalize(image, stock.image_mean, stock.image_std),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise CheckpointError(
            f"The image settings in {folder} cannot be used: {error}.",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error


def read_image_processor(stock_class: Any, folder: Path) -> Any:
    """One of transformers' image processors with a checkpoint's settings.

    Args:
        stock_class: in its PIL form.
        folder: the checkpoint's.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or is none.
    """
    try:
        stock = stock_class.from_pretrained(str(folder), local_files_only=True)
        for name in ("image_mean", "image_std", "rescale_factor"):
            # A number in quotation marks would be read by some of what uses it.
            if np.asarray(getattr(stock, name, None) or 0.0).dtype.kind not in "fi":
                raise ValueError(f"{name} is {getattr(stock, name)!r}, which are no numbers")
    except Exception as error:  # transformers takes the values as they are, and anything may come of them
        raise CheckpointError(
            f"The image processor in {folder} cannot be read: {error}",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error
    return stock


def check_patches(stock: Any, patch: int, folder: Path) -> None:
    """Check that an image processor cuts the patches of its family, two frames deep.

    Args:
        stock: the processor.
        patch: pixels along one side of a patch, as the family has it.
        folder: of its settings.

    Raises:
        CheckpointError: it cuts others.
    """
    found = (stock.patch_size, stock.merge_size, stock.temporal_patch_size)
    if found != (patch, MERGE, 2):
        raise CheckpointError(
            f"The image processor in {folder} has patch, merge and temporal sizes {found}; the model's family has "
            f"{(patch, MERGE, 2)}.",
            f"Name a checkpoint of this family: {override('source')}.",
        )


def check_side(stock: Any, side: int, folder: Path) -> None:
    """Check that an image processor makes squares that the vision tower takes.

    Args:
        stock: the processor.
        side: pixels of the tower's images.
        folder: of its settings.

    Raises:
        CheckpointError: it makes others.
    """
    size = dict(stock.size)
    if (size.get("height"), size.get("width")) != (side, side):
        raise CheckpointError(
            f"{folder} scales images to {size}, and its vision tower takes {side} x {side}.",
            restore("preprocessor_config.json of the checkpoint"),
        )


def bicubic(pixels: Pixels, shape: FrameShape) -> Pixels:
    """A frame in the given shape, by Pillow's bicubic filter; its proportions are not kept."""
    from PIL import Image

    return scaled(pixels, shape.height, shape.width, Image.Resampling.BICUBIC)


def scaled(pixels: Pixels, height: int, width: int, resample: int) -> Pixels:
    """A frame of another size, by one of Pillow's filters; its proportions are not kept.

    Equal, bit for bit, to ``resize`` of transformers' image processors in their PIL form.
    """
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), resample))


def filter_of(stock: Any, folder: Path) -> int:
    """Pillow's number of the filter of one of transformers' image processors.

    Args:
        stock: the processor, in its PIL form.
        folder: of its settings.

    Raises:
        CheckpointError: it names none.
    """
    from PIL import Image

    try:
        return int(Image.Resampling(stock.resample))
    except ValueError as error:
        raise CheckpointError(
            f"The image settings in {folder} cannot be used: resample is {stock.resample!r}.",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error


def stacked(frames: Iterable[PreparedFrame], like: torch.Tensor) -> torch.Tensor:
    """Frames of one size: ``[n, height, width, 3]``, where a copy to the device of ``like`` does not keep the host."""
    import torch

    arrays = [frame.pixels for frame in frames]
    together = torch.empty(len(arrays), *arrays[0].shape, dtype=torch.uint8, pin_memory=like.is_cuda)
    np.stack(arrays, out=together.numpy())
    return together


def fixed_size(scale: float | None, family: str) -> None:
    """Refuse a scale where every frame has one size and costs the same.

    Raises:
        FramesError: a scale other than 1 is asked for.
    """
    if scale not in (None, 1.0):
        raise FramesError(
            f"A frame is to be scaled by {scale:g}, and {family} takes all frames in one size.",
            "Take an answerer whose frames have any size, for instance answerer=qwen2_5_vl_7b, or a selection without "
            "scales.",
        )


def on_device(arguments: Mapping[str, torch.Tensor], device: Any) -> dict[str, torch.Tensor]:
    """The arguments of a call, on the device of the model."""
    return {name: tensor.to(device) for name, tensor in arguments.items()}
