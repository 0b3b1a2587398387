"""A server that speaks as much of the Hugging Face hub's protocol as downloading data sets and models takes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "0" * 39 + "1"


@contextmanager
def hub(
    files: Mapping[str, Mapping[str, bytes]],
    gated: frozenset[str] = frozenset(),
    claimed: int | None = None,
    breaks: bool = False,
    kind: str = "datasets",
) -> Iterator[str]:
    """Serve ``datasets`` or ``models``, repository to file to content; yields the endpoint.

    Gated ones show their list and no file. Files of safetensors are large, and so are listed with their SHA-256.

    ``claimed`` is the size that every file is said to have when only its size is asked for. One that
    ``breaks`` sends half of each file and hangs up.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            place = "/datasets" if kind == "datasets" else ""
            listing = re.fullmatch(rf"/api/{kind}/(.+?)(?:/(revision|tree)/[^/]+)?/?", path)
            content = re.fullmatch(rf"{place}/(.+?)/resolve/[^/]+/(.+)", path)
            if listing and listing.group(1) in files:
                self._json(files[listing.group(1)], listing.group(1), listing.group(2) or "", body)
            elif content and content.group(1) in gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"}, body)
            elif content and content.group(2) in files.get(content.group(1), {}):
                data = files[content.group(1)][content.group(2)]
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self._send(200, data, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

        def _json(self, there: Mapping[str, bytes], repository: str, what: str, body: bool) -> None:
            if what == "tree":
                found: object = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in there.items()
                ]
            else:
                siblings = [_sibling(name, data) for name, data in there.items()]
                found = {"id": repository, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"}, body)

        def _send(self, status: int, data: bytes, headers: Mapping[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if body or claimed is None else claimed))
            self.end_headers()
            if body and breaks and "ETag" in headers:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _sibling(name: str, data: bytes) -> dict[str, object]:
    told: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
    if name.endswith(".safetensors"):
        told["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
    return told
