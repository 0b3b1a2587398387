"""The tools of ``gens mcp``, called by the client of the protocol's own SDK."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from made import write_video
from PIL import Image
from small_server import Scorer, Speaker, engine_over

from pipeline.answerers import AnswerRequest
from pipeline.domain import Answer, Status
from pipeline.serving.engine import Engine
from pipeline.serving.videos import Videos, VideoSources

pytest.importorskip("mcp", reason="the tools need the protocol's SDK: pip install 'gens-videoqa[mcp]'")

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from pipeline.serving.mcp import PictureSettings, tool_server

Work = Callable[[Any, Engine], Awaitable[None]]
ASKED = {"video": "clip.mp4", "question": "Which color?", "options": ["red", "blue"]}


class Teller(Speaker):
    """Says blue, or nothing that can be read."""

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        for request in requests:
            question = request.question
            if question.options is None:
                yield Answer(question.id, "D?", status=Status.UNPARSED, detail="No answer can be read.")
            else:
                yield Answer(question.id, "B", 1, frame_times=request.times)


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "else.mp4").write_bytes(b"not below the folder")
    return write_video(tmp_path / "videos" / "clip.mp4", seconds=6)


def with_tools(clip: Path, work: Work, scorer: Scorer | None = None) -> None:
    videos = Videos(VideoSources((str(clip.parent),), False, 10, 1, 2, None))

    async def run() -> None:
        with engine_over(scorer or Scorer(), Teller(lambda _: "")) as engine:
            async with Client(tool_server(engine, videos, PictureSettings(3, 64, 85))) as client:
                await work(client, engine)

    try:
        asyncio.run(run())
    finally:
        videos.close()


def test_an_answer_comes_with_its_frames_and_progress_that_only_grows(clip: Path) -> None:
    async def work(client: Any, _: Engine) -> None:
        told: list[tuple[float, float, str]] = []

        async def progress(done: float, total: float, words: str) -> None:
            told.append((done, total, words))

        found = await client.call_tool("ask", ASKED, progress_callback=progress)
        said = found.structured_content
        assert not found.is_error
        assert (said["answer"], said["letter"], said["status"]) == ("blue", "B", "ok")
        assert [(frame["second"], frame["score"]) for frame in said["frames"]] == [(2.0, 3.0), (3.0, 4.0)]
        steps = [done for done, _, _ in told]
        assert steps == sorted(set(steps))
        assert told[-1][:2] == (6, 6)
        assert "scoring: 2 of 4 frames" in [words for _, _, words in told]

    with_tools(clip, work)


def test_stage_1_alone_and_the_pictures_of_what_it_found(clip: Path) -> None:
    async def work(client: Any, _: Engine) -> None:
        said = (await client.call_tool("select", ASKED)).structured_content
        assert "answer" not in said
        seconds = [frame["second"] for frame in said["frames"]]
        shown = await client.call_tool("frames", {"video": str(clip), "seconds": seconds[::-1]})
        labels = [part.text for part in shown.content if part.type == "text"]
        pictures = [Image.open(io.BytesIO(base64.b64decode(p.data))) for p in shown.content if p.type == "image"]
        assert labels == ["2 s", "3 s"]
        assert [picture.width for picture in pictures] == [64, 64]
        assert pictures[0].tobytes() != pictures[1].tobytes()

    with_tools(clip, work)


def test_a_question_that_fails_has_a_status_and_no_answer(clip: Path) -> None:
    async def work(client: Any, _: Engine) -> None:
        said = (await client.call_tool("ask", {"video": "clip.mp4", "question": "Why?"})).structured_content
        assert (said["status"], said["answer"], said["letter"], said["said"]) == ("unparsed", None, None, "D?")

    with_tools(clip, work)


REFUSED = (
    ("ask", {**ASKED, "video": "../else.mp4"}, "not below a folder that the server may read"),
    ("select", {**ASKED, "video": "/etc/passwd"}, "not below a folder that the server may read"),
    ("frames", {"video": "gone.mp4", "seconds": [1]}, "there is no video"),
    ("frames", {"video": "clip.mp4", "seconds": [0, 1, 2, 3]}, "give 1 to 3 seconds"),
    ("frames", {"video": "clip.mp4", "seconds": []}, "give 1 to 3 seconds"),
    ("frames", {"video": "clip.mp4", "seconds": [-1]}, "begin at 0"),
    ("frames", {"video": "clip.mp4", "seconds": [60]}, "after the end of the video"),
)


def test_what_is_refused_is_told_to_the_model(clip: Path) -> None:
    async def work(client: Any, _: Engine) -> None:
        for tool, arguments, told in REFUSED:
            found = await client.call_tool(tool, arguments)
            assert found.is_error
            assert told in found.content[0].text

    with_tools(clip, work)


def test_a_call_that_is_cancelled_withdraws_its_question(clip: Path) -> None:
    scorer = Scorer()
    scorer.may_go.clear()

    async def work(client: Any, engine: Engine) -> None:
        calling = asyncio.ensure_future(client.call_tool("ask", ASKED))
        assert await asyncio.to_thread(scorer.has_begun.wait, 60)
        calling.cancel()
        async with asyncio.timeout(60):
            while not engine.counts.withdrawn:
                await asyncio.sleep(0.05)
        scorer.may_go.set()
        found = await client.call_tool("select", ASKED)
        assert found.structured_content["status"] == "ok"

    with_tools(clip, work, scorer)


def over_stdio(clip: Path, work: Callable[[Any], Awaitable[None]], *words: str) -> str:
    """What the command printed on standard error while a client used it."""
    command = ["-m", "pipeline", "mcp", *words, f"videos.folders=[{clip.parent}]"]
    own = {name: os.environ[name] for name in ("GENS_CACHE", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    log = Path("log")

    async def run() -> None:
        with log.open("w") as errors:
            wire = stdio_client(StdioServerParameters(command=sys.executable, args=command, env=own), errlog=errors)
            async with Client(wire) as client:
                await work(client)

    asyncio.run(run())
    return log.read_text()


def test_the_command_speaks_over_its_standard_streams_alone(clip: Path) -> None:
    """A line on standard output that is no message would be a fault of the client's parser."""
    Path("loud").mkdir()
    Path("loud/__init__.py").touch()
    Path("loud/scores.py").write_text(
        "import os\n\nos.write(1, b'loud import\\n')\n\n\n"
        "def score(question, frames):\n    print('loud score', flush=True)\n    return [time for time, _ in frames]\n"
    )

    async def work(client: Any) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"ask", "select", "frames"}
        said = (await client.call_tool("select", ASKED)).structured_content
        assert [frame["second"] for frame in said["frames"]] == [4.0, 5.0]

    settings = ["sampler=function", "sampler.name=loud", "sampler.function=loud.scores.score", "selection.budget=2"]
    log = over_stdio(clip, work, *settings, "plugins=[loud]", "answerer=qwen2_vl_micro")
    assert "loud import" in log
    assert "loud score" in log
    assert "Traceback" not in log


@pytest.mark.long
def test_the_micro_models_answer_over_stdio(clip: Path) -> None:
    async def work(client: Any) -> None:
        said = (await client.call_tool("ask", ASKED)).structured_content
        assert said["status"] == "ok"
        assert said["answer"] in ASKED["options"]
        assert len(said["frames"]) == 2

    over_stdio(
        clip, work, "sampler=gens_micro", "selection=topk_filled", "selection.budget=2", "answerer=qwen2_vl_micro"
    )
