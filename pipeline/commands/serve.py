"""``gens serve``: both stages behind OpenAI's protocol, with models that stay loaded."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pipeline.commands.run import run_folder
from pipeline.config import build
from pipeline.errors import ConfigError, MissingExtraError
from pipeline.stopping import ExitCode
from pipeline.terminal import remark, tell

if TYPE_CHECKING:
    from pipeline.serving.app import ApiSettings
    from pipeline.serving.engine import Engine
    from pipeline.serving.guards import Access
    from pipeline.serving.videos import Videos


def run(config: DictConfig) -> int:
    """Serve until a signal ends it: then the round that is computed is finished, and its answers are sent."""
    _check_extra()
    _check_workers(config)
    from pipeline.serving.engine import Engine
    from pipeline.serving.videos import Videos
    from pipeline.session import Session

    access, api, settings, sources = (
        build(config[group], group, config.plugins) for group in ("access", "api", "engine", "videos")
    )
    with ExitStack() as held:
        listening = held.enter_context(_listening(access))
        folder = held.enter_context(run_folder(config))
        videos = held.enter_context(closing(Videos(sources)))
        engine = Engine(Session.of(config, folder), settings)
        if not _serve(listening, engine, videos, access, api, folder):
            return ExitCode.SUCCESS  # a second signal: what is computed is not waited for
        engine.close()
    return ExitCode.SUCCESS


def _serve(
    listening: socket.socket, engine: Engine, videos: Videos, access: Access, api: ApiSettings, folder: Path
) -> bool:
    """Serve until a signal comes. Returns whether one was enough."""
    import uvicorn

    from pipeline.serving.app import guarded_app

    app = guarded_app(engine, videos, api, access)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit  # uvicorn itself is not hurried by a second SIGTERM
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _tell_start(listening, engine, videos, api.name, folder)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            engine.stop()  # before it waits for the requests under way
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
    )
    with suppress(KeyboardInterrupt):
        server.run([listening])
    return not server.force_exit


def _tell_start(listening: socket.socket, engine: Engine, videos: Videos, name: str, folder: Path) -> None:
    parts = engine.session.parts
    host, port = listening.getsockname()[:2]
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host)
    host = everywhere or host
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    tell(f"serving at {address}/v1, model {name}; a page for asking at {address}/")
    if everywhere:
        remark(f"other machines reach it at port {port} of each address of this one")
    remark(f"{parts['sampler']} -> {parts['selection']}, {parts['budget']} frames -> {parts['answerer']} | {folder}")
    if not videos.sources.folders:
        remark("no folder is declared, so only videos that come with a request are read: 'videos.folders=[FOLDER]'")


def _check_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"gens serve needs {error.name}, which is not installed", "pip install 'gens-videoqa[serve]'"
        ) from error


def _check_workers(config: DictConfig) -> None:
    """Raise where videos that others name would be decoded without limits."""
    if config.execution.decode_workers == 0:
        raise ConfigError(
            "execution.decode_workers=0: a server decodes what others send, and only in processes with limits",
            "leave it out, or set execution.decode_workers=1",
        )


@contextmanager
def _listening(access: Access) -> Iterator[socket.socket]:
    """A socket that listens, taken before any model is loaded.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            access.host or None, access.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {access.port} is in use", f"access.port={access.port + 1}, or access.port=0 for any that is free"
            ) from error
        raise ConfigError(
            f"access.host={access.host}, access.port={access.port}: {error.strerror or error}",
            "listen on an address of this machine and a port that you may use: access.host=127.0.0.1 access.port=8000",
        ) from error
    with listening:
        yield listening
