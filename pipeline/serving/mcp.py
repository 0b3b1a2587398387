"""Tools of the Model Context Protocol: programs around a language model ask about videos, and look at their frames.

Source: version 2 of the protocol's Python SDK, and the protocol's pages on tools and progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from pipeline.benchmarks.jsonl import question_of
from pipeline.errors import ConfigError, PipelineError
from pipeline.identity import digest
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.serving.asked import check_length
from pipeline.serving.engine import Ask, Engine, Progress, Reply, Stage
from pipeline.serving.subtitles import subtitles_of
from pipeline.serving.videos import Videos, entered
from pipeline.versions import packages

_INSTRUCTIONS = (
    "Answers questions about long videos. ask answers a question and says which moments the answer rests on; select "
    "only finds the moments; frames shows pictures at given seconds. A second question about the same video is faster."
)
_STEPS = {Stage.QUEUED: 0, Stage.DECODING: 1, Stage.SCORING: 2, Stage.GENERATING: 5, Stage.DONE: 6}
"""How far a question is at the beginning of a stage. Scoring, the longest, takes two steps of its three."""
_ALL_STEPS = max(_STEPS.values())
_LATEST = 1e9
"""Seconds: no video is as long."""

Named = Annotated[str, Field(description="path of a video below a folder that the server may read, or its file: URI")]
Worded = Annotated[str, Field(description="the question, without its options")]
Choices = Annotated[
    list[str] | None, Field(description="the options, of which one is the answer; leave out for an answer in words")
]
Seen = Annotated[
    list[float] | None, Field(description="start and end of the part that the question is about; leave out for all")
]
Lines = Annotated[
    str | None,
    Field(description="path of the video's subtitles (.srt, .vtt), if there are; not every server takes them"),
]
Seconds = Annotated[list[float], Field(description="of the video; each gives the picture that is shown then")]


@dataclass(frozen=True)
class PictureSettings:
    """The pictures that ``frames`` gives."""

    most: int
    """In one call."""
    width: int
    """Pixels; videos that are smaller keep theirs."""
    quality: int
    """JPEG quality, 1..95."""

    def __post_init__(self) -> None:
        for key, most, usual in (("most", 1000, 16), ("width", 8192, 768), ("quality", 95, 85)):
            if not 1 <= getattr(self, key) <= most:
                raise ConfigError(
                    f"pictures.{key}={getattr(self, key)}: at least 1, and at most {most}",
                    f"set pictures.{key}={usual}",
                )


class Moment(BaseModel):
    """A selected frame."""

    second: float
    index: int = Field(description="native frame index")
    score: float | None = Field(description="of the sampler; null where the frame was not chosen for its score")
    source: str = Field(description="why it was selected")
    scale: float | None = Field(description="of each side before the answerer's own resize; null leaves the size to it")


class Outcome(BaseModel):
    """How a question ended."""

    status: str = Field(description="ok, or the name of what went wrong")
    detail: str = Field(description="for a failure, what happened and what to do")


class Selection(Outcome):
    """The frames that matter for a question."""

    duration: float | None = Field(description="of the video, in seconds")
    frames: list[Moment]


class Answered(Outcome):
    """The answer to a question, and the frames that it rests on."""

    answer: str | None = Field(description="text of the option, or the answer in words; null for a failure")
    letter: str | None = Field(description="of the option")
    said: str = Field(description="what the model said, word for word; of a failure, too")
    duration: float | None = Field(description="of the video, in seconds")
    frames: list[Moment]


def tool_server(engine: Engine, videos: Videos, pictures: PictureSettings) -> MCPServer:
    """The server. Whoever runs it closes the engine.

    Args:
        engine: answers.
        videos: that may be asked about.
        pictures: that ``frames`` gives.
    """
    server = MCPServer(
        "gens", instructions=_INSTRUCTIONS, version=packages().get("gens-videoqa", ""), log_level="WARNING"
    )

    async def ask(
        video: Named,
        question: Worded,
        context: Context,
        options: Choices = None,
        span: Seen = None,
        subtitles: Lines = None,
    ) -> Answered:
        """Answer a question about a video from the moments that matter for it. Long videos take minutes."""
        asked = _Asked(video, question, options, span, subtitles, only_select=False)
        reply = await _reply(engine, videos, asked, context)
        result = reply.result
        assert result is not None  # an answer was asked for
        return Answered(**_selection(reply), answer=result.answer, letter=result.letter, said=result.text)

    async def select(
        video: Named,
        question: Worded,
        context: Context,
        options: Choices = None,
        span: Seen = None,
        subtitles: Lines = None,
    ) -> Selection:
        """Find the moments of a video that matter for a question, without answering it."""
        asked = _Asked(video, question, options, span, subtitles, only_select=True)
        reply = await _reply(engine, videos, asked, context)
        return Selection(**_selection(reply))

    async def frames(video: Named, seconds: Seconds) -> list[str | Image]:
        """Show pictures of a video, each after its second."""
        wanted = sorted(set(seconds))
        if not 1 <= len(wanted) <= pictures.most:
            raise ToolError(f"{len(wanted)} pictures are asked for: give 1 to {pictures.most} seconds")
        if not all(0 <= second < _LATEST for second in wanted):
            raise ToolError("the seconds of a video begin at 0")
        source = VideoThumbnails(engine.session.reader, pictures.width, pictures.quality)
        with _as_tool_errors():
            async with entered(videos.named(video)) as named:
                found = await asyncio.to_thread(source.thumbnails, str(named.path), wanted)
        shown: list[str | Image] = []
        for second in wanted:
            shown += [f"{second:.10g} s", Image(data=found[second].jpeg, format="jpeg")]
        return shown

    server.add_tool(ask)
    server.add_tool(select)
    server.add_tool(frames, structured_output=False)
    return server


@dataclass(frozen=True)
class _Asked:
    """The arguments of a call."""

    video: str
    question: str
    options: list[str] | None
    span: list[float] | None
    subtitles: str | None
    only_select: bool


async def _reply(engine: Engine, videos: Videos, asked: _Asked, context: Context) -> Reply:
    """The reply to a question, while the client is told how far it is. A call that is cancelled withdraws it."""
    last = -1.0
    with _as_tool_errors():
        lines = subtitles_of(asked.subtitles, videos, engine.session)
        async with entered(videos.named(asked.video)) as named, entered(lines) as subtitles:
            fields: dict[str, Any] = {"video": str(named.path), "question": asked.question}
            fields |= {"options": asked.options, "answer": None} if asked.options else {}
            fields |= {} if asked.span is None else {"span": asked.span}
            fields |= {} if subtitles is None else {"subtitles": subtitles}
            question = question_of(fields, digest({**fields, "version": named.version})[:16])
            check_length(question)
            async with aclosing(engine.follow(Ask(question, asked.only_select))) as followed:
                async for each in followed:
                    if isinstance(each, Reply):
                        return each
                    done = _steps_done(each)
                    if done > last:  # the protocol's rule
                        last = done
                        await context.report_progress(done, _ALL_STEPS, _words(each))
    raise AssertionError  # the engine's last word is a reply


def _steps_done(now: Progress) -> float:
    begun = _STEPS[now.stage]
    return begun + 2 * now.done / now.total if now.stage is Stage.SCORING and now.total else begun


def _words(now: Progress) -> str:
    if now.stage is Stage.QUEUED:
        return f"queued, after {now.total} {now.what}"
    return f"{now.stage}: {now.done} of {now.total} {now.what}" if now.total else str(now.stage)


def _selection(reply: Reply) -> dict[str, Any]:
    """The fields that both replies have."""
    selected = reply.selected
    known = selected.row.video
    return {
        "status": str(reply.status),
        "detail": reply.detail,
        "duration": None if known is None else known.duration,
        "frames": [
            Moment(second=frame.time, index=frame.index, score=frame.score, source=str(frame.source), scale=frame.scale)
            for frame in selected.row.selection.frames
        ],
    }


@contextmanager
def _as_tool_errors() -> Iterator[None]:
    """Errors that a user can do something about are told to the model, others are faults of this program."""
    try:
        yield
    except PipelineError as error:
        raise ToolError(str(error)) from error
