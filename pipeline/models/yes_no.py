"""How probable it is that Qwen2-VL or Qwen2.5-VL answers yes to a question about one frame.

All questions about a frame share what the model makes of the frame: a batch of frames is read once, and each question
is read behind it. The prompt is cut right behind the image, where tokenizers cut by themselves, so the tokens are those
of the whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ConfigError
from pipeline.models.chat import IMAGE, load_tokenizer, render_chat, special_tokens, text
from pipeline.models.checkpoint import Checkpoint, release, resolve
from pipeline.models.qwen_family import IMAGE_PAD, family, load_qwen
from pipeline.models.qwen_inputs import encode
from pipeline.models.qwen_pixels import FrameScale, Patches, Pixels, image_patches, load_image_processor


class YesNoModel:
    """A loaded checkpoint.

    Args:
        checkpoint: what to load.
        scale: the size of frames.
        yes: the reply that says so; one token.
        no: the other reply; one token.
        among: ``vocabulary`` is the probability of yes among all tokens, ``replies`` among the two.

    Raises:
        CheckpointError: it cannot be loaded, or is of another family.
        ConfigError: a reply is more than one token of this checkpoint.
    """

    def __init__(
        self, checkpoint: Checkpoint, scale: FrameScale, yes: str, no: str, among: Literal["vocabulary", "replies"]
    ) -> None:
        family(checkpoint)  # says what another model is, before its files are taken for a Qwen's
        folder = resolve(checkpoint)
        self._scale = scale
        self._tokenizer = load_tokenizer(folder)
        self._processor = load_image_processor(folder)
        self._image_token = self._tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self._yes, self._no = self._token("yes_reply", yes), self._token("no_reply", no)
        self._among = among
        self._model: Any = load_qwen(checkpoint)
        self._embed = self._model.get_input_embeddings()

    @property
    def markup(self) -> tuple[str, ...]:
        """What in a question the tokenizer would take for its own control tokens."""
        return special_tokens(self._tokenizer)

    def prepare(self, frame: Pixels) -> Patches:
        """A frame (RGB ``[height, width, 3]``) as the patches of the vision tower.

        Raises:
            VideoError: one side is more than 200 times the other.
        """
        return image_patches(self._processor, [frame], self._scale)

    def suffix(self, words: str) -> list[int]:
        """The tokens behind the image of a prompt that says ``words`` there; they are the same for every frame."""
        return self._halves(Patches(torch.empty(0), torch.tensor([[1, 2, 2]])), words)[1]

    @torch.inference_mode()
    def probabilities(self, frames: Sequence[Patches], suffixes: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """``[suffixes, frames]`` in 0 to 1.

        Args:
            frames: prepared ones of one size, read in one call.
            suffixes: of the questions; each is one more call for all of the frames.
        """
        from transformers import DynamicCache

        decoder, head = self._model.get_decoder(), self._model.get_output_embeddings()
        device = self._embed.weight.device
        ids = torch.tensor([self._halves(frames[0], "?")[0]])
        is_image = ids == self._image_token
        positions, _ = self._model.model.get_rope_index(ids, is_image.int(), image_grid_thw=frames[0].grids)
        embeddings = self._embed(ids.to(device)).repeat(len(frames), 1, 1)
        embeddings[is_image.repeat(len(frames), 1).to(device)] = self._features(frames)
        cache = DynamicCache()
        places = positions.to(device).expand(-1, len(frames), -1)
        decoder(inputs_embeds=embeddings, position_ids=places, past_key_values=cache, use_cache=True)
        found = []
        for suffix in suffixes:
            places = torch.arange(len(suffix), device=device) + int(positions.max()) + 1
            output = decoder(
                inputs_embeds=self._embed(torch.tensor([suffix], device=device)).repeat(len(frames), 1, 1),
                position_ids=places.expand(3, len(frames), -1),
                past_key_values=cache,
                use_cache=True,
            )
            cache.crop(-len(suffix))
            found.append(self._probability(head(output.last_hidden_state[:, -1]).float()))
        return torch.stack(found).cpu().numpy()

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        release(self._model)

    def _features(self, frames: Sequence[Patches]) -> torch.Tensor:
        """``[tokens of all frames, hidden size]``."""
        tower = self._model.model.visual
        _, rows, columns = frames[0].grids[0].tolist()
        # Frames of one size are one grid row to the tower, which attends within each temporal step alone.
        grid = torch.tensor([[len(frames), rows, columns]], device=tower.device)
        values = torch.cat([patches.values for patches in frames]).to(tower.device)
        return torch.cat(tuple(self._model.model.get_image_features(values, grid).pooler_output)).to(self._embed.weight)

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        if self._among == "replies":
            logits, yes = logits[:, [self._yes, self._no]], 0
        else:
            yes = self._yes
        return logits.softmax(-1)[:, yes]

    def _token(self, key: str, reply: str) -> int:
        ids: list[int] = self._tokenizer(reply, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise ConfigError(
                f"The reply {reply!r} is {len(ids)} tokens of this checkpoint, and its probability is read off one.",
                f"Choose a shorter one and let the prompt ask for it, for instance sampler.prompt.{key}="
                f"{'A' if key == 'yes_reply' else 'B'}.",
            )
        return ids[0]

    def _halves(self, frame: Patches, words: str) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to its last image token, and those behind it."""
        chat = render_chat(self._tokenizer, [dict(IMAGE), text(words)])
        ids: list[int] = encode(self._tokenizer, chat, frame).input_ids.tolist()
        cut = len(ids) - ids[::-1].index(self._image_token)
        return ids[:cut], ids[cut:]
