"""Asks another sampler with several texts for each question, and pools their scores.

A question is often not the text that its frames are most like: what follows the bell is seen in frames without a bell.
Its options, or what a language model says is to be looked for, are further texts. Pooling is the usual late fusion of
retrieval (Fox and Shaw, "Combination of Multiple Searches", 1994: CombMAX, and CombSUM over the number of texts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import islice
from typing import ClassVar, Literal

import numpy as np
from pydantic import InstanceOf

from pipeline.artefacts.entries import read_entries
from pipeline.domain import FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, InputError, with_remedy
from pipeline.identity import Identified, InQuery, Label, RowFile
from pipeline.paths import local_path
from pipeline.samplers import ChecksWindows, KeepsEmbeddings, Sampler
from pipeline.samplers.inner import (
    check_inner,
    cost_of_both,
    cost_together,
    overrides_under,
    planned,
    status_of_all,
    under,
)

_QUESTION, _OPTION = "{question}", "{option}"
_HOLE = re.compile(r"\{(?:question|option)\}")


@dataclass(frozen=True)
class ExpandedSampler(Identified):
    """The maximum or the mean, frame by frame, of another sampler's scores for all texts of a question."""

    kind: ClassVar[str] = "expanded"

    name: Label[str]
    inner: InstanceOf[Sampler]
    """It scores each text as a question without options. Its scores for different texts should be comparable, as
    similarities and probabilities are."""
    texts: InQuery[tuple[str, ...]]
    """Forms with ``{question}`` and ``{option}``. One with ``{option}`` gives a text for each option, and none where
    the question has no options."""
    file: RowFile[str | None]
    """JSON Lines of ``{"id": ..., "texts": [...]}``, with further texts of each question; None: no file."""
    pool: Literal["max", "mean"]

    def __post_init__(self) -> None:
        if not self.texts and self.file is None:
            raise ConfigError("sampler.texts=[] asks for nothing.", f"Set sampler.texts='[\"{_QUESTION}\"]'.")

    def query(self, question: Question) -> str:
        """The queries of all its texts."""
        return "\n\n".join(self.inner.query(each) for each in self._asked(question))

    def check(self, questions: Sequence[Question]) -> None:
        """Check the file, and that every question has a text; the inner sampler checks the texts.

        Raises:
            InputError: the file cannot be read, or lacks a question; or from the inner sampler.
        """
        asked = self._all(questions)
        check_inner("inner", self.inner, asked)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """Whether the inner sampler does; one that cannot tell is assumed to."""
        return not isinstance(self.inner, KeepsEmbeddings) or self.inner.keeps_embeddings(self._all(questions))

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Those of the inner sampler for all texts."""
        return planned(self.inner, video, self._all(questions))

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """The inner sampler checks its windows."""
        if isinstance(self.inner, ChecksWindows):
            with overrides_under("inner"):
                self.inner.check_windows(video, self._all(questions))

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. The inner sampler scores the texts of all questions at once.

        A question of which one text fails has the status of this text.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
        """
        asked = [self._asked(question) for question in questions]
        with overrides_under("inner"):
            scored = iter(self.inner.score(video, frames, [each for texts in asked for each in texts]))
        return [
            self._pooled(question, list(islice(scored, len(texts))), sum(map(len, asked)))
            for question, texts in zip(questions, asked, strict=True)
        ]

    def close(self) -> None:
        """Free the inner sampler."""
        self.inner.close()

    def _all(self, questions: Sequence[Question]) -> list[Question]:
        """The texts of all questions, without those of faulty rows, which are not asked."""
        return [each for question in questions if not question.fault for each in self._asked(question)]

    def _asked(self, question: Question) -> list[Question]:
        """A question for each different text; one without words is passed on, for the inner sampler to refuse it."""
        options = question.options or ()
        found: list[str] = []
        for form in self.texts:
            for option in options if _OPTION in form else ("",):
                found.append(_filled(form, {_OPTION: option, _QUESTION: question.text.strip()}))
        if self.file is not None:
            found += self._rows.get(question.id) or self._missing(question)
        if not question.text.strip():
            found = [""]
        if not found:
            raise InputError(
                f"the question {question.id!r} has no options, and every text of sampler.texts is one for each option",
                f'ask with the question too: sampler.texts=\'["{_QUESTION}","{_OPTION}"]\'',
            )
        bare = replace(question, options=None, option_images=None, correct=None)
        return [
            replace(bare, id=f"{question.id} (text {number})", text=text)
            for number, text in enumerate(dict.fromkeys(found), start=1)
        ]

    @cached_property
    def _rows(self) -> Mapping[str, Sequence[str]]:
        assert self.file is not None
        found: dict[str, Sequence[str]] = {}
        for entry in read_entries(local_path(self.file), "sampler.file"):
            row = entry.as_kind(_Texts)
            if str(row.id) in found:
                raise InputError(f"{entry.where}: the id {row.id!r} has a row already", "remove one of the rows")
            if not row.texts or not all(text.strip() for text in row.texts):
                raise InputError(f"{entry.where}: a text is empty", "give texts with words, one at least")
            found[str(row.id)] = row.texts
        return found

    def _missing(self, question: Question) -> Sequence[str]:
        raise InputError(
            f"{self.file} has no texts for the question {question.id!r}",
            "add a row for it, or ask without the file: sampler.file=null",
        )

    def _pooled(self, question: Question, parts: Sequence[Relevance], of: int) -> Relevance:
        """The relevances of a question's texts in one; ``of`` texts were scored at once."""
        cost = reduce(cost_of_both, (part.cost for part in parts))
        windows = tuple(window for part in parts for window in part.windows)
        failed = [part for part in parts if not part.status.has_scores and part.status is not Status.NOTHING_RELEVANT]
        status = failed[0].status if failed else status_of_all(parts)
        whole = next(part for part in parts if part.status is status)
        detail = under("inner", whole.detail)
        whole = replace(whole, question_id=question.id, detail=detail, windows=windows)
        whole = replace(whole, cost=cost, alone=cost_together(parts, of))
        scored = [part for part in parts if part.times]
        if failed or not scored:
            return whole
        if any(part.times != scored[0].times for part in scored):
            detail = with_remedy(
                f"{self.inner.name} scores other frames for each text, so there is nothing to pool",
                "expand a sampler that scores all frames: sampler@sampler.inner=clip",
            )
            return replace(
                whole, times=(), scores=(), indices=None, features=None, status=Status.NO_SCORES, detail=detail
            )
        rows = np.array([part.scores for part in scored])
        pooled = rows.max(axis=0) if self.pool == "max" else rows.sum(axis=0) / len(parts)
        return replace(whole, times=scored[0].times, scores=tuple(pooled.tolist()), indices=scored[0].indices)


def _filled(form: str, words: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: words[hole[0]], form)


@dataclass(frozen=True)
class _Texts:
    id: str | int
    texts: list[str]
