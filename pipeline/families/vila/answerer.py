"""VILA-1.5 as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Model, Opened
from pipeline.families.vila.processor import VilaConfig, VilaForm, VilaProcessor, open_processor, read_config
from pipeline.families.vila.tokenizer import ConversationName
from pipeline.identity import Label

_AUTHORS = FrameLabels(label="", after="\n")


@dataclass(frozen=True)
class Vila(LocalAnswerer):
    """Answers from frames with a checkpoint of VILA-1.5 as released.

    Its context holds 4096 tokens, some 19 frames of the SigLIP models and 14 of the 40B. The authors' code cuts longer
    prompts without a word; here such a question is refused and its status says how many frames fit.
    """

    kind: ClassVar[str] = "vila"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: only frames, each in a line, as the authors do."""
    images: FrameLabels
    """Used by the form of that name."""
    conversation: ConversationName
    """The prompt that the model was trained with; ``auto`` is right for every released checkpoint."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``; the most frames are those beside which a question of no words would fit."""
        frame = self._config.tokens_per_frame + self._form.text_tokens()
        context = self._config.context_tokens
        return AnswererLimits(
            context_tokens=context,
            tokens_per_frame=frame,
            max_frames=max(0, context - self.max_new_tokens) // self._config.tokens_per_frame,
            time_told=self._form.time_told(),
        )

    def open(self) -> Opened[VilaProcessor]:
        """Read tokenizer and image settings."""
        processor = open_processor(self.checkpoint, self._config, self._form, self.conversation)

        def load() -> Model:
            from pipeline.families.vila.model import load_vila

            return load_vila(self.checkpoint, processor)

        return Opened(processor, load)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        _ = self._config

    @property
    def _form(self) -> VilaForm:
        return VilaForm(self.form, self.images if self.form == "images" else _AUTHORS)

    @cached_property
    def _config(self) -> VilaConfig:
        return read_config(self.checkpoint)
