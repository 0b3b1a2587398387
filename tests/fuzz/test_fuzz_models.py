"""What models, servers and checkpoints give: texts, replies, templates, weights and settings, damaged in any way."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_native
from fuzzing import Parser, slow_growth, survives

from pipeline.answerers.openai_server import Endpoint, Server
from pipeline.answerers.options import conclude, read_option
from pipeline.domain import Cost, Question, Status
from pipeline.errors import CheckpointError, PipelineError
from pipeline.families.chat import render_chat, text, variables_read
from pipeline.families.loading import contents
from pipeline.samplers.output import read_scores
from pipeline.thoughts import leaves_thought_open, split_thoughts

QUESTION = Question("q", "v.mp4", "Which?", ("red", "blue", "green"))


def words(read: Callable[[str], object]) -> Callable[[Path], None]:
    """A reader of a text that no file holds."""
    return lambda path: read(path.read_text(encoding="utf-8", errors="replace")) and None


def option(said: str) -> None:
    for cut in (False, True):
        answer = conclude(QUESTION, said, truncated=cut, form="f", frame_times=(), cost=Cost())
        assert (answer.option is not None) <= (answer.status is Status.OK)
        assert answer.option in (None, 0, 1, 2)
    read_option(said, ("A", "1", "", "(", "\\"))


def scores(said: str) -> None:
    reading = read_scores(said, 8, 1)
    assert all(0 <= place < 8 and 1 <= score <= 5 for place, score in reading.scores.items())


def thoughts(said: str) -> None:
    split = split_thoughts(said)
    split_thoughts(said, is_begun=True)
    leaves_thought_open(said)
    assert len(split.answer) <= len(said)


class Sends:
    """A server that sends what it is told to, whatever it is asked."""

    def __init__(self) -> None:
        import openai

        self.status, self.body, self.headers = 200, b"", {}
        transport = openai._base_client.httpx2.MockTransport(self._respond)
        client = openai.DefaultHttpxClient(transport=transport)
        self.server = Server(Endpoint("http://host/v1", "model", None, 5.0, 0), None)
        self.server.__dict__["_client"] = openai.OpenAI(
            base_url="http://host/v1", api_key="none", max_retries=0, http_client=client
        )

    def _respond(self, request: Any) -> Any:
        import openai

        return openai._base_client.httpx2.Response(self.status, content=self.body, headers=self.headers)


@cache
def sends() -> Sends:
    return Sends()


def served(path: Path) -> None:
    """A response of any status with this body."""
    there = sends()
    there.body = path.read_bytes()
    for there.status in (200, 400, 401, 404, 429, 500):
        with suppress(PipelineError):
            said = there.server.ask({"model": "m", "messages": []}, ("answerer.max_frames=8",))
            assert said.text.encode() + said.thought.encode() + said.refusal.encode() + said.finish.encode()
            assert said.prompt_tokens >= 0 <= said.output_tokens


class Filled:
    """A tokenizer's way to fill in a template."""

    def __init__(self, source: str) -> None:
        self.chat_template = source

    def apply_chat_template(self, turns: Any, **_: Any) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered, _ = render_jinja_template(
            conversations=[turns], chat_template=self.chat_template, add_generation_prompt=True
        )
        return str(rendered[0])


def template(source: str) -> None:
    with suppress(CheckpointError):
        variables_read(source)
    with suppress(CheckpointError):
        render_chat(Filled(source), [{"type": "image"}, text("What?")], "Be brief.")


def weights(folder: Path) -> None:
    for read in (contents.check_complete, lambda where, _: contents.are_absent(where)):
        with suppress(CheckpointError):
            read(folder, "restore the folder")
    contents.check_complete(folder, "restore the folder")
    contents.bytes_as(folder, 2)
    contents.tensor_shapes(folder)
    contents.stored_dtype(folder, {})


def header(path: Path) -> None:
    """The header of a safetensors file, whose length is right."""
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(24))
    weights(path.parent)


def index(path: Path) -> None:
    (path.parent / "model-00001.safetensors").write_bytes(SAFETENSORS)
    weights(path.parent)


def adapter(path: Path) -> None:
    contents.refuse_adapter(path.parent)


TENSORS = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b.bias": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
}
HEADER = json.dumps(TENSORS).encode()
SAFETENSORS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(24)
INDEX = {"metadata": {"total_size": 24}, "weight_map": {"a.weight": "model-00001.safetensors"}}
SAID = [b'{"11-12": 5, "16-21": 4, "3": 2}', b'```json\n[{"frame": 3, "score": 5}]\n```', b"[[1, 5], [2, 3]]"]
ANSWERS = [b"The answer is (B) blue.", b'{"answer": "B", "reason": "x"}', b"<think>so</think>\nFinal answer: **C**"]
COMPLETION = {
    "choices": [
        {
            "message": {
                "content": [{"type": "text", "text": "B"}, {"type": "thinking", "thinking": [{"text": "so"}]}],
                "reasoning": "so",
                "refusal": None,
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}
FAULT = {"error": {"message": "too many images: at most 5 image(s)", "code": "429", "type": "rate", "param": None}}
STREAM = b'data: {"choices": [{"delta": {"content": "B"}}]}\n\ndata: [DONE]\n\n'
JINJA = (
    *(
        b"{% for i in range(9) %}",
        b"{% endfor %}",
        b"{{ messages }}",
        b"{{ 1/0 }}",
        b"{% generation %}",
        b"{{ x.y.z }}",
    ),
    *(b"{{ raise_exception('no') }}", b"{{ messages[9] }}", b"{{ range(99999999) }}", b"{{ 9 ** 9 }}", b"{% a = "),
    b"{% generation %}",
    *(b"{{ messages|tojson }}", b"{{ messages|sort }}", b"{{ cycler() }}", b"{% include 'x' %}", b"{{ lipsum(n=10) }}"),
    *(b"{{ strftime_now('%Y') }}", b"{{ messages|map('x')|list }}", b"{{ namespace() + 1 }}", b"{{ 'a' * 'b' }}"),
)
SHORT = b"{% for m in messages %}{{ m.role }}{% endfor %}"
MARKS = (b"<think>", b"</think>", b"<|channel|>", b"[THINK]")

TEXTS = [
    Parser("option", "said.txt", ANSWERS, words(option)),
    Parser("scores", "said.txt", SAID, words(scores)),
    Parser("thoughts", "said.txt", ANSWERS, words(thoughts), words=MARKS),
]
SERVERS = [
    Parser("reply", "reply.json", [json.dumps(COMPLETION).encode(), json.dumps(FAULT).encode(), STREAM], served),
]
TEMPLATES = [
    Parser(
        "chat template",
        "t.jinja",
        [SHORT, tiny_native.GLM_TEMPLATE.encode()],
        words(template),
        words=JINJA,
        examples=10,
    )
]
WEIGHTS = [
    Parser("safetensors", "model.safetensors", [SAFETENSORS], lambda path: weights(path.parent)),
    Parser("header", "model.safetensors", [HEADER], header),
    Parser("index", "model.safetensors.index.json", [json.dumps(INDEX).encode()], index),
    Parser("adapter", "adapter_config.json", [b'{"base_model_name_or_path": "a/b"}'], adapter),
]
GROUPS = {"texts": TEXTS, "servers": SERVERS, "templates": TEMPLATES, "weights": WEIGHTS}


@pytest.mark.parametrize("group", GROUPS)
def test_any_bytes_give_a_value_or_an_error_of_ours(group: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    survives(GROUPS[group], tmp_path, is_long=request.config.getoption("--long"))


@pytest.mark.parametrize("group", ["servers", "weights"])  # tests of readers of texts have shapes of their own
def test_the_time_to_read_grows_linearly(group: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert slow_growth(GROUPS[group], tmp_path, is_long=request.config.getoption("--long")) == []
