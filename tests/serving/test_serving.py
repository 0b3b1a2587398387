"""Questions by the ``openai`` package to a real server."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest
from made import write_video
from served import served

from pipeline import Session
from pipeline.serving.engine import Engine, EngineSettings

PROMPT = "Which color?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4", seconds=6, seed=len(name))
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))


def client(address: str, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=address, api_key="EMPTY", max_retries=0, timeout=60, **more)


def messages(video: Path | str, prompt: str = PROMPT) -> list[Any]:
    address = f"file://{video}" if isinstance(video, Path) else video
    video_part = {"type": "video_url", "video_url": {"url": address}}
    return [{"role": "user", "content": [video_part, {"type": "text", "text": prompt}]}]


def asked(api: openai.OpenAI, video: Path | str, prompt: str = PROMPT, **more: Any) -> Any:
    return api.chat.completions.create(model="gens", messages=messages(video, prompt), **more)


def got(address: str) -> str:
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as response:
        text: str = response.read().decode()
    return text


def test_an_answer_is_the_sessions_own_on_the_micro_models(clips: Path) -> None:
    settings: dict[str, Any] = {
        "sampler": ("gens_micro", {"max_new_tokens": 4}),
        "selection": ("topk_filled", {"budget": 2}),
        "answerer": "qwen2_vl_micro",
        "execution": {"decode_workers": 0},
    }
    video = clips / "one.mp4"
    engine = Engine(Session(**settings), EngineSettings(8, 0, 8, 1))
    try:
        with served(engine, clips) as address, client(address) as api:
            (model,) = api.models.list()
            given = asked(api, video, max_tokens=16, temperature=0)
        with Session(**settings) as session:
            own = session.ask(video, "Which color?", ["red", "blue"])
    finally:
        engine.close()
    gens = given.model_extra["gens"]
    assert model.id == "gens"
    assert gens["status"] == own.status == "ok"
    # The micro model's own prompt is the same text.
    assert (given.choices[0].message.content, gens["option"]) == (own.text, own.letter)
    assert [frame["time"] for frame in gens["selection"]["frames"]] == [frame.time for frame in own.frames]
    assert (gens["question"], gens["options"]) == ("Which color?", ["red", "blue"])
    assert gens["without_effect"] == ["max_tokens", "temperature"]
    assert given.usage.prompt_tokens == own.cost.prompt_tokens > 0
