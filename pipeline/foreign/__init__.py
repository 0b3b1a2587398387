"""Other projects' files: selections read to be run here, selections and answers written to be used there.

One module a format.

A format is a frozen dataclass that a YAML names; its fields are what the file itself does not say. Formulas and traps
stand in its docstring, with the repository that they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.domain import Question, Status
from pipeline.foreign.rows import ForeignRow

if TYPE_CHECKING:
    from pipeline.video import Reader

__all__ = ["AnswerForm", "FolderForm", "ForeignRow", "SelectionForm", "SelectionFormat", "frames_status"]


@runtime_checkable
class SelectionFormat(Protocol):
    """Reads a kind of file."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """All rows, each with the id of its question, or with its video and text. A damaged one carries its fault.

        Raises:
            InputError: the file is not of this kind.
        """
        ...


@runtime_checkable
class SelectionForm(Protocol):
    """Writes a kind of file."""

    @property
    def suffix(self) -> str:
        """End of the file's name, such as ``.jsonl``."""
        ...

    def text(self, rows: Sequence[SelectionRow]) -> str:
        """The whole file; rows without frames are in it with none.

        Raises:
            InputError: a row cannot be said in this form.
        """
        ...


@runtime_checkable
class AnswerForm(Protocol):
    """Writes answers as a kind of file."""

    @property
    def suffix(self) -> str:
        """End of the file's name, such as ``.jsonl``."""
        ...

    def samples(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> str:
        """The whole file, over the questions that were asked, in their order."""
        ...


@runtime_checkable
class FolderForm(Protocol):
    """Writes selections together with their pictures."""

    def write(self, rows: Sequence[SelectionRow], reader: Reader, folder: Path) -> list[Status]:
        """Fill ``folder``; the status of each row, ``ok`` for those that are in it.

        Raises:
            InputError: a row cannot be said in this form.
        """
        ...


def frames_status(row: SelectionRow) -> Status:
    """``ok`` for a selection with frames, and else why it has none."""
    if row.selection.frames:
        return Status.OK
    return row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
