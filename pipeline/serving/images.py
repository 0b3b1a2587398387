"""Pictures that come with a request, as the frames of a video."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RequestError

_MOST_PIXELS = 8192 * 8192
"""Of one picture: one of few bytes may have many."""
_MOST_PIXELS_TOGETHER = 4 * 10**9
_MOST_PICTURES = 4096
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/jpg": ".jpg", "image/webp": ".webp"}


class ImageFolders:
    """Folders of pictures, each named by its content and deleted when no request needs it any more.

    Of a picture only the head is read here: a folder is decoded in worker processes, as videos are.

    Args:
        parent: a folder of the server's own, which it deletes when it ends.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._users: dict[Path, int] = {}
        self._guard = threading.Lock()

    @contextmanager
    def holding(self, addresses: Sequence[str]) -> Iterator[Path]:
        """A folder of the pictures, one a second in their order, for as long as the context lasts.

        Args:
            addresses: ``data:image/png;base64,...``; JPEG and WebP, too.

        Raises:
            RequestError: one is not such an address.
        """
        if len(addresses) > _MOST_PICTURES:
            raise RequestError(
                f"the message has {len(addresses)} pictures, more than {_MOST_PICTURES}", "send fewer, or a video", 413
            )
        pictures, pixels = [], 0
        for address in addresses:
            suffix, data = _picture(address)
            pixels += _pixels(data)
            if pixels > _MOST_PIXELS_TOGETHER:
                raise RequestError("the pictures have too many pixels together", "send fewer, or smaller ones", 413)
            pictures.append((suffix, data))
        content = hashlib.blake2b(digest_size=16)
        for suffix, data in pictures:
            content.update(f"{suffix}{len(data)}:".encode() + data)
        folder = self._parent / content.hexdigest()
        with self._guard:
            self._users[folder] = self._users.get(folder, 0) + 1
            if self._users[folder] == 1:
                _write(pictures, folder)
        try:
            yield folder
        finally:
            with self._guard:
                self._users[folder] -= 1
                if not self._users[folder]:
                    del self._users[folder]
                    shutil.rmtree(folder, ignore_errors=True)


def _write(pictures: Sequence[tuple[str, bytes]], folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
        for second, (suffix, data) in enumerate(pictures):
            (folder / f"sec{second:06d}{suffix}").write_bytes(data)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RequestError(
            f"the server cannot keep the pictures: {error.strerror}", "make room on its disk, and send them again", 507
        ) from error


def _picture(address: str) -> tuple[str, bytes]:
    head, comma, data = address.partition(",")
    kind, _, coding = head.removeprefix("data:").partition(";")
    if not comma or not head.startswith("data:") or kind not in _SUFFIXES or coding != "base64":
        raise RequestError(
            f"{head[:100]!r} is no address of a picture", "send data:image/png;base64,..., or JPEG or WebP", 400
        )
    try:
        return _SUFFIXES[kind], base64.b64decode(data, validate=True)
    except ValueError as error:
        raise RequestError(f"a picture is not base64: {error}", "encode it again", 400) from error


def _pixels(content: bytes) -> int:
    """How many a picture has, by its head. What is no PNG, JPEG or WebP is refused, whatever it is called."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as opened:
            width, height = opened.size
    except Exception as error:  # readers of images raise more than they document
        raise RequestError("a picture is no PNG, JPEG or WebP", "send the bytes of a whole file", 400) from error
    if width * height > _MOST_PIXELS:
        raise RequestError(f"a picture has {width}x{height} pixels, more than {_MOST_PIXELS}", "send it smaller", 413)
    return width * height
