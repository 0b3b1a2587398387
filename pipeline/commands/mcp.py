"""``gens mcp``: both stages as tools of the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pipeline.commands.run import run_folder
from pipeline.config import build
from pipeline.errors import MissingExtraError
from pipeline.stopping import ExitCode
from pipeline.terminal import remark

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer


def run(config: DictConfig) -> int:
    """Serve until the client closes its end, or a signal comes."""
    with ExitStack() as held:
        with _speaking_to_nobody():
            server = _server(config, held)
        with suppress(KeyboardInterrupt):
            server.run(transport="stdio")
    return ExitCode.SUCCESS


def _server(config: DictConfig, held: ExitStack) -> MCPServer:
    try:
        from pipeline.serving.mcp import tool_server
    except ImportError as error:
        raise MissingExtraError(
            f"gens mcp needs {error.name}, which is not installed", "pip install 'gens-videoqa[mcp]'"
        ) from error
    from pipeline.serving.engine import Engine
    from pipeline.serving.videos import Videos
    from pipeline.session import Session

    pictures, settings, sources = (
        build(config[group], group, config.plugins) for group in ("pictures", "engine", "videos")
    )
    folder = held.enter_context(run_folder(config))
    videos = held.enter_context(closing(Videos(sources)))
    engine = held.enter_context(closing(Engine(Session.of(config, folder), settings)))
    parts = engine.session.parts
    remark(f"{parts['sampler']} -> {parts['selection']}, {parts['budget']} frames -> {parts['answerer']} | {folder}")
    if not sources.folders:
        remark("no folder is declared, so only videos that come with a request are read: 'videos.folders=[FOLDER]'")
    return tool_server(engine, videos, pictures)


@contextmanager
def _speaking_to_nobody() -> Iterator[None]:
    """Within this context, standard input is empty and standard output is standard error.

    Both are the wire between client and server. The SDK keeps them for itself while it serves; processes that are
    started before, such as those that read videos, get these instead, and so does whatever is printed.
    """
    kept = [os.dup(number) for number in (0, 1)]
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, wire in enumerate(kept):
            os.dup2(wire, number)
            os.close(wire)
        os.close(empty)
