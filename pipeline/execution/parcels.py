"""Sends values between processes over a socket. Large arrays are shared and not copied.

A small value is sent as it is. Any other is written into a file in memory that has no name, and its descriptor is sent:
the memory is free again once both sides have let go of it, also after a kill, and nothing is left in ``/dev/shm``.

Values are pickled: both ends are processes of ours over a socket pair that has no name, which nobody else can write to.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import socket
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.errors import ConfigError

WITHOUT_WORKERS = "read videos in this process, where a damaged file may end the run: execution.decode_workers=0"
"""What to do where the system does not allow to start workers or to talk with them."""
_INLINE = 32 << 10
"""Bytes of a value that is sent as it is; a message of a socket may have some 200 KB."""
_MESSAGE = 64 << 10
_READ = 8 << 20
"""Smaller files are read instead of mapped: a mapping keeps a descriptor open for as long as its arrays live."""
_ALIGNED = 64
_AT_ONCE = 512
"""Buffers in one system call; the limit of Linux is 1024."""
_COUNT = struct.Struct("<Q")


class Parcel:
    """A packed value, which may be sent several times.

    Args:
        value: what can be pickled.

    Raises:
        ConfigError: a large value, and no file for it can be opened or written.
    """

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, 5, buffer_callback=buffers.append)
        self._body = body
        self._file: int | None = None
        if buffers or len(body) > _INLINE:
            self._body = b""
            self._file = memory_file()
            try:
                _write(self._file, list(_laid_out(body, [buffer.raw() for buffer in buffers])))
            except OSError as error:  # a limit on the size of files, or no memory
                raise _no_file(error.strerror or str(error)) from error

    def send(self, over: socket.socket) -> None:
        """Send the value.

        Raises:
            OSError: the other side is gone.
        """
        if self._file is None:
            over.send(self._body)
        else:
            socket.send_fds(over, [b"\0"], [self._file])

    def __del__(self) -> None:
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            os.close(file)


def receive(over: socket.socket) -> tuple[Any, int]:
    """The next value, and how many bytes it has.

    Raises:
        EOFError: the other side is gone.
        ConfigError: this process may not open the file that was sent.
    """
    message, files, flags, _ = socket.recv_fds(over, _MESSAGE, 1)
    if flags & socket.MSG_CTRUNC:
        raise _no_file(os.strerror(errno.EMFILE))
    if not message:
        raise EOFError
    if not files:
        return pickle.loads(message), len(message)
    try:
        size = os.fstat(files[0]).st_size
        content = _read(files[0], size) if size <= _READ else _mapped(files[0], size)
    finally:
        os.close(files[0])
    [count] = _COUNT.unpack_from(content, 0)
    parts = []
    at = _after(_COUNT.size * (count + 1))
    for [length] in _COUNT.iter_unpack(content[_COUNT.size : _COUNT.size * (count + 1)]):
        parts.append(content[at : at + length])
        at = _after(at + length)
    return pickle.loads(parts[0], buffers=parts[1:]), size


def memory_file() -> int:
    """The descriptor of a new file in memory that has no name; a temporary file where the system has none.

    Raises:
        ConfigError: no file can be opened.
    """
    try:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("parcel", os.MFD_CLOEXEC)
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise _no_file(error.strerror or str(error)) from error


def _no_file(reason: str) -> ConfigError:
    return ConfigError(f"frames cannot be passed between processes: {reason}", WITHOUT_WORKERS)


def _laid_out(body: bytes, buffers: Sequence[memoryview]) -> Iterator[bytes | memoryview]:
    """Number and lengths of the parts, then the parts, each at a multiple of 64 bytes."""
    parts = [memoryview(body), *buffers]
    table = _COUNT.pack(len(parts)) + b"".join(_COUNT.pack(part.nbytes) for part in parts)
    for part in (memoryview(table), *parts):
        yield part
        yield bytes(_after(part.nbytes) - part.nbytes)


def _after(end: int) -> int:
    return -(-end // _ALIGNED) * _ALIGNED


def _write(file: int, parts: list[bytes | memoryview]) -> None:
    waiting = [memoryview(part) for part in reversed(parts) if len(part)]
    while waiting:
        together = waiting[: -_AT_ONCE - 1 : -1]
        written = os.writev(file, together)
        while written:
            part = waiting.pop()
            if written < part.nbytes:
                waiting.append(part[written:])
                break
            written -= part.nbytes


def _mapped(file: int, size: int) -> memoryview:
    """The file itself; a copy where no more files can be open, as a mapping keeps one."""
    try:
        return memoryview(mmap.mmap(file, size))
    except OSError:
        return _read(file, size)


def _read(file: int, size: int) -> memoryview:
    content = memoryview(bytearray(size))
    at = 0
    while at < size:
        at += os.preadv(file, [content[at:]], at)
    return content
