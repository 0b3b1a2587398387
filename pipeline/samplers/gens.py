"""GenS: a vision language model reads the whole video window by window and names the frames that matter.

Source: "Generative Frame Sampler for Long Video Understanding", arXiv 2503.09146, and its released inference code.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import InstanceOf

from pipeline.domain import Cost, Frame, FrameSource, Question, Relevance, Status, Video, WindowOutput
from pipeline.errors import ConfigError, VideoError
from pipeline.families.known import FirstUse
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Opened, Pixels, PreparedFrame, Processor
from pipeline.identity import Identified, InQuery, Label, Speed
from pipeline.ledger import added
from pipeline.progress import step
from pipeline.samplers import PAUSE, Work
from pipeline.samplers.frames import Candidate, FrameForm, candidate_pictures, candidates
from pipeline.samplers.output import Reading, read_scores
from pipeline.samplers.pooling import Pool
from pipeline.samplers.prompt import FramePrompt
from pipeline.samplers.queries import refusals, with_options
from pipeline.samplers.window_reading import AskedVideo, AtOnce, WindowAnswers, WindowReader
from pipeline.samplers.windows import Window, Windowing, count_windows, windows
from pipeline.spans import summing
from pipeline.video.timeline import candidate_times

if TYPE_CHECKING:
    from pipeline.generation.texts import Generated
    from pipeline.samplers.backbone import Backbone

_TOLD_AT_ONCE = 16
"""Frames after which it is told how many are decoded."""


@dataclass(frozen=True)
class GensSampler(Identified):
    """GenS on a checkpoint of its own form (``yi_vl``), of Aria, Qwen2-VL or Qwen2.5-VL."""

    kind: ClassVar[str] = "gens"

    name: Label[str]
    checkpoint: Checkpoint
    fps: float
    """Candidate frames a second."""
    window: Windowing
    frame: InstanceOf[FrameForm]
    """How a frame is resized for the model; each family has its own form."""
    prompt: FramePrompt
    question_form: InQuery[Literal["question", "question_and_options"]]
    """Whether the model sees the options. The paper does not say."""
    max_new_tokens: int
    """The limit for one window and question. An answer that reaches it is read as far as it goes, and marked."""
    questions_at_once: Speed[int]
    """Answers generated together, over all windows; decides memory and speed, not scores."""
    windows_at_once: Speed[int]
    """Windows whose answers are generated together, where memory allows; likewise."""

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "questions_at_once", "windows_at_once"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} is {getattr(self, key)}.", f"Set sampler.{key}=1, or more.")

    def query(self, question: Question) -> str:
        """The question, followed by its options where ``question_form`` includes them."""
        return question.text.strip() if self.question_form == "question" else with_options(question)

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """The windows of one pass over the video, which serves all questions."""
        return count_windows(len(candidate_times(video, self.fps)), self.window) if questions else 0

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """Raise where the frames of a window exceed the checkpoint's context.

        Counts the frames' tokens and one token for each frame number; the other words are counted only when the
        tokenizer is loaded. A video whose frames are not evenly spaced may have fewer candidates, and is not checked.
        """
        frames = min(self.window.frames, len(candidate_times(video, self.fps)), video.frame_count)
        context = self.frame.context_tokens(self.checkpoint) if video.is_even and questions else None
        least = frames * (self.frame.tokens + 1)
        if context is not None and least >= context:
            raise ConfigError(
                f"A window of {frames} frames is more than {least} tokens, and {self.checkpoint.source} reads "
                f"{context}.",
                f"Use shorter windows: sampler.window.frames={max(1, frames * context // (2 * least))} "
                "sampler.window.overlap=0.",
            )

    def pictures(self, video: Video) -> tuple[Sequence[float], Callable[[Frame], Any]]:
        """The candidates, as the model takes them. The tokenizer is read, and no weight."""
        return candidate_pictures(video, self.fps, self._prepare)

    def check_checkpoint(self) -> None:
        """Check by its ``config.json`` that the checkpoint takes frames of the configured form."""
        self.frame.check(self.checkpoint)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: the features of a window are freed when its questions are answered."""
        return False

    def prefix_tokens(self) -> int:
        """Tokens of a full window's frames and their labels, which stay in memory while its questions are answered.

        A label counts one token for each character, and a frame has one token before it and one after it.
        """
        words = len(self.prompt.label.replace("{number}", str(self.window.frames))) + len(self.prompt.after_image)
        return self.window.frames * (self.frame.tokens + words + 2)

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """Scores 1 to 5 for the frames that the model names, 0 for all others.

        The video is decoded once, each frame goes through the vision tower once, and the frames of a window are read
        once for all questions. Memory is bounded by ``windows_at_once`` windows.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: the model cannot be loaded.
            ConfigError: a window is longer than the model's context.
        """
        [given] = self.score_stream([Work(video, frames, questions)])
        if isinstance(given, VideoError):
            raise given
        return given

    def score_stream(self, works: Iterable[Work | None]) -> Iterator[list[Relevance] | VideoError]:
        """The same for several videos, of which the windows and questions in memory are answered together.

        Raises:
            CheckpointError: the model cannot be loaded.
            ConfigError: a window is longer than the model's context.
        """
        begun: deque[_Scoring | list[Relevance]] = deque()  # in order; relevances where there is nothing to ask

        def draw() -> Iterator[AskedVideo | None]:
            for work in works:
                if work is None:
                    yield None
                    continue
                refused = refusals(work.questions, self.query, lambda: self._opened.processor.markup)
                if len(refused) == len(work.questions):
                    begun.append([refused[place] for place in range(len(work.questions))])
                    continue
                scoring = self._begun(work, refused)
                begun.append(scoring)
                yield scoring.asked

        # The model is loaded with the first question that can be put to it.
        last_given = 0.0
        with summing() as sums:
            for given in self._reader_on_demand(draw()):
                while isinstance(known := begun.popleft(), list):
                    yield known
                # Videos are read at the same time: no second is counted for two of them.
                seconds = time.perf_counter() - max(known.started, last_given)
                took = Cost(seconds, more=_parts(sums.take()), device=self._backbone.model.device_name)
                yield given if isinstance(given, VideoError) else self._relevances(known, given, took)
                last_given = time.perf_counter()
        for known in begun:
            assert isinstance(known, list)
            yield known

    def close(self) -> None:
        """Free the model; the next ``score`` loads it again."""
        backbone = self.__dict__.pop("_backbone", None)
        if backbone is not None:
            backbone.close()

    @cached_property
    def _at_once(self) -> AtOnce:
        return AtOnce(self.questions_at_once, self.windows_at_once)

    @cached_property
    def _first_use(self) -> FirstUse:
        return FirstUse(self.checkpoint.source)

    @cached_property
    def _backbone(self) -> Backbone:
        from pipeline.samplers.backbone import Backbone

        return Backbone(self._opened, self.prompt, self.checkpoint.source, self.frame.smaller)

    @cached_property
    def _opened(self) -> Opened[Processor[Any]]:
        return self.frame.opened(self.checkpoint)

    @property
    def _prepare(self) -> Callable[[Pixels], PreparedFrame]:
        """Makes of a decoded frame what the model sees. It can be pickled, and raises FramesError for some shapes."""
        return self._opened.processor.without_words().prepare

    def _reader_on_demand(self, asked: Iterator[AskedVideo | None]) -> Iterator[list[WindowAnswers] | VideoError]:
        with self._first_use.watched("video"):
            for first in asked:
                if first is None:
                    time.sleep(PAUSE)
                    continue
                reader = WindowReader(self._backbone, self.window, self._at_once, self.max_new_tokens)
                yield from reader.read(chain([first], asked))

    def _begun(self, work: Work, refused: Mapping[int, Relevance]) -> _Scoring:
        times: list[float] = []
        stream = candidates(work.video, work.frames, self.fps, self._prepare)  # before the model is loaded
        suffixes = {
            place: self._backbone.suffix(self.query(question))
            for place, question in enumerate(work.questions)
            if place not in refused
        }
        fresh = self.window.frames + 1  # a window ends where another one begins

        path, total = work.video.path, len(candidate_times(work.video, self.fps))

        def told(seen: Callable[[Candidate], None]) -> Iterator[Candidate]:
            count = 0
            for count, candidate in enumerate(stream, start=1):
                if count % _TOLD_AT_ONCE == 0:
                    step(path, "decoded", count, total)
                seen(candidate)
                yield candidate
            step(path, "decoded", count, count)

        def watched(seen: Callable[[Candidate], None]) -> Iterator[Window[Candidate]]:
            nonlocal fresh
            for window in windows(told(seen), self.window):
                times.extend(candidate.time for candidate in window.items[len(times) - window.first :])
                fresh = self.window.frames - self.window.overlap
                yield window

        length = self.windows(work.video, work.questions)
        asked = AskedVideo(
            watched, suffixes, length, lambda: stream.ready(fresh), lambda done: step(path, "windows", done, length)
        )
        return _Scoring(work, refused, asked, times, time.perf_counter())

    def _relevances(self, scoring: _Scoring, given: Sequence[WindowAnswers], took: Cost) -> list[Relevance]:
        suffixes = scoring.asked.suffixes
        pools = {place: Pool() for place in suffixes}
        took = added(took, _seen(given))
        for answers in given:
            for place, written in answers.outputs.items():
                pool = pools[place]
                pool.read_frames(answers.share, len(answers.outputs), _visual_tokens(answers))
                if written is None and answers.halves:
                    pool.add_halved(min(len(half.items) for half in answers.halves))
                else:
                    self._add_window(pool, answers.window, len(suffixes[place]), written)
        return [
            scoring.refused[place]
            if place in scoring.refused
            else pools[place].relevance(
                question.id,
                scoring.times,
                *pools[place].costs(took, len(suffixes), len(scoring.times)),
                self._remedies(),
            )
            for place, question in enumerate(scoring.work.questions)
        ]

    def _add_window(self, pool: Pool, window: Window[Candidate], suffix_tokens: int, written: Generated | None) -> None:
        start, end = window.items[0].time, window.items[-1].time
        if written is None:
            pool.add(WindowOutput(start, end, "", Status.OUT_OF_MEMORY), window.first, Reading())
            return
        reading = read_scores(written.text, len(window.items), self.prompt.first_number)
        status = reading.status if written.ended else Status.TRUNCATED_OUTPUT
        pool.add(WindowOutput(start, end, written.text, status), window.first, reading)
        pool.own_tokens += suffix_tokens
        pool.tokens_written += len(written.tokens)

    def _remedies(self) -> Mapping[Status, str]:
        return {
            Status.OUT_OF_MEMORY: f"did not fit in the device's memory: {self._more_room()}",
            Status.TRUNCATED_OUTPUT: f"were cut at the limit of {self.max_new_tokens} new tokens: raise it with "
            f"sampler.max_new_tokens={2 * self.max_new_tokens}",
            Status.NO_SCORES: "came back without scores: see their raw output; the checkpoint may need another "
            "sampler.prompt",
        }

    def _more_room(self) -> str:
        shortest = self.window.smallest_half
        if self.window.on_out_of_memory == "halve":
            lower = f"set sampler.window.smallest_half={shortest // 2}, or " if shortest > 1 else ""
            return f"halves of less than {shortest} frames are not made: {lower}end other work on the device"
        return (
            "set sampler.questions_at_once=1, or use shorter windows, which changes the scores, with "
            f"sampler.window.frames={max(1, self.window.frames // 2)}, or halve these windows alone with "
            "sampler.window.on_out_of_memory=halve"
        )


def _parts(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of the reader's spans as figures; waiting for frames is told by who hands them over."""
    return {
        "score_seconds": seconds.get("vision", 0.0),
        "prefill_seconds": seconds.get("prefill", 0.0) + seconds.get("suffixes", 0.0),
        "generate_seconds": seconds.get("step", 0.0),
    }


def _seen(given: Sequence[WindowAnswers]) -> dict[str, float]:
    """Frames that went through the vision tower: each once, in however many windows it is."""
    seen = {
        answers.window.first + place: candidate.frame.shape.patches
        for answers in given
        for place, candidate in enumerate(answers.window.items)
    }
    return {"frames_scored": len(seen), "patches": sum(seen.values())}


def _visual_tokens(answers: WindowAnswers) -> int:
    """Tokens of the pictures in a window's prompt; 0 where it was not read."""
    return sum(candidate.frame.shape.tokens for candidate in answers.window.items) if answers.share else 0


@dataclass(frozen=True)
class _Scoring:
    """A work whose windows are on their way through the model."""

    work: Work
    refused: Mapping[int, Relevance]
    """By place, of questions that cannot be asked."""
    asked: AskedVideo
    times: list[float]
    """Of the candidates so far."""
    started: float
