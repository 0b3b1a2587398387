"""How probable it is that a vision language model gives one reply to a question about one frame.

All questions about a frame share what the model makes of the frame: a batch of frames is read once, and each question
is read after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ConfigError
from pipeline.families.chat import IMAGE, text
from pipeline.families.known import opener_of_images
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import FrameShape, Model, Pixels, PreparedFrame, Processor, Turn
from pipeline.generation.cached_reading import read_with_cache


class YesNoModel:
    """A loaded checkpoint.

    Args:
        checkpoint: what to load.
        max_pixels: the largest area of a frame as the model sees it.
        yes: the positive reply; one token.
        no: the other reply; one token.
        among: ``vocabulary`` is the probability of yes among all tokens, ``replies`` among the two.

    Raises:
        CheckpointError: it cannot be loaded, or its family cannot be shown one frame at a time.
        ConfigError: a reply is more than one token of this checkpoint, or its frames cannot be as small as that.
    """

    def __init__(
        self, checkpoint: Checkpoint, max_pixels: int, yes: str, no: str, among: Literal["vocabulary", "replies"]
    ) -> None:
        opened = opener_of_images(checkpoint)(checkpoint, max_pixels)
        self._processor: Processor[Any] = opened.processor
        self._yes, self._no = self._token("yes_reply", yes), self._token("no_reply", no)
        self._among = among
        self.model: Model = opened.load()

    @property
    def markup(self) -> Sequence[str]:
        """What in a question the model would take for its own markup."""
        return self._processor.markup

    @property
    def smaller(self) -> Sequence[str]:
        """Settings by which a frame takes less memory, as in ``max_pixels=50176``; empty where there are none."""
        return self._processor.smaller

    @property
    def prepare(self) -> Callable[[Pixels], PreparedFrame]:
        """Makes of a decoded frame what the model sees. It can be pickled, and raises FramesError for some shapes."""
        return self._processor.without_words().prepare

    def suffix(self, words: str) -> list[int]:
        """The tokens after the image of a prompt that says ``words`` there; they are the same for every frame."""
        return self._halves(FrameShape(1, 1, 1, 1), words)[1]

    @torch.inference_mode()
    def probabilities(
        self, frames: Sequence[PreparedFrame], suffixes: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float32]:
        """``[suffixes, frames]`` in 0 to 1.

        Args:
            frames: prepared ones of one shape, read in one call.
            suffixes: of the questions; each is one more call for all of the frames.
        """
        from transformers import DynamicCache

        language = self.model.language
        decoder, head, embed = language.get_decoder(), language.get_output_embeddings(), language.get_input_embeddings()
        device = embed.weight.device
        shape = frames[0].shape
        ids = torch.tensor([self._halves(shape, "?")[0]])
        positions = self.model.positions(ids, [shape]).to(device)
        rows = ids.repeat(len(frames), 1)
        features = torch.cat(self.model.features(frames))
        embeddings = self.model.embedded(rows, rows == self._processor.picture_token, features)
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
                inputs_embeds=embed(torch.tensor([suffix], device=device)).repeat(len(frames), 1, 1),
                position_ids=places.expand(*axes, len(frames), -1),
            )
            cache.crop(-len(suffix))
            found.append(self._probability(head(output.last_hidden_state[:, -1]).float()))
        return torch.stack(found).cpu().numpy()

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        self.model.close()

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        if self._among == "replies":
            logits, yes = logits[:, [self._yes, self._no]], 0
        else:
            yes = self._yes
        return logits.softmax(-1)[:, yes]

    def _token(self, key: str, reply: str) -> int:
        ids: list[int] = self._processor.tokenizer(reply, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise ConfigError(
                f"The reply {reply!r} is {len(ids)} tokens of this checkpoint, and its probability is read off one.",
                f"Choose a shorter one and let the prompt ask for it, for instance sampler.prompt.{key}="
                f"{'A' if key == 'yes_reply' else 'B'}.",
            )
        return ids[0]

    def _halves(self, shape: FrameShape, words: str) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to the last of its image, and those after it."""
        return self._processor.halves(Turn([IMAGE, text(words)]), [shape])
