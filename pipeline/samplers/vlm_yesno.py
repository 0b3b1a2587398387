"""FRAG: a vision language model is asked of every single frame whether it helps to answer the question.

Source: "FRAG: Frame Selection Augmented Generation for Long Video and Long Document Understanding", arXiv 2504.17447,
and ``frame_selection.py`` of github.com/NVlabs/FRAG: 256 frames spread over the video, each scored by the probability
of "A. yes". The wording goes back to SeViLA (arXiv 2305.06988). Any checkpoint that an answerer takes can be asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.domain import Cost, FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, OutOfMemoryError
from pipeline.families.known import FirstUse, opener_of_images
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.identity import Identified, InQuery, Label, Speed
from pipeline.ledger import scaled
from pipeline.progress import step
from pipeline.samplers.frames import candidates
from pipeline.samplers.queries import score_askable, with_options
from pipeline.video.timeline import candidate_times

if TYPE_CHECKING:
    from pipeline.families.seam import PreparedFrame
    from pipeline.samplers.reply_probability import YesNoModel

_QUESTION = "{question}"


@dataclass(frozen=True)
class UsefulnessPrompt:
    """What is asked of a frame, and the two replies."""

    words: str
    """After the image; ``{question}`` is the question."""
    yes_reply: str
    """A single token."""
    no_reply: str
    """A single token."""

    def __post_init__(self) -> None:
        if _QUESTION not in self.words:
            raise ConfigError(
                f"The prompt {self.words!r} has no {_QUESTION}.",
                f"Put it in, for instance sampler.prompt.words='\"{_QUESTION} Does this image help? yes or no\"'.",
            )


@dataclass(frozen=True)
class VlmYesNoSampler(Identified):
    """The probability of yes, frame by frame."""

    kind: ClassVar[str] = "vlm_yesno"

    name: Label[str]
    checkpoint: Checkpoint
    fps: float
    """Candidate frames a second."""
    max_frames: int | None
    """The most candidates of a video; a longer one has them spread evenly. None: no limit."""
    max_pixels: int
    """The largest area of a frame as the model sees it. Families of one fixed size take it or refuse it."""
    prompt: UsefulnessPrompt
    among: Literal["vocabulary", "replies"]
    """The probability of yes among all tokens, as FRAG has it, or among the two replies."""
    question_form: InQuery[Literal["question", "question_and_options"]]
    frames_at_once: Speed[int]
    """Frames in one call of the model; decides memory and speed, not scores."""

    def __post_init__(self) -> None:
        if self.frames_at_once < 1:
            raise ConfigError(f"frames_at_once is {self.frames_at_once}.", "Set sampler.frames_at_once=1, or more.")
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"max_frames is {self.max_frames}.", "Set sampler.max_frames=256, or null for no limit.")

    def query(self, question: Question) -> str:
        """The question, followed by its options where ``question_form`` includes them."""
        return question.text.strip() if self.question_form == "question" else with_options(question)

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Batches of frames, each asked about for all questions."""
        frames = len(candidate_times(video, self._rate(video)))
        return -(-frames // self.frames_at_once) if questions else 0

    def check_checkpoint(self) -> None:
        """Check by its ``config.json`` that the checkpoint's family can be shown one frame at a time."""
        opener_of_images(self.checkpoint)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """None: a probability is all that is left of a frame."""
        return False

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """Probabilities of 0 to 1. Every candidate may be chosen: how high they are differs from question to question.

        The video is decoded once, and every frame is encoded once for all questions.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: the model cannot be loaded.
            ConfigError: a reply is more than one token, or the model has no frames of so few pixels.
        """
        with self._first_use.watched("video"):
            return score_askable(
                questions,
                self.query,
                lambda: self._model.markup,
                lambda asked: self._score_in_memory(video, frames, asked),
            )

    def close(self) -> None:
        """Free the model; the next ``score`` loads it again."""
        model = self.__dict__.pop("_model", None)
        if model is not None:
            model.close()

    @cached_property
    def _first_use(self) -> FirstUse:
        return FirstUse(self.checkpoint.source)

    @cached_property
    def _model(self) -> YesNoModel:
        from pipeline.samplers.reply_probability import YesNoModel

        return YesNoModel(self.checkpoint, self.max_pixels, self.prompt.yes_reply, self.prompt.no_reply, self.among)

    def _score_in_memory(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        from pipeline.generation.memory import mapped_out_of_memory

        try:
            with mapped_out_of_memory():
                return self._score(video, frames, questions)
        except OutOfMemoryError as error:
            return [self._too_large(question, error) for question in questions]

    def _score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        started = time.perf_counter()
        suffixes = [self._model.suffix(self.prompt.words.replace(_QUESTION, self.query(one))) for one in questions]
        times: list[float] = []
        scores: list[list[float]] = [[] for _ in questions]
        visual_tokens = patches = 0
        for seconds, batch in self._batches(video, frames):
            times += seconds
            visual_tokens += batch[0].shape.tokens * len(batch)
            patches += batch[0].shape.patches * len(batch)
            for row, found in zip(scores, self._model.probabilities(batch, suffixes).tolist(), strict=True):
                row.extend(found)
            step(video.path, "frames", len(times), len(candidate_times(video, self._rate(video))))
        spent = time.perf_counter() - started
        pool, count, device = {"pool": float(len(times))}, len(questions), self._model.model.device_name
        whole = {"frames_scored": len(times), "patches": patches, "visual_tokens": visual_tokens}
        return [
            Relevance(
                question.id,
                tuple(times),
                tuple(row),
                named_above=None,
                cost=Cost(
                    spent / count,
                    visual_tokens // count + len(times) * len(suffix),
                    more={**pool, **scaled(whole, 1 / count)},
                    device=device,
                ),
                alone=Cost(spent, visual_tokens + len(times) * len(suffix), more={**pool, **whole}, device=device),
            )
            for question, row, suffix in zip(questions, scores, suffixes, strict=True)
        ]

    def _batches(self, video: Video, frames: FrameSource) -> Iterator[tuple[list[float], list[PreparedFrame]]]:
        """Candidates of one size at a time, with their seconds."""
        times: list[float] = []
        batch: list[PreparedFrame] = []
        with closing(candidates(video, frames, self._rate(video), self._model.prepare)) as stream:
            for candidate in stream:
                if batch and (len(batch) == self.frames_at_once or candidate.frame.shape != batch[0].shape):
                    yield times, batch
                    times, batch = [], []
                times.append(candidate.time)
                batch.append(candidate.frame)
        if batch:
            yield times, batch

    def _rate(self, video: Video) -> float:
        """Candidates a second."""
        span = max(video.duration - video.start, 1.0)
        return self.fps if self.max_frames is None else min(self.fps, self.max_frames / span)

    def _too_large(self, question: Question, error: OutOfMemoryError) -> Relevance:
        ways = [f"sampler.frames_at_once={self.frames_at_once // 2}"] if self.frames_at_once > 1 else []
        ways += [
            f"sampler.{setting} (which changes the scores)"
            for setting in self._model.smaller
            if hasattr(self, setting.partition("=")[0])
        ]
        ways = ways or ["a smaller sampler.checkpoint.source", "sampler.checkpoint.device=spread on several GPUs"]
        detail = f"{error.problem} Set {' or '.join(ways)}."
        return Relevance(question.id, (), (), status=Status.OUT_OF_MEMORY, detail=detail)
