"""A local HTTP server that answers as servers do on their bad days: each request takes the next line of a script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """What the server was sent."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    at_once: int = 0
    """The most requests that were open at one time."""


Answering = Callable[[BaseHTTPRequestHandler, Mapping[str, Any]], None]


def completion(text: str | None, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion of 1000 prompt tokens and 10 of output."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **more}}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def says(content: Any, status: int = 200, headers: Mapping[str, str] | None = None, kind: str = "json") -> Answering:
    """A whole response."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()

    def answer(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": f"application/{kind}", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def fails(status: int, message: str = "no", retry_after: str = "0.01", **more: Any) -> Answering:
    """An error as OpenAI words it; the client may ask again at once."""
    return says({"error": {"message": message, **more}}, status, {"Retry-After": retry_after})


def half(content: Any) -> Answering:
    """A response that breaks off in the middle of its body."""
    raw = json.dumps(content).encode()

    def answer(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw[: len(raw) // 2])
        handler.close_connection = True

    return answer


def cut_stream(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
    """A response in chunks of which the last never comes."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b'b\r\n{"choices":\r\n')
    handler.close_connection = True


def hangs_up(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
    """Nothing at all."""
    handler.close_connection = True


def waits(seconds: float, then: Answering) -> Answering:
    """An answer that takes its time."""

    def answer(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        time.sleep(seconds)
        then(handler, body)

    return answer


def echoes_key(status: int) -> Answering:
    """Repeats the key that it was sent, as careless proxies do."""

    def answer(handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        said = f"you sent {handler.headers['Authorization']}"
        content = completion(said) if status == 200 else {"error": {"message": said}}
        says(content, status, {"Retry-After": "0.01"})(handler, body)

    return answer


@contextmanager
def misbehaving(script: Sequence[Answering]) -> Iterator[tuple[str, Received]]:
    """The address of a server that answers by the script, the last line again and again, and what it heard."""
    heard, lock, open_now = Received(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                place = len(heard.bodies)
                heard.bodies.append(body)
                heard.keys.append(self.headers["Authorization"])
                heard.moments.append(time.monotonic())
                open_now[0] += 1
                heard.at_once = max(heard.at_once, open_now[0])
            try:
                script[min(place, len(script) - 1)](self, body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has had enough
            finally:
                with lock:
                    open_now[0] -= 1

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", heard
    finally:
        server.shutdown()
        server.server_close()
