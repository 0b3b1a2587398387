"""How probable it is that a vision language model answers yes to a question about one frame.

All questions about a frame share what the model makes of the frame: a batch of frames is read once, and each question
is read behind it. The prompt is cut right behind the image, where tokenizers cut by themselves, so the tokens are those
of the whole prompt. What differs between families lies behind :class:`pipeline.models.single_frames.SingleFrames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ConfigError
from pipeline.models import llava_onevision_family, qwen_family
from pipeline.models.chat import IMAGE, render_chat, text
from pipeline.models.checkpoint import Checkpoint, model_type, release
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.prompt_ids import expanded
from pipeline.models.single_frames import PreparedFrame, SingleFrames


def open_single_frames(checkpoint: Checkpoint, max_pixels: int) -> SingleFrames:
    """The inputs of the family that ``config.json`` names; no weights are read.

    Args:
        checkpoint: any that our answerers take.
        max_pixels: the largest area of a frame as the model sees it.

    Raises:
        CheckpointError: it is of another family, or a file is missing.
        ConfigError: the family has no frames as small as that.
    """
    family = model_type(checkpoint, {**qwen_family.NAMES, **llava_onevision_family.NAMES})
    if family in llava_onevision_family.NAMES:
        from pipeline.models.llava_onevision_single_frames import LlavaSingleFrames

        return LlavaSingleFrames.open(checkpoint, max_pixels)
    from pipeline.models.qwen_single_frames import QwenSingleFrames

    return QwenSingleFrames.open(checkpoint, max_pixels)


class YesNoModel:
    """A loaded checkpoint.

    Args:
        checkpoint: what to load.
        max_pixels: the largest area of a frame as the model sees it.
        yes: the reply that says so; one token.
        no: the other reply; one token.
        among: ``vocabulary`` is the probability of yes among all tokens, ``replies`` among the two.

    Raises:
        CheckpointError: it cannot be loaded, or is of another family.
        ConfigError: a reply is more than one token of this checkpoint, or its frames cannot be as small as that.
    """

    def __init__(
        self, checkpoint: Checkpoint, max_pixels: int, yes: str, no: str, among: Literal["vocabulary", "replies"]
    ) -> None:
        self._inputs = open_single_frames(checkpoint, max_pixels)
        self._image_token = self._inputs.tokenizer.convert_tokens_to_ids(self._inputs.placeholder)
        self._yes, self._no = self._token("yes_reply", yes), self._token("no_reply", no)
        self._among = among
        self._model: Any = self._inputs.load()
        self._embed = self._model.get_input_embeddings()

    @property
    def markup(self) -> tuple[str, ...]:
        """What in a question the model would take for its own markup."""
        return self._inputs.markup

    @property
    def smaller(self) -> Sequence[str]:
        """Overrides by which a frame takes less memory; none where the family has no such setting."""
        return self._inputs.smaller

    def prepare(self, frame: npt.NDArray[np.uint8]) -> PreparedFrame:
        """A frame (RGB ``[height, width, 3]``) as the vision tower takes it.

        Raises:
            FramesError: a frame of this shape cannot be shown to the model.
        """
        return self._inputs.prepare(frame)

    def suffix(self, words: str) -> list[int]:
        """The tokens behind the image of a prompt that says ``words`` there; they are the same for every frame."""
        return self._halves(1, words)[1]

    @torch.inference_mode()
    def probabilities(
        self, frames: Sequence[PreparedFrame], suffixes: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float32]:
        """``[suffixes, frames]`` in 0 to 1.

        Args:
            frames: prepared ones of one grid, read in one call.
            suffixes: of the questions; each is one more call for all of the frames.
        """
        from transformers import DynamicCache

        decoder, head = self._model.get_decoder(), self._model.get_output_embeddings()
        device = self._embed.weight.device
        ids = torch.tensor([self._halves(frames[0].tokens, "?")[0]])
        is_image = (ids == self._image_token).repeat(len(frames), 1).to(device)
        positions = self._inputs.positions(self._model, ids, frames[0]).to(device)
        embeddings = self._embed(ids.to(device)).repeat(len(frames), 1, 1)
        embeddings[is_image] = self._inputs.features(self._model, frames).to(embeddings)
        cache = DynamicCache()
        axes = positions.shape[:-2]
        places = positions.expand(*axes, len(frames), -1)
        read_with_cache(decoder, cache, inputs_embeds=embeddings, position_ids=places)
        found = []
        for suffix in suffixes:
            places = torch.arange(len(suffix), device=device) + int(positions.max()) + 1
            output = read_with_cache(
                decoder,
                cache,
                inputs_embeds=self._embed(torch.tensor([suffix], device=device)).repeat(len(frames), 1, 1),
                position_ids=places.expand(*axes, len(frames), -1),
            )
            cache.crop(-len(suffix))
            found.append(self._probability(head(output.last_hidden_state[:, -1]).float()))
        return torch.stack(found).cpu().numpy()

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        release(self._model)

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        if self._among == "replies":
            logits, yes = logits[:, [self._yes, self._no]], 0
        else:
            yes = self._yes
        return logits.softmax(-1)[:, yes]

    def _token(self, key: str, reply: str) -> int:
        ids: list[int] = self._inputs.tokenizer(reply, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise ConfigError(
                f"The reply {reply!r} is {len(ids)} tokens of this checkpoint, and its probability is read off one.",
                f"Choose a shorter one and let the prompt ask for it, for instance sampler.prompt.{key}="
                f"{'A' if key == 'yes_reply' else 'B'}.",
            )
        return ids[0]

    def _halves(self, tokens: int, words: str) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to the last of its image, which has ``tokens`` of them, and those behind it."""
        inputs = self._inputs
        chat = render_chat(inputs.tokenizer, [dict(IMAGE), text(words)])
        pictures = {inputs.placeholder: [tokens], **{other: [] for other in inputs.other_placeholders}}
        ids = expanded(inputs.tokenizer, chat, pictures)
        cut = len(ids) - ids[::-1].index(self._image_token)
        return ids[:cut], ids[cut:]
