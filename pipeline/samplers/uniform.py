"""Spreads the frames evenly over the video for any question: the baseline of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.domain import FrameSource, Question, Relevance, Video
from pipeline.identity import Identified, Label
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class UniformSampler(Identified):
    """Scores nothing, decodes nothing, loads nothing: says only in which variant the budget is to be spread."""

    kind: ClassVar[str] = "uniform"

    name: Label[str]
    spread: UniformVariant
    """One of the four variants in use; :mod:`pipeline.selection.uniform` has formulas and who uses which."""

    @property
    def without_pictures(self) -> Literal[True]:
        """True: no frame is decoded."""
        return True

    def query(self, question: Question) -> str:
        """The question's text. Scores do not depend on it, but each question has its own row."""
        return question.text

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: an even spread has no scores."""
        return True

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, without candidates. ``frames`` is not touched."""
        return [Relevance(question.id, (), (), spread=self.spread) for question in questions]

    def close(self) -> None:
        """Nothing to free."""
