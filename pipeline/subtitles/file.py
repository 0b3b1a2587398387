"""The contents of a subtitle file: the lines that could be read, and why others could not."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain import SubtitleLine


@dataclass(frozen=True)
class SubtitleFile:
    """The contents of a subtitle file."""

    lines: tuple[SubtitleLine, ...]
    skipped: tuple[str, ...] = ()
    """Why cues were left out, one text each, with the place in the file."""

    def skipped_summary(self) -> str:
        """How many cues were left out and why the first was, in one line; empty if none was."""
        if not self.skipped:
            return ""
        count = len(self.skipped)
        return f"{count} cue{'' if count == 1 else 's'} left out: {self.skipped[0]}{' ...' if count > 1 else ''}"
