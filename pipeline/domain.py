"""The types that all rooms share. Frozen, without torch, importing none of the rooms.

Seconds on the clock that players show are the only unit of time that is passed between rooms; frame numbers inside a
window, native indices and fractions stay in the room that uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

OPTION_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LONGEST = 1e9
"""Seconds: 31 years. No video is longer. Numbers in files are bounded where they are read, so
that nothing overflows where they are used."""
LARGEST_SCORE = 1e100
"""Of a frame, either way: policies add and square scores."""
LARGEST_SCALE = 16.0
"""Of a frame before the answerer's own resize; 30720 pixels of a 1920 pixel side."""
FASTEST = 1e6
"""Frames a second that a video may have."""


class Status(StrEnum):
    """``ok`` or the name of a failure. A failure is recorded as itself, never as an answer or a guess."""

    OK = "ok"
    # of a question or its video
    INVALID_QUESTION = "invalid_question"
    MISSING_VIDEO = "missing_video"
    UNREADABLE_VIDEO = "unreadable_video"
    CHANGED_VIDEO = "changed_video"  # the file at the path is not the one that the frames were selected from
    MISSING_SUBTITLES = "missing_subtitles"  # there is no file at the path of the question's subtitles
    UNREADABLE_SUBTITLES = "unreadable_subtitles"
    # of the sampler
    NOTHING_RELEVANT = "nothing_relevant"  # every window could be read, and none named a frame
    NO_SCORES = "no_scores"  # the output holds nothing that can be read as scores
    TRUNCATED_OUTPUT = "truncated_output"  # the output was cut by the token limit
    PARTIAL_SCORES = "partial_scores"  # scores are there, and at least one window failed
    NO_EVIDENCE = "no_evidence"  # asked of the benchmark, which does not say where the video shows the answer
    # of the selection
    NO_FRAMES = "no_frames"  # nothing was selected, so there is nothing to answer from
    # of the answerer
    UNPARSED = "unparsed"  # text came back, and no option can be read from it
    EMPTY_ANSWER = "empty_answer"
    REFUSED = "refused"
    CONTEXT_EXCEEDED = "context_exceeded"  # frames and question do not fit the model's context
    UNREACHABLE = "unreachable"  # the server gave no usable response, however often it was asked
    # of the judge of a free answer
    JUDGE_FAILED = "judge_failed"  # the judge gave no reply, or declined
    UNREADABLE_VERDICT = "unreadable_verdict"  # two replies came, and no verdict can be read from either
    NOT_JUDGED = "not_judged"  # there is nothing to grade the answer against
    # of either stage
    INVALID_OUTPUT = "invalid_output"  # a plug-in broke its protocol (a NaN, say), or its function raised an exception
    # of a model call in either stage
    UNSUPPORTED = "unsupported"  # the model cannot take the question, or frames of this shape
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # two processes of workers died while they had the video in hand

    @property
    def is_final(self) -> bool:
        """Whether the same inputs give the same status again, so that a resumed run need not repeat the work."""
        return self not in _WORTH_RETRYING

    @property
    def has_scores(self) -> bool:
        """Whether a relevance with this status carries scores that a selection may use."""
        return self in (Status.OK, Status.PARTIAL_SCORES)


_WORTH_RETRYING = frozenset(
    {
        Status.MISSING_VIDEO,
        Status.UNREADABLE_VIDEO,
        Status.CHANGED_VIDEO,
        Status.INVALID_OUTPUT,
        Status.MISSING_SUBTITLES,
        Status.UNREADABLE_SUBTITLES,
        Status.UNREACHABLE,
        Status.OUT_OF_MEMORY,
        Status.JUDGE_FAILED,
    }
)


@dataclass(frozen=True)
class Span:
    """An interval of time in seconds, ends included; ``start == end`` is one moment."""

    start: float
    end: float


@dataclass(frozen=True)
class Video:
    """What is known of a video before any of its frames is used."""

    path: str
    fingerprint: str
    """Digest of the content: two files with the same bytes have the same one."""
    duration: float
    """Second at which the last frame leaves the screen."""
    fps: float
    """Average frames a second; frames of a variable-rate file have their own timestamps."""
    frame_count: int
    width: int
    """Pixels, as shown (after the rotation that phones record as metadata)."""
    height: int
    start: float = 0.0
    """Second of the first frame: later than 0 where pictures begin after the sound, or with ``sec100.png``."""
    is_even: bool = True
    """Whether frame i appears at ``start + i / fps``: not so in files of variable rate and folders with gaps."""


@dataclass(frozen=True)
class Subtitles:
    """A subtitle file and its clock."""

    path: str
    start: float = 0.0
    """Second of the file's clock at which the video begins: later than 0 for a video cut out of a longer one."""


@dataclass(frozen=True)
class SubtitleLine:
    """A line of subtitles, in seconds of the video; it may reach beyond the video's ends."""

    start: float
    end: float
    text: str
    """One line without markup."""


class AnswerForm(StrEnum):
    """What a question is answered with."""

    WORDS = "words"
    """One of its options, or free text."""
    INTERVALS = "intervals"
    """Intervals of the video: when something happens, or where the answer can be seen."""


@dataclass(frozen=True)
class Prompt:
    """The words of a client, which an answerer is given as they are, in place of its own prompt."""

    text: str
    """What goes after the frames."""
    system: str | None = None
    """The system turn; None: the answerer's own."""


@dataclass(frozen=True)
class Question:
    """One question about one video."""

    id: str
    """Unique in its benchmark."""
    video: str
    """Path of the video file or frame folder."""
    text: str
    options: tuple[str, ...] | None = None
    correct: int | None = None
    """Index into ``options``."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Labels that a benchmark reports by, such as ``{"duration_group": "600"}``."""
    evidence: tuple[Span, ...] | None = None
    """Where the benchmark says the answer is to be seen."""
    subtitles: Subtitles | None = None
    option_images: tuple[str, ...] | None = None
    """Paths of pictures that are the options, parallel to ``options``, which then only name them."""
    span: Span | None = None
    """The part of the video that may be seen, its clip; None: all of it. Times stay those of the whole video."""
    reference: str = ""
    """The right answer in free text, of questions without options; empty: not known."""
    scoring_points: tuple[str, ...] = ()
    """What a full answer mentions, where a benchmark lists it for those who grade."""
    prompt: Prompt | None = None
    """Put to the answerer word for word, beside the lines of subtitles. The sampler is asked ``text`` and ``options``
    all the same, and the answer is read by ``options``. None: the answerer's prompt makes it of the question."""
    answer_form: AnswerForm = AnswerForm.WORDS
    """With ``intervals``, an answer is compared with ``evidence``, and options are only shown."""
    fault: str = ""
    """Why nothing can be asked: what is wrong with the benchmark's row, and what to do. Such a question ends as
    ``invalid_question`` in every run. Empty for all others."""


@dataclass(frozen=True)
class Frame:
    """One decoded picture."""

    time: float
    """Presentation timestamp of this very picture in seconds, which may lie before the second asked for."""
    index: int
    """Native index in its video."""
    pixels: npt.NDArray[np.uint8]
    """RGB, ``[height, width, 3]``; of the size that the answerer's model sees, where the frame is prepared."""
    scale: float | None = None
    """Factor on each side before the answerer's own resize, as its selection has it."""
    prepared: Any = None
    """What the answerer made of the decoded pixels, which are not kept then; None: not prepared yet."""
    walked: int | None = None
    """Frames that the decoder gave for it, itself included, after the frame before it in its stream; None: unknown."""


class FrameSource(Protocol):
    """An open video that gives the frames shown at given seconds."""

    @property
    def video(self) -> Video:
        """What is known of the video."""
        ...

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """Yield, for each of the ascending ``seconds``, the frame on screen then: the last with ``time <= second``.

        A stream: memory is bounded by a few frames for any number of seconds.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        ...

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """Native indices, in the whole video, of the frames on screen at ``seconds``. Decodes nothing.

        A second after the last frame gives the last frame.
        """
        ...

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """Seconds at which native frames of the whole video appear. Decodes nothing.

        The time of an index after the last frame follows from the average rate.
        """
        ...


@dataclass(frozen=True)
class PreparedPicture:
    """One decoded picture, made ready for a model."""

    time: float
    """As of :class:`Frame`."""
    index: int
    content: Any
    """What was made of it."""
    walked: int | None = None
    """As of :class:`Frame`."""
    is_stored: bool = False
    """Whether it was decoded before and kept: nothing is decoded for it now."""


class PreparedPictures(Protocol):
    """A stream of prepared pictures, which are made ahead of their use."""

    def __iter__(self) -> Iterator[PreparedPicture]: ...

    def __next__(self) -> PreparedPicture:
        """The next picture.

        Raises:
            VideoError: it cannot be decoded, or not be prepared.
        """
        ...

    def ready(self, count: int) -> bool:
        """Whether the next ``count`` pictures, or all that are left, can be had without waiting."""
        ...

    def close(self) -> None:
        """Make no more of them. May be called twice."""
        ...


@runtime_checkable
class PreparesPictures(Protocol):
    """A frame source that decodes and prepares in other processes."""

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """Each picture on screen at the ascending ``seconds``, once. The work begins at once, as far as memory allows.

        Args:
            seconds: as for :meth:`FrameSource.frames_at`.
            prepare: called with a decoded picture: in another process if it can be pickled, else in this one.
        """
        ...


@dataclass(frozen=True)
class Cost:
    """The cost of a result; :mod:`pipeline.ledger` defines all figures."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    """The server's charge, by the prices in the settings; 0 for models on this machine."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Other figures by name, such as ``{"visual_tokens": 8192}``. Readers ignore names that they do not know."""
    device: str = ""
    """What the model ran on, such as ``NVIDIA H100 80GB HBM3`` or ``cpu``; empty where that is not known."""


@dataclass(frozen=True)
class WindowOutput:
    """The output of a windowed sampler for one window, word for word."""

    start: float
    """Second of the window's first candidate frame."""
    end: float
    """Second of its last candidate frame."""
    raw: str
    status: Status


@dataclass(frozen=True)
class Relevance:
    """How much each candidate frame of a video matters to one question."""

    question_id: str
    times: tuple[float, ...]
    """Candidate frames in seconds, ascending."""
    scores: tuple[float, ...]
    """Parallel to ``times``. GenS: 1..5, and 0 for a frame that was not named; embeddings: cosine."""
    indices: tuple[int, ...] | None = None
    """Native frame index of each candidate, parallel to ``times``, counted in the whole video. None where it is not
    known: a sampler that opens no video, and rows of an earlier version."""
    spread: str | None = None
    """Set by samplers that score nothing: the uniform variant by which the budget is spread."""
    named_above: float | None = 0.0
    """A candidate is named, and may be chosen for its score, if its score is above this value. None names every
    candidate, as for similarities, which may all be negative."""
    status: Status = Status.OK
    detail: str = ""
    """For a failure, what happened and what to do."""
    windows: tuple[WindowOutput, ...] = ()
    cost: Cost = Cost()
    """What it took. Work shared by several questions is divided evenly among them."""
    alone: Cost | None = field(default=None, compare=False)
    """What it would have taken if the question had been the only one; None: as much."""
    cached: bool = field(default=False, compare=False)
    """Whether another run computed it, so that this one spent nothing."""
    features: str | None = None
    """Digest under which the candidates' embeddings are kept, for policies that need them."""
    rounds: tuple[int, ...] | None = None
    """In which round of its sampler each candidate was scored, parallel to ``times``, from 0; -1 where the score is an
    estimate from those that were. None where there is one round."""

    @property
    def is_final(self) -> bool:
        """Whether the result would be the same again: False if it or a window failed for a temporary reason."""
        return self.status.is_final and all(window.status.is_final for window in self.windows)


class FrameOrigin(StrEnum):
    """Why a frame is in a selection."""

    SAMPLER = "sampler"
    FILL = "fill"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class SelectedFrame:
    """One moment for the answerer to see."""

    time: float
    """Seconds."""
    index: int
    """Native frame index."""
    score: float | None
    """The sampler's; None where the frame was not chosen for its score."""
    source: FrameOrigin
    scale: float | None = None
    """Factor on each side of the frame before the answerer's own resize; None leaves the size to the answerer."""


@dataclass(frozen=True)
class Selection:
    """The frames of one question: at most ``budget``, in order of time."""

    question_id: str
    frames: tuple[SelectedFrame, ...]
    policy: str
    """The policy and the settings that made it, in one line."""
    budget: int
    status: Status = Status.OK
    """The relevance's failure is kept here, also where a declared fallback supplied frames."""
    detail: str = ""
    seconds: float = field(default=0.0, compare=False)
    """Of one core that the policy took, in tenths: where that is little, runs with other answerers have equal rows."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    question_id: str
    text: str
    """What the model answered, without its thoughts."""
    option: int | None = None
    """The option read from ``text``; None for free-text questions and failures."""
    status: Status = Status.OK
    detail: str = ""
    form: str = ""
    """How frames and their times were put to the model, in one line."""
    frame_times: tuple[float, ...] = ()
    """Real timestamps of the frames that the model saw, in seconds."""
    left_out: tuple[float, ...] = ()
    """Seconds of the selected frames that did not fit the model and were left out by the declared rule."""
    finish: str = ""
    """Why the text ended: ``stop``, ``length``, or a server's own word; empty where no text came."""
    cost: Cost = Cost()
    """As of :class:`Relevance`, and so the next two."""
    alone: Cost | None = field(default=None, compare=False)
    cached: bool = field(default=False, compare=False)
    thought: str = ""
    """The thoughts that the model wrote apart from the answer. No option is read from it."""
    intervals: tuple[Span, ...] = ()
    """Read from ``text`` where the question asks for intervals of the video, in order of time."""
    prompt: str = ""
    """The text that the model was sent, with a mark in the place of each frame, such as ``<frame 3 at 12.5 s>``; empty
    where nothing was sent, and in rows of earlier versions."""

    @property
    def is_final(self) -> bool:
        """Whether the result would be the same again: False if it failed for a temporary reason."""
        return self.status.is_final


@dataclass(frozen=True)
class Grade:
    """What a judge makes of the answer to one question without options."""

    question_id: str
    score: float | None
    """On the judge's scale; None where there is no verdict."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Scores by name that make up the score, where the judge gives several."""
    votes: tuple[float, ...] = ()
    """The score of each time that a judge was asked, if that was more than once; the score is their median."""
    status: Status = Status.OK
    detail: str = ""
    """For a failure, what happened and what to do; for an answer that is wrong without being judged, why."""
    replies: tuple[str, ...] = ()
    """The judge's, word for word, in the order in which they came."""
    model: str = ""
    """The model and the fingerprint that the server reported."""
    rubric: str = ""
    """Name of the rubric and version of its words; empty where none was used."""
    cost: Cost = Cost()


def option_letter(option: int) -> str:
    """``0`` is ``"A"``; after ``"Z"``, for lists that are too long to be asked, ``26`` is ``"AA"``."""
    more, place = divmod(option, len(OPTION_LETTERS))
    return (option_letter(more - 1) if more else "") + OPTION_LETTERS[place]
