"""Subtitles that go with a question: a file below a declared folder, or the text of one that a request brings along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field

from pipeline.errors import InputError
from pipeline.serving.videos import Videos
from pipeline.session import Session
from pipeline.wellformed import well_formed

Text: TypeAlias = Annotated[str, AfterValidator(well_formed)]
"""JSON may hold half of a surrogate pair, which no tokenizer and no file name takes."""


class SubtitleText(BaseModel):
    """The text of a file of subtitles."""

    name: Text = Field(min_length=1, max_length=200)
    """Of the file; its ending says the form."""
    text: Text = Field(min_length=1)


Given: TypeAlias = SubtitleText | Text
"""The text itself, or where the file is: its path or ``file:///...``."""


@contextmanager
def subtitles_of(given: Given | None, videos: Videos, session: Session) -> Iterator[str | None]:
    """The path of the file, which stays for as long as the context lasts; None where none is given.

    Raises:
        InputError: the session shows no subtitles.
        RequestError: the file may not be named, is too large, or is of an unknown form.
    """
    if given is None:
        yield None
        return
    if not session.takes_subtitles:
        raise InputError(
            "subtitles are given, and the server shows none",
            "leave them out, or have it show them: gens serve subtitles=at_frames",
        )
    if isinstance(given, str):
        yield str(videos.subtitles(given))
        return
    kept = videos.sent_subtitles(given.text.encode(), PurePath(given.name).suffix.lower())
    try:
        yield str(kept.path)
    finally:
        kept.release()
