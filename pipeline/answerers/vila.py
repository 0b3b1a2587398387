"""VILA-1.5 (Lin et al. 2023, arXiv 2312.07533) as an answerer: 3B, 8B, 13B and 40B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.answerers.vila_reader import VilaForm, VilaReader
from pipeline.identity import Label
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.vila_config import VilaConfig, read_config
from pipeline.models.vila_conversations import ConversationName

_AUTHORS = FrameLabels(label="", after="\n")


@dataclass(frozen=True)
class Vila(LocalAnswerer[VilaReader]):
    """Answers from frames with a checkpoint of VILA-1.5 as released.

    Its context holds 4096 tokens, some 19 frames of the SigLIP models and 14 of the 40B. The authors' code cuts longer
    prompts without a word; here such a question is refused and its status says how many frames fit.
    """

    kind: ClassVar[str] = "vila"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: frames alone, each in a line, as the authors do."""
    images: FrameLabels
    """Used by the form of that name."""
    conversation: ConversationName
    """The prompt that the model was trained with; ``auto`` is right for every released checkpoint."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

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

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        _ = self._config
        return super().identity()

    @property
    def _form(self) -> VilaForm:
        return VilaForm(self.form, self.images if self.form == "images" else _AUTHORS)

    @cached_property
    def _config(self) -> VilaConfig:
        return read_config(self.checkpoint)

    @cached_property
    def _local(self) -> LocalModel[VilaReader]:
        return LocalModel(
            lambda: VilaReader.open(self.checkpoint, self._config, self._form, self.conversation),
            self._load,
            self.prompt,
            self.max_new_tokens,
            self.checkpoint.source,
        )

    def _load(self) -> Any:
        from pipeline.models.vila import load_vila

        return load_vila(self.checkpoint, self._config)
