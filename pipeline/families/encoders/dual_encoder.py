"""CLIP, SigLIP and SigLIP 2: a picture tower and a text tower, whose outputs compare by cosine.

Sources: CLIP, arXiv 2103.00020; SigLIP, arXiv 2303.15343; SigLIP 2, arXiv 2502.14786. The image processors are those of
PIL, which need no torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import CheckpointError
from pipeline.families.encoders.text_rows import TextRows
from pipeline.families.loading.checkpoint import Checkpoint, load, model_type, release, resolve
from pipeline.families.loading.remedies import restore

_TEXTS_AT_ONCE = 64


class DualEncoder:
    """A loaded checkpoint that embeds pictures and texts.

    Args:
        checkpoint: what to load.
        families: the model types that are meant, with the names that people know.

    Raises:
        CheckpointError: it cannot be loaded, or is of another family.
    """

    def __init__(self, checkpoint: Checkpoint, families: Mapping[str, str]) -> None:
        kind = model_type(checkpoint, families)
        folder = resolve(checkpoint)
        model_class, processor_class = _classes(kind)
        self._texts = TextRows.read(folder)
        self._processor = _image_processor(folder, processor_class)
        self._model: Any = load(model_class, checkpoint)
        self._length = self._model.config.text_config.max_position_embeddings

    @property
    def markup(self) -> tuple[str, ...]:
        """What in a question the tokenizer would take for its own control tokens."""
        return self._texts.markup

    def prepare(self, frame: npt.NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """A frame (RGB ``[height, width, 3]``) in the size that the picture tower takes."""
        made = self._processor(images=frame, return_tensors="pt", input_data_format="channels_last")
        return {name: made[name] for name in self._processor.model_input_names}

    @torch.inference_mode()
    def embed_frames(self, prepared: Sequence[Mapping[str, torch.Tensor]]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[frames, dimensions]`` of prepared frames, in one call of the picture tower."""
        inputs = {name: torch.cat([one[name] for one in prepared]).to(self._model.device) for name in prepared[0]}
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        return _unit(self._model.get_image_features(**inputs).pooler_output)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[texts, dimensions]``.

        The text towers read 77 (CLIP) or 64 (SigLIP) tokens. A longer text is cut into as few pieces as fit, of nearly
        equal length; its vector is the mean of the pieces' unit vectors, made a unit vector again.
        """
        pieces = [self._texts.rows(text, self._length) for text in texts]
        rows = torch.tensor([row for text in pieces for row in text], device=self._model.device)
        vectors = np.concatenate(
            [
                _unit(self._model.get_text_features(rows[start : start + _TEXTS_AT_ONCE]).pooler_output)
                for start in range(0, len(rows), _TEXTS_AT_ONCE)
            ]
        )
        ends = np.cumsum([len(text) for text in pieces])[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(vectors, ends)])
        unit: npt.NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        release(self._model)


def _classes(kind: str) -> tuple[type[Any], type[Any]]:
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    return {
        "clip": (transformers.CLIPModel, CLIPImageProcessorPil),
        "siglip": (transformers.SiglipModel, SiglipImageProcessorPil),
        "siglip2": (transformers.Siglip2Model, Siglip2ImageProcessorPil),
    }[kind]


def _image_processor(folder: Path, processor_class: Any) -> Any:
    try:
        return processor_class.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"The image processor in {folder} cannot be read: {error}",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error


def _unit(vectors: torch.Tensor) -> npt.NDArray[np.float32]:
    made: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return made
