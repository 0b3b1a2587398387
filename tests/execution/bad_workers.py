"""A sampler and an answerer that do to their process what the text of a question says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.domain import Answer, FrameSource, Question, Relevance, Video
from pipeline.errors import CheckpointError
from pipeline.identity import Identified, Place, digest


def suffer(text: str, folder: Path) -> None:
    """Do what a question says, such as ``SIGKILL 2``: two times, which files count."""
    what, _, times = text.partition(" ")
    if _has_failed(folder):
        raise CheckpointError("weights are missing", "fetch them: sampler.checkpoint.source=...")
    if times:
        done = len(list(folder.glob(f"{what}.*")))
        if done == int(times):
            return
        (folder / f"{what}.{done}").touch()
    if what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
    elif what == "RAISE":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    elif what == "HANG":
        time.sleep(600)
    elif what == "SLOW":
        time.sleep(1.0)
    elif what == "WAIT":
        _wait(folder)


def _has_failed(folder: Path) -> bool:
    has_failed = (folder / f"no model on {os.environ.get('CUDA_VISIBLE_DEVICES')}").exists()
    if has_failed:
        (folder / "go").touch()
    return has_failed


def _wait(folder: Path) -> None:
    """Until a worker has failed to load its model, or something was answered, or the test says so."""
    (folder / "waiting").touch()
    end = time.monotonic() + 60
    while not (folder / "go").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass(frozen=True)
class BadSampler(Identified):
    """Scores candidates by the question's text."""

    name: str
    folder: Place[str]

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        for question in questions:
            if not question.text.startswith("answer "):
                suffer(question.text, Path(self.folder))
        times = tuple(float(second) for second in range(int(video.duration)))
        return [
            Relevance(each.id, times, tuple(float(int(digest(f"{each.text} {second}")[:2], 16)) for second in times))
            for each in questions
        ]

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class BadAnswerer(Identified):
    """Answers with the frames' moments."""

    name: str
    folder: Place[str]
    is_repeatable = True

    def limits(self) -> AnswererLimits:
        return AnswererLimits(10000, 1, None, "not at all")

    def capacity(self, request: AnswerRequest) -> int:
        return len(request.frames)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        if (Path(self.folder) / "no answerer").exists():
            (Path(self.folder) / "go").touch()
            raise CheckpointError("weights are missing", "fetch them: answerer.checkpoint.source=...")
        for request in requests:
            if request.question.text.startswith("answer "):
                suffer(request.question.text.removeprefix("answer "), Path(self.folder))
            (Path(self.folder) / "go").touch()
            yield Answer(request.question.id, str(request.times), option=0, frame_times=request.times)

    def close(self) -> None:
        pass


def settings(part: str, name: str, folder: Path) -> dict[str, Any]:
    """Of the sampler or the answerer, as in a YAML."""
    return {"_target_": f"bad_workers.{part}", "name": name, "folder": str(folder)}
