"""Which video a request may name: one below a declared folder, one that it brings along, or one of a public host."""

from __future__ import annotations

import asyncio
import binascii
import itertools
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import ChangedVideoError, ConfigError, RequestError
from pipeline.paths import local_path
from pipeline.serving.fetching import fetch
from pipeline.serving.scratch import SUFFIXES, Kept, Scratch, check_head
from pipeline.subtitles.reading import FORMS
from pipeline.video.references import HEAD

Held = TypeVar("Held")

_MOST_GB = 1e6
_LONGEST = 86400.0
_MOST_LISTED = 2000
_MOST_LOOKED_AT = 100_000
"""Files and folders, so that a declared root of a large disk costs a list that ends early."""
_DEEPEST = 8
_BLOCK = 1 << 20
_MOST_SUBTITLES = 16 << 20
"""Bytes of a file of subtitles, which is read whole into the server's memory."""
_OF_TYPE = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
    "video/mpeg": ".mpg",
    "video/mp2t": ".ts",
    "video/ogg": ".ogv",
    "video/3gpp": ".3gp",
}
"""Media types of ``data:`` addresses; others that begin with ``video/`` are taken, too."""


@dataclass(frozen=True)
class VideoSources:
    """Where videos may come from, and how large they may be."""

    folders: tuple[str, ...]
    """Folders whose videos may be asked about, with all that is below them."""
    fetch: bool
    """Whether a request may name an http(s) address."""
    fetch_seconds: float
    """The most that a download may take."""
    video_gb: float
    """The most that one video which is sent or fetched may have."""
    total_gb: float
    """The most that all of these may have at a time."""
    scratch: str | None
    """Folder in which they are kept while they are in use; null takes the system's folder for temporary files."""

    def __post_init__(self) -> None:
        for key, value, most, usual in (
            ("video_gb", self.video_gb, _MOST_GB, 4),
            ("total_gb", self.total_gb, _MOST_GB, 20),
            ("fetch_seconds", self.fetch_seconds, _LONGEST, 120),
        ):
            if not 0 < value <= most:
                raise ConfigError(f"videos.{key}={value}: above 0, and at most {most:g}", f"set videos.{key}={usual}")


@dataclass(frozen=True)
class NamedVideo:
    """A video that may be read."""

    path: Path
    """Of the file itself: no link."""
    name: str
    """As whoever asked may see it: it tells nothing of folders that were not declared."""
    version: str
    """Changes when the file does."""

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is the one that was named."""
        return _version(self.path) == self.version

    def check_is_unchanged(self) -> None:
        """Raise where the file was written to, replaced or deleted.

        Raises:
            ChangedVideoError: it was.
        """
        if not self.is_unchanged:
            raise ChangedVideoError(f"{self.name} has changed since it was asked about", "ask again")


class Videos:
    """Finds the videos that requests name, and keeps those that come with them.

    Who can write into a declared folder decides what is in it: links are followed when a request is checked, and what
    is exchanged between that and the reading of the file is not noticed by the workers, only by ``version``.

    Raises:
        ConfigError: a folder is not there.
        StorageError: no folder for videos that are sent can be made.
    """

    def __init__(self, sources: VideoSources) -> None:
        self.sources = sources
        self._folders = {_folder(written): os.path.abspath(local_path(written)) for written in sources.folders}
        parent = None if sources.scratch is None else local_path(sources.scratch)
        self.scratch = Scratch(parent, int(sources.video_gb * 1e9), int(sources.total_gb * 1e9))

    @contextmanager
    def named(self, address: str) -> Iterator[NamedVideo]:
        """The video that a request names, for as long as the context lasts. May take long: not for an event loop.

        Args:
            address: ``file:///...``, a path, ``data:video/...;base64,...``, or an http(s) address.

        Raises:
            RequestError: it may not be named, or is no video.
        """
        scheme = address[:8].partition(":")[0].lower()
        if scheme not in ("data", "http", "https"):
            yield self.local(address)
            return
        kept = self._sent(address) if scheme == "data" else self._fetched(address)
        try:
            name = "the video of the request" if scheme == "data" else address.partition("?")[0]
            yield self.of_kept(kept, name)
        finally:
            kept.release()

    def of_kept(self, kept: Kept, name: str) -> NamedVideo:
        """A video that was sent, under a name for whoever sent it."""
        return NamedVideo(kept.path, name, _version(kept.path))

    def local(self, address: str) -> NamedVideo:
        """The video below a declared folder that an address names. Raises as :meth:`named`.

        Args:
            address: ``file:///...`` or a path; one that is not absolute begins in a declared folder.
        """
        return self._below_a_folder(address, "video", _checked)

    def subtitles(self, address: str) -> Path:
        """The file of subtitles below a declared folder that an address names. Raises as :meth:`local`."""
        return self._below_a_folder(address, "file of subtitles", _checked_subtitles).path

    def sent_subtitles(self, content: bytes, suffix: str) -> Kept:
        """The text of a file of subtitles, kept on disk.

        Raises:
            RequestError: it is too large, or of an unknown form.
        """
        _check_subtitles(len(content), suffix, "the file of subtitles")
        with self.scratch.receiving(len(content), suffix) as receiving:
            receiving.write(content)
            return receiving.kept()

    def _below_a_folder(self, address: str, what: str, checked: Callable[[Path, str], NamedVideo]) -> NamedVideo:
        # Clients write file:// before a path and often leave signs such as % as they are.
        writings = dict.fromkeys(_written_paths(address))
        places = [folder / written for written in writings for folder in self._folders]
        for place in places:
            try:
                file = Path(os.path.realpath(place, strict=True))
                folder = self._folder_of(file)
                if folder is not None:
                    return checked(file, str(file.relative_to(folder)))
            except (OSError, ValueError):
                continue
        if any(self._is_written_below(place) for place in places):
            raise RequestError(
                f"there is no {what} at {address[:300]}, or it leads out of the folder",
                "check the name; links must stay below a folder of the server",
                404,
            )
        # The same whether there is anything or not.
        raise RequestError(
            f"{address[:300]} is not below a folder that the server may read",
            f"name a {what} below one of its folders, or declare another one: 'videos.folders=[FOLDER]'",
            403,
        )

    def opened(self, video: NamedVideo) -> BinaryIO:
        """The file, open for its bytes to be sent, and checked once more now that nobody can exchange it.

        Raises:
            ChangedVideoError: it is not the one that was named any more.
        """
        gone = ChangedVideoError(f"{video.name} has changed since it was opened", "open it again")
        try:
            descriptor = os.open(video.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise gone from error
        file = os.fdopen(descriptor, "rb")
        if _version_of(os.fstat(descriptor)) != video.version:
            file.close()
            raise gone
        return file

    def listed(self) -> list[NamedVideo]:
        """The videos below the declared folders by name, at most 2000. Hidden ones and other files are left out."""
        found: list[NamedVideo] = []
        left = itertools.repeat(None, _MOST_LOOKED_AT)
        for folder in self._folders:
            for path in _files(folder, _DEEPEST, left):
                if len(found) >= _MOST_LISTED:
                    return found
                try:
                    file = Path(os.path.realpath(path, strict=True))
                    inside = self._folder_of(file)
                    if inside is not None and stat.S_ISREG(file.stat().st_mode):
                        found.append(NamedVideo(file, str(path.relative_to(folder)), _version(file)))
                except (OSError, ValueError):
                    continue
        return found

    def close(self) -> None:
        """Delete what was sent."""
        self.scratch.close()

    def _folder_of(self, file: Path) -> Path | None:
        return next((folder for folder in self._folders if file.is_relative_to(folder)), None)

    def _is_written_below(self, place: Path) -> bool:
        written = Path(os.path.normpath(place))
        return any(written.is_relative_to(folder) for pair in self._folders.items() for folder in pair)

    def _sent(self, address: str) -> Kept:
        head, comma, data = address.partition(",")
        kind, *more = head[len("data:") :].lower().split(";")
        if not comma or (not kind.startswith("video/") and kind != "application/octet-stream") or "base64" not in more:
            raise RequestError(
                f"{head[:100]!r} is no address of a video",
                "send data:video/mp4;base64,... with the bytes of the file after the comma",
                400,
            )
        with self.scratch.receiving(max(len(data) * 3 // 4 - 2, 0), _OF_TYPE.get(kind, "")) as receiving:
            for start in range(0, len(data), _BLOCK):
                try:
                    receiving.write(binascii.a2b_base64(data[start : start + _BLOCK], strict_mode=True))
                except ValueError as error:
                    raise RequestError(
                        f"the data: address is not base64: {error}", "encode the file again", 400
                    ) from None
            return receiving.kept()

    def _fetched(self, address: str) -> Kept:
        if not self.sources.fetch:
            raise RequestError(
                "the server fetches no videos from http(s) addresses",
                "send the video itself as a data: address, name a file below its folders, or let it: "
                "gens serve videos.fetch=true",
                403,
            )
        return fetch(address, self.scratch, self.sources.fetch_seconds)


@asynccontextmanager
async def entered(context: AbstractContextManager[Held]) -> AsyncIterator[Held]:
    """A context whose beginning and end take a while, such as :meth:`Videos.named`: they run in another thread."""
    entering = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
    try:
        held = await asyncio.shield(entering)
    except asyncio.CancelledError:  # the thread goes on, and what it makes must not stay
        entering.add_done_callback(lambda done: None if done.exception() else context.__exit__(None, None, None))
        raise
    try:
        yield held
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def _checked(file: Path, name: str) -> NamedVideo:
    found = file.stat()
    if stat.S_ISDIR(found.st_mode):
        raise RequestError(
            f"{name} is a folder", "name a video file; folders of images are for gens ask and gens evaluate", 400
        )
    if not stat.S_ISREG(found.st_mode):
        raise RequestError(f"{name} is no regular file", "name a video file", 400)
    try:
        # Exchanged for a pipe meanwhile, it would wait for a writer.
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
            check_head(opened.read(HEAD) or b"")
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}", "let the server's user read it", 403) from error
    return NamedVideo(file, name, _version_of(found))


def _checked_subtitles(file: Path, name: str) -> NamedVideo:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RequestError(f"{name} is no regular file", "name a file of subtitles", 400)
    _check_subtitles(found.st_size, file.suffix.lower(), name)
    return NamedVideo(file, name, _version_of(found))


def _check_subtitles(size: int, suffix: str, name: str) -> None:
    if suffix not in FORMS:
        raise RequestError(f"{name} is of an unknown form", f"give a file that ends in {', '.join(FORMS)}", 400)
    if size > _MOST_SUBTITLES:
        raise RequestError(f"{name} has more than {_MOST_SUBTITLES >> 20} MB", "give a smaller file of subtitles", 413)


def _folder(written: str) -> Path:
    folder = local_path(written)
    try:
        found = Path(os.path.realpath(folder, strict=True))
    except OSError as error:
        raise ConfigError(f"videos.folders: {folder}: {error.strerror}", "name folders that are there") from error
    if not found.is_dir():
        raise ConfigError(f"videos.folders: {folder} is no folder", "name the folder that the video is in")
    return found


def _written_paths(address: str) -> list[Path]:
    """The paths that an address may mean."""
    texts = [address]
    if address[:5].lower() == "file:":
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise RequestError(f"{address[:300]} is no address ({error})", "write file:///FOLDER/NAME", 400) from error
        if parts.netloc not in ("", "localhost"):
            raise RequestError(f"{address[:300]} names another machine", "write file:///FOLDER/NAME", 400)
        plain = address[5:].removeprefix(f"//{parts.netloc}")
        texts = [os.fsdecode(unquote_to_bytes(plain)), plain]
    elif "://" in address[:32]:
        raise RequestError(
            f"{address[:100]} cannot be read", "name a file (file:///...) or send the video as a data: address", 400
        )
    if any("\0" in text or not text for text in texts):
        raise RequestError(f"{address[:300]!r} is not the path of a file", "write the path of a video", 400)
    return [Path(text) for text in texts]


def _files(folder: Path, depth: int, left: Iterator[None]) -> Iterator[Path]:
    """Files whose names end as those of videos do, in order of their names. Linked folders are not entered.

    Args:
        folder: with all that is below it.
        depth: of folders below it.
        left: ends when no further entry may be looked at.
    """
    try:
        with os.scandir(folder) as entered:
            # The entry is drawn last: one that may not be looked at stays undrawn.
            entries = sorted((entry for _, entry in zip(left, entered, strict=False)), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _files(Path(entry.path), depth - 1, left)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield Path(entry.path)


def _version(path: Path) -> str:
    try:
        return _version_of(path.stat())
    except OSError:
        return "gone"


def _version_of(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
