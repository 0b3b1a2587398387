"""A real server on a free port, over parts that are as quick as a test wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from pipeline import Session
from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.domain import Answer, Cost, FrameSource, Question, Relevance, Status, Video
from pipeline.progress import step
from pipeline.serving.app import ApiSettings, guarded_app
from pipeline.serving.engine import Engine, EngineSettings
from pipeline.serving.guards import Access
from pipeline.serving.videos import Videos, VideoSources


class Scorer:
    """Scores each second by its time, and notes which questions came together. Waits where it is told to."""

    name = "scorer"

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.has_begun = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scorer", "instance": id(self)}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        self.passes.append([question.text for question in questions])
        self.has_begun.set()
        assert self.may_go.wait(60)
        seconds = [video.start + second for second in range(4)]
        times = tuple(frame.time for frame in frames.frames_at(seconds))
        for done in (2, 4):
            step(video.path, "frames", done, len(seconds))
        return [Relevance(question.id, times, tuple(1 + time for time in times)) for question in questions]

    def close(self) -> None:
        self.may_go.set()


class Speaker:
    """Says what it is told to of each prompt, and notes the prompts."""

    name = "speaker"

    def __init__(self, says: Callable[[Question], Answer | str]) -> None:
        self._says = says
        self.prompts: list[str] = []
        self.lines: list[list[str]] = []
        """Of the subtitles of each request."""

    def limits(self) -> AnswererLimits:
        return AnswererLimits(10**6, 1, None, "not told")

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "speaker"}

    def capacity(self, request: AnswerRequest) -> int:
        return 100

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        for request in requests:
            question = request.question
            self.lines.append([line.text for line in request.subtitles])
            self.prompts.append(question.text if question.prompt is None else question.prompt.text)
            said = self._says(question)
            if isinstance(said, str):
                option = None if question.options is None else question.options.index(said)
                yield Answer(question.id, said, option, cost=Cost(0.5, 100, 3), frame_times=request.times)
            else:
                yield said

    def close(self) -> None:
        pass


def failing(question: Question) -> Answer:
    """A failure with text that a harness would read as a letter."""
    text = "Based on the video, the Answer may be A or D"
    return Answer(question.id, text, status=Status.UNPARSED, detail="No single option can be read.")


@contextmanager
def engine_over(scorer: Any, speaker: Any, subtitles: str = "none", **settings: Any) -> Iterator[Engine]:
    chosen = {"most_waiting": 200, "gather_seconds": 0.05, "questions_at_once": 32, "videos_at_once": 1, **settings}
    session = Session(
        sampler=scorer,
        answerer=speaker,
        selection={"budget": 2},
        execution={"decode_workers": 0},
        run="served",
        subtitles=subtitles,
    )
    engine = Engine(session, EngineSettings(**chosen))
    try:
        yield engine
    finally:
        if isinstance(scorer, Scorer):
            scorer.may_go.set()
        engine.close()


@contextmanager
def served(engine: Engine, folder: Path, on_failure: Any = "empty", key: str | None = None) -> Iterator[str]:
    """The address of a server, as ``gens serve`` makes it. It takes uploads of up to 1 MB."""
    videos = Videos(VideoSources((str(folder),), False, 10, 0.001, 0.01, str(folder / ".scratch")))
    access = Access("127.0.0.1", 0, (), key, 64)
    app = guarded_app(engine, videos, ApiSettings("gens", on_failure), access)
    begun = threading.Event()

    class Started(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            begun.set()

    server = Started(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert begun.wait(60)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        engine.stop()
        server.should_exit = True
        thread.join()
        videos.close()
