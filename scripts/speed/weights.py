"""Random weights in place of those on disk, made on the device. All else runs as it does for users."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

from pipeline.families.aria import model as aria
from pipeline.families.aria.processor import Canvas
from pipeline.families.chat import read_tokenizer
from pipeline.families.llava_video import model as llava_video
from pipeline.families.loading.checkpoint import Checkpoint, release, resolve
from pipeline.families.loading.placement import pick_attention
from pipeline.families.qwen import model as qwen
from pipeline.families.qwen.processor import FrameSize
from pipeline.families.seam import Opened

_CLOSES = re.compile(r"[}\]]|<0x7D>|<0x5D>")
"""Entries of a vocabulary with a brace or bracket: GenS's answer ends with one."""


class RandomWeights:
    """Gives models random weights while it is :meth:`used`.

    A sampler's model is made once and stays until :meth:`release`, however often the sampler is closed.

    Args:
        device: ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self.when_made: Callable[[Any], None] = lambda network: None
        """Called with each transformers model before its family changes anything about it."""
        self._kept: dict[str, Any] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within this context checkpoints are loaded with random weights."""
        with ExitStack() as stack:
            for family in (aria, qwen, llava_video):
                stack.enter_context(patch.object(family, "load", self._made))
            for form in (Canvas, FrameSize):
                stack.enter_context(patch.object(form, "opened", self._opened_once(form.opened)))
            yield

    def release(self) -> None:
        """Free the models of samplers."""
        for model in self._kept.values():
            release(model.network)
        self._kept.clear()

    def _opened_once(self, opened: Callable[[Any, Checkpoint], Opened[Any]]) -> Callable[[Any, Checkpoint], Any]:
        def reopened(form: Any, checkpoint: Checkpoint) -> Opened[Any]:
            found = opened(form, checkpoint)
            return replace(found, load=lambda: self._loaded_once(checkpoint.source, found.load))

        return reopened

    def _loaded_once(self, source: str, load: Callable[[], Any]) -> Any:
        if source not in self._kept:
            model = load()
            model.close = lambda: None
            self._kept[source] = model
        return self._kept[source]

    def _made(self, model_class: Any, checkpoint: Checkpoint, config: Any = None) -> Any:
        folder = resolve(checkpoint)
        if config is None:
            config = model_class.config_class.from_pretrained(str(folder), local_files_only=True)
        attention = pick_attention(checkpoint.attention, self.device, self.dtype)
        torch.manual_seed(0)
        with torch.device(self.device):
            network = model_class._from_config(config, dtype=self.dtype, attn_implementation=attention).eval()
        network.requires_grad_(False)
        network.generation_config.eos_token_id = None
        never = [token for word, token in _vocabulary(folder).items() if _CLOSES.search(word) or word.startswith("<|")]
        head = network.get_output_embeddings().weight
        head[torch.tensor(never, device=head.device)] = 0  # the largest of many random logits is above 0
        self.when_made(network)
        return network


def _vocabulary(folder: Any) -> dict[str, int]:
    """Every entry of a checkpoint's tokenizer."""
    if not (folder / "tokenizer.model").is_file():
        found: dict[str, int] = read_tokenizer(folder).get_vocab()
        return found
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return {pieces.id_to_piece(token): token for token in range(pieces.vocab_size())}
