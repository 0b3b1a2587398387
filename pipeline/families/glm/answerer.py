"""GLM-4.6V as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from pipeline.answerers.local import ScaledAnswerer
from pipeline.families.glm import NAMES
from pipeline.families.glm.processor import GlmForm, GlmProcessor, GlmScale, ImagesForm, VideoForm, open_processor
from pipeline.families.loading.checkpoint import model_type
from pipeline.families.pixels import FrameScale
from pipeline.families.seam import Model, Opened
from pipeline.families.thinking import Thinking, ThinkingSettings
from pipeline.generation.limits import OutputLimits


@dataclass(frozen=True)
class Glm(ScaledAnswerer):
    """Answers from frames with a GLM-4.6V checkpoint, or another of its architecture (arXiv 2507.01006)."""

    kind: ClassVar[str] = "glm"
    scale_rule: ClassVar[type[FrameScale]] = GlmScale

    thinking: Thinking
    max_thinking_tokens: int
    """A limit for each thought."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._thinking.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def output_tokens(self) -> int:
        """Tokens of the answer, and of a thought where one may come."""
        return self.output_limits(self.processor).total

    def check_checkpoint(self) -> None:
        """What its tokenizer and its chat template say, without weights.

        Raises:
            CheckpointError, ConfigError: they cannot do what the settings want.
        """
        processor: GlmProcessor = self.processor
        processor.switch.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def open(self) -> Opened[GlmProcessor]:
        """Read tokenizer and image settings."""
        processor = open_processor(self.checkpoint, self._scale, self._form, self.system, self._thinking)

        def load() -> Model:
            from pipeline.families.glm.model import load_glm

            return load_glm(self.checkpoint, processor)

        return Opened(processor, load)

    def output_limits(self, processor: GlmProcessor) -> OutputLimits:
        """Limits of the answer, and of a thought where one may come."""
        return processor.switch.limits(self.max_new_tokens, processor.tokenizer)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        model_type(self.checkpoint, NAMES)

    @cached_property
    def _thinking(self) -> ThinkingSettings:
        return ThinkingSettings(self.thinking, None, self.max_thinking_tokens)

    @property
    def _form(self) -> GlmForm:
        return ImagesForm(self.images) if self.form == "images" else VideoForm()

    def _time_told(self) -> str:
        return self._form.time_told()
