"""Relevance as the similarity of a frame and the question: one embedding pass over a video serves all that is asked.

Frames are embedded without any question in sight, so their vectors are kept per video: another question costs one pass
of a text, another budget nothing at all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.domain import Cost, FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, OutOfMemoryError
from pipeline.families.known import FirstUse
from pipeline.families.loading.checkpoint import Checkpoint, model_type
from pipeline.identity import Identified, Label, Place, Speed, features_key, identity_of
from pipeline.ledger import scaled
from pipeline.progress import step
from pipeline.samplers.queries import score_askable, with_options
from pipeline.video.preparing import OfPixels, prepared_pictures
from pipeline.video.timeline import candidate_times

Vectors = npt.NDArray[np.float32]
"""``[items, dimensions]``, each row of unit length."""


class Encoder(Protocol):
    """A loaded model that puts frames and texts into one space."""

    @property
    def markup(self) -> Sequence[str]:
        """What in a question its tokenizer would take for control tokens."""
        ...

    @property
    def prepare(self) -> Callable[[npt.NDArray[np.uint8]], Any]:
        """Makes a frame (RGB ``[height, width, 3]``) as small as the model sees it.

        It runs in worker processes if it can be pickled.
        """
        ...

    def embed_frames(self, prepared: Sequence[Any]) -> Vectors:
        """Vectors of prepared frames, in one call of the model."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts of any length."""
        ...

    def measured(self, prepared: Sequence[Any]) -> tuple[int, int]:
        """Inputs of the vision tower that prepared frames are, and their tokens in prompts, if there are prompts."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class SimilaritySampler(Identified, ABC):
    """What all samplers that compare embeddings have in common. A family of models brings its encoder."""

    families: ClassVar[Mapping[str, str]]
    """Model types that are meant, with the names that people know."""

    name: Label[str]
    checkpoint: Checkpoint
    fps: float
    """Candidate frames a second."""
    query_form: Literal["question", "question_and_options", "best_option"]
    """What a frame is compared with. ``best_option``: with question and option; the best option counts."""
    frames_at_once: Speed[int]
    """Frames in one call of the model; decides memory and speed, not scores."""
    feature_store: Place[Path]
    """Folder where the frames' vectors are kept from run to run."""

    def __post_init__(self) -> None:
        if self.frames_at_once < 1:
            raise ConfigError(f"frames_at_once is {self.frames_at_once}.", "Set sampler.frames_at_once=1, or more.")

    @abstractmethod
    def open_encoder(self) -> Encoder:
        """Load the model.

        Raises:
            CheckpointError: it cannot be loaded, or is of another family.
        """

    @abstractmethod
    def frame_identity(self) -> Mapping[str, Any]:
        """What decides the frames' vectors apart from checkpoint and candidate rate, with the family's name."""

    def query(self, question: Question) -> str:
        """The question, with its options where they matter."""
        return question.text.strip() if self.query_form == "question" else with_options(question)

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Batches of frames; None where the video's vectors are kept already."""
        if not questions or self._features_key(video) in FeatureStore(self.feature_store):
            return 0
        return -(-len(candidate_times(video, self.fps)) // self.frames_at_once)

    def check_checkpoint(self) -> None:
        """Check by ``config.json`` that the checkpoint is an encoder of this family."""
        model_type(self.checkpoint, self.families)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """Those of every video, in the feature store."""
        return True

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """Cosines of -1 to 1. Every candidate may be chosen, as no cosine says by itself that a frame is irrelevant.

        The video is decoded and embedded once in its life; afterwards ``frames`` is not touched.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: the model cannot be loaded.
            StorageError: vectors cannot be kept.
        """
        with self._first_use.watched("video"):
            return score_askable(
                questions,
                self.query,
                lambda: self.markup,
                lambda asked: self._score_in_memory(video, frames, asked),
            )

    @property
    def markup(self) -> Sequence[str]:
        """What in a text the tokenizer would take for control tokens. Loads the model.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        return self._encoder.markup

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, such as lines of subtitles, with a space inside of what looks like a control token.

        Raises:
            CheckpointError: the model cannot be loaded.
            OutOfMemoryError: it has no memory for them.
        """
        from pipeline.generation.memory import mapped_out_of_memory

        tokens = sorted((token for token in self.markup if len(token) > 1), key=len, reverse=True)
        with self._first_use.watched("file of subtitles"), mapped_out_of_memory():
            return self._encoder.embed_texts([_as_words(text, tokens) for text in texts])

    def close(self) -> None:
        """Free the model; the next ``score`` loads it again."""
        encoder = self.__dict__.pop("_encoder", None)
        if encoder is not None:
            encoder.close()

    @cached_property
    def _first_use(self) -> FirstUse:
        return FirstUse(self.checkpoint.source)

    @cached_property
    def _encoder(self) -> Encoder:
        return self.open_encoder()

    @cached_property
    def _frame_identity(self) -> dict[str, Any]:
        return {
            **self.frame_identity(),
            "checkpoint": identity_of(self.checkpoint),
            "fps": self.fps,
        }

    def _score_in_memory(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        from pipeline.generation.memory import mapped_out_of_memory

        try:
            with mapped_out_of_memory():
                return self._score(video, frames, questions)
        except OutOfMemoryError as error:
            return [self._too_large(question, error) for question in questions]

    def _score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        started = time.perf_counter()
        key = self._features_key(video)
        store = FeatureStore(self.feature_store)
        features = store.find(key)
        is_new = features is None
        if features is None:
            features = self._embed(video, frames)
            store.keep(key, features)
        texts = [self._texts(question) for question in questions]
        vectors = self._encoder.embed_texts([text for one in texts for text in one])
        cosines = vectors @ features.vectors.T
        best = [part.max(axis=0) for part in np.split(cosines, np.cumsum([len(one) for one in texts])[:-1])]
        cost, alone = self._costs(features, time.perf_counter() - started, len(questions), is_new=is_new)
        return [
            Relevance(
                question.id,
                features.times,
                tuple(scores.tolist()),
                named_above=None,
                cost=cost,
                alone=alone,
                features=key,
            )
            for question, scores in zip(questions, best, strict=True)
        ]

    def _costs(self, features: Features, seconds: float, questions: int, *, is_new: bool) -> tuple[Cost, Cost]:
        """What each question took, and would have taken alone: embeddings that are at hand took their time before."""
        pool, took = {"pool": float(len(features.times))}, dict(features.took)
        if is_new:  # who hands over the frames tells what they took
            fresh = {name: took[name] for name in ("frames_scored", "patches", "visual_tokens", "score_seconds")}
            took, before = fresh, 0.0
        else:
            fresh, before = {}, took.get("score_seconds", 0.0) + took.get("decode_seconds", 0.0)
        share = scaled(fresh, 1 / questions)
        return Cost(seconds / questions, more={**pool, **share}), Cost(seconds + before, more={**pool, **took})

    def _features_key(self, video: Video) -> str:
        return features_key(video.fingerprint, self._frame_identity)

    def _embed(self, video: Video, frames: FrameSource) -> Features:
        begin, scoring = time.perf_counter(), 0.0
        patches = tokens = 0
        times: list[float] = []
        walked: list[int | None] = []
        vectors: list[Vectors] = []
        prepare = OfPixels(self._encoder.prepare)
        seconds = candidate_times(video, self.fps)
        with closing(prepared_pictures(frames, seconds, prepare)) as pictures:
            while batch := list(islice(pictures, self.frames_at_once)):
                times += [picture.time for picture in batch]
                walked += [picture.walked for picture in batch]
                contents = [picture.content for picture in batch]
                drawn = time.perf_counter()
                vectors.append(self._encoder.embed_frames(contents))
                scoring += time.perf_counter() - drawn
                more_patches, more_tokens = self._encoder.measured(contents)
                patches, tokens = patches + more_patches, tokens + more_tokens
                step(video.path, "frames", len(times), len(seconds))
        took = {
            "frames_scored": len(times),
            "patches": patches,
            "visual_tokens": tokens,
            "score_seconds": scoring,
            "decode_seconds": time.perf_counter() - begin - scoring,
            "frames_decoded": len(times),
            **({} if None in walked else {"frames_walked": sum(each or 0 for each in walked)}),
            "pixels": len(times) * video.width * video.height,
        }
        return Features(tuple(times), np.concatenate(vectors), took)

    def _texts(self, question: Question) -> list[str]:
        if self.query_form == "best_option" and question.options:
            return [f"{question.text.strip()} {option}" for option in question.options]
        return [self.query(question)]

    def _too_large(self, question: Question, error: OutOfMemoryError) -> Relevance:
        fewer = max(1, self.frames_at_once // 2)
        detail = f"{error.problem} Set sampler.frames_at_once={fewer}, or sampler.checkpoint.device=cpu."
        return Relevance(question.id, (), (), status=Status.OUT_OF_MEMORY, detail=detail)


def _as_words(text: str, control_tokens: Sequence[str]) -> str:
    for token in control_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
