"""``benchmark=micro``: procedural videos with questions, made on the spot from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pipeline.benchmarks.micro.mp4 import write_mp4
from pipeline.benchmarks.micro.questions import KINDS, MicroQuestion, draw_question
from pipeline.benchmarks.micro.world import Plan, make_plan
from pipeline.domain import Question
from pipeline.errors import ConfigError
from pipeline.identity import Place
from pipeline.paths import local_path, path_text

WORLD_VERSION = 1
"""Part of every file name; raised when the same seed gives another picture, so that no old file is reused."""
SHORTEST_MINUTES = 3.0
"""A shorter video does not hold everything that the questions ask about."""


@dataclass(frozen=True)
class MicroBenchmark:
    """Questions about videos that are written the first time they are asked for, and reused afterwards.

    Nothing of the ``test`` split is ever seen in training: the split is part of the seed.
    """

    name: str
    root: Place[str]
    """Folder for the videos."""
    split: Literal["train", "test"]
    seed: int
    videos: int
    """How many videos."""
    min_minutes: float
    max_minutes: float
    questions_per_video: int
    """One to five; five is one of each kind."""

    def __post_init__(self) -> None:
        if not SHORTEST_MINUTES <= self.min_minutes <= self.max_minutes:
            raise ConfigError(
                f"benchmark.min_minutes={self.min_minutes} and max_minutes={self.max_minutes} make no range of lengths",
                f"set {SHORTEST_MINUTES:g} <= benchmark.min_minutes <= benchmark.max_minutes",
            )
        if self.videos < 1:
            raise ConfigError(f"benchmark.videos={self.videos} leaves nothing to ask about", "set benchmark.videos=1")
        if not 1 <= self.questions_per_video <= len(KINDS):
            raise ConfigError(
                f"benchmark.questions_per_video={self.questions_per_video}: a video has one question of each kind",
                f"set benchmark.questions_per_video to 1 .. {len(KINDS)}",
            )

    def questions(self) -> Sequence[Question]:
        """All questions, video by video; videos that are not there yet are written first.

        Raises:
            StorageError: ``root`` cannot be written.
        """
        return [question for number in range(self.videos) for question in self._of_video(number)]

    def plan(self, number: int) -> Plan:
        """What happens in the video of this number, from 0."""
        return make_plan(self._random(number, "plan"), round(self.min_minutes * 60), round(self.max_minutes * 60))

    def plan_questions(self, number: int, plan: Plan) -> list[MicroQuestion]:
        """The questions about one video. Where there are fewer than kinds, the kinds take turns from video to video."""
        random = self._random(number, "questions")
        first = number * self.questions_per_video
        return [
            draw_question(KINDS[(first + place) % len(KINDS)], plan, random)
            for place in range(self.questions_per_video)
        ]

    def _of_video(self, number: int) -> list[Question]:
        plan = self.plan(number)
        path = local_path(self.root) / f"{self._stem(number)}.mp4"
        if not path.exists():
            write_mp4(plan, path)
        return [
            Question(
                id=f"{self._stem(number)}-{question.kind}",
                video=path_text(path),
                text=question.text,
                options=question.options,
                correct=question.correct,
                groups={"kind": question.kind, "minutes": str(int(plan.duration // 60))},
                evidence=question.evidence,
            )
            for question in self.plan_questions(number, plan)
        ]

    def _stem(self, number: int) -> str:
        lengths = f"{self.min_minutes:g}to{self.max_minutes:g}min"
        return f"micro{WORLD_VERSION}-{self.split}-{self.seed}-{lengths}-{number:04d}"

    def _random(self, number: int, purpose: str) -> Random:
        return Random(f"{self._stem(number)}/{purpose}")
