"""Scores frames by what is said while they are on screen."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import InstanceOf

from pipeline.domain import LONGEST, Cost, FrameSource, Question, Relevance, Status, SubtitleLine, Subtitles, Video
from pipeline.errors import ConfigError, InputError, OutOfMemoryError, SubtitlesError, with_remedy
from pipeline.identity import Identified, Label
from pipeline.paths import local_path
from pipeline.samplers.bm25 import Bm25, Index
from pipeline.samplers.inner import overrides_under
from pipeline.samplers.queries import score_askable, with_options
from pipeline.samplers.similarity import SimilaritySampler
from pipeline.subtitles import read, within
from pipeline.video.fingerprint import file_fingerprint
from pipeline.video.timeline import candidate_times

_NO_FILE = with_remedy(
    "the question has no subtitles, and this sampler sees nothing else",
    "give a file of subtitles with the question (gens ask: subtitles_file=FILE.srt), or take a sampler that sees the "
    "frames: sampler=clip",
)
_NO_LINE = "the subtitles have no line in the part of the video that the question may see"
_NO_WORD = "no line of the subtitles has a word of the question"


@dataclass(frozen=True)
class SubtitleSampler(Identified, ABC):
    """Gives each frame the best score of the lines on screen at its second, or near it. No frame is decoded."""

    unrelated: ClassVar[float]
    """The score of a frame without a line. Only frames with a higher one may be chosen for their score."""

    name: Label[str]
    fps: float
    """Candidate frames a second."""
    margin: float
    """Seconds before and after a line in which it counts too: what is spoken of may be shown earlier or later."""
    query_form: Literal["question", "question_and_options"]

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ConfigError(f"sampler.margin={self.margin} is not a length.", "Set sampler.margin=2.0.")

    @abstractmethod
    def compared_with(self, lines: Sequence[str]) -> Callable[[str], Sequence[float]]:
        """A function that gives each of the lines, of which there is one at least, its score for a query."""

    def query(self, question: Question) -> str:
        """The question, and a digest of its subtitles: another file gives other scores."""
        return f"{self._text(question)}\nsubtitles {_digest(question.subtitles)}"

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: no frame is embedded."""
        return False

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. Of ``frames``, only the times are used.

        Raises:
            ConfigError: ``fps`` is not a rate.
            CheckpointError: a model cannot be loaded.
        """
        return score_askable(questions, self._text, self.markup, lambda asked: self._score(video, frames, asked))

    def markup(self) -> Sequence[str]:
        """What in a question a tokenizer would take for control tokens."""
        return ()

    def close(self) -> None:
        """Nothing to free."""

    def _score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        indices = tuple(dict.fromkeys(frames.indices_at(candidate_times(video, self.fps))))
        blank = Relevance("", tuple(frames.times_of(indices)), (), indices, named_above=self.unrelated)
        found: dict[int, Relevance] = {}
        by_file: dict[Subtitles | None, list[int]] = {}
        for place, question in enumerate(questions):
            by_file.setdefault(question.subtitles, []).append(place)
        for file, places in by_file.items():
            asked = [questions[place] for place in places]
            found.update(zip(places, self._of_file(file, blank, asked), strict=True))
        return [found[place] for place in range(len(questions))]

    def _of_file(self, file: Subtitles | None, blank: Relevance, questions: Sequence[Question]) -> list[Relevance]:
        """Relevances of the questions that come with one file."""
        if file is None:
            return [_failed(question, Status.NO_SCORES, _NO_FILE) for question in questions]
        started = time.perf_counter()
        try:
            # A kept frame of a hybrid has its own time, and the video that consists of them another length.
            lines = within(read(file, LONGEST).lines, blank.times[0], blank.times[-1] + 1 / self.fps)
            if not lines:
                return [_failed(question, Status.NOTHING_RELEVANT, _NO_LINE) for question in questions]
            compare = self.compared_with([line.text for line in lines])
            rows = [self._frame_scores(blank.times, lines, compare(self._text(each))) for each in questions]
        except SubtitlesError as error:
            return [_failed(question, error.status, str(error)) for question in questions]
        except OutOfMemoryError as error:
            return [_failed(question, Status.OUT_OF_MEMORY, str(error)) for question in questions]
        seconds, pool = time.perf_counter() - started, {"pool": float(len(blank.times))}
        cost, alone = Cost(seconds / len(questions), more=pool), Cost(seconds, more=pool)
        scored = [
            replace(blank, question_id=each.id, scores=row, cost=cost, alone=alone)
            for each, row in zip(questions, rows, strict=True)
        ]
        return [
            each
            if max(each.scores) > self.unrelated
            else replace(each, status=Status.NOTHING_RELEVANT, detail=_NO_WORD)
            for each in scored
        ]

    def _frame_scores(
        self, times: Sequence[float], lines: Sequence[SubtitleLine], scores: Sequence[float]
    ) -> tuple[float, ...]:
        moments = np.asarray(times)
        best = np.full(len(moments), self.unrelated)
        for line, score in zip(lines, scores, strict=True):
            first, last = np.searchsorted(moments, (line.start - self.margin, line.end + self.margin))
            if first == last:  # between two candidates: it counts for the one on screen
                first, last = max(first - 1, 0), max(first, 1)
            np.maximum(best[first:last], score, out=best[first:last])
        return tuple(best.tolist())

    def _text(self, question: Question) -> str:
        return question.text.strip() if self.query_form == "question" else with_options(question)


@dataclass(frozen=True)
class SubtitleWords(SubtitleSampler):
    """Compares the words of lines and question, by BM25 over the lines of the clip. Loads no model."""

    kind: ClassVar[str] = "subtitle_words"
    unrelated: ClassVar[float] = 0.0

    bm25: Bm25

    @property
    def without_pictures(self) -> Literal[True]:
        """True: no frame is decoded."""
        return True

    def compared_with(self, lines: Sequence[str]) -> Callable[[str], Sequence[float]]:
        """BM25 of each line."""
        return Index(lines, self.bm25).scores


@dataclass(frozen=True)
class SubtitleMeanings(SubtitleSampler):
    """Compares the embeddings of lines and question: their cosine, of -1 to 1."""

    kind: ClassVar[str] = "subtitle_meanings"
    unrelated: ClassVar[float] = -1.0

    encoder: InstanceOf[SimilaritySampler]
    """A sampler by similarity, of which only the texts' encoder is used."""

    def check_checkpoint(self) -> None:
        """Check by ``config.json`` that the checkpoint is an encoder of its family."""
        with overrides_under("encoder"):
            self.encoder.check_checkpoint()

    def markup(self) -> Sequence[str]:
        """Control tokens of the encoder's tokenizer."""
        with overrides_under("encoder"):
            return self.encoder.markup

    def compared_with(self, lines: Sequence[str]) -> Callable[[str], Sequence[float]]:
        """The cosine of each line."""
        with overrides_under("encoder"):
            vectors = self.encoder.embed_texts(lines)
            return lambda query: (vectors @ self.encoder.embed_texts([query])[0]).tolist()

    def close(self) -> None:
        """Free the encoder."""
        self.encoder.close()


def reads_subtitles(sampler: object) -> bool:
    """Whether a sampler, or one inside of it, is given the questions' subtitles."""
    if isinstance(sampler, SubtitleSampler):
        return True
    held = dataclasses.fields(sampler) if dataclasses.is_dataclass(sampler) else ()
    return any(reads_subtitles(getattr(sampler, each.name)) for each in held)


def _failed(question: Question, status: Status, detail: str) -> Relevance:
    return Relevance(question.id, (), (), status=status, detail=detail)


def _digest(subtitles: Subtitles | None) -> str:
    """What decides the lines: the file's content and its clock."""
    if subtitles is None:
        return "none"
    try:
        return f"{file_fingerprint(local_path(subtitles.path))} from {subtitles.start} s"
    except (OSError, InputError):
        return "missing"
