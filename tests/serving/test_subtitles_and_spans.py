"""Subtitles and parts of videos, by every door of the server."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made import write_video
from small_server import Scorer, Speaker, engine_over, served

from pipeline.errors import InputError, RequestError
from pipeline.serving import videos as sources
from pipeline.serving.engine import Engine
from pipeline.serving.subtitles import SubtitleText, subtitles_of
from pipeline.serving.videos import Videos, VideoSources

TALK = "1\n00:00:03,500 --> 00:00:04,500\nshe nods\n\n2\n00:00:05,000 --> 00:00:06,000\nthe end\n"


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "else.srt").write_text(TALK)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "talk.srt").write_text(TALK)
    (tmp_path / "videos" / "broken.srt").write_text("no cue")
    return write_video(tmp_path / "videos" / "clip.mp4", seconds=6)


def posted(address: str, path: str, body: Mapping[str, Any]) -> str:
    request = urllib.request.Request(
        address.removesuffix("/v1") + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        text: str = response.read().decode()
    return text


def chatted(address: str, video: str, **wishes: Any) -> dict[str, Any]:
    parts = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": "Who?"}]
    body = {"model": "gens", "messages": [{"role": "user", "content": parts}], "gens": wishes}
    gens: dict[str, Any] = json.loads(posted(address, "/v1/chat/completions", body))["gens"]
    return gens


def times(gens: Mapping[str, Any]) -> list[float]:
    return [frame["time"] for frame in gens["selection"]["frames"]]


def test_openai_clients_and_the_page_give_subtitles_and_a_span(clip: Path) -> None:
    speaker = Speaker(lambda _: "she")
    given = {"name": "TALK.SRT", "text": TALK}
    with (
        engine_over(Scorer(), speaker, subtitles="at_frames") as engine,
        served(engine, clip.parent) as address,
    ):
        assert times(chatted(address, "clip.mp4")) == [2, 3]
        named = chatted(address, "clip.mp4", span=[1, 5], subtitles=f"file://{clip.parent}/talk.srt")
        assert times(named) == [3, 4]
        assert times(chatted(address, "clip.mp4", span=[2, 6], subtitles=given)) == [4, 5]
        with urllib.request.urlopen(address.removesuffix("/v1") + "/api/state") as response:
            assert json.loads(response.read())["takes_subtitles"] is True
        with urllib.request.urlopen(address.removesuffix("/v1") + "/api/videos") as response:
            (video,) = (each["id"] for each in json.loads(response.read())["videos"])
        body = {"video": video, "question": "Who then?", "span": [2, 6], "subtitles": given}
        assert '"said": "she"' in posted(address, "/api/questions", body)
        assert speaker.lines == [[], ["she nods"], ["she nods", "the end"], ["she nods", "the end"]]

        backwards = chatted(address, "clip.mp4", span=[5, 1])
        assert backwards["status"] == "invalid_question"
        assert '"span": [12, 15.5]' in backwards["detail"]
        outside = chatted(address, "clip.mp4", subtitles=str(clip.parents[1] / "else.srt"))
        assert "not below a folder that the server may read" in outside["detail"]
        broken = chatted(address, "clip.mp4", subtitles={"name": "b.srt", "text": "no cue"})
        assert broken["status"] == "unreadable_subtitles"
        assert ".scratch" not in broken["detail"]
        assert [path.name for path in (clip.parent / ".scratch").glob("gens-serve-*/*.srt")] == []


def test_subtitles_are_refused_with_what_a_session_refuses_and_what_is_no_file_of_them(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = Videos(VideoSources((str(clip.parent),), False, 10, 0.001, 0.01, None))
    takes, refuses = (SimpleNamespace(takes_subtitles=does) for does in (True, False))
    with pytest.raises(InputError, match="gens serve subtitles=at_frames"), subtitles_of("talk.srt", videos, refuses):
        pass
    with subtitles_of(None, videos, refuses) as path:
        assert path is None
    with pytest.raises(RequestError, match=r"ends in \.json, \.srt"), subtitles_of("clip.mp4", videos, takes):
        pass
    with pytest.raises(RequestError, match="no file of subtitles"), subtitles_of("gone.srt", videos, takes):
        pass
    monkeypatch.setattr(sources, "_MOST_SUBTITLES", len(TALK) - 1)
    for given in ("talk.srt", SubtitleText(name="talk.srt", text=TALK)):
        with pytest.raises(RequestError, match="has more than"), subtitles_of(given, videos, takes):
            pass
    videos.close()


def test_the_tools_take_subtitles_and_a_span(clip: Path) -> None:
    pytest.importorskip("mcp", reason="the tools need the protocol's SDK: pip install 'gens-videoqa[mcp]'")
    from mcp import Client

    from pipeline.serving.mcp import PictureSettings, tool_server

    speaker = Speaker(lambda _: "she")
    asked = {"video": "clip.mp4", "question": "Who?", "span": [1, 5], "subtitles": "talk.srt"}

    async def work(engine: Engine, videos: Videos) -> dict[str, Any]:
        async with Client(tool_server(engine, videos, PictureSettings(3, 64, 85))) as client:
            found: dict[str, Any] = (await client.call_tool("ask", asked)).structured_content
            return found

    videos = Videos(VideoSources((str(clip.parent),), False, 10, 1, 2, None))
    with engine_over(Scorer(), speaker, subtitles="full") as engine:
        said = asyncio.run(work(engine, videos))
    videos.close()
    assert [frame["second"] for frame in said["frames"]] == [3, 4]
    assert speaker.lines == [["she nods"]]
