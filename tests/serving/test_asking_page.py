"""What the page for asking asks the server for."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from made import write_video
from small_server import Scorer, Speaker, engine_over, failing, served

from pipeline.errors import RequestError
from pipeline.serving.engine import Engine
from pipeline.serving.shelf import Shelf
from pipeline.serving.videos import Videos, VideoSources

STATIC = Path(__file__).parents[2] / "pipeline" / "serving" / "static"
KEY = "0123456789abcdef"


class Client:
    """Speaks to a server on one connection a request."""

    def __init__(self, address: str) -> None:
        self.place = urlsplit(address)

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.place.hostname or "", self.place.port, timeout=250)
        given = json.dumps(body).encode() if isinstance(body, dict) else body
        kind = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, given, {**kind, **named})
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        with self.open(method, path, body, **headers) as response:
            text = response.read()
            is_json = response.getheader("Content-Type") == "application/json"
            return response.status, json.loads(text) if is_json else text

    def video(self, name: str) -> Any:
        return next(each for each in self.ask("GET", "/api/videos")[1]["videos"] if each["name"] == name)

    def events(self, video: str, question: str, options: list[str] | None = None) -> list[tuple[str, Any]]:
        status, text = self.ask("POST", "/api/questions", {"video": video, "question": question, "options": options})
        assert status == 200
        found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text.decode())
        return [(name, json.loads(data)) for name, data in found]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "deep" / "one.mp4", seconds=6)
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(1000))
    (folder / "notes.txt").write_text("private")
    return folder


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError


@contextmanager
def room(says: Any = None) -> Iterator[tuple[Engine, Scorer]]:
    scorer = Scorer()
    with engine_over(scorer, Speaker(says or (lambda question: question.options[1]))) as engine:
        yield engine, scorer


@pytest.fixture(scope="module")
def both(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Scorer, Engine]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setenv("GENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with room() as (engine, scorer), served(engine, clips) as address:
            yield Client(address), scorer, engine


@pytest.fixture
def client(both: tuple[Client, Scorer, Engine]) -> Client:
    return both[0]


def test_the_page_loads_nothing_from_elsewhere_and_may_run_only_its_own_script(client: Client) -> None:
    with client.open("GET", "/") as response:
        policy = response.getheader("Content-Security-Policy") or ""
        text = response.read().decode()
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    names = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert len(names) == 3
    assert not re.search(r"<script(?![^>]*src=)|<style| style=| on[a-z]+=", text)
    for name in (*names, "/static/asking.js", "/static/player.js"):
        status, content = client.ask("GET", name)
        assert status == 200
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)|@import", content)
    for name in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/ask.html"):
        assert client.ask("GET", name)[0] == 404


def test_every_control_of_the_page_has_a_name() -> None:
    text = (STATIC / "ask.html").read_text()
    labelled = set(re.findall(r'<label[^>]* for="(\w+)"', text)) | set(
        re.findall(r"<label[^>]*>(?:(?!</label>).)*<input id=\"(\w+)\"", text)
    )
    controls = re.findall(r'<(?:input|select|textarea)[^>]* id="(\w+)"', text)
    assert len(controls) == 9
    assert set(controls) <= labelled


def test_videos_are_listed_without_their_folders(client: Client, clips: Path) -> None:
    status, content = client.ask("GET", "/api/videos")
    assert status == 200
    assert [video["name"] for video in content["videos"]] == ["broken.mp4", "deep/one.mp4"]
    assert str(clips) not in json.dumps(content)
    assert client.ask("GET", "/api/videos/none/file")[0] == 404


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("", 200, 0, None),
        ("bytes=0-", 206, 0, None),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=-7", 206, -7, None),
        ("bytes=10-999999999", 206, 10, None),
        ("bytes=999999999-", 416, 0, 0),
        ("bytes=9-3", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,4-5", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=" + "9" * 5000 + "-", 200, 0, None),
    ],
)
def test_a_player_gets_the_bytes_that_it_asks_for(
    asked: str, status: int, first: int, last: int | None, client: Client, clips: Path
) -> None:
    video = client.video("deep/one.mp4")
    whole = (clips / "deep" / "one.mp4").read_bytes()
    with client.open("GET", f"/api/videos/{video['id']}/file", Range=asked) as response:
        assert (response.status, response.read()) == (status, whole[first:last])
        assert response.getheader("Accept-Ranges") == "bytes"
        assert response.getheader("Content-Type") == "video/mp4"
        etag = response.getheader("ETag") or ""
    with client.open("GET", f"/api/videos/{video['id']}/file", Range="bytes=1-2", If_Range='"old"') as response:
        assert (response.status, response.read()) == (200, whole)
    with client.open("HEAD", f"/api/videos/{video['id']}/file", Range="bytes=1-2", If_Range=etag) as response:
        assert (response.status, response.getheader("Content-Length")) == (206, "2")


def test_what_cannot_be_played_has_pictures(client: Client) -> None:
    key = client.video("deep/one.mp4")["id"]
    status, facts = client.ask("GET", f"/api/videos/{key}")
    assert (status, facts["duration"], facts["width"]) == (200, 6.0, 64)
    status, picture = client.ask("GET", f"/api/videos/{key}/picture?second=2&width=32")
    assert (status, picture[:2]) == (200, b"\xff\xd8")
    for second in ("-1", "nan", "1e12", "x"):
        assert client.ask("GET", f"/api/videos/{key}/picture?second={second}")[0] == 400


def test_a_video_that_cannot_be_read_is_named_without_its_folder(client: Client, clips: Path) -> None:
    status, content = client.ask("GET", f"/api/videos/{client.video('broken.mp4')['id']}/picture?second=0")
    assert status == 422
    assert "broken.mp4" in content["error"]["message"]
    assert str(clips) not in content["error"]["message"]


def test_a_question_tells_how_far_it_is_and_ends_with_its_frames(client: Client, clips: Path) -> None:
    video = client.video("deep/one.mp4")["id"]
    events = client.events(video, "Which <b>color</b>?", ["red", "blue & green"])
    stages = [content["stage"] for name, content in events if name == "progress"]
    assert list(dict.fromkeys(stages)) == ["queued", "decoding", "scoring", "generating"]
    assert [name for name, _ in events[-2:]] == ["result", "pictures"]
    result, pictures = events[-2][1], events[-1][1]
    assert (result["said"], result["status"], result["duration"]) == ("B. blue & green", "ok", 6.0)
    assert "Which &lt;b&gt;color&lt;/b&gt;?" in result["html"]
    assert re.findall(r'data-second="([\d.]+)"', result["html"]) == ["2.0", "3.0"]
    assert "<svg" in result["html"]
    assert not re.search(r"<script| style=| on[a-z]+=", result["html"])
    assert set(pictures["shown"]) == {"2.0", "3.0"}
    assert str(clips) not in json.dumps(events)


@pytest.mark.parametrize(
    "body",
    [
        {"question": "?"},
        {"video": "x" * 200, "question": "?"},
        {"video": "x", "question": ""},
        {"video": "x", "question": "?"},
    ],
)
def test_a_question_that_is_none_is_refused(body: Any, client: Client) -> None:
    status, content = client.ask("POST", "/api/questions", body)
    assert status in (400, 404)
    assert content["error"]["message"]


def test_a_failure_is_told_and_is_no_answer(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.serving.page._LONGEST_WAIT", 0.05)
    with room(failing) as (engine, scorer), served(engine, clips, key=KEY) as address:
        client = Client(address)
        assert client.ask("GET", "/")[0] == 200
        assert client.ask("GET", "/api/state")[0] == 401
        assert client.ask("POST", "/api/key", {"key": "wrong"})[0] == 401
        with client.open("POST", "/api/key", {"key": KEY}) as response:
            cookie = response.getheader("Set-Cookie") or ""
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert KEY not in cookie
        with_key = {"Cookie": cookie.partition(";")[0]}
        assert client.ask("GET", "/api/state", **with_key)[1]["most_bytes"] == 1_000_000
        found = client.ask("GET", "/api/videos", **with_key)[1]["videos"]
        body = {"video": found[1]["id"], "question": "Which?", "options": ["x", "y"]}
        text = client.ask("POST", "/api/questions", body, **with_key)[1].decode()
        assert '"said": "No answer: unparsed"' in text
        assert "No single option can be read." in text
        leaves_and_changes(client, engine, scorer, clips, with_key)


def leaves_and_changes(client: Client, engine: Engine, scorer: Scorer, clips: Path, key: dict[str, str]) -> None:
    """A client that leaves withdraws its question; one whose video changes meanwhile is told so."""
    video = clips / "changing.mp4"
    write_video(video, seconds=6, seed=3)
    found = next(each for each in client.ask("GET", "/api/videos", **key)[1]["videos"] if "changing" in each["name"])
    scorer.has_begun.clear()
    scorer.may_go.clear()
    response = client.open("POST", "/api/questions", {"video": found["id"], "question": "Who?"}, **key)
    while response.readline() != b": alive\n":  # nothing else happens
        pass
    response.close()
    until(lambda: engine.counts.withdrawn == 1)
    scorer.may_go.set()
    until(lambda: not engine.computing)
    scorer.has_begun.clear()
    scorer.may_go.clear()
    response = client.open("POST", "/api/questions", {"video": found["id"], "question": "Where?"}, **key)
    assert scorer.has_begun.wait(60)
    write_video(video, seconds=6, seed=4)
    scorer.may_go.set()
    text = response.read().decode()
    assert "event: failed" in text
    assert "has changed" in text
    assert "event: result" not in text
    assert client.ask("GET", f"/api/videos/{found['id']}/file?version={found['version']}", **key)[0] == 409


def test_an_upload_is_bounded_played_asked_about_and_deleted(client: Client, clips: Path) -> None:
    whole = (clips / "deep" / "one.mp4").read_bytes()
    status, video = client.ask("POST", "/api/uploads?name=..%2Fmine.mp4", whole)
    assert (status, video["name"], video["bytes"]) == (200, "../mine.mp4", len(whole))
    assert client.ask("GET", f"/api/videos/{video['id']}/file")[1] == whole
    events = client.events(video["id"], "Which?", ["x", "y"])
    assert events[-2][1]["said"] == "B. y"
    assert ".scratch" not in json.dumps(events)
    on_disk = list((clips / ".scratch").rglob("*.mp4"))
    assert len(on_disk) == 1
    assert client.ask("DELETE", f"/api/uploads/{video['id']}")[0] == 204
    assert client.ask("GET", f"/api/videos/{video['id']}/file")[0] == 404
    assert not on_disk[0].exists()
    assert client.ask("POST", "/api/uploads?name=a.m3u8", b"#EXTM3U\nfile:///etc/passwd")[0] == 400
    assert client.ask("POST", "/api/uploads?name=a.mp4", b"")[0] == 400
    assert client.ask("POST", "/api/uploads", bytes(1_000_001))[0] == 413
    blocks = (bytes(200_000) for _ in range(6))  # without a length
    assert client.ask("POST", "/api/uploads", blocks)[0] == 413
    assert [path.name for path in (clips / ".scratch").rglob("*") if path.is_file()] == ["in-use"]


def test_an_upload_that_nobody_uses_is_deleted(tmp_path: Path) -> None:
    videos = Videos(VideoSources((), False, 10, 0.001, 0.01, str(tmp_path)))
    now = [0.0]
    shelf = Shelf(videos, lambda: now[0])
    with shelf.receiving(None, "a.mp4") as receiving:
        receiving.write(b"x" * 100)
        key, video = shelf.keep(receiving, "a.mp4")
    now[0] = shelf.keeps_seconds
    with shelf.using(key):
        now[0] *= 3
        shelf.forget(key)
        assert video.path.exists(), "in use"
    assert not video.path.exists()
    with shelf.receiving(None, "a.mp4") as receiving:
        receiving.write(b"x" * 100)
        key, video = shelf.keep(receiving, "a.mp4")
    now[0] += shelf.keeps_seconds - 1
    shelf.forget_unused()
    assert video.path.exists()
    now[0] += 2
    shelf.forget_unused()
    assert not video.path.exists()
    with pytest.raises(RequestError), shelf.using(key):
        pass
    videos.close()
