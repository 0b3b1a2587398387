"""The ``gens serve`` that answers: one that runs already, or one that is started in its own environment."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openai import APIConnectionError, APIStatusError, DefaultHttpxClient, OpenAI

HOST = "127.0.0.1"
READY_SECONDS = 600.0
"""The server answers as soon as it has checked its settings; models load with the first question."""
_PAUSE = 0.25
_ENDS_WITHIN = 60.0


class ServerError(RuntimeError):
    """There is no server that can be used."""


class Server:
    """A server that can be asked.

    Attributes:
        client: of OpenAI's protocol. It waits as long as an answer takes.
        model: the name of its model.
        parts: its sampler, selection policy, budget and answerer.
    """

    def __init__(self, base_url: str, api_key: str, transport: DefaultHttpxClient | None = None) -> None:
        self.client = OpenAI(base_url=base_url, api_key=api_key, timeout=None, max_retries=8, http_client=transport)
        self.base_url = base_url
        self.model = ""
        self.parts: Mapping[str, str] = {}

    def look(self) -> None:
        """Ask what it is.

        Raises:
            APIConnectionError: nobody listens there.
            ServerError: it is another server.
        """
        try:
            models = self.client.with_options(timeout=30.0, max_retries=0).models.list().data
        except APIStatusError as error:
            raise ServerError(f"{self.base_url} refuses to say what it is: {error}") from error
        found = [(each.id, each.model_extra["gens"]) for each in models if "gens" in (each.model_extra or {})]
        if not found:
            raise ServerError(f"{self.base_url} is no gens serve; leave base_url out, and one is started")
        self.model, self.parts = found[0]


def found(base_url: str, api_key: str, wanted: Mapping[str, str]) -> Server:
    """A server that runs already.

    Args:
        base_url: as clients of OpenAI's protocol have it, with ``/v1``.
        api_key: which it may demand.
        wanted: names of its sampler and answerer, where they matter.

    Raises:
        ServerError: there is none, or it has others.
    """
    server = Server(base_url, api_key)
    try:
        server.look()
    except APIConnectionError as error:
        raise ServerError(f"nobody listens at {base_url}; leave base_url out, and gens serve is started") from error
    for part, name in wanted.items():
        if server.parts.get(part) != name:
            raise ServerError(f"{base_url} has {part}={server.parts.get(part)}, and {part}={name} was asked for")
    return server


class Started(Server):
    """A server of our own, which ends with this process.

    Args:
        command: that runs ``gens``.
        settings: words of its command line, by key.
        folders: whose videos it may read.

    Raises:
        ServerError: it did not come up; what it printed says why.
    """

    def __init__(self, command: Sequence[str], settings: Mapping[str, Any], folders: Sequence[str]) -> None:
        port = _free_port()
        # No proxy stands between programs of one machine, whatever the environment names for others.
        super().__init__(f"http://{HOST}:{port}/v1", "none", DefaultHttpxClient(trust_env=False))
        self.folders = tuple(folders)
        words = [*command, "serve", *words_of(settings), f"access.port={port}", f"videos.folders={json.dumps(folders)}"]
        # Its output goes where ours does; what lmms-eval prints on stdout may be read by a program.
        self._process = subprocess.Popen(words, stdout=sys.stderr, env=own_environment(os.environ))
        self._stop = weakref.finalize(self, _end, self._process)
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_up():
            if self._process.poll() is not None:
                raise ServerError(f"{' '.join(words[:2])} ended with code {self._process.returncode}; see above")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{' '.join(words[:2])} did not come up within {READY_SECONDS:.0f} s")
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """End it. It finishes the questions that it computes, and writes them. May be called twice."""
        self._stop()

    def _is_up(self) -> bool:
        try:
            self.look()
        except APIConnectionError:
            return False
        return True


def command_of(gens: str | None, python: str | None) -> list[str]:
    """The words that run ``gens`` in the environment that gens-videoqa is installed in.

    Args:
        gens: its executable.
        python: an interpreter that has the package.

    Raises:
        ServerError: there is no such file.
    """
    if gens is not None and python is not None:
        raise ServerError("gens= and python= name the same thing in two ways; give one of them")
    named = python or gens or "gens"
    executable = shutil.which(os.path.expanduser(named))
    if executable is None:
        raise ServerError(
            f"there is no executable {named}; name that of the environment with gens-videoqa: "
            "--model_args gens=/path/to/.venv/bin/gens,..."
        )
    return [executable] if python is None else [executable, "-m", "pipeline"]


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line. lmms-eval has turned ``true``, ``null`` and numbers into Python's."""
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> Any:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else value


def folders_of(videos: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """The folders that hold the videos, and other folders, without those inside of one another."""
    folders = {Path(os.path.abspath(video)).parent for video in videos} | {Path(other) for other in others}
    kept: list[Path] = []
    for folder in sorted(folders):
        if not any(folder.is_relative_to(each) for each in kept):
            kept.append(folder)
    return [str(folder) for folder in kept]


def own_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program of another Python environment: what points at packages of this one is left out."""
    return {name: value for name, value in ours.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
