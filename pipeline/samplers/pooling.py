"""Pools the scores of all windows into the relevance of a video for one question.

Scores of all windows are pooled as they are: 1 to 5 compare across windows (evaluation code of GenS, arXiv 2503.09146).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from pipeline.domain import Cost, Relevance, Status, WindowOutput
from pipeline.ledger import scaled
from pipeline.samplers.output import Reading

_WORST_FIRST = (Status.OUT_OF_MEMORY, Status.TRUNCATED_OUTPUT, Status.NO_SCORES)
"""Failures of a window, the one most worth another try first: the first that occurred is the status if nothing was
scored."""


@dataclass
class Pool:
    """One question's windows so far."""

    windows: list[WindowOutput] = field(default_factory=list)
    own_tokens: int = 0
    """Read of the question itself."""
    tokens_written: int = 0
    _shared_tokens: Fraction = Fraction()
    _frame_tokens: Fraction = Fraction()
    _shared_visual: Fraction = Fraction()
    _visual_tokens: int = 0
    _scores: dict[int, float] = field(default_factory=dict)
    _ignored: int = 0
    _clamped: int = 0
    _halves: list[int] = field(default_factory=list)

    def add(self, output: WindowOutput, first: int, reading: Reading) -> None:
        """Add a window.

        Args:
            output: what was written, and how it ended.
            first: which candidate of the video is the window's first.
            reading: the scores in it; empty for a window that failed.
        """
        self.windows.append(output)
        self._ignored += reading.ignored
        self._clamped += reading.clamped
        for position, score in reading.scores.items():
            self._scores[first + position] = max(score, self._scores.get(first + position, 0.0))

    def read_frames(self, share: Fraction, questions: int, visual_tokens: int) -> None:
        """Note the reading of a window's frames.

        Args:
            share: of its tokens, that the question pays for.
            questions: that share them.
            visual_tokens: of the window's pictures.
        """
        self._shared_tokens += share
        self._frame_tokens += share * questions
        self._shared_visual += Fraction(visual_tokens, questions)
        self._visual_tokens += visual_tokens

    def costs(self, took: Cost, questions: int, candidates: int) -> tuple[Cost, Cost]:
        """What the question took, and what it would have taken alone.

        Args:
            took: seconds, frames and patches of the video.
            questions: that share them.
            candidates: of the video.
        """
        pool = {"pool": float(candidates)}
        return (
            Cost(
                took.seconds / questions,
                int(self._shared_tokens + self.own_tokens),
                self.tokens_written,
                more={**scaled(took.more, 1 / questions), **pool, "visual_tokens": float(self._shared_visual)},
                device=took.device,
            ),
            Cost(
                took.seconds,
                int(self._frame_tokens + self.own_tokens),
                self.tokens_written,
                more={**took.more, **pool, "visual_tokens": float(self._visual_tokens)},
                device=took.device,
            ),
        )

    def add_halved(self, frames: int) -> None:
        """Note a window that was halved because it did not fit in memory. Its halves are added by themselves.

        Args:
            frames: the number of frames of its shorter half.
        """
        self._halves.append(frames)

    def relevance(
        self, question_id: str, times: Sequence[float], cost: Cost, alone: Cost, remedies: Mapping[Status, str]
    ) -> Relevance:
        """The relevance of the whole video.

        Args:
            question_id: the question.
            times: all candidates in seconds.
            cost: the question's share.
            alone: what it would have taken as the only one.
            remedies: what happened to a window that failed and what to do about it.
        """
        counts = Counter(window.status for window in self.windows)
        failures = [status for status in _WORST_FIRST if counts[status]]
        notes = [f"{counts[status]} of {len(self.windows)} windows {remedies[status]}" for status in failures]
        if self._halves:
            notes.append(
                f"windows halved because they did not fit in the device's memory: {len(self._halves)}, down to "
                f"{min(self._halves)} frames, which changes the scores; a lower sampler.window.frames gives all "
                "windows one length and saves the attempts"
            )
        if self._ignored:
            notes.append(f"{self._ignored} entries named no frame of their window and were ignored")
        if self._clamped:
            notes.append(f"{self._clamped} entries were clipped to their window or to scores of 1 to 5")
        return Relevance(
            question_id=question_id,
            times=tuple(times),
            scores=tuple(self._scores.get(index, 0.0) for index in range(len(times))),
            status=self._status(failures),
            detail="; ".join(notes),
            windows=tuple(self.windows),
            cost=cost,
            alone=alone,
        )

    def _status(self, failures: Sequence[Status]) -> Status:
        if self._scores:
            return Status.PARTIAL_SCORES if failures else Status.OK
        return failures[0] if failures else Status.NOTHING_RELEVANT
