"""Routes questions about a moment to one sampler, and questions about the whole video to another.

Source: DIG, "Divide, then Ground: Adapting Frame Selection to Query Types for Long-Form Video Understanding"
(arXiv 2512.04000): uniform frames are as good as selected ones for global queries, and cost nothing. DIG asks an LLM
which kind a question is; here that is a part of its own, and a list of words is one such part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import InstanceOf

from pipeline.domain import FrameSource, Question, Relevance, Video
from pipeline.errors import ConfigError
from pipeline.identity import Identified, InQuery, Label
from pipeline.samplers import ChecksWindows, KeepsEmbeddings, PlansWindows, Sampler
from pipeline.samplers.inner import check_inner, overrides_under, under


@runtime_checkable
class Classifier(Protocol):
    """Tells questions about the whole video from those about a moment of it."""

    def is_global(self, question: Question) -> bool:
        """Whether the question is about the whole video. The same question always gives the same."""
        ...

    def close(self) -> None:
        """Free what it has loaded, if anything."""
        ...


@dataclass(frozen=True)
class Keywords:
    """Classifies by the words of the question, without its options."""

    patterns: tuple[str, ...]
    """Regular expressions, any case: a question in which one is found is global."""

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"sampler.classifier.patterns has {pattern!r}, which is not a regular expression: {error}",
                    "correct it; a backslash is written twice between double quotes",
                ) from error

    def is_global(self, question: Question) -> bool:
        """Whether any pattern is found in the question's text."""
        return any(re.search(pattern, question.text, re.IGNORECASE) for pattern in self.patterns)

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class RouteSampler(Identified):
    """Hands each question to one of two samplers, whose relevance is returned with its status and cost."""

    kind: ClassVar[str] = "route"

    name: Label[str]
    classifier: InQuery[InstanceOf[Classifier]]
    whole: InstanceOf[Sampler]
    """For global questions; the uniform one, usually."""
    localised: InstanceOf[Sampler]
    """For all others. It is never shown a global question, and its model loads only if there is another."""

    def query(self, question: Question) -> str:
        """The name of the chosen sampler, and its query."""
        if self.classifier.is_global(question):
            return f"global: {self.whole.query(question)}"
        return f"localised: {self.localised.query(question)}"

    def check(self, questions: Sequence[Question]) -> None:
        """Each sampler checks its own questions.

        Raises:
            InputError: one of them cannot score them.
        """
        for key, sampler, places in self._routed(questions):
            if places:
                check_inner(key, sampler, [questions[place] for place in places])

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """Whether both samplers do for their own questions; one that cannot tell is assumed to."""
        return all(
            sampler.keeps_embeddings([questions[place] for place in places])
            for _, sampler, places in self._routed(questions)
            if places and isinstance(sampler, KeepsEmbeddings)
        )

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """The windows of each sampler for its own questions."""
        return sum(
            sampler.windows(video, [questions[place] for place in places])
            for _, sampler, places in self._routed(questions)
            if isinstance(sampler, PlansWindows)
        )

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """Each sampler checks the windows of its own questions."""
        for key, sampler, places in self._routed(questions):
            if places and isinstance(sampler, ChecksWindows):
                with overrides_under(key):
                    sampler.check_windows(video, [questions[place] for place in places])

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. Each sampler scores all its questions at once.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
        """
        found: dict[int, Relevance] = {}
        for key, sampler, places in self._routed(questions):
            if places:
                with overrides_under(key):
                    scored = sampler.score(video, frames, [questions[place] for place in places])
                for place, each in zip(places, scored, strict=True):
                    found[place] = replace(each, detail=under(key, each.detail))
        return [found[place] for place in range(len(questions))]

    def close(self) -> None:
        """Free both samplers and the classifier."""
        self.whole.close()
        self.localised.close()
        self.classifier.close()

    def _routed(self, questions: Sequence[Question]) -> tuple[tuple[str, Sampler, list[int]], ...]:
        routed: dict[bool, list[int]] = {True: [], False: []}
        for place, question in enumerate(questions):
            routed[self.classifier.is_global(question)].append(place)
        return ("whole", self.whole, routed[True]), ("localised", self.localised, routed[False])
