"""Questions by the ``openai`` package to a real server."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
from made import write_video
from PIL import Image
from small_server import Scorer, Speaker, engine_over, failing, served

from pipeline import Session, load_runs
from pipeline.domain import Answer, Cost, Prompt, Question, Status
from pipeline.errors import CheckpointError, InputError, RequestError
from pipeline.serving import app
from pipeline.serving.engine import Ask, Engine, EngineSettings, StoppingError
from pipeline.serving.images import ImageFolders

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
    return openai.OpenAI(base_url=address, api_key="EMPTY", max_retries=0, timeout=250, **more)


def messages(video: Path | str, prompt: str = PROMPT) -> list[Any]:
    address = f"file://{video}" if isinstance(video, Path) else video
    video_part = {"type": "video_url", "video_url": {"url": address}}
    return [{"role": "user", "content": [video_part, {"type": "text", "text": prompt}]}]


def asked(api: openai.OpenAI, video: Path | str, prompt: str = PROMPT, **more: Any) -> Any:
    return api.chat.completions.create(model="gens", messages=messages(video, prompt), **more)


def ask(video: Path, text: str) -> Ask:
    return Ask(Question(text, str(video), text, prompt=Prompt(text)))


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError


def sent(address: str, video: Path, stream: bool) -> http.client.HTTPConnection:
    """A request whose response nobody has read yet."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    body = json.dumps({"model": "gens", "messages": messages(video), "stream": stream})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


def got(address: str, path: str) -> str:
    with urllib.request.urlopen(address.removesuffix("/v1") + path) as response:
        text: str = response.read().decode()
    return text


@pytest.fixture(scope="module")
def refusing(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of which no question is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        with engine_over(Scorer(), Speaker(failing)) as engine, served(engine, clips) as address:
            yield address


def test_an_answer_is_the_sessions_own_on_the_micro_models(clips: Path) -> None:
    settings: dict[str, Any] = {
        "sampler": "uniform",
        "selection": {"budget": 2},
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


def test_a_client_is_told_the_whole_prompt_and_the_metrics_what_was_spent(clips: Path) -> None:
    part, whole = Cost(0.1, 1, 3), Cost(0.5, 100, 3)
    speaker = Speaker(lambda question: Answer(question.id, "red", 0, cost=part, alone=whole))
    with engine_over(Scorer(), speaker) as engine, served(engine, clips) as address, client(address) as api:
        told = [asked(api, clips / "one.mp4").usage.prompt_tokens for _ in range(2)]
        figures = got(address, "/metrics")
    assert told == [100, 100]
    assert 'gens_answerer_tokens_total{kind="prompt"} 2\n' in figures


def test_the_prompt_goes_to_the_answerer_as_sent_and_the_sampler_is_asked_the_question(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "blue")
    with engine_over(scorer, speaker) as engine, served(engine, clips) as address, client(address) as api:
        given = asked(api, clips / "one.mp4")
        other = asked(
            api,
            clips / "one.mp4",
            "Which?\n" + PROMPT,
            extra_body={"gens": {"question": "Which hue?", "options": ["blue", "red"], "scores": True, "id": "q7"}},
        )
    assert scorer.passes == [["Which color?"], ["Which hue?"]]
    assert speaker.prompts == [PROMPT, "Which?\n" + PROMPT]
    assert given.choices[0].message.content == "blue"
    gens = other.model_extra["gens"]
    assert (given.model_extra["gens"]["option"], gens["option"]) == ("B", "A")
    assert gens["scores"] == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    assert [frame["score"] for frame in gens["selection"]["frames"]] == [3.0, 4.0]
    assert (gens["id"], gens["duration"], gens["run"]) == (
        "q7",
        6.0,
        {"folder": "served", "questions": 2, "failed": 0},
    )


def test_questions_about_a_video_that_come_together_take_one_pass_over_its_frames(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda question: question.options[0] if question.options else "it is")
    scorer.may_go.clear()
    prompts = [f"Which color has shape {number}?\nA. red\nB. blue" for number in range(6)]
    with (
        engine_over(scorer, speaker) as engine,
        served(engine, clips) as address,
        client(address) as api,
        ThreadPoolExecutor(8) as threads,
    ):
        first = threads.submit(asked, api, clips / "two.mp4")
        assert scorer.has_begun.wait(60)
        together = [threads.submit(asked, api, clips / "one.mp4", prompt) for prompt in prompts]
        until(lambda: engine.waiting == 6)
        scorer.may_go.set()
        given = [each.result().model_extra["gens"] for each in together]
        first.result()
    assert [len(asked_at_once) for asked_at_once in scorer.passes] == [1, 6]
    assert [each["question"] for each in given] == [prompt.partition("\n")[0] for prompt in prompts]
    assert {each["together"] for each in given} == {6}


def test_videos_take_turns_when_many_questions_wait_and_all_are_answered(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "it is")
    scorer.may_go.clear()
    one, two = clips / "one.mp4", clips / "two.mp4"
    with engine_over(scorer, speaker, questions_at_once=8, gather_seconds=0) as engine:
        tickets = [engine.submit(ask(one, "begin"))]
        assert scorer.has_begun.wait(60)
        tickets += [engine.submit(ask(one, f"one {number}")) for number in range(90)]
        tickets += [engine.submit(ask(two, f"two {number}")) for number in range(10)]
        scorer.may_go.set()
        replies = [ticket.future.result(60) for ticket in tickets]
    assert {reply.status for reply in replies} == {"ok"}
    assert [reply.selected.question.text for reply in replies] == [ticket.ask.question.text for ticket in tickets]
    rounds = [(passed[0].split()[0], len(passed)) for passed in scorer.passes]
    assert rounds[:5] == [("begin", 1), ("one", 8), ("two", 8), ("one", 8), ("two", 2)]
    assert sum(count for _, count in rounds) == 101


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_question_has_no_text_and_says_why(clips: Path, stream: bool) -> None:
    with engine_over(Scorer(), Speaker(failing)) as engine, served(engine, clips) as address, client(address) as api:
        for video, status in (
            ("one.mp4", "unparsed"),
            ("gone.mp4", "invalid_question"),
            ("/etc/hostname", "invalid_question"),
            ("file://[/no/address", "invalid_question"),
        ):
            given = asked(api, video if video.startswith("file:") else clips / video, stream=stream)
            parts = list(given) if stream else [given]
            choices = [part.choices[0] for part in parts]
            assert not [text for each in choices if (text := (each.delta if stream else each.message).content)]
            assert choices[-1].finish_reason == "stop"
            gens = parts[-1].model_extra["gens"]
            assert (gens["status"], gens["option"]) == (status, None)
            assert "what to do" in gens["detail"] or status == "unparsed"
    assert gens["said"] == ""
    # All are in the run folder, where the failures count.
    assert gens["run"] == {"folder": "served", "questions": 4, "failed": 4}
    run = load_runs("runs/served")
    assert sorted(run["status"]) == [*["invalid_question"] * 3, "unparsed"]


def test_a_fault_of_the_server_is_a_failed_question_too(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.chat, "question_in", lambda *_: 1 // 0)
    with engine_over(Scorer(), Speaker(failing)) as engine, served(engine, clips) as address, client(address) as api:
        given = asked(api, clips / "one.mp4")
    assert given.choices[0].message.content == ""
    assert given.model_extra["gens"]["status"] == "error"
    assert "ZeroDivisionError" in given.model_extra["gens"]["detail"]


def test_failures_are_errors_where_that_is_set(clips: Path) -> None:
    with (
        engine_over(Scorer(), Speaker(failing)) as engine,
        served(engine, clips, "error") as address,
        client(address) as api,
    ):
        with pytest.raises(openai.UnprocessableEntityError, match="No single option"):
            asked(api, clips / "one.mp4")
        with pytest.raises(openai.NotFoundError, match=r"gone\.mp4"):
            asked(api, clips / "gone.mp4")
        with pytest.raises(openai.APIError, match="No single option"):
            list(asked(api, clips / "one.mp4", stream=True))


def test_a_stream_says_how_far_the_question_is(clips: Path) -> None:
    speaker = Speaker(lambda _: "red")
    with engine_over(Scorer(), speaker) as engine, served(engine, clips) as address, client(address) as api:
        parts = list(asked(api, clips / "one.mp4", stream=True, stream_options={"include_usage": True}))
    told = [part.model_extra["gens"]["progress"] for part in parts if "progress" in part.model_extra.get("gens", {})]
    assert [(each["stage"], each["done"], each["total"]) for each in told] == [
        *(("queued", 0, 0), ("decoding", 0, 0), ("scoring", 2, 4), ("scoring", 4, 4)),
        *(("generating", 0, 0), ("done", 0, 0)),
    ]
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "red"
    assert parts[-1].usage.total_tokens == 103
    assert parts[-2].model_extra["gens"]["status"] == "ok"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_waits_for_long_gets_signs_of_life(
    clips: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PAUSE", 0.02)
    scorer, speaker = Scorer(), Speaker(lambda _: "red")
    scorer.may_go.clear()
    with engine_over(scorer, speaker) as engine, served(engine, clips) as address:
        response = sent(address, clips / "one.mp4", stream).getresponse()
        assert response.status == 200
        sign = b": waiting" if stream else b"  "
        came = b""
        while sign not in came:
            came += response.read1()
        scorer.may_go.set()
        whole = came + response.read()
    if not stream:
        assert json.loads(whole)["choices"][0]["message"]["content"] == "red"
    assert b'"content": "red"' in whole


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_withdraws_its_question(clips: Path, stream: bool) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "red")
    scorer.may_go.clear()
    with engine_over(scorer, speaker) as engine, served(engine, clips) as address:
        leaving = [sent(address, clips / name, stream) for name in ("one.mp4", "two.mp4")]
        assert scorer.has_begun.wait(60)
        until(lambda: engine.waiting == 1)
        for connection in leaving:
            connection.close()
        until(lambda: engine.counts.withdrawn == 2)
        scorer.may_go.set()
        until(lambda: engine.computing == 0)
        assert not speaker.prompts  # the round ended before its second stage, and the other video was not begun
        assert len(scorer.passes) == 1
        with client(address) as api:
            assert asked(api, clips / "one.mp4").choices[0].message.content == "red"


def test_a_question_that_leaves_takes_no_other_with_it(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "it is")
    scorer.may_go.clear()
    with engine_over(scorer, speaker, gather_seconds=0.2) as engine:
        stays, leaves = (engine.submit(ask(clips / "one.mp4", text)) for text in ("stay", "leave"))
        assert scorer.has_begun.wait(60)
        engine.withdraw(leaves)
        scorer.may_go.set()
        assert stays.future.result(60).status == "ok"
        assert leaves.future.cancelled()
    assert scorer.passes == [["stay", "leave"]]
    assert speaker.prompts == ["stay"]


def test_a_full_queue_refuses_and_says_when_to_come_again(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "red")
    scorer.may_go.clear()
    with (
        engine_over(scorer, speaker, most_waiting=1) as engine,
        served(engine, clips) as address,
        client(address) as api,
        ThreadPoolExecutor(2) as threads,
    ):
        taken = [threads.submit(asked, api, clips / "one.mp4")]
        assert scorer.has_begun.wait(60)
        taken.append(threads.submit(asked, api, clips / "two.mp4"))
        until(lambda: engine.waiting == 1)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="1 questions wait") as full:
                asked(api, clips / "one.mp4", stream=stream)
            assert int(full.value.response.headers["retry-after"]) >= 1
        scorer.may_go.set()
        assert [each.result().choices[0].message.content for each in taken] == ["red", "red"]
        figures = got(address, "/metrics")
    assert "gens_rejected_total 2\n" in figures


def test_a_model_that_is_not_there_fails_questions_and_the_health_check(clips: Path) -> None:
    class Lacking(Scorer):
        def score(self, *_: Any) -> Any:
            self.passes.append([])
            raise CheckpointError("there is no checkpoint", "download it")

    scorer = Lacking()
    with engine_over(scorer, Speaker(failing), gather_seconds=0.3) as engine, served(engine, clips) as address:
        tickets = [engine.submit(ask(clips / "one.mp4", text)) for text in ("one", "two")]
        for ticket in tickets:
            with pytest.raises(CheckpointError):
                ticket.future.result(60)
        assert len(scorer.passes) == 1  # nobody is to blame, so they are not tried one by one
        with client(address) as api:
            given = asked(api, clips / "one.mp4")
        assert (given.choices[0].message.content, given.model_extra["gens"]["status"]) == ("", "error")
        with pytest.raises(urllib.error.HTTPError, match="503") as ill:
            got(address, "/health")
        assert json.loads(ill.value.read())["status"] == "failing"  # anybody may read it: no text with folders


def test_one_of_several_questions_that_cannot_be_scored_costs_the_others_nothing(clips: Path) -> None:
    class Choosy(Scorer):
        def check(self, questions: Sequence[Question]) -> None:
            if any(question.text == "bad" for question in questions):
                raise InputError("this question is in no file", "leave it out")

    with engine_over(Choosy(), Speaker(lambda _: "it is"), gather_seconds=0.3) as engine:
        good, bad = (engine.submit(ask(clips / "one.mp4", text)) for text in ("good", "bad"))
        assert good.future.result(60).status == "ok"
        with pytest.raises(InputError):
            bad.future.result(60)
        assert not engine.failure


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"n": 2}, "n=2"),
        ({"tools": [{"type": "function"}]}, "tools: functions are not called"),
        ({"gens": {"budget": 8}}, r"gens\.budget: Extra inputs"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "has 2 turns"),
        ({"messages": [*messages("a.mp4"), *messages("b.mp4")]}, "has 2 turns"),
        ({"messages": [{"role": "user", "content": messages("a.mp4")[0]["content"] * 2}]}, "has 2 videos"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'input_audio'"),
    ],
)
def test_what_the_server_does_not_do_is_refused(refusing: str, body: dict[str, Any], problem: str) -> None:
    with client(refusing) as api, pytest.raises(openai.BadRequestError, match=problem):
        api.post("/chat/completions", cast_to=object, body={"model": "gens", "messages": messages("a.mp4"), **body})


def test_another_model_is_not_found(refusing: str) -> None:
    with client(refusing) as api, pytest.raises(openai.NotFoundError, match="the model of this server is 'gens'"):
        api.chat.completions.create(model="gpt-4o", messages=messages("a.mp4"))


def test_pictures_are_the_frames_of_a_video_and_are_deleted_afterwards(clips: Path) -> None:
    def picture(shade: int) -> dict[str, Any]:
        file = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}

    content = [*(picture(shade) for shade in (0, 80, 160, 240)), {"type": "text", "text": PROMPT}]
    turns: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    seen: list[Path] = []

    def says(question: Question) -> str:
        seen.append(Path(question.video))
        assert question.prompt == Prompt(PROMPT, "Be brief.")
        return "red"

    with engine_over(Scorer(), Speaker(says)) as engine, served(engine, clips) as address, client(address) as api:
        given: Any = api.chat.completions.create(model="gens", messages=turns)
        until(lambda: not seen[0].exists())
        without = asked(api, "data:image/png;base64,AAAA")
        broken = asked(api, "data:video/mp4;base64,AAAA")
    assert [frame["time"] for frame in given.model_extra["gens"]["selection"]["frames"]] == [2.0, 3.0]
    assert without.model_extra["gens"]["status"] == "invalid_question"
    assert broken.model_extra["gens"]["detail"].startswith("what the request brings is not a video")


def of_size(kind: str, width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([f"data:image/png;base64,{of_size('PNG', 8193, 8192)}"], "8193x8192 pixels"),
        ([f"data:image/png;base64,{of_size('PNG', 8192, 8192)}"] * 60, "pixels together"),
        ([f"data:image/jpeg;base64,{of_size('TIFF', 8, 8)}"], "no PNG, JPEG or WebP"),
        (["data:image/png;base64,AAAA"] * 4097, "4097 pictures"),
    ],
)
def test_pictures_are_bounded_and_of_the_formats_that_they_are_said_to_be(
    tmp_path: Path, given: list[str], problem: str
) -> None:
    with pytest.raises(RequestError, match=problem), ImageFolders(tmp_path).holding(given):
        pass


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", "[" * 100_000, 400),
        ("POST", "/v1/completions", "{}", 404),
        ("PUT", "/v1/models", "", 405),
    ],
)
def test_every_refusal_has_the_form_that_clients_read(
    refusing: str, method: str, path: str, body: str, status: int
) -> None:
    connection = http.client.HTTPConnection(urlsplit(refusing).netloc, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (status, status)
    connection.close()


def test_halves_of_surrogate_pairs_are_replaced_where_they_come_in(clips: Path) -> None:
    speaker = Speaker(lambda _: "red")
    said = messages(clips / "one.mp4", "Which \ud800 color?\nA. red\nB. blue")
    gone = messages("file:///\udc80.mp4")
    with engine_over(Scorer(), speaker) as engine, served(engine, clips) as address:
        for turns, status in ((said, "ok"), (gone, "invalid_question")):
            body = json.dumps({"model": "gens", "messages": turns}).encode()
            request = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                assert json.loads(response.read())["gens"]["status"] == status
    assert speaker.prompts == ["Which \N{REPLACEMENT CHARACTER} color?\nA. red\nB. blue"]


def test_a_question_that_would_keep_a_sampler_busy_for_ever_is_refused(clips: Path) -> None:
    scorer = Scorer()
    with (
        engine_over(scorer, Speaker(lambda _: "red")) as engine,
        served(engine, clips) as address,
        client(address) as api,
    ):
        long = asked(api, clips / "one.mp4", f"Why? {'so ' * 10_000}")
        named = asked(api, clips / "one.mp4", f"{'so ' * 10_000} {PROMPT}", extra_body={"gens": {"question": "Why?"}})
    assert (long.model_extra["gens"]["status"], scorer.passes) == ("invalid_question", [["Why?"]])
    assert named.model_extra["gens"]["status"] == "ok"


def test_figures_are_in_the_format_of_prometheus(refusing: str) -> None:
    name, value = r"[a-z_]+", r"[0-9.e+-]+"
    sample = re.compile(rf'({name})(?:\{{{name}="[^"]*"(?:,{name}="[^"]*")*\}})? {value}')
    about = re.compile(rf"# (?:HELP {name} \S.*|TYPE {name} (?:counter|gauge))")
    lines = got(refusing, "/metrics").splitlines()
    assert all(about.fullmatch(line) or sample.fullmatch(line) for line in lines)
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    samples = {found[1] for line in lines if (found := sample.fullmatch(line))}
    assert samples <= set(kinds)
    assert {name for name in kinds if name.endswith("_total")} == {name for name in kinds if kinds[name] == "counter"}
    assert 'gens_info{sampler="scorer",selection="topk",budget="2",answerer="speaker"} 1' in lines
    assert json.loads(got(refusing, "/health")) == {"status": "ok", "waiting": 0, "computing": 0}


def test_a_video_that_changes_meanwhile_is_a_failure_and_afterwards_another_video(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", seconds=6)
    scorer, speaker = Scorer(), Speaker(lambda _: "it is")
    with engine_over(scorer, speaker) as engine:
        scorer.may_go.clear()
        ticket = engine.submit(ask(clip, "first"))
        assert scorer.has_begun.wait(60)
        write_video(tmp_path / "other.mp4", seconds=5, seed=1).replace(clip)
        scorer.may_go.set()
        assert ticket.future.result(60).status is Status.CHANGED_VIDEO
        again = engine.submit(ask(clip, "second")).future.result(60)
    assert (again.status, again.selected.row.video and again.selected.row.video.duration) == (Status.OK, 5.0)


def test_a_question_that_waits_while_the_server_stops_has_no_text(clips: Path) -> None:
    scorer = Scorer()
    scorer.may_go.clear()
    with (
        engine_over(scorer, Speaker(lambda _: "red")) as engine,
        served(engine, clips) as address,
        client(address) as api,
        ThreadPoolExecutor(1) as threads,
    ):
        first = engine.submit(ask(clips / "one.mp4", "first"))
        assert scorer.has_begun.wait(60)
        second = threads.submit(asked, api, clips / "two.mp4")
        until(lambda: engine.waiting == 1)
        engine.stop()
        given = second.result(60)
        scorer.may_go.set()
        first.future.result(60)
    assert (given.choices[0].message.content, given.model_extra["gens"]["status"]) == ("", "error")
    assert "stopping" in given.model_extra["gens"]["detail"]


def test_a_stop_finishes_what_is_computed_and_refuses_what_waits(clips: Path) -> None:
    scorer, speaker = Scorer(), Speaker(lambda _: "it is")
    scorer.may_go.clear()
    with engine_over(scorer, speaker) as engine:
        begun = engine.submit(ask(clips / "one.mp4", "begun"))
        assert scorer.has_begun.wait(60)
        waits = engine.submit(ask(clips / "two.mp4", "waits"))
        engine.stop()
        with pytest.raises(StoppingError):
            waits.future.result(60)
        with pytest.raises(StoppingError):
            engine.submit(ask(clips / "two.mp4", "late"))
        scorer.may_go.set()
        assert begun.future.result(60).status == "ok"


def test_a_server_that_starts_again_counts_on_from_its_run_folder(clips: Path) -> None:
    for prompts, totals in ((["good"], (1, 0)), (["good", "bad"], (2, 1))):
        speaker = Speaker(lambda question: failing(question) if question.text == "bad" else "it is")
        with engine_over(Scorer(), speaker) as engine:
            for ticket in [engine.submit(ask(clips / "one.mp4", prompt)) for prompt in prompts]:
                ticket.future.result(60)
            counted = engine.totals()
        assert (counted.total(), counted.total() - counted[Status.OK]) == totals
