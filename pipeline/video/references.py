"""Refuses files that name other files: playlists, manifests, and containers that point elsewhere.

The files that they name may be anywhere, also on a network, and may change without the fingerprint noticing. FFmpeg is
also configured to open no other kind of file (:data:`CONTAINERS`) and no protocol but ``file``.

Sources: ISO/IEC 14496-12 (data references), the QuickTime File Format Specification (reference movies), the Matroska
specification (RFC 9559: linked segments).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import UnsupportedVideoError

CONTAINERS = (
    "3gp,4xm,apng,apv,asf,av1,avi,bmp_pipe,cavsvideo,dhav,dirac,dnxhd,dv,evc,film_cpk,flic,flv,gif,gxf,h261,h263,h264,hevc,"
    "ipu,ivf,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,kux,live_flv,m4v,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,"
    "mpjpeg,mxf,nsv,nut,nuv,obu,ogg,png_pipe,pva,qoi_pipe,rm,roq,smk,swf,tiff_pipe,ty,vc1,vc1test,vivo,vvc,webp_pipe,wtv,"
    "xmv,yuv4mpegpipe,"
    # Sound alone, so that a file of it is refused as what it is.
    "aac,ac3,aiff,amr,ape,au,caf,dts,eac3,flac,mp3,oma,truehd,tta,w64,wav,wv"
)
"""FFmpeg's names of the formats that hold pictures and read nothing but the file itself."""

HEAD = 4096
"""Bytes by which a playlist is recognised."""
_PLAYLISTS = (
    (b"#extm3u", "an HLS playlist"),
    (b"ffconcat", "a concat list"),
    (b"<mpd", "a DASH manifest"),
    (b"<smoothstreamingmedia", "a manifest"),
    (b"<manifest", "a manifest"),
    (b"<smil", "a playlist"),
    (b"<asx", "a playlist"),
    (b"<playlist", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"[reference]", "a playlist"),
    (b"v=0", "an SDP session description"),
    (b"http://", "a link"),
    (b"https://", "a link"),
    (b"rtsp://", "a link"),
    (b"rtmp://", "a link"),
    (b"concat:", "a concat list"),
)
"""How text files begin that name others; markup may have a declaration before it."""

_PATTERN = re.compile(r"%[0-9]*d")
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"dinf"})
_SEGMENT, _CHAPTERS = 0x18538067, 0x1043A770
_MASTERS = frozenset({_SEGMENT, _CHAPTERS, 0x45B9, 0xB6})
"""Segment, Chapters, EditionEntry, ChapterAtom."""
_CHAPTER_OF_ANOTHER = 0x6E67
_DEEPEST = 32
"""Boxes within boxes that are looked into; players read no deeper."""


def check_is_no_reference(path: Path, file: Path) -> None:
    """Refuse what names other files.

    Args:
        path: for messages.
        file: the file itself.

    Raises:
        UnsupportedVideoError: a playlist, a manifest, or a container that points to another file.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        what = playlist(head)
        if what is None and head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
            what = _movie(opened, file.stat().st_size)
        elif what is None and head.startswith(b"\x1a\x45\xdf\xa3"):
            what = _matroska(opened, file.stat().st_size)
    if what is not None:
        remedy = "give the video that it names"
        if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"#EXTM3U"):
            target = path.with_suffix(".converted.mp4")
            copy = f"ffmpeg -i {shlex.quote(str(path))} -c copy {shlex.quote(str(target))}"
            remedy = f"{remedy}, or put all that it names into one file: {copy}"
        raise UnsupportedVideoError(f"{path} is {what}: it names other files, and only a video itself is read", remedy)
    if _PATTERN.search(file.name) and file.suffix.lower() in _IMAGES:
        raise UnsupportedVideoError(
            f"{path} reads as a pattern of image files, and only a video itself is read",
            "give the folder of the images",
        )


def playlist(head: bytes) -> str | None:
    """What a file that begins with ``head`` is, if it is text that names other files."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<?xml", b"<!--")):
        return next((what for mark, what in _PLAYLISTS if mark.startswith(b"<") and mark in text), None)
    return next((what for mark, what in _PLAYLISTS if text.startswith(mark)), None)


def _movie(file: BinaryIO, size: int) -> str | None:
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"rmra" or (kind == b"dref" and _refers_elsewhere(file, start, end)):
            return "a reference movie"
    return None


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Type and content of each box, those inside of others too."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, content = int.from_bytes(head[8:16], "big"), start + 16
        size = size or end - start  # 0: to the end
        if size < content - start:
            return
        yield kind, content, min(start + size, end)
        if kind in _BOXES and depth < _DEEPEST:
            yield from _boxes(file, content, min(start + size, end), depth + 1)
        start += size


def _refers_elsewhere(file: BinaryIO, start: int, end: int) -> bool:
    """Whether a data reference is flagged as not in this file, and names a place."""
    file.seek(start)
    data = file.read(min(end - start, 1 << 16))
    place = 8  # version, flags, count
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        named = data[place + 12 : place + size].strip(b"\0")
        if size < 12:
            return False
        if not data[place + 11] & 1 and named:
            return True
        place += size
    return False


def _matroska(file: BinaryIO, size: int) -> str | None:
    for kind in _elements(file, 0, size):
        if kind == _CHAPTER_OF_ANOTHER:
            return "linked by its chapters to segments in other Matroska files"
    return None


def _elements(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[int]:
    """The ids of a Matroska file's elements as far as chapters are concerned."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        if not head or not head[0]:
            return
        id_length = 9 - head[0].bit_length()
        if id_length > 4 or len(head) <= id_length or not head[id_length]:
            return
        size_length = 9 - head[id_length].bit_length()
        kind = int.from_bytes(head[:id_length], "big")
        content = start + id_length + size_length
        if len(head) < id_length + size_length:
            return
        marker = 1 << 7 * size_length
        length = int.from_bytes(head[id_length : id_length + size_length], "big") - marker
        is_unknown = length == marker - 1
        yield kind
        last = end if is_unknown else min(content + length, end)
        if kind in _MASTERS and depth < _DEEPEST:
            yield from _elements(file, content, last, depth + 1)
        elif is_unknown:
            return
        start = last
